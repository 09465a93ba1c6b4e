"""Measures tests in a Slurm job beside steps of srun, in one run, on a Slurm of its own (tests/e2e/slurm_cluster.py). Prints Markdown
for bench/README.md.

    python bench/slurm.py [TESTS]        with a Python that has holdfast, pytest and mpi4py; needs Debian's Slurm, Open MPI

The job's own start is told apart: Slurm begins batch jobs about once a second.
"""

from __future__ import annotations

import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "e2e"))

import slurm_cluster  # noqa: E402

SUITE = """
import holdfast, pytest
@holdfast.mark.parallel({ranks})
@pytest.mark.parametrize("i", range({tests}))
def test_barrier(comm, i): comm.Barrier()
"""
PROGRAM = "from mpi4py import MPI; MPI.COMM_WORLD.Barrier()"


def ours(folder: Path, env: dict[str, str], ranks: int, tests: int) -> tuple[float, float]:
    """Milliseconds a test from the first one that begins to the last verdict, and seconds of the whole run."""
    (folder / "test_barrier.py").write_text(SUITE.format(ranks=ranks, tests=tests))
    ledger = folder / f"ledger-{ranks}.db"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--scheduler=slurm", f"--n-workers={ranks}"]
    begun = time.monotonic()
    done = subprocess.run(
        [*command, f"--hf-journal={ledger}"], cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=300
    )
    whole = time.monotonic() - begun
    if f"{tests} passed" not in done.stdout:
        sys.exit(done.stdout + done.stderr)
    with sqlite3.connect(ledger) as db:
        first, last = db.execute("SELECT min(started), max(ended) FROM attempts").fetchone()
    return (last - first) / tests * 1000, whole


def srun(env: dict[str, str], command: list[str], times: int) -> float:
    """Milliseconds a step, the median of so many in one allocation."""
    step = " ".join(command)
    script = f"for i in $(seq {times}); do b=$(date +%s%N); {step} >/dev/null; e=$(date +%s%N); echo $(( (e - b) / 1000 )); done"
    done = subprocess.run(
        ["salloc", "--quiet", "-n4", "bash", "-c", script], env=env, capture_output=True, text=True, check=False, timeout=300
    )
    numbers = [int(line) / 1000 for line in done.stdout.split()]
    if len(numbers) != times or done.returncode != 0:
        sys.exit(done.stdout + done.stderr)
    return statistics.median(numbers)


def main() -> None:
    tests = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    with tempfile.TemporaryDirectory(prefix="holdfast-bench-") as name:
        folder = Path(name)
        (folder / "slurm").mkdir()
        (folder / "suite").mkdir()
        cluster = slurm_cluster.Cluster(folder / "slurm", nodes=1)
        env = {**os.environ, **cluster.environment, "PATH": slurm_cluster.PATH}
        try:
            cluster.start()
            print("| ranks | **holdfast, ms a test** | whole run, s | srun step of /bin/true, ms | srun step of the same program, ms |")
            print("|---|---|---|---|---|")
            for ranks in (1, 2, 4):
                mine, whole = ours(folder / "suite", env, ranks, tests)
                bare = srun(env, ["srun", "--exact", f"-n{ranks}", "/bin/true"], 11)
                same = srun(env, ["srun", "--exact", "--mpi=pmix", f"-n{ranks}", sys.executable, "-c", f'"{PROGRAM}"'], 5)
                print(f"| {ranks} | **{mine:.0f}** | {whole:.1f} | {bare:.0f} | {same:.0f} |", flush=True)
        finally:
            cluster.stop()


if __name__ == "__main__":
    main()
