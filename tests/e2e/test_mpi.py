"""Tests with MPI ranks, with real Open MPI and MPICH: how they are started, what each kind of end looks like, what is left."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
import time
from typing import Any
from xml.etree import ElementTree

import pytest
from mpi_libraries import left, use

from holdfast import simgpu

HEAD = """
import ctypes, os, signal, sys, time, pytest
import holdfast as pytest_parallel
par = pytest_parallel.mark.parallel
"""


@pytest.fixture
def one_mpi(suite, tmp_path_factory) -> None:
    """For what does not depend on the library."""
    use(suite, "mpich", tmp_path_factory.mktemp("mpi"))


def test_the_seeds_example_runs_unchanged(suite, mpi):
    text = """
import holdfast as pytest_parallel

@pytest_parallel.mark.parallel(2)
def test_A(comm):
  if comm.rank == 1: assert False

def test_B():
  assert True

@pytest_parallel.mark.parallel(3)
def test_C(comm):
  assert comm.size == 3

def test_D():
  assert False

@pytest_parallel.mark.parallel([2,4])
def test_param(comm):
  print(comm.size)
"""
    suite.write(test_example=text)
    run = suite.run("--hf-slots=4", "-rA")
    assert run.short() == {
        "test_A[2]": "failed", "test_B": "passed", "test_C[3]": "passed", "test_D": "failed",
        "test_param[2]": "passed", "test_param[4]": "passed",
    }  # fmt: skip
    assert "FAILED test_example.py::test_A[2] - [rank 1 of 2] assert False" in run.output
    assert "rank 1: failed\nrank 0: passed" in run.output
    assert left(suite) == []


def test_comm_world_is_the_tests_own(suite, mpi):
    text = """
from mpi4py import MPI
@par([1, 2, 3, 4])
@pytest.mark.parametrize("i", range(2))
def test_world(comm, i):
    world = MPI.COMM_WORLD
    assert comm.size == world.size and comm.rank == world.rank
    assert world.allreduce(world.rank) == world.size * (world.size - 1) // 2
    assert comm.allgather(os.getpid()) == world.allgather(os.getpid())
    assert len(set(comm.allgather(os.getpid()))) == comm.size
    assert comm.bcast(f"from {os.getpid()}") .startswith("from")
    assert len(set(comm.allgather(os.environ["PYTEST_XDIST_WORKER"]))) == comm.size
def test_alone(): assert MPI.COMM_WORLD.size == 1
def test_alone_and_silent(): pass
"""
    suite.write(test_world=HEAD + text)
    run = suite.run("--hf-slots=4")
    assert run.code == 0 and len(run.verdicts) == 10, run.output
    assert all(notes == [] for notes in run.notes.values()), run.notes
    assert left(suite) == []


BAD = """
@par(2)
def test_assert_while_the_other_waits(comm):
    print("said by", comm.rank)
    assert comm.rank == 0
    comm.Barrier()
@par(2)
def test_segfault(comm):
    if comm.rank == 1: ctypes.string_at(0)
    comm.Barrier()
@par(2)
def test_abort(comm):
    if comm.rank == 1: comm.Abort(42)
    comm.Barrier()
@par(2)
def test_exit_0(comm):
    if comm.rank == 1: os._exit(0)
    comm.Barrier()
@par(3)
def test_all_fail(comm):
    print("said by", comm.rank)
    assert comm.rank > 5
@par(2)
def test_teardown(comm, request):
    request.addfinalizer(lambda: 1 / comm.rank)
@par(2)
@pytest.mark.skipif(True, reason="not today")
def test_skipped(comm): pass
@par(3)
def test_one_skips(comm):
    if comm.rank == 1: pytest.skip("not on this rank")
@par(2)
@pytest.mark.xfail
def test_xfail(comm): assert comm.rank == 0
@par(2)
def test_fine(comm): comm.Barrier()
"""


def test_every_end_has_its_verdict(suite, mpi):
    suite.write(test_bad=HEAD + BAD)
    begun = time.monotonic()
    run = suite.run("--hf-slots=3", "--junitxml=junit.xml")
    assert run.short() == {
        "test_assert_while_the_other_waits[2]": "failed", "test_segfault[2]": "crashed", "test_abort[2]": "exited",
        "test_exit_0[2]": "exited", "test_all_fail[3]": "failed", "test_teardown[2]": "error", "test_skipped[2]": "skipped",
        "test_one_skips[3]": "passed", "test_xfail[2]": "xfailed", "test_fine[2]": "passed",
    }, run.output  # fmt: skip
    assert time.monotonic() - begun < 60, "nothing waited for its deadline"
    text = run.output
    for line in (
        "rank 1: failed\nrank 0: waited in MPI_Barrier at test_bad.py:10 (test_assert_while_the_other_waits)",
        "rank 1: crashed in call: SIGSEGV (SEGV_MAPERR, address 0x0)\nrank 0: waited in MPI_Barrier",
        "exited in call: MPI_Abort(42)",
        "rank 1: called MPI_Abort(42)",
        "rank 1: exited in call: the process ended with exit status 0 before the test was over",
        "ranks 0-2: failed",
        "Captured stdout call, rank 0",
        *(f"said by {rank}\n" for rank in range(3)),
        "[rank 0 of 2] ZeroDivisionError",
    ):
        assert line in text, line + "\n" + text
    cases = {case.get("name"): case for case in ElementTree.parse(suite.root / "junit.xml").iter("testcase")}
    failure = cases["test_segfault[2]"].find("failure")
    assert failure is not None and failure.get("message", "").startswith("[rank 1 of 2] crashed in call: SIGSEGV")
    assert left(suite) == []


def test_ranks_that_wait_for_each_other_end_at_the_deadline(suite, mpi):
    text = """
@par(3)
@pytest.mark.timeout(2)
def test_deadlock(comm):
    if comm.rank == 2: comm.Barrier()
    comm.recv(source=(comm.rank + 1) % 2)
@par(2)
@pytest.mark.timeout(2)
def test_one_stops(comm):
    if comm.rank == 1: os.kill(os.getpid(), signal.SIGSTOP)
    comm.Barrier()
"""
    suite.write(test_hang=HEAD + text)
    run = suite.run("--hf-slots=3", "--hf-grace=1")
    assert set(run.short().values()) == {"timeout"}, run.output
    assert re.search(r"ranks 0, 1: not finished after 2 s in MPI_\w+ at test_hang.py:10 \(test_deadlock\)", run.output), run.output
    assert re.search(r"rank 2: not finished after 2 s in MPI_Barrier at test_hang.py:9 \(test_deadlock\)", run.output), run.output
    assert left(suite) == []


def test_a_test_that_is_too_wide_is_skipped_with_the_reason(suite, one_mpi):
    suite.write(test_wide=HEAD + "@par([2, 3, 64])\ndef test(comm): pass\n")
    run = suite.run("--hf-slots=2", "-rs")
    assert run.short() == {"test[2]": "passed", "test[3]": "skipped", "test[64]": "skipped"}
    assert "it asks for 64 ranks, and there are 2 slots (--hf-slots)" in run.output


def test_as_many_ranks_as_there_are_slots(suite, one_mpi):
    suite.write(test_all=HEAD + "@pytest_parallel.mark.parallel_from_context()\ndef test(comm): assert comm.size == 3\n")
    run = suite.run("--hf-slots=3")
    assert run.short() == {"test[all]": "passed"}, run.output


def test_ranks_share_a_directory(suite, one_mpi):
    text = """
@par(3)
def test_shared(comm, mpi_tmpdir):
    (mpi_tmpdir / f"of-{comm.rank}").write_text("here")
    comm.Barrier()
    assert sorted(p.name for p in mpi_tmpdir.iterdir()) == ["of-0", "of-1", "of-2"]
@par(2)
def test_another(comm, mpi_tmpdir): assert comm.bcast(str(mpi_tmpdir)) == str(mpi_tmpdir)
def test_alone(mpi_tmpdir): assert list(mpi_tmpdir.iterdir()) == []
"""
    suite.write(test_shared=HEAD + text)
    run = suite.run("--hf-slots=3")
    assert run.code == 0 and len(run.verdicts) == 3, run.output


def test_fixtures_are_each_ranks_own(suite, one_mpi):
    text = """
@pytest.fixture(scope="module")
def shared(): return []
@par(2)
def test_one(comm, shared):
    shared.append(comm.rank)
    assert shared == [comm.rank]
@par(2)
def test_two(comm, shared): assert shared == []
def test_plain(shared): assert shared == []
"""
    suite.write(test_fixtures=HEAD + text)
    for isolation in ("test", "worker"):
        run = suite.run("--hf-slots=2", f"--hf-isolate={isolation}")
        assert set(run.verdicts.values()) == {"passed"} and len(run.verdicts) == 3, run.output


def test_a_gang_is_tried_again_as_a_whole(suite, one_mpi):
    text = """
@par(2)
def test_flaky(comm, pytestconfig):
    first = not os.path.exists("tried")
    comm.Barrier()
    if comm.rank == 0: open("tried", "w").close()
    assert not first or comm.rank == 0
"""
    suite.write(test_again=HEAD + text)
    run = suite.run("--hf-slots=2", "--hf-retry=failed:1")
    assert run.short() == {"test_flaky[2]": "passed"} and run.notes["test_again.py::test_flaky[2]"] == ["flaky"], run.output


def test_an_interrupt_ends_all_ranks_and_resume_runs_the_test(suite, one_mpi):
    text = """
@par(2)
def test_waits(comm):
    open(f"here-{comm.rank}", "w").close()
    while not os.path.exists("go"): time.sleep(0.01)
@par(2)
def test_other(comm): pass
"""
    suite.write(test_stop=HEAD + text)
    process = suite.start("--hf-slots=2", "--hf-journal=run.db")
    deadline = time.monotonic() + 60
    while not all((suite.root / f"here-{rank}").exists() for rank in (0, 1)):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, 2)
    run = suite.finish(process)
    assert run.code == 2 and "test_waits[2]" not in run.short(), run.output
    assert left(suite) == []
    (suite.root / "go").touch()
    again = suite.run("--hf-slots=2", "--hf-journal=run.db", "--hf-resume")
    assert again.short() == {"test_waits[2]": "passed", "test_other[2]": "passed"}, again.output


def test_many_gangs_of_all_sizes_beside_plain_tests(suite, one_mpi):
    text = """
@par([1, 2, 3])
@pytest.mark.parametrize("i", range(8))
def test_gang(comm, i): assert comm.allreduce(1) == comm.size
@pytest.mark.parametrize("i", range(40))
def test_plain(i): pass
"""
    suite.write(test_many=HEAD + text)
    run = suite.run("--hf-slots=3")
    assert run.code == 0 and len(run.verdicts) == 64, run.output
    assert left(suite) == []


def test_hundreds_of_short_ranks_all_end(suite, tmp_path_factory):
    # Open MPI 4.1 can hang in MPI_Finalize when that follows at once on MPI_Init, and CPUs are short.
    use(suite, "openmpi", tmp_path_factory.mktemp("mpi"))
    suite.write(test_short=HEAD + "@par(1)\n@pytest.mark.parametrize('i', range(300))\ndef test_short(comm, i): pass\n")
    run = suite.run("--hf-slots=8", "--hf-deadlines=exit:20")
    assert run.code == 0 and len(run.verdicts) == 300, run.output


def test_each_rank_has_a_gpu_of_its_own(suite, one_mpi):
    text = """
@par(2, gpus=1)
def test_apart(comm):
    mine = os.environ["CUDA_VISIBLE_DEVICES"]
    assert len(set(comm.allgather(mine))) == 2
@par(2, vram="30GiB")
def test_together(comm): assert "CUDA_VISIBLE_DEVICES" in os.environ
@par(3, gpus=1)
def test_too_many(comm): pass
"""
    suite.write(test_gpus=HEAD + text)
    with simgpu.running(simgpu.parse("2x80GiB")) as sim:
        suite.env = sim.environment(suite.env)
        run = suite.run("--hf-slots=3")
    verdicts = {"test_apart[2]": "passed", "test_together[2]": "passed", "test_too_many[3]": "error"}
    assert run.short() == verdicts, run.output


def test_what_is_recorded_of_each_rank(suite, one_mpi):
    suite.write(test_kept=HEAD + "@par(2)\ndef test(comm):\n    print('by', comm.rank)\n    assert comm.rank == 0\n")
    run = suite.run("--hf-slots=2", "--hf-journal=run.db")
    assert run.short() == {"test[2]": "failed"}, run.output
    with sqlite3.connect(suite.root / "run.db") as db:
        (detail,) = [json.loads(row[0]) for row in db.execute("SELECT detail FROM attempts WHERE detail LIKE '%ranks%'")]
    assert [rank["verdict"] for rank in detail["ranks"]] == ["passed", "failed"] and detail["rank"] == 1
    assert "by 0" in json.dumps(detail["ranks"][0])
    shown = subprocess.run(
        [sys.executable, "-m", "holdfast", "show", "run.db", "test"],
        cwd=suite.root,
        env=suite.env,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "rank 1: failed" in shown and "rank 0: passed" in shown and "by 0" in shown and "by 1" in shown, shown


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("@par(0)\ndef test(comm): pass\n", "parallel(0): give a number of ranks from 1 to 4096, or a list of them"),
        ("@par([])\ndef test(comm): pass\n", "parallel([]): give at least one number of ranks"),
        ("@par('two')\ndef test(comm): pass\n", "parallel('two')"),
        ("@par(2, colour=1)\ndef test(comm): pass\n", "parallel() does not know 'colour'"),
        ("@par(2)\ndef test(): pass\n", "comm"),
        ("@par(2, cores=0)\ndef test(comm): pass\n", "has cores=0"),
        ("@pytest.mark.holdfast(isolate='worker')\n@par(2)\ndef test(comm): pass\n", "on a test with MPI ranks"),
    ],
)
def test_a_wrong_mark_is_one_clear_message(suite, one_mpi, text, said):
    suite.write(test_wrong=HEAD + text)
    run = suite.run("--hf-slots=2")
    assert run.code in (2, 4) and said in run.output, run.output


def test_without_mpi4py_its_tests_say_so_and_the_others_run(suite):
    (suite.root / "mpi4py").mkdir()
    (suite.root / "mpi4py" / "__init__.py").write_text("raise ImportError('no such thing here')\n")
    suite.write(test_without=HEAD + "@par(2)\ndef test_ranks(comm): pass\ndef test_plain(): pass\n")
    run = suite.run("--hf-slots=2")
    assert run.short() == {"test_ranks[2]": "error", "test_plain": "passed"}, run.output
    assert "tests with MPI ranks need mpi4py, which cannot be imported (no such thing here)" in run.output


def test_a_process_manager_that_does_not_fit_is_noticed(suite, tmp_path_factory):
    # MPICH with PMIx's environment would be two programs of one rank each, which both pass.
    use(suite, "mpich", tmp_path_factory.mktemp("mpi"))
    suite.write(test_alone=HEAD + "@par(2)\ndef test(comm): pass\n")
    run = suite.run("--hf-slots=2", "--hf-mpi=pmix")
    assert run.short() == {"test[2]": "error"}, run.output
    assert "did not find its process manager" in run.output


def test_a_pmix_library_that_is_too_old_is_named(suite, tmp_path_factory):
    use(suite, "openmpi", tmp_path_factory.mktemp("mpi"))
    suite.env["HOLDFAST_PMIX"] = "libm.so.6"
    suite.write(test_old=HEAD + "@par(2)\ndef test_ranks(comm): pass\ndef test_plain(): pass\n")
    run = suite.run("--hf-slots=2")
    assert run.short() == {"test_ranks[2]": "error", "test_plain": "passed"}, run.output
    assert "version 4.2 or later is needed; --hf-mpi=mpirun does without" in run.output


def test_a_pmix_server_that_dies_costs_its_tests_only(suite, tmp_path_factory):
    use(suite, "openmpi", tmp_path_factory.mktemp("mpi"))
    source = suite.file("dies.c", "#include <stdlib.h>\n__attribute__((constructor)) static void die(void) { abort(); }\n")
    subprocess.run(["cc", "-fPIC", "-shared", "-o", suite.root / "libdies.so", source], check=True)
    suite.env["HOLDFAST_PMIX"] = str(suite.root / "libdies.so")
    suite.write(test_dies=HEAD + "@par([2, 3])\ndef test_ranks(comm): pass\ndef test_plain(): pass\n")
    run = suite.run("--hf-slots=3")
    assert run.short() == {"test_ranks[2]": "error", "test_ranks[3]": "error", "test_plain": "passed"}, run.output
    assert "the PMIx server has died" in run.output
    assert left(suite) == []


def test_programs_that_tests_start_find_mpi_as_it_was(suite, one_mpi):
    text = """
import subprocess
from mpi4py import MPI
def test_program():
    code = "from mpi4py import MPI; print(MPI.Is_initialized())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "True\\n"
"""
    suite.write(test_program=HEAD + text.replace("from mpi4py import MPI\ndef", "def", 1))
    run = suite.run("--hf-slots=2")
    assert run.short() == {"test_program": "passed"}, run.output


def test_the_fixture_in_plain_pytest(suite, one_mpi):
    suite.write(test_plain=HEAD + "@par([1, 2])\ndef test(comm): assert comm.size == 1\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-rs", "-p", "no:cacheprovider"],
        cwd=suite.root,
        env=suite.env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "1 passed, 1 skipped" in done.stdout and "run it with --holdfast" in done.stdout, done.stdout


# ---- pytest_parallel's schedulers --------------------------------------------------------------------------------------------

MIXED = """
@par([1, 2, 3])
@pytest.mark.parametrize("i", range(3))
def test_gang(comm, i):
    begun = time.monotonic()
    comm.Barrier()
    with open("spans", "a") as file: file.write(f"{begun} {time.monotonic()} {comm.rank} gang-{comm.size}-{i}\\n")
@pytest.mark.parametrize("i", range(3))
def test_plain(i):
    begun = time.monotonic()
    with open("spans", "a") as file: file.write(f"{begun} {time.monotonic()} 0 plain-{i}\\n")
"""


def spans_of(suite: Any) -> dict[str, tuple[float, float]]:
    found = {}
    for line in (suite.root / "spans").read_text().splitlines():
        begun, ended, rank, name = line.split()
        if rank == "0":
            found[name] = (float(begun), float(ended))
    return found


@pytest.mark.parametrize("scheduler", ["sequential", "static", "dynamic", "shell"])
def test_every_scheduler_runs_all(suite, one_mpi, scheduler):
    suite.write(test_mixed=HEAD + MIXED)
    # Without --holdfast: pytest_parallel's own options are enough.
    done = suite.plain("--n-workers=3", f"--scheduler={scheduler}", f"--hf-log={suite.log}")
    assert set(done.verdicts.values()) == {"passed"} and len(done.verdicts) == 12, done.output
    spans = sorted(spans_of(suite).values())
    overlap = any(later[0] < earlier[1] for earlier, later in zip(spans, spans[1:]))
    if scheduler == "sequential":
        assert not overlap
        order = [name.partition("::")[2] for name in done.verdicts]
        assert order[:4] == ["test_gang[0-1]", "test_gang[0-2]", "test_gang[0-3]", "test_gang[1-1]"], order


def test_a_static_step_begins_when_the_one_before_is_over(suite, one_mpi):
    # First fit into steps of three: (2, 1), (2), (3).
    text = """
def note(name, what): open(f"{name}-{what}", "w").close()
@par(2)
def test_a(comm):
    until = time.monotonic() + 20
    while not os.path.exists("b-here"): assert time.monotonic() < until; time.sleep(0.01)
    comm.Barrier()
    if comm.rank == 0: note("a", "over")
@par(1)
def test_b(comm): note("b", "here")
@par(2)
def test_c(comm):
    assert os.path.exists("a-over")
    if comm.rank == 0: note("c", "over")
    comm.Barrier()
@par(3)
def test_d(comm): assert os.path.exists("c-over")
"""
    suite.write(test_steps=HEAD + text)
    done = suite.run("--n-workers=3", "--scheduler=static")
    assert set(done.verdicts.values()) == {"passed"}, done.output


def test_with_the_shell_scheduler_no_two_gangs_share_a_cpu(suite, one_mpi):
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        pytest.skip("NOT RUN: one CPU only")
    text = """
@par([1, 2])
@pytest.mark.parametrize("i", range(6))
def test_pinned(comm, i):
    mine = os.sched_getaffinity(0)
    assert len(mine) == 1
    every = comm.allgather(mine)
    assert len(set().union(*every)) == comm.size
    # Exclusively: whoever has the same CPU at the same time finds the file.
    name = f"cpu-{mine.pop()}"
    os.close(os.open(name, os.O_CREAT | os.O_EXCL))
    comm.Barrier()
    os.unlink(name)
"""
    suite.write(test_pinned=HEAD + text)
    done = suite.run("--n-workers=2", "--scheduler=shell")
    assert set(done.verdicts.values()) == {"passed"} and len(done.verdicts) == 12, done.output


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--scheduler=round-robin"], "'round-robin' is none of dynamic, sequential, static, shell"),
        (["--n-workers=0"], "0 slots are not possible"),
        (["--n-workers=2", "--hf-slots=2"], "--n-workers and --hf-slots mean the same; give one of them"),
        (["--scheduler=static", "--hf-dist=file"], "--scheduler=static and --hf-dist both say how tests are dealt"),
    ],
)
def test_wrong_options_of_pytest_parallel(suite, args, said):
    suite.write(test_one="def test(): pass\n")
    done = suite.plain(*args)
    assert done.code == 4 and said in done.output, done.output


def test_nothing_runs_beside_one_with_a_domain_of_its_own(suite, one_mpi):
    suite.write(
        test_alone=HEAD
        + """
@par(2, exclusive_numa_domain="cpu")
@pytest.mark.parametrize("i", range(2))
def test_alone(comm, i):
    if comm.rank == 0: assert not [name for name in os.listdir(".") if name.startswith("runs-")]
    if comm.rank == 0: open(f"runs-alone-{i}", "w").close()
    comm.Barrier()
    time.sleep(0.1)
    comm.Barrier()
    if comm.rank == 0:
        assert [name for name in os.listdir(".") if name.startswith("runs-")] == [f"runs-alone-{i}"]
        os.unlink(f"runs-alone-{i}")
@pytest.mark.parametrize("i", range(6))
def test_beside(i):
    assert not os.path.exists("runs-alone-0") and not os.path.exists("runs-alone-1")
    name = f"runs-{os.getpid()}"
    open(name, "w").close()
    time.sleep(0.1)
    os.unlink(name)
"""
    )
    run = suite.run("--hf-slots=3")
    assert set(run.verdicts.values()) == {"passed"} and len(run.verdicts) == 8, run.output
