"""mpi4py's own tests on two ranks, as one test with one verdict.

python tests/real/mpi4py_suite.py [openmpi|mpich] [mpirun]      downloads mpi4py's sources; run it where holdfast and mpi4py are installed
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

VERSION = "4.1.2"
# They start more processes, or connect to other programs, which is refused unless a launcher does it. With MPICH 4.0 test_util_sync hangs under mpiexec, too.
MORE = ("test_spawn", "test_dynproc", "test_util_pool")
LEFT_OUT = (*([] if "mpirun" in sys.argv else MORE), *(["test_util_sync"] if "mpich" in sys.argv else []))
SUITE = f"""
import os, sys, unittest
import holdfast, pytest

@holdfast.mark.parallel(2)
@pytest.mark.timeout(500)
def test_mpi4py(comm):
    place = os.environ["MPI4PY_TESTS"]
    sys.path.insert(0, place)
    os.chdir(place)
    names = sorted(name[:-3] for name in os.listdir(place) if name.startswith("test_") and name.endswith(".py"))
    suite = unittest.TestSuite()
    for name in names:
        if name not in {LEFT_OUT!r}:
            suite.addTests(unittest.defaultTestLoader.loadTestsFromName(name))
    result = unittest.TextTestRunner(verbosity=0).run(suite)
    print(f"ran {{result.testsRun}}, skipped {{len(result.skipped)}}")
    assert result.wasSuccessful()
"""


def main() -> int:
    library = sys.argv[1] if len(sys.argv) > 1 else "openmpi"
    env = dict(os.environ)
    with tempfile.TemporaryDirectory() as place:
        download = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:", f"mpi4py=={VERSION}"]
        subprocess.run(download, cwd=place, check=True)
        with tarfile.open(Path(place) / f"mpi4py-{VERSION}.tar.gz") as archive:
            archive.extractall(place, filter="data")
        env["MPI4PY_TESTS"] = f"{place}/mpi4py-{VERSION}/test"
        if library == "mpich":
            (Path(place) / "libmpi.so.12").symlink_to("/usr/lib/x86_64-linux-gnu/libmpich.so.12")
            env.update(LD_LIBRARY_PATH=place, MPI4PY_MPIABI="mpich")
        suite = Path(place) / "suite"
        suite.mkdir()
        (suite / "test_it.py").write_text(SUITE)
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--holdfast", "--hf-slots=2", "--hf-history=none", "-rP"]
        command += [f"--hf-mpi={name}" for name in sys.argv[2:]]
        return subprocess.run(command, cwd=suite, env=env, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
