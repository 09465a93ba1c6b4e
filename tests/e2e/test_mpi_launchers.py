"""`--hf-mpi=mpirun`: the library's own launcher joins the ranks. srun is tested in test_slurm.py, within a job."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

import pytest
from conftest import children, wait_until
from mpi_libraries import left, use
from test_mpi import BAD, HEAD

MPIRUN = ("--hf-mpi=mpirun", "--hf-slots=3")


@pytest.fixture
def open_mpi(suite, tmp_path_factory) -> None:
    use(suite, "openmpi", tmp_path_factory.mktemp("mpi"))


@pytest.fixture(autouse=True)
def nothing_is_left(suite) -> object:
    yield
    assert left(suite) == []
    assert suite.survivors() == []


def test_every_end_has_its_verdict(suite, mpi):
    suite.write(test_bad=HEAD + BAD)
    run = suite.run(*MPIRUN)
    assert run.short() == {
        "test_assert_while_the_other_waits[2]": "failed", "test_segfault[2]": "crashed", "test_abort[2]": "exited",
        "test_exit_0[2]": "exited", "test_all_fail[3]": "failed", "test_teardown[2]": "error", "test_skipped[2]": "skipped",
        "test_one_skips[3]": "passed", "test_xfail[2]": "xfailed", "test_fine[2]": "passed",
    }, run.output  # fmt: skip
    # Debian's mpirun of Open MPI 4.1 loses the message, mostly.
    aborted = ["exited in call: MPI_Abort(42)"]
    if mpi == "openmpi":
        aborted.append("exited in call: the process ended with exit status 42")
    assert any(line in run.output for line in aborted), run.output
    for line in (
        "rank 1: failed\nrank 0: waited in MPI_Barrier at test_bad.py:10 (test_assert_while_the_other_waits)",
        "rank 1: crashed in call: SIGSEGV (SEGV_MAPERR, address 0x0)\nrank 0: waited in MPI_Barrier",
        "rank 1: exited in call: the process ended with exit status 0 before the test was over",
    ):
        assert line in run.output, line + "\n" + run.output


def test_comm_world_is_the_tests_own_and_can_be_kept(suite, mpi):
    text = """
from mpi4py import MPI
@par([1, 2, 3])
@pytest.mark.parametrize("i", range(4))
def test_world(comm, i):
    assert comm.size == MPI.COMM_WORLD.size and comm.rank == MPI.COMM_WORLD.rank
    assert comm.allreduce(comm.rank) == comm.size * (comm.size - 1) // 2
    open(f"ran-{comm.size}-{os.getpid()}", "a").write("x")
"""
    suite.write(test_worlds=HEAD + text)
    run = suite.run(*MPIRUN, "--hf-isolate=worker")
    assert run.code == 0 and len(run.verdicts) == 12 and set(run.verdicts.values()) == {"passed"}, run.output
    assert [len(list(suite.root.glob(f"ran-{size}-*"))) for size in (2, 3)] == [2, 3]
    run = suite.run(*MPIRUN)
    assert run.code == 0 and set(run.verdicts.values()) == {"passed"}, run.output
    assert len(list(suite.root.glob("ran-3-*"))) == 3 + 12


def test_launchers_of_others_do_not_matter(suite, open_mpi):
    # Where mpirun of Open MPI 4 has its files: one of another run that ends takes this directory away while ours begins.
    Path(suite.env["TMPDIR"], f"ompi.{os.uname().nodename.split('.')[0]}.{os.getuid()}").write_text("no directory")
    suite.write(test_two=HEAD + "@par(2)\ndef test_two(comm): comm.Barrier()\n")
    run = suite.run(*MPIRUN)
    assert run.short() == {"test_two[2]": "passed"}, run.output
    next(Path(suite.env["TMPDIR"]).glob("ompi.*")).unlink()


@pytest.mark.parametrize("library", ["openmpi", "openmpi5"])
def test_programs_can_be_spawned(suite, library, tmp_path_factory):
    use(suite, library, tmp_path_factory.mktemp("mpi"))
    text = """
from mpi4py import MPI
CODE = "from mpi4py import MPI; up = MPI.Comm.Get_parent(); up.send(up.remote_size, dest=0); up.Disconnect()"
@par(2)
def test_spawn(comm):
    child = comm.Spawn(sys.executable, ["-c", CODE], maxprocs=2)
    if comm.rank == 0: assert child.recv(source=1) == child.recv(source=0) == 2
    child.Disconnect()
"""
    suite.write(test_spawn=HEAD + text)
    run = suite.run(*MPIRUN, "--hf-timeout=30")
    assert run.short() == {"test_spawn[2]": "passed"}, run.output


KILL_IT = """
def kill_it():
    for path in __import__("glob").glob("/proc/[0-9]*/cmdline"):
        try:
            words = open(path, "rb").read().split(b"\\0")
            ours = words[0].endswith(b"mpirun.openmpi") and b"lend" in words and b"SUITE" in open(path[:-7] + "environ", "rb").read()
        except OSError: continue  # It has ended.
        if ours: os.kill(int(path.split("/")[2]), signal.SIGKILL)
"""


@pytest.fixture
def kill_it(suite) -> str:
    """The text of a function that kills the launcher of the suite's ranks."""
    suite.env["SUITE_OF"] = str(suite.root)
    return KILL_IT.replace("SUITE", f"SUITE_OF={suite.root}")


def test_a_launcher_that_is_killed_costs_its_test(suite, open_mpi, kill_it):
    text = """
@par(2)
def test_killed(comm):
    if comm.rank == 0: kill_it()
    time.sleep(60)
def test_beside(): pass
"""
    suite.write(test_killed=HEAD + kill_it + text)
    run = suite.run(*MPIRUN, "--hf-grace=1")
    assert run.verdicts["test_killed.py::test_beside"] == "passed"
    # The library may notice first, and end its rank.
    assert run.verdicts["test_killed.py::test_killed[2]"] in ("error", "exited"), run.output
    assert "the launcher of its ranks has ended" in run.output


def test_nothing_is_left_of_spawned_programs_whose_launcher_is_killed(suite, open_mpi, kill_it):
    text = """
from mpi4py import MPI
CODE = "import time; from mpi4py import MPI; MPI.COMM_WORLD.Barrier(); MPI.Comm.Get_parent().send(1, dest=0); time.sleep(60)"
@par(1)
def test_spawn(comm):
    child = comm.Spawn(sys.executable, ["-c", CODE], maxprocs=2)
    child.recv(source=0), child.recv(source=1)
    kill_it()
    time.sleep(60)
"""
    suite.write(test_spawn=HEAD + kill_it + text)
    run = suite.run(*MPIRUN, "--hf-timeout=30", "--hf-grace=1")
    assert set(run.verdicts.values()) <= {"error", "exited"} and len(run.verdicts) == 1, run.output


@pytest.mark.parametrize(
    ("options", "said"),
    [("--no-such-option", "has ended without having started 2 rank(s)"), ("'", "cannot be read as words of a shell")],
)
def test_a_launcher_that_cannot_launch_says_why(suite, open_mpi, options, said):
    suite.write(test_two=HEAD + "@par(2)\ndef test_two(comm): pass\ndef test_plain(): pass\n")
    run = suite.run(*MPIRUN, f"--hf-mpi-options={options}")
    assert said in run.output
    if options == "'":
        assert run.code == 4
    else:
        assert run.short() == {"test_two[2]": "error", "test_plain": "passed"}, run.output
        assert "no-such-option" in run.output


def test_options_reach_the_launcher(suite, open_mpi):
    suite.write(test_x=HEAD + "@par(2)\ndef test_x(comm): assert os.environ['OF_MPIRUN'] == 'a b'\n")
    run = suite.run(*MPIRUN, "--hf-mpi-options=-x 'OF_MPIRUN=a b'")
    assert run.short() == {"test_x[2]": "passed"}, run.output


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--hf-mpi-options=-v",), "--hf-mpi-options are for a launcher of ranks; add --hf-mpi=mpirun or --hf-mpi=srun"),
        (("--hf-mpi=srun",), "srun launches ranks in a Slurm job only"),
    ],
)
def test_what_makes_no_sense_is_said(suite, open_mpi, options, said):
    suite.write(test_two=HEAD + "@par(2)\ndef test_two(comm): pass\n")
    # A srun that is there, in case Slurm is not installed.
    suite.file("bin/srun", "#!/bin/sh\n").chmod(0o755)
    suite.env["PATH"] = f"{suite.root / 'bin'}{os.pathsep}{os.environ['PATH']}"
    run = suite.run(*options)
    assert run.code == 4 and said in run.output, run.output


def test_without_a_launcher_its_tests_say_so(suite, open_mpi):
    suite.write(test_two=HEAD + "@par(2)\ndef test_two(comm): pass\ndef test_plain(): pass\n")
    suite.env["PATH"] = str(Path(sys.executable).parent)
    run = suite.run(*MPIRUN)
    assert run.short() == {"test_two[2]": "error", "test_plain": "passed"}, run.output
    assert "--hf-mpi=mpirun: no mpirun of Open MPI was found beside its library or in PATH" in run.output


WAITS = """
@par(2)
def test_waits(comm):
    open(f"here-{comm.rank}", "w").close()
    time.sleep(60)
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_of_a_run_that_ends_early(suite, open_mpi, how):
    suite.write(test_waits=HEAD + WAITS)
    process = suite.start(*MPIRUN)
    wait_until(lambda: all((suite.root / f"here-{rank}").exists() for rank in (0, 1)), "the ranks have not begun")
    engine = next(pid for pid in children(process.pid) if b"engine" in Path(f"/proc/{pid}/cmdline").read_bytes())
    os.kill(process.pid if how == signal.SIGINT else engine, how)
    run = suite.finish(process)
    assert run.code == (2 if how == signal.SIGINT else 12), run.output
    wait_until(lambda: suite.survivors() == [], "something is left")
    if how == signal.SIGKILL:
        for folder in Path(suite.env["TMPDIR"]).glob("holdfast-launch-*"):
            shutil.rmtree(folder)
        # What a killed engine leaves in shared memory, the next one removes.
        suite.write(test_waits=HEAD + "@par(2)\ndef test_next(comm): pass\n")
        assert suite.run(*MPIRUN).code == 0
