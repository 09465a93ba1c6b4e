"""Tests of CTest that are MPI programs of two ranks: `ctest`, which starts the library's launcher for each, beside `holdfast run`,
which takes the launcher away and joins the ranks itself.

    python bench/native_mpi.py [TESTS]

For Open MPI and MPICH, as Debian has them. Prints seconds and the ratio to ctest, of the same run: the machines are noisy.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

LIBRARIES = {"Open MPI": ("mpicc.openmpi", "mpirun.openmpi"), "MPICH": ("mpicc.mpich", "mpiexec.mpich")}
SOURCE = """
#include <mpi.h>
int main(int argc, char** argv) {
  int rank, sum = 0;
  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Allreduce(&rank, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
  MPI_Finalize();
  return sum == 1 ? 0 : 1;
}
"""


def main(argv: Sequence[str]) -> int:
    count = int(argv[0]) if argv else 40
    # Open MPI's launcher refuses to work for root, and to start more ranks than there are cores, unless it is told to.
    os.environ.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1", OMPI_MCA_rmaps_base_oversubscribe="1")
    for title, (compiler, launcher) in LIBRARIES.items():
        with tempfile.TemporaryDirectory(prefix="holdfast-bench-") as name:
            folder = Path(name)
            program = build(folder, compiler)
            lines = (f'add_test(t{number} "/usr/bin/{launcher}" "-n" "2" "{program}")\n' for number in range(count))
            (folder / "CTestTestfile.cmake").write_text("".join(lines))
            floor = seconds(["ctest", "--test-dir", name], folder)
            ours = seconds([sys.executable, "-m", "holdfast", "run", "--hf-slots=2", "-q", "--", name], folder)
            print(f"{title}, {count} tests of 2 ranks: ctest {floor:.2f} s, holdfast run {ours:.2f} s ({ours / floor:.2f})", flush=True)
    return 0


def build(folder: Path, compiler: str) -> Path:
    source, program = folder / "sum.c", folder / "sum"
    source.write_text(SOURCE)
    subprocess.run([compiler, "-O1", "-o", program, source], check=True)
    return program


def seconds(command: Sequence[str], folder: Path) -> float:
    begun = time.perf_counter()
    subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - begun


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
