"""`--hf-mpi=mpirun|srun`: the command of the library's own launcher, which then is the ranks' process manager (protocol/README.md,
`ready`, `mpi.launch`). It starts small programs that lend the engine what it has given them; the tests are run as always."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Optional

from holdfast.wire import Frame

LAUNCHERS = ("mpirun", "srun")
RANKS = "{ranks}"
# Seconds that a launcher may take to say what it is.
_LIMIT = 20
# Names under which systems have it, and what it says of itself.
_OPEN_MPI = (("mpirun.openmpi", "mpirun", "mpiexec"), ("Open MPI", "OpenRTE", "PRRTE", "PRTE"))
_MPICH = (("mpiexec.mpich", "mpiexec.hydra", "mpiexec", "mpirun"), ("HYDRA", "MPICH", "Intel"))
# With these, mpirun would start ranks on the nodes of a job; this engine's are here.
_OF_JOBS = ("SLURM_", "SLURMD_", "PBS_", "LSB_")
_LIBRARY = re.compile(r"/lib(pmpi|mpi|mpich)\.so[.\d]*$")


def launch(name: str, library: str, words: str, tuning: Mapping[str, str]) -> Frame:
    """`launch` with the command, or `problem`. `library`: what MPI says of itself; `words`: the user's."""
    is_open_mpi = library.startswith("Open MPI")
    found = _srun(is_open_mpi) if name == "srun" else _mpirun(library)
    if isinstance(found, str):
        return {"manager": "", "problem": f"--hf-mpi={name}: {found}"}
    # What users say comes last, so that it wins.
    argv = [*found, *shlex.split(words), "-n", RANKS]
    environment = dict(tuning)
    if "OMPI_MCA_btl" in environment:
        # Programs that MPI_Comm_spawn starts are another job, with which Open MPI does not share memory.
        environment.update(OMPI_MCA_btl=environment["OMPI_MCA_btl"] + ",tcp", OMPI_MCA_btl_tcp_if_include="lo")
    if os.geteuid() == 0:
        # Open MPI wants to hear this twice.
        environment.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
        environment.update(PRTE_ALLOW_RUN_AS_ROOT="1", PRTE_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    environment = {key: os.environ.get(key, value) for key, value in environment.items()}
    without = [] if name == "srun" else list(_OF_JOBS)
    return {"manager": "launcher", "launch": {"argv": argv, "environment": environment, "without": without}}


def against_srun() -> str:
    """Why it cannot launch ranks from here; empty if it can."""
    if shutil.which("srun") is None:
        return "there is no srun in PATH"
    if not os.environ.get("SLURM_JOB_ID") or not os.environ.get("SLURMD_NODENAME"):
        return "srun launches ranks in a Slurm job only, on the node where tests run; add --scheduler=slurm, or start pytest in a job"
    return ""


def _srun(is_open_mpi: bool) -> list[str] | str:
    program = shutil.which("srun")
    problem = against_srun()
    if program is None or problem:
        return problem
    node = os.environ["SLURMD_NODENAME"]
    # The step that runs the tests has these CPUs: `--overlap` lets another one have them, too.
    return [program, f"--mpi={'pmix' if is_open_mpi else 'pmi2'}", "--overlap", "-N1", f"--nodelist={node}", "--export=ALL"]


def _mpirun(library: str) -> list[str] | str:
    if not library.startswith("Open MPI"):
        program = _program(*_MPICH)
        return [program] if program is not None else "no mpiexec of MPICH was found beside its library or in PATH"
    program = _program(*_OPEN_MPI)
    if program is None:
        return "no mpirun of Open MPI was found beside its library or in PATH"
    version = re.match(r"Open MPI v(\d+)", library)
    new = version is not None and int(version[1]) >= 5
    # As many ranks as there are slots, which may be more than CPUs; the engine pins them where it is asked to.
    return [program, *(["--map-by", ":OVERSUBSCRIBE"] if new else ["--oversubscribe"]), "--bind-to", "none"]


def _program(names: Sequence[str], says: Sequence[str]) -> Optional[str]:
    """The first one that is of this library: several can be installed, and `mpirun` is anybody's."""
    for folder in (_beside_the_library(), None):
        for name in names:
            path = shutil.which(name, path=folder)
            if path is not None and _says(path, says):
                return path
    return None


def _beside_the_library() -> str:
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
        for line in maps:
            path = line.rstrip().partition("/")
            if path[1] and _LIBRARY.search("/" + path[2]):
                return str(Path("/" + path[2]).parent.parent / "bin")
    return os.devnull


def _says(path: str, says: Sequence[str]) -> bool:
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, errors="replace", timeout=_LIMIT, check=False)
    except (OSError, subprocess.SubprocessError):
        return False
    return any(word in done.stdout + done.stderr for word in says)
