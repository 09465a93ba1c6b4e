"""`mpirun -np N pytest --holdfast`, as suites for pytest_parallel are started: the first rank runs the tests, on N slots; the others
have nothing to do and end at once. Ranks of tests are started by the engine all the same."""

from __future__ import annotations

import contextlib
import os
import re
from typing import Optional

# What launchers tell each process of its place: Open MPI's, then those that speak PMI (MPICH, Intel MPI).
_PLACES = (("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"), ("PMI_RANK", "PMI_SIZE"))
# What they say to their own library, which ranks of tests must not believe. What users have set (other OMPI_MCA_...) stays.
_THEIRS = re.compile(
    r"PMIX_|PMI_|PRTE_|HYDI_|HYDRA_|MPI_LOCAL(RANKID|NRANKS)|OMPI_(COMM_WORLD|UNIVERSE|APP_CTX|NUM_APP|FIRST_RANKS|FILE_LOC|ARGV|COMMAND)"
    r"|OMPI_MCA_(orte_|ess|pmix|initial_wdir|plm|ras|rmaps|prte|hwloc_base_binding|mpi_yield|mpi_oversub)"
)

_size = 0
_elsewhere = False


def size() -> int:
    """How many ranks the launcher has started, of which this is the first; 0 for none."""
    return _size


def enter() -> None:
    """In the controller, before anything else. Ends the process where it is not the first rank."""
    global _size, _elsewhere
    place = _place()
    # A slot's process whose test starts pytest is no rank of a launcher.
    if place is None or place[1] < 2 or "PYTEST_XDIST_WORKER" in os.environ:
        return
    if place[0] != 0:
        os._exit(0)
    _size = place[1]
    local = os.environ.get("OMPI_COMM_WORLD_LOCAL_SIZE") or os.environ.get("MPI_LOCALNRANKS")
    _elsewhere = local is not None and local.isdecimal() and int(local) < _size
    for name in [name for name in os.environ if _THEIRS.match(name)]:
        del os.environ[name]
    # Launchers bind a rank to a core, and here all of them are for the tests; the kernel keeps to what the job may have.
    with contextlib.suppress(OSError):
        os.sched_setaffinity(0, range(os.cpu_count() or 1))


def notes() -> list[str]:
    if not _size:
        return []
    where = "; other machines are not used, see --hf-backend" if _elsewhere else ""
    return [f"started as {_size} ranks: the first one runs the tests on {_size} slots, the others have ended{where}"]


def _place() -> Optional[tuple[int, int]]:
    for rank, count in _PLACES:
        values = os.environ.get(rank, ""), os.environ.get(count, "")
        if all(value.isdecimal() for value in values):
            return int(values[0]), int(values[1])
    return None
