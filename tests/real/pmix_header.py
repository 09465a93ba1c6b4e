"""Compares what we have written down of PMIx (engine/mpi/pmix_abi.h, pmix_server.cc) with an installed header.

python tests/real/pmix_header.py [FOLDER]        Debian: libpmix-dev; FOLDER: where pmix.h is
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

DEBIAN = "/usr/lib/x86_64-linux-gnu/pmix2/include"
CHECKS = """
#include <cstddef>
#include <cstring>
#include "pmix.h"
#include "pmix_server.h"
static_assert(sizeof(pmix_value_t) == 32 && offsetof(pmix_value_t, data) == 8);
static_assert(sizeof(pmix_info_t) == 552 && offsetof(pmix_info_t, flags) == 512 && offsetof(pmix_info_t, value) == 520);
static_assert(sizeof(pmix_proc_t) == 260 && offsetof(pmix_proc_t, rank) == 256);
static_assert(sizeof(pmix_data_array_t) == 24 && offsetof(pmix_data_array_t, array) == 16);
// Ours has room for 64 functions.
static_assert(sizeof(pmix_server_module_t) <= 64 * sizeof(void *));
static_assert(offsetof(pmix_server_module_t, client_connected) == 0 && offsetof(pmix_server_module_t, client_finalized) == 8);
static_assert(offsetof(pmix_server_module_t, abort) == 16 && offsetof(pmix_server_module_t, fence_nb) == 24);
static_assert(offsetof(pmix_server_module_t, direct_modex) == 32);
static_assert(PMIX_SUCCESS == 0 && PMIX_OPERATION_SUCCEEDED == -157 && PMIX_ERR_NOT_FOUND == -46);
static_assert(PMIX_BOOL == 1 && PMIX_STRING == 3 && PMIX_UINT16 == 13 && PMIX_UINT32 == 14 && PMIX_INFO == 24);
static_assert(PMIX_DATA_ARRAY == 39 && PMIX_PROC_RANK == 40 && PMIX_REGEX == 49);
constexpr bool same(const char *a, const char *b) { return *a == *b && (*a == 0 || same(a + 1, b + 1)); }
static_assert(same(PMIX_SERVER_TMPDIR, "pmix.srvr.tmpdir") && same(PMIX_SYSTEM_TMPDIR, "pmix.sys.tmpdir"));
static_assert(same(PMIX_UNIV_SIZE, "pmix.univ.size") && same(PMIX_JOB_SIZE, "pmix.job.size"));
static_assert(same(PMIX_LOCAL_SIZE, "pmix.local.size") && same(PMIX_NODE_SIZE, "pmix.node.size"));
static_assert(same(PMIX_MAX_PROCS, "pmix.max.size") && same(PMIX_SPAWNED, "pmix.spawned"));
static_assert(same(PMIX_JOB_NUM_APPS, "pmix.job.napps") && same(PMIX_NUM_NODES, "pmix.num.nodes"));
static_assert(same(PMIX_NODE_MAP, "pmix.nmap") && same(PMIX_PROC_MAP, "pmix.pmap") && same(PMIX_LOCAL_PEERS, "pmix.lpeers"));
static_assert(same(PMIX_LOCALLDR, "pmix.lldr") && same(PMIX_NODEID, "pmix.nodeid") && same(PMIX_TMPDIR, "pmix.tmpdir"));
static_assert(same(PMIX_JOBID, "pmix.jobid") && same(PMIX_PROC_DATA, "pmix.pdata") && same(PMIX_RANK, "pmix.rank"));
static_assert(same(PMIX_LOCAL_RANK, "pmix.lrank") && same(PMIX_NODE_RANK, "pmix.nrank") && same(PMIX_APPNUM, "pmix.appnum"));
static_assert(same(PMIX_HOSTNAME, "pmix.hname"));
"""


def main() -> int:
    folder = sys.argv[1] if len(sys.argv) > 1 else DEBIAN
    with tempfile.TemporaryDirectory() as place:
        source = Path(place) / "check.cc"
        source.write_text(CHECKS)
        subprocess.run(["c++", "-std=c++20", "-fsyntax-only", f"-I{folder}", str(source)], check=True)
    print(f"agrees with {folder}/pmix.h")
    return 0


if __name__ == "__main__":
    sys.exit(main())
