"""With --hf-isolate=worker ranks stay for the next test of their number: what is shared, what is not, and what ends it."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
from pathlib import Path

import pytest
from mpi_libraries import OPEN_MPI_5, left, use

HEAD = """
import ctypes, os, signal, sys, threading, time, pytest, holdfast
from mpi4py import MPI
par = holdfast.mark.parallel
def note(name): open(f"{name}-{MPI.COMM_WORLD.size}-{os.getpid()}", "a").write("x")
"""
REUSE = ("--hf-isolate=worker", "--hf-slots=2")


@pytest.fixture(params=["openmpi", "mpich"])
def one_mpi(request, suite, tmp_path_factory) -> None:
    use(suite, request.param, tmp_path_factory.mktemp("mpi"))


def processes(root: Path, size: int) -> dict[str, int]:
    """pid -> tests that noted themselves there."""
    return {path.name.rpartition("-")[2]: len(path.read_text()) for path in root.glob(f"ran-{size}-*")}


def test_ranks_stay_for_tests_of_their_number(suite, mpi):
    suite.write(
        test_many=HEAD
        + """
@par([1, 2])
@pytest.mark.parametrize("i", range(8))
def test_many(comm, i, mpi_tmpdir):
    note("ran")
    assert comm.size == MPI.COMM_WORLD.size and comm != MPI.COMM_WORLD
    assert comm.allreduce(1) == comm.size
    assert os.listdir(mpi_tmpdir) == [] or comm.size == 2
    comm.Barrier()
    (mpi_tmpdir / str(comm.rank)).touch()
    comm.Barrier()
    assert len(os.listdir(mpi_tmpdir)) == comm.size
"""
    )
    run = suite.run(*REUSE)
    assert run.code == 0 and set(run.verdicts.values()) == {"passed"} and len(run.verdicts) == 16, run.output
    assert set(processes(suite.root, 2).values()) == {8} and len(processes(suite.root, 2)) == 2
    # A slot may be there before the other is, which is too early for two ranks; then some of one rank go first.
    assert sum(processes(suite.root, 1).values()) == 8 and len(processes(suite.root, 1)) <= 4
    assert not any(run.notes.values()), run.notes
    assert left(suite) == []


def test_each_end_costs_its_test_alone(suite, mpi):
    suite.write(
        test_ends=HEAD
        + """
@par(2)
def test_a_good(comm): note("ran"); comm.Barrier()
@par(2)
def test_b_crashes(comm):
    if comm.rank == 1: os.kill(os.getpid(), signal.SIGSEGV)
    comm.Barrier()
@par(2)
def test_c_good(comm): note("ran"); comm.Barrier()
@par(2)
def test_d_fails(comm):
    if comm.rank == 0: assert 0, "the first"
    comm.Barrier()
@par(2)
def test_e_good(comm): note("ran"); comm.Barrier()
@par(2)
@pytest.mark.timeout(0.5)
def test_f_hangs(comm):
    if comm.rank == 0: comm.recv(source=1)
@par(2)
def test_g_good(comm): note("ran"); comm.Barrier()
@par(2)
def test_h_aborts(comm):
    if comm.rank == 1: MPI.COMM_WORLD.Abort(7)
    comm.Barrier()
@par(2)
def test_i_good(comm): note("ran"); comm.Barrier()
@par(2)
def test_j_finalises(comm): MPI.Finalize()
@par(2)
def test_k_good(comm): note("ran"); comm.Barrier()
@par(2)
def test_l_leaves(comm): os._exit(0)
@par(2)
def test_m_good(comm): note("ran"); comm.Barrier()
"""
    )
    run = suite.run(*REUSE, "--hf-dist=sequential", "--hf-grace=0.5")
    bad = {
        "test_b_crashes[2]": "crashed",
        "test_d_fails[2]": "failed",
        "test_f_hangs[2]": "timeout",
        "test_h_aborts[2]": "exited",
        "test_l_leaves[2]": "exited",
    }
    verdicts = run.short()
    assert {name: verdict for name, verdict in verdicts.items() if verdict != "passed"} == bad, run.output
    assert len(verdicts) == 13
    assert "MPI_Abort(7)" in run.output and "rank 1: waited in MPI_Barrier" in run.output
    assert left(suite) == []


def test_a_failure_on_all_ranks_costs_the_pool(suite, one_mpi):
    suite.write(
        test_fails=HEAD
        + """
@par(2)
def test_a_fails(comm):
    note("ran")
    assert 0
@par(2)
def test_b_good(comm): note("ran")
"""
    )
    run = suite.run(*REUSE, "--hf-dist=sequential")
    assert run.short() == {"test_a_fails[2]": "failed", "test_b_good[2]": "passed"}, run.output
    assert list(processes(suite.root, 2).values()) == [1, 1, 1, 1]


def test_what_fails_in_used_ranks_is_judged_in_new_ones(suite, one_mpi):
    suite.write(
        test_state=HEAD
        + """
state = []
@par(2)
def test_a_changes(comm): state.append(1)
@par(2)
def test_b_suffers(comm): assert state == []
@par(2)
def test_c_fails(comm): assert 0
"""
    )
    run = suite.run(*REUSE, "--hf-dist=sequential")
    assert run.short() == {"test_a_changes[2]": "passed", "test_b_suffers[2]": "passed", "test_c_fails[2]": "failed"}, run.output
    assert run.notes["test_state.py::test_b_suffers[2]"] == ["polluted"]
    with sqlite3.connect(next((suite.root / ".holdfast").glob("run-*.db"))) as db:
        attempts = dict(db.execute("SELECT id, count(*) FROM attempts JOIN tests ON idx = test GROUP BY id"))
    assert [attempts[f"test_state.py::test_{name}[2]"] for name in ("a_changes", "b_suffers")] == [1, 2]


def test_new_ranks_are_not_those_of_another_pool(suite, one_mpi):
    """There are two pools of one rank, both used, when a test fails in one of them."""
    suite.write(
        test_state=HEAD
        + """
state = []
@par(1)
@pytest.mark.parametrize("i", range(2))
def test_a_changes(comm, i):
    state.append(1)
    open(f"changed-{i}", "w").close()
    deadline = time.monotonic() + 30
    while not os.path.exists(f"changed-{1 - i}"):
        assert time.monotonic() < deadline
        time.sleep(0.01)
@par(1)
def test_b_suffers(comm): assert state == []
"""
    )
    run = suite.run(*REUSE)
    assert set(run.verdicts.values()) == {"passed"} and len(run.verdicts) == 3, run.output
    assert run.notes["test_state.py::test_b_suffers[1]"] == ["polluted"], run.notes
    (attempts,) = [event["attempts"] for event in run.events if event["event"] == "verdict" and "suffers" in event["id"]]
    assert attempts == 2


def test_what_a_test_leaves_in_mpi_is_taken_away_and_charged_to_it(suite, mpi):
    suite.write(
        test_left=HEAD
        + """
import numpy
@par(2)
def test_a_sends(comm):
    if comm.rank == 0:
        comm.send("nobody asked", dest=1, tag=5)
        MPI.COMM_WORLD.send("for the world", dest=1, tag=6)
@par(2)
def test_b_is_not_reached(comm):
    comm.Barrier()
    assert not comm.Iprobe() and not MPI.COMM_WORLD.Iprobe()
    note("ran")
@par(2)
def test_c_waits(comm):
    if comm.rank == 1: comm.Irecv([bytearray(8), MPI.BYTE], source=0, tag=3)
@par(2)
def test_d_is_not_taken_from(comm):
    other = 1 - comm.rank
    assert comm.sendrecv(comm.rank, dest=other, sendtag=3, source=other, recvtag=3) == other
    note("ran")
@par(2)
def test_e_big(comm):
    if comm.rank == 0: comm.Isend([numpy.zeros(1 << 20), MPI.DOUBLE], dest=1, tag=9)
@par(2)
def test_f_good(comm):
    request = comm.isend(comm.rank, dest=1 - comm.rank)
    assert comm.recv(source=1 - comm.rank) == 1 - comm.rank
    request.wait()
    note("ran")
"""
    )
    run = suite.run(*REUSE, "--hf-dist=sequential")
    assert set(run.verdicts.values()) == {"passed"} and len(run.verdicts) == 6, run.output
    assert {name.partition("::")[2][5] for name, notes in run.notes.items() if "leaked" in notes} == {"a", "c", "e"}, run.notes
    leaked = {event["id"].partition("::")[2][5]: event["leaked"] for event in run.events if event.get("leaked")}
    assert any("from rank 0 with tag 5 on comm" in text for text in leaked["a"]), leaked
    assert any("from rank 0 with tag 6 on COMM_WORLD" in text for text in leaked["a"]), leaked
    assert leaked["c"] == ["a receive that was begun and never completed (Irecv)"], leaked
    assert any("with tag 9" in text and "8388608 bytes" in text for text in leaked["e"]), leaked
    assert len(processes(suite.root, 2)) == 2, "the ranks were replaced"
    assert suite.run(*REUSE, "--hf-leaks=fail").short()["test_c_waits[2]"] == "error"


def test_ordinary_tests_have_workers_of_their_own(suite, one_mpi):
    suite.write(
        test_mixed=HEAD.replace("from mpi4py import MPI", "")
        + """
@pytest.mark.parametrize("i", range(4))
def test_ordinary(i):
    from mpi4py import MPI
    assert not MPI.Is_initialized()
@par([1, 2])
@pytest.mark.parametrize("i", range(3))
def test_ranks(comm, i):
    from mpi4py import MPI
    assert MPI.COMM_WORLD.size == comm.size
@pytest.mark.holdfast(isolate="test")
@par(2)
def test_alone(comm):
    open(f"alone-{os.getpid()}", "w").close()
"""
    )
    for order in ("dynamic", "sequential"):
        run = suite.run(*REUSE, f"--hf-dist={order}")
        assert set(run.verdicts.values()) == {"passed"} and len(run.verdicts) == 11, run.output
        assert not any(run.notes.values()), run.notes


@pytest.mark.parametrize("whom", ["os.getpid()", "os.getppid()"], ids=["rank", "zygote"])
def test_a_rank_that_dies_between_tests_is_replaced(suite, one_mpi, whom):
    suite.write(
        test_dies=HEAD
        + """
@par(2)
def test_a_sets_a_trap(comm):
    if comm.rank == 1:
        whom = WHOM
        with open("trap", "w") as file: file.write(str(whom))
        threading.Timer(0.2, lambda: os.kill(whom, signal.SIGKILL)).start()
@pytest.mark.holdfast(isolate="test")  # A worker would end the ranks.
def test_b_waits_for_it():
    whom, deadline = open("trap").read(), time.monotonic() + 30
    # Known to the engine, not only dead: a test that is given to a dead rank has crashed.
    while "worker gw" not in open("log.jsonl").read() if AWAITS_LOG else os.path.exists(f"/proc/{whom}"):
        assert time.monotonic() < deadline
        time.sleep(0.01)
@par(2)
@pytest.mark.parametrize("i", range(3))
def test_c_good(comm, i): comm.Barrier()
""".replace("WHOM", whom).replace("AWAITS_LOG", str(whom == "os.getpid()"))
    )
    run = suite.run(*REUSE, "--hf-dist=sequential", "--hf-leaks=ignore")
    tests = {name.partition("::")[2]: verdict for name, verdict in run.verdicts.items() if name.startswith("test_dies.py::")}
    others = {name: verdict for name, verdict in run.verdicts.items() if not name.startswith("test_dies.py::")}
    assert len(tests) == 5, run.output
    # The zygote may have been that of the slot where it ran.
    assert tests.pop("test_b_waits_for_it") in (("passed",) if whom == "os.getpid()" else ("passed", "crashed")), run.output
    assert set(tests.values()) == {"passed"}, run.output
    # A rank that dies by itself is nobody's but its worker's; one that goes with its zygote is not told of.
    assert list(others.values()) == (["crashed"] if whom == "os.getpid()" else []), run.output
    assert all(name.startswith("worker gw") for name in others)
    assert left(suite) == []


def test_pools_of_more_than_there_is_room_for_take_turns(suite, one_mpi):
    suite.write(
        test_turns=HEAD
        + """
@par([1, 2, 3])
@pytest.mark.parametrize("i", range(4))
def test_turns(comm, i):
    assert comm.allreduce(comm.rank) == comm.size * (comm.size - 1) // 2
"""
    )
    run = suite.run("--hf-isolate=worker", "--hf-slots=3", "-p", "no:cacheprovider")
    assert set(run.verdicts.values()) == {"passed"} and len(run.verdicts) == 12, run.output
    assert left(suite) == []


@pytest.mark.parametrize("how", ["interrupt", "kill", "kill the engine"])
def test_a_run_that_is_ended_leaves_nothing(suite, one_mpi, until, tree, how):
    suite.write(
        test_sleep=HEAD
        + """
@par(2)
def test_a(comm): comm.Barrier()
@par(2)
def test_sleeps(comm):
    if comm.rank == 0: open("begun", "w").close()
    time.sleep(100)
"""
    )
    process = suite.start(*REUSE, "--hf-dist=sequential", "--hf-grace=1")
    until((suite.root / "begun").exists, "the test has not begun")
    if how == "kill the engine":
        os.kill(tree(process).engine, signal.SIGKILL)
    else:
        process.send_signal(signal.SIGINT if how == "interrupt" else signal.SIGKILL)
    run = suite.finish(process)
    assert run.code == {"interrupt": 2, "kill": -signal.SIGKILL, "kill the engine": 12}[how], run.output
    if how == "kill the engine":
        # Nobody was there to remove the folders of its worlds; the next run does.
        worlds = [name for name in left(suite) if name.startswith("holdfast-world-")]
        assert worlds != []
        assert suite.run(*REUSE, "-k", "test_a").code == 0
        assert not set(worlds) & set(left(suite))
        return
    until(lambda: left(suite) == [], "something is left")


def test_fixtures_are_set_up_for_each_test(suite, one_mpi):
    suite.write(
        test_fixtures=HEAD
        + """
@pytest.fixture(scope="module")
def shared():
    open(f"setup-{MPI.COMM_WORLD.rank}", "a").write("x")
    yield MPI.COMM_WORLD.size
    open(f"teardown-{MPI.COMM_WORLD.rank}", "a").write("x")
@par(2)
@pytest.mark.parametrize("i", range(3))
def test_uses(comm, shared, i): assert shared == 2
"""
    )
    run = suite.run(*REUSE)
    assert run.code == 0, run.output
    assert [(suite.root / f"{what}-{rank}").read_text() for what in ("setup", "teardown") for rank in (0, 1)] == ["xxx"] * 4


@pytest.mark.parametrize("isolation", ["test", "worker"])
def test_inside_an_outer_mpirun(suite, mpi, isolation):
    """As users of pytest_parallel start their suites."""
    launcher = {"openmpi": ["mpirun.openmpi"], "openmpi5": [str(OPEN_MPI_5.parents[1] / "bin" / "mpirun")], "mpich": ["mpiexec.mpich"]}[
        mpi
    ]
    if mpi != "mpich":
        launcher += ["--oversubscribe", "--allow-run-as-root"]
    if shutil.which(launcher[0]) is None:
        pytest.skip(f"NOT RUN: {launcher[0]} is missing")
    suite.write(
        test_outer=HEAD
        + """
@par([1, 2, 3])
def test_ranks(comm):
    assert comm.size == MPI.COMM_WORLD.size
    assert comm.allreduce(1) == comm.size
def test_fails(): assert 0
"""
    )
    command = [*launcher, "-np", "3", *suite.command(f"--hf-isolate={isolation}")]
    done = subprocess.run(command, cwd=suite.root, env=suite.env, capture_output=True, text=True, timeout=100, check=False)
    assert done.stdout.count("1 failed, 3 passed") == 1, done.stdout + done.stderr
    assert done.stdout.count("test session starts") == 1 and "started as 3 ranks" in done.stdout
    assert done.returncode == 1, done.stdout + done.stderr
    assert len([event for event in suite.events() if event["event"] == "verdict"]) == 4


def test_a_job_on_slurm_reuses_ranks_too(suite, cluster, tmp_path_factory):
    use(suite, "openmpi", tmp_path_factory.mktemp("mpi"))
    suite.write(
        test_many=HEAD + "@par(2)\n@pytest.mark.parametrize('i', range(6))\ndef test_many(comm, i): note('ran'); comm.Barrier()\n"
    )
    suite.env.update(cluster.environment)
    run = suite.run("--scheduler=slurm", "--n-workers=2", "--hf-isolate=worker")
    assert run.code == 0 and sorted(processes(suite.root, 2).values()) == [6, 6], run.output
