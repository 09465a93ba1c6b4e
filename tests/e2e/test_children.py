"""holdfast.children: what a test starts is found by what the kernel says, killed with all that is below it, and named."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any, Callable

import pytest

from holdfast.children import ChildrenLeft, child_timeout_sec, kill_subprocesses, track_child_processes, under_sanitizer
from holdfast.procs import is_running

SLEEP = [sys.executable, "-c", "import time; time.sleep(3600)"]
# Starts a child, which starts another that leaves its session and its parent, and waits.
FAMILY = """
import os, subprocess, sys, time
subprocess.Popen([sys.executable, "-c", '''
import os, subprocess, sys, time
if os.fork() == 0:
    os.setsid()
    open(sys.argv[1], "w").write(str(os.getpid()))
    time.sleep(3600)
time.sleep(3600)
''', sys.argv[1]])
time.sleep(3600)
"""


def sleep_for_ever() -> None:
    time.sleep(3600)


def start_family(tmp_path: Path, until: Callable[..., None]) -> tuple[subprocess.Popen[bytes], int]:
    note = tmp_path / "pid"
    parent = subprocess.Popen([sys.executable, "-c", FAMILY, str(note)])
    until(lambda: note.exists() and note.read_text(), "the family did not come up")
    return parent, int(note.read_text())


# ---- kill_subprocesses


def test_kills_what_runs_and_returns_it() -> None:
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=sleep_for_ever)
    process.start()
    popen = subprocess.Popen(SLEEP)
    number = subprocess.Popen(SLEEP)
    assert kill_subprocesses(process, popen, number.pid) == [process, popen, number.pid]
    assert process.exitcode == -9
    assert popen.returncode == -9
    assert not is_running(number.pid)
    assert number.wait(10) == -9
    assert kill_subprocesses(process, popen, number) == []


def test_is_silent_about_what_has_ended_or_never_began() -> None:
    ended = subprocess.Popen([sys.executable, "-c", "pass"])
    ended.wait(30)
    unseen = subprocess.Popen([sys.executable, "-c", "pass"])
    deadline = time.monotonic() + 30
    while is_running(unseen.pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    closed = multiprocessing.get_context("fork").Process(target=os.getpid)
    closed.start()
    closed.join(30)
    closed.close()
    never = multiprocessing.Process(target=sleep_for_ever)
    assert kill_subprocesses(ended, unseen, closed, never) == []
    assert unseen.wait(10) == 0


def test_with_all_that_is_below_it(tmp_path: Path, until: Any) -> None:
    parent, daemon = start_family(tmp_path, until)
    assert kill_subprocesses(parent) == [parent]
    until(lambda: not is_running(daemon), "the grandchild lives on")


def test_one_that_is_stopped_or_ignores_signals(until: Any, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    stubborn = subprocess.Popen(
        [sys.executable, "-c", f"import signal, time; signal.signal(15, signal.SIG_IGN); open({str(ready)!r}, 'w'); time.sleep(3600)"]
    )
    until(ready.exists)
    stopped = subprocess.Popen(SLEEP)
    os.kill(stopped.pid, 19)
    assert kill_subprocesses(stubborn, stopped) == [stubborn, stopped]


def test_of_asyncio() -> None:
    async def run() -> int:
        process = await asyncio.create_subprocess_exec(*SLEEP)
        assert kill_subprocesses(process) == [process]
        return await asyncio.wait_for(process.wait(), 10)

    assert asyncio.run(run()) == -9


@pytest.mark.parametrize(("wrong", "kind"), [("x", TypeError), (None, TypeError), (1, ValueError), (0, ValueError), (-1, ValueError)])
def test_of_what_is_no_process_of_ours(wrong: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind, match="kill_subprocesses"):
        kill_subprocesses(wrong)
    with pytest.raises(ValueError, match="kill_subprocesses"):
        kill_subprocesses(os.getpid())


# ---- track_child_processes


@pytest.mark.parametrize("way", ["popen", "fork", "spawn", "forkserver", "os.fork", "family"])
def test_nothing_that_was_started_inside_stays(way: str, tmp_path: Path, until: Any) -> None:
    pids: list[int] = []
    with warnings.catch_warnings(record=True) as caught, track_child_processes() as tracker:
        warnings.simplefilter("always")
        if way == "popen":
            pids.append(subprocess.Popen(SLEEP).pid)
        elif way == "os.fork":
            pid = os.fork()
            if pid == 0:
                time.sleep(3600)
            pids.append(pid)
        elif way == "family":
            parent, daemon = start_family(tmp_path, until)
            pids += [parent.pid, daemon]
        else:
            process = multiprocessing.get_context(way).Process(target=sleep_for_ever)
            process.start()
            assert process.pid is not None
            pids.append(process.pid)
        assert set(pids) <= set(tracker.children())
    assert next(str(w.message) for w in caught if w.category is ChildrenLeft).count("process ") == len(tracker.survivors)
    assert set(pids) <= {survivor.pid for survivor in tracker.survivors}
    assert not [pid for pid in pids if is_running(pid)]


def test_forkserver_and_resource_tracker_are_spared() -> None:
    from multiprocessing import forkserver, resource_tracker

    helpers: Any = (forkserver._forkserver, resource_tracker._resource_tracker)  # type: ignore[attr-defined]
    context = multiprocessing.get_context("forkserver")
    with track_child_processes("ignore") as tracker:
        process = context.Process(target=sleep_for_ever)
        process.start()
    assert [survivor.pid for survivor in tracker.survivors] == [process.pid]
    assert is_running(helpers[0]._forkserver_pid)
    # It has been there before the next one.
    with track_child_processes("ignore") as tracker:
        process = context.Process(target=sleep_for_ever)
        process.start()
    assert [survivor.pid for survivor in tracker.survivors] == [process.pid]


def test_what_ran_before_and_what_has_ended_is_left_alone() -> None:
    before = subprocess.Popen(SLEEP)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with track_child_processes() as tracker:
                assert subprocess.run([sys.executable, "-c", "pass"], check=True).returncode == 0
                assert tracker.children() == []
        assert tracker.survivors == []
        assert is_running(before.pid)
    finally:
        kill_subprocesses(before)


def test_an_orphan_of_a_child_that_has_ended() -> None:
    with track_child_processes("ignore") as tracker:
        code = "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(3600)"
        subprocess.run([sys.executable, "-c", code], check=True)
    assert len(tracker.survivors) == 1
    assert not is_running(tracker.survivors[0].pid)


def test_as_a_decorator_of_functions_and_coroutines() -> None:
    pids = []

    @track_child_processes("ignore")
    def start() -> str:
        pids.append(subprocess.Popen(SLEEP).pid)
        return "value"

    @track_child_processes("ignore")
    async def start_async() -> None:
        pids.append((await asyncio.create_subprocess_exec(*SLEEP)).pid)

    assert start() == start() == "value"
    asyncio.run(start_async())
    assert len(pids) == 3
    assert not any(map(is_running, pids))


def test_fails_where_that_is_wanted_and_hides_no_exception() -> None:
    with pytest.raises(AssertionError, match=r"time\.sleep"), track_child_processes("fail"):
        subprocess.Popen(SLEEP)
    with pytest.raises(KeyError), track_child_processes("fail"):
        subprocess.Popen(SLEEP)
        raise KeyError
    with pytest.raises(ValueError, match="give 'warn', 'fail' or 'ignore'"):
        track_child_processes("maybe")


def test_threads_do_not_kill_each_other_s() -> None:
    problems: list[str] = []
    barrier = threading.Barrier(4)

    def work(first: bool) -> None:
        with track_child_processes("ignore") as tracker:
            child = subprocess.Popen(SLEEP)
            barrier.wait(30)
            if not first:
                # The others end; this one's must still be there.
                barrier.wait(30)
                if not is_running(child.pid):
                    problems.append("killed by another thread's tracker")
        if [survivor.pid for survivor in tracker.survivors] != [child.pid]:
            problems.append(f"{tracker.survivors} instead of {child.pid}")
        if first:
            barrier.wait(30)

    threads = [threading.Thread(target=work, args=(i < 2,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert problems == []


# ---- time


@pytest.mark.parametrize(
    ("name", "value", "slow"),
    [
        ("CUDA_PYTHON_UNDER_SANITIZER", "1", True),
        ("CUDA_PYTHON_UNDER_SANITIZER", "0", False),
        ("SETUP_SANITIZER", "1", True),
        ("SANITIZER_CMD", "compute-sanitizer --tool memcheck", True),
        ("SANITIZER_CMD", "/usr/local/cuda/bin/cuda-memcheck", True),
        ("SANITIZER_CMD", "", False),
        ("LD_PRELOAD", "/usr/libexec/valgrind/vgpreload_core.so", True),
    ],
)
def test_the_signs_of_a_sanitizer(monkeypatch: pytest.MonkeyPatch, name: str, value: str, slow: bool) -> None:
    for other in ("CUDA_PYTHON_UNDER_SANITIZER", "SETUP_SANITIZER", "SANITIZER_CMD"):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, value)
    assert under_sanitizer() is slow
    assert child_timeout_sec() == (120 if slow else 30)


def test_a_sanitizer_above_this_process(tmp_path: Path) -> None:
    tool = tmp_path / "compute-sanitizer"
    tool.symlink_to("/bin/sh")
    code = f"{sys.executable} -c 'from holdfast.children import child_timeout_sec; print(child_timeout_sec())'; true"
    assert subprocess.check_output([tool, "-c", code], text=True) == "120\n"


# ---- the deadlock that all this is for


# A child that never ends holds the only writing end of a pipe; the teardown of `memory` waits for its end. Upstream's order: the guard is
# the outer fixture, so it would end last.
DEADLOCK = """
import os, multiprocessing, pytest, time
from holdfast.children import child_timeout_sec, kill_subprocesses, track_child_processes

@pytest.fixture{guard_scope}
def device():
    {guard}

@pytest.fixture{scope}
def memory(device):
    reading, writing = os.pipe()
    handle = [reading, writing]
    yield handle
    os.close(writing)
    while os.read(reading, 100): pass     # As `mr.close()`: until nobody holds it any more.

def child(writing):
    time.sleep(3600)

def test_before(memory): pass

def test_forgets_to_look(memory):
    process = multiprocessing.get_context("fork").Process(target=child, args=(memory[1],), daemon=True)
    process.start()
    process.join(timeout=0.1)             # Its result is not looked at.
    {in_test}

def test_after(memory): pass
"""
NO_GUARD = "yield"
UPSTREAM = """
    # What upstream's does: kills what multiprocessing has made, when this fixture is torn down.
    yield
    for process in multiprocessing.active_children(): process.kill(); process.join()"""
OURS = """
    with track_child_processes():
        yield"""


def deadlock(suite: Any, guard: str = NO_GUARD, in_test: str = "", scope: str = "", guard_scope: str = "") -> Any:
    suite.write(test_it=DEADLOCK.format(guard=guard, in_test=in_test, scope=scope, guard_scope=guard_scope))
    return suite


HANGS = ("--hf-timeout=2", "--hf-grace=1")


@pytest.mark.parametrize("guard", [NO_GUARD, UPSTREAM])
def test_without_a_guard_or_with_upstream_s_it_hangs_and_the_deadline_says_where(suite: Any, guard: str) -> None:
    run = deadlock(suite, guard).run(*HANGS)
    assert run.short() == {"test_before": "passed", "test_forgets_to_look": "timeout", "test_after": "passed"}
    assert "timeout in teardown" in run.output
    assert "in memory" in run.output  # The fixture that waits.


@pytest.mark.parametrize("ours", [True, False])
def test_the_layer_in_the_test(suite: Any, ours: bool) -> None:
    check = "survivors = kill_subprocesses(process)\n    assert not survivors, f'did not exit in time: {survivors}'"
    run = deadlock(suite, in_test=check).run(*HANGS) if ours else deadlock(suite, in_test=check).plain()
    assert run.code == 1
    assert "AssertionError: did not exit in time: [<ForkProcess name='ForkProcess-1'" in run.output
    assert "timeout" not in run.output.lower().replace("timeout=", "").replace("child_timeout_sec", "")


@pytest.mark.parametrize("ours", [True, False])
@pytest.mark.parametrize(("scope", "guard_scope"), [("", ""), ("", "(scope='module')"), ("(scope='module')", "(scope='module')")])
def test_the_layer_in_the_fixture_whatever_the_order(suite: Any, ours: bool, scope: str, guard_scope: str) -> None:
    suite = deadlock(suite, OURS, scope=scope, guard_scope=guard_scope)
    run = suite.run(*HANGS) if ours else suite.plain()
    assert run.code == 0, run.output
    assert "ChildrenLeft: 1 process(es) were still running and were killed: process" in run.output


@pytest.mark.parametrize("ours", [True, False])
def test_the_ready_made_fixture(suite: Any, ours: bool) -> None:
    text = DEADLOCK.format(guard=NO_GUARD, in_test="", scope="", guard_scope="").replace(
        "(memory):", "(track_child_processes, memory):"
    )
    suite.write(test_it=text.replace(", track_child_processes\n", "\n"))
    run = suite.run(*HANGS) if ours else suite.plain()
    assert run.code == 0, run.output
    assert "ChildrenLeft" in run.output


def test_a_module_s_server_is_not_a_test_s_leak(suite: Any) -> None:
    suite.write(
        test_it="""
import pytest, subprocess
from holdfast.children import track_child_processes
@pytest.fixture(scope="module")
def server():
    with track_child_processes("fail"):
        process = subprocess.Popen(["sleep", "3600"])
        yield process
        process.kill(); process.wait()
@pytest.mark.parametrize("i", range(3))
def test_it(server, track_child_processes, i): assert server.poll() is None
"""
    )
    for run in (suite.run("--hf-slots=1"), suite.run("--hf-slots=1", "--hf-isolate=worker"), suite.plain()):
        assert run.code == 0, run.output
        assert "ChildrenLeft" not in run.output
