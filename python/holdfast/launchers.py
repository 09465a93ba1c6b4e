"""`--hf-mpi=mpirun|srun`: the command of the library's own launcher, which then is the ranks' process manager (protocol/README.md,
`ready`, `mpi.launch`). It starts small programs that lend the engine what it has given them; the tests are run as always."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from holdfast.wire import Frame

LAUNCHERS = ("mpirun", "srun")
RANKS = "{ranks}"
FOLDER = "{folder}"
# Seconds that a launcher may take to say what it is.
_LIMIT = 20
# Names under which systems have it, and what it says of itself.
_OPEN_MPI = (("mpirun.openmpi", "mpirun", "mpiexec"), ("Open MPI", "OpenRTE", "PRRTE", "PRTE"))
_MPICH = (("mpiexec.mpich", "mpiexec.hydra", "mpiexec", "mpirun"), ("HYDRA", "MPICH", "Intel"))
_FAMILIES = {"Open MPI": _OPEN_MPI, "MPICH": _MPICH}
# With these, mpirun would start ranks on the nodes of a job; this engine's are here.
_OF_JOBS = ("SLURM_", "SLURMD_", "PBS_", "LSB_")
_LIBRARY = re.compile(r"/lib(pmpi|mpi|mpich)\.so[.\d]*$")


class NoLauncher(Exception):
    """It cannot launch ranks from here, and why."""


def launch(name: str, library: str, words: Sequence[str], tuning: Mapping[str, str], path: str = "") -> Frame:
    """`launch` with the command, or `problem`. `library`: what MPI says of itself; `words`: the user's; `path`: of the library, where
    it is not loaded here."""
    try:
        found = _srun(library) if name == "srun" else _mpirun(library, path)
    except NoLauncher as problem:
        return {"manager": "", "problem": f"--hf-mpi={name}: {problem}"}
    # What users say comes last, so that it wins.
    argv = [*found, *words, "-n", RANKS]
    environment = dict(tuning)
    if "OMPI_MCA_btl" in environment:
        # Programs that MPI_Comm_spawn starts are another job, with which Open MPI does not share memory.
        environment.update(OMPI_MCA_btl=environment["OMPI_MCA_btl"] + ",tcp", OMPI_MCA_btl_tcp_if_include="lo")
    if name == "mpirun" and is_open_mpi(library) and not _is_new(library):
        # mpirun makes a directory that all of a user share, and removes it when it is empty: one that starts while another one
        # ends may find it, and then not, and gives up (opal_os_dirpath_create). So each has its own.
        environment["OMPI_MCA_orte_tmpdir_base"] = FOLDER
    if os.geteuid() == 0:
        # Open MPI wants to hear this twice.
        environment.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
        environment.update(PRTE_ALLOW_RUN_AS_ROOT="1", PRTE_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    environment = {key: os.environ.get(key, value) for key, value in environment.items()}
    without = [] if name == "srun" else list(_OF_JOBS)
    return {"manager": "launcher", "launch": {"argv": argv, "environment": environment, "without": without}}


def find_srun() -> str:
    """Raises NoLauncher."""
    program = shutil.which("srun")
    if program is None:
        raise NoLauncher("there is no srun in PATH")
    if not os.environ.get("SLURM_JOB_ID") or not os.environ.get("SLURMD_NODENAME"):
        raise NoLauncher(
            "srun launches ranks in a Slurm job only, on the node where tests run; add --scheduler=slurm, or start pytest in a job"
        )
    return program


def _srun(library: str) -> list[str]:
    manager = "pmix" if is_open_mpi(library) else "pmi2"
    # The step that runs the tests has these CPUs: `--overlap` lets another one have them, too.
    return [find_srun(), f"--mpi={manager}", "--overlap", "-N1", f"--nodelist={os.environ['SLURMD_NODENAME']}", "--export=ALL"]


def _mpirun(library: str, path: str) -> list[str]:
    beside = str(Path(path).parent.parent / "bin") if path else _beside_the_library()
    if not is_open_mpi(library):
        return [_program("mpiexec of MPICH", beside, *_MPICH)]
    program = _program("mpirun of Open MPI", beside, *_OPEN_MPI)
    # As many ranks as there are slots, which may be more than CPUs; the engine pins them where it is asked to.
    return [program, *(["--map-by", ":OVERSUBSCRIBE"] if _is_new(library) else ["--oversubscribe"]), "--bind-to", "none"]


def is_open_mpi(library: str) -> bool:
    return library.startswith("Open MPI")


def _is_new(library: str) -> bool:
    """Open MPI 5 has another launcher, PRRTE."""
    version = re.match(r"Open MPI v(\d+)", library)
    return version is not None and int(version[1]) >= 5


def _program(title: str, beside: str, names: Sequence[str], says: Sequence[str]) -> str:
    """The first one that is of this library: several can be installed, and `mpirun` is anybody's. Raises NoLauncher."""
    for folder in (beside, None):
        for name in names:
            path = shutil.which(name, path=folder)
            if path is not None and _says(path, says):
                return path
    raise NoLauncher(f"no {title} was found beside its library or in PATH")


def _beside_the_library() -> str:
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
        for line in maps:
            path = line.split(None, 5)[-1].rstrip()
            if _LIBRARY.search(path):
                return str(Path(path).parent.parent / "bin")
    return os.devnull


def family_of(path: str) -> str:
    """Whose launcher that is, as its library's own text begins; empty where it is nobody's that we know."""
    said = _version_of(path)
    return next((family for family, (_, words) in _FAMILIES.items() if any(word in said for word in words)), "")


def _says(path: str, says: Sequence[str]) -> bool:
    said = _version_of(path)
    return any(word in said for word in says)


def _version_of(path: str) -> str:
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, errors="replace", timeout=_LIMIT, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout + done.stderr
