"""Measures tests on MPI ranks beside the launchers and other plugins, in one run. Prints Markdown for bench/README.md.

    python bench/mpi.py [TESTS]

Needs Debian's openmpi-bin and mpich. Makes an environment of its own below build/bench/.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PLACE = ROOT / "build" / "bench" / "mpi"
PYTHON = PLACE / "venv" / "bin" / "python"
PACKAGES = ["pytest==9.2.0", "mpi4py==4.1.2", "pytest-isolate-mpi==0.4.1", "mpi-pytest==2026.0"]
PEERS_OFF = ["-p", "no:pytest_isolate_mpi", "-p", "no:mpi-pytest"]
OURS = """
import holdfast, pytest
@holdfast.mark.parallel({ranks})
@pytest.mark.parametrize("i", range({tests}))
def test_barrier(comm, i): comm.Barrier()
"""
DIES = """
import os, time, holdfast
@holdfast.mark.parallel(2)
def test_dies(comm):
    if comm.rank == 1:
        with open(os.environ["BENCH_DEATH"], "w") as file: print(time.time(), file=file)
        os.kill(os.getpid(), 9)
    comm.Barrier()
"""
THEIRS = """
import pytest
@pytest.mark.mpi(ranks={ranks})
@pytest.mark.parametrize("i", range({tests}))
def test_barrier(mpi_ranks, comm, i): comm.Barrier()
"""
PROGRAM = "from mpi4py import MPI; MPI.COMM_WORLD.Barrier()"


def setup() -> None:
    PLACE.mkdir(parents=True, exist_ok=True)
    if not PYTHON.exists():
        subprocess.run([sys.executable, "-m", "venv", PLACE / "venv"], check=True)
    subprocess.run([PYTHON, "-m", "pip", "install", "-q", *PACKAGES], check=True)
    subprocess.run([PYTHON, "-m", "pip", "install", "-q", "--no-deps", "--force-reinstall", ROOT], check=True)


def environment(library: str) -> dict[str, str]:
    env = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    if library == "mpich":
        folder = PLACE / "mpich"
        folder.mkdir(exist_ok=True)
        link = folder / "libmpi.so.12"
        if not link.exists():
            link.symlink_to("/usr/lib/x86_64-linux-gnu/libmpich.so.12")
        env.update(LD_LIBRARY_PATH=str(folder), MPI4PY_MPIABI="mpich")
    return env


def launcher(library: str, ranks: int) -> list[str]:
    if library == "mpich":
        return ["mpiexec.mpich", "-n", str(ranks)]
    return ["mpirun.openmpi", "--oversubscribe", "--bind-to", "none", "-n", str(ranks)]


def seconds(command: list[str], env: dict[str, str]) -> float:
    begun = time.monotonic()
    done = subprocess.run(command, env=env, cwd=PLACE, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode != 0:
        print(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-500:]}{done.stderr[-500:]}", file=sys.stderr)
    return time.monotonic() - begun


def holdfast(library: str, ranks: int, text: str, *args: str) -> tuple[float, list[dict[str, Any]]]:
    suite, log = PLACE / "test_ours.py", PLACE / "log.jsonl"
    suite.write_text(text)
    command = [str(PYTHON), "-m", "pytest", "-q", "-p", "no:cacheprovider", *PEERS_OFF, "--holdfast", f"--hf-slots={ranks}", *args]
    wall = seconds([*command, "--hf-history=none", f"--hf-log={log}", str(suite)], environment(library))
    return wall, [json.loads(line) for line in log.read_text().splitlines()]


def a_test(library: str, ranks: int, tests: int) -> None:
    wall, events = holdfast(library, ranks, OURS.format(ranks=ranks, tests=tests))
    lives = [event["duration"] for event in events if event["event"] == "verdict"]
    launched, _ = holdfast(library, ranks, OURS.format(ranks=ranks, tests=tests), "--hf-mpi=mpirun")
    launches = [seconds([*launcher(library, ranks), str(PYTHON), "-c", PROGRAM], environment(library)) for _ in range(5)]
    suite = PLACE / "test_theirs.py"
    suite.write_text(THEIRS.format(ranks=ranks, tests=5))
    peer = ["-m", "pytest", "-v", "-p", "no:cacheprovider", "-p", "no:mpi-pytest", "-p", "no:holdfast", str(suite)]
    theirs = seconds([str(PYTHON), *peer], {**environment(library), "PATH": f"{shims(library)}:{os.environ['PATH']}"}) / 5
    print(
        f"| {library} | {ranks} | **{1000 * statistics.median(lives):.0f}** | {1000 * wall / tests:.0f} |"
        f" {1000 * launched / tests:.0f} | {1000 * statistics.median(launches):.0f} | {1000 * theirs:.0f} |",
        flush=True,
    )


def shims(library: str) -> Path:
    """pytest-isolate-mpi calls `mpirun`, whichever that is."""
    folder = PLACE / f"bin-{library}"
    folder.mkdir(exist_ok=True)
    script = folder / "mpirun"
    script.write_text(f'#!/bin/sh\nexec {" ".join(launcher(library, 1)[:-2])} "$@"\n')
    script.chmod(0o755)
    return folder


def a_death(library: str) -> None:
    """From the moment at which a rank is killed to that at which the engine knows."""
    known = []
    for _ in range(5):
        os.environ["BENCH_DEATH"] = str(PLACE / "death")
        _, events = holdfast(library, 2, DIES)
        (event,) = [event for event in events if event["event"] == "rank_failed"]
        known.append(event["at"] - float((PLACE / "death").read_text()))
    print(f"{library}: the death of a rank is known after {1000 * statistics.median(known):.1f} ms")


def reuse(library: str, ranks: int, tests: int) -> None:
    """Whole runs: ours with pools on 4 slots, in isolation `test`, and mpi-pytest, which is started as the ranks of one program."""
    text = OURS.format(ranks=ranks, tests=tests)
    suite = PLACE / "test_reuse.py"
    theirs_text = (
        THEIRS.format(ranks=ranks, tests=tests)
        .replace("mark.mpi(ranks=", "mark.parallel(")
        .replace("mpi_ranks, comm, i): comm", "i): MPI.COMM_WORLD")
    )
    suite.write_text("from mpi4py import MPI\n" + theirs_text)
    off = ["-p", "no:cacheprovider", "-p", "no:pytest_isolate_mpi", "-p", "no:holdfast"]
    peer = [*launcher(library, ranks), str(PYTHON), "-m", "pytest", "-q", *off, str(suite)]
    pools = statistics.median(holdfast(library, ranks, text, "--hf-slots=4", "--hf-isolate=worker")[0] for _ in range(3))
    fresh, _ = holdfast(library, ranks, text, "--hf-slots=4")
    theirs = statistics.median(seconds(peer, environment(library)) for _ in range(3))
    print(f"| {library} | {ranks} | **{pools:.2f}** | {fresh:.2f} | {theirs:.2f} |", flush=True)


def main() -> None:
    tests = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    setup()
    print(
        "\n| library | ranks | holdfast: begin to all exited, ms (median) | whole run, ms a test | the same with --hf-mpi=mpirun | launcher, ms | pytest-isolate-mpi, ms a test |"
    )
    print("|---|---|---|---|---|---|---|")
    for library in ("openmpi", "mpich"):
        for ranks in (2, 4):
            a_test(library, ranks, tests)
    for library in ("openmpi", "mpich"):
        a_death(library)
    print(
        "\n200 tests:\n\n| library | ranks | holdfast, pools on 4 slots, s | holdfast, isolation test, s | mpirun and mpi-pytest, s |"
    )
    print("|---|---|---|---|---|")
    for library in ("openmpi", "mpich"):
        for ranks in (1, 2):
            reuse(library, ranks, 200)


if __name__ == "__main__":
    main()
