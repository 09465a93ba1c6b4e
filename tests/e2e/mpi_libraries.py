"""Lets a suite's mpi4py find one of the MPI libraries that are tested, and looks for what ranks have left."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

MPICH = Path("/usr/lib/x86_64-linux-gnu/libmpich.so.12")
OPEN_MPI = Path("/usr/lib/x86_64-linux-gnu/libmpi.so.40")
# PyPI's Open MPI 5, which installs below a prefix: an environment of its own beside the one that runs the tests (./test makes it).
OPEN_MPI_5 = Path(sys.prefix).parent / "ompi5-venv" / "lib" / "libmpi.so.40"


def use(suite: Any, name: str, folder: Path) -> None:
    pytest.importorskip("mpi4py", reason="mpi4py is not installed: nothing about MPI is tested")
    library = {"mpich": MPICH, "openmpi": OPEN_MPI, "openmpi5": OPEN_MPI_5}[name]
    if not library.exists():
        pytest.skip(f"NOT RUN with {name}: {library} is missing")
    suite.env["TMPDIR"] = str(folder)
    if name == "openmpi5":
        suite.env["LD_LIBRARY_PATH"] = str(library.parent)
    if name == "mpich":
        # The wheel of mpi4py looks for it under this name.
        (folder / "libmpi.so.12").symlink_to(library)
        suite.env.update(LD_LIBRARY_PATH=str(folder), MPI4PY_MPIABI="mpich")


def left(suite: Any) -> list[str]:
    """What is left of gangs in shared memory and in the temporary directory, of anybody's."""
    shared = [name for name in os.listdir("/dev/shm") if name.startswith(("holdfast-", "vader_segment.", "ucx_shm_"))]
    shared = [name for name in shared if not name.startswith("holdfast-simgpu")]
    return shared + [name for name in os.listdir(suite.env["TMPDIR"]) if not name.startswith(("libmpi", "pytest-of"))]
