"""Child processes that must not outlive their test. For any suite, with and without `--holdfast`; Linux only.

    process.join(timeout=child_timeout_sec())
    survivors = kill_subprocesses(process)
    assert not survivors, "the child did not exit in time"

    with track_child_processes() as children:     # also a decorator, and a fixture of that name
        ...                                       # whatever is started here, however, is gone afterwards

What a child is, is what the kernel says (/proc), so processes of subprocess, asyncio, multiprocessing in all its ways, os.fork and C
code count alike, and so do their descendants, sessions of their own or not.

A tracker inside a fixture, of whatever scope, kills what a test's call has started before any fixture is torn down after it: a child
that is stuck holds what some fixture's teardown waits for, whichever of them pytest tears down first. What fixtures have started is
theirs to stop, until the tracker's own end.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import re
import signal
import sys
import threading
import time
import warnings
from collections.abc import Collection, Iterable, Iterator
from types import TracebackType
from typing import Any, Callable, NamedTuple, Optional

from holdfast.procs import children_of, command_of, descendants_of, is_running

# Seconds that a child may take, and under a tool that makes everything slow.
TIMEOUT = 30
TIMEOUT_UNDER_SANITIZER = 120
# Seconds to wait for what was killed; longer only takes what the kernel cannot end (a process in uninterruptible sleep).
_KILL_LIMIT = 5.0

_SLOW_TOOLS = re.compile(r"compute-sanitizer|cuda-memcheck|valgrind|memcheck")
# Libraries that those load into a process.
_SLOW_LIBRARIES = re.compile(r"vgpreload_|libsanitizer-collection|libInterceptorInjectionTarget|libTreeLauncherTargetInjection")
_PR_SET_CHILD_SUBREAPER, _PR_GET_CHILD_SUBREAPER = 36, 37


class ChildrenLeft(UserWarning):
    """Processes were still running at the end of a tracker; they were killed."""


class Survivor(NamedTuple):
    """A process that had to be killed, as it was just before."""

    pid: int
    command: str
    # The letter of /proc/PID/stat, and where in the kernel it waited; "0" or empty where that is not told.
    state: str
    waits_in: str

    def __str__(self) -> str:
        where = f", waiting in {self.waits_in}" if self.waits_in not in ("", "0") else ""
        return f"process {self.pid} ({self.command}; state {self.state}{where})"


# ---- time --------------------------------------------------------------------------------------------------------------------------


def under_sanitizer() -> bool:
    """Whether this process runs under compute-sanitizer, cuda-memcheck or valgrind: by the variables that CI scripts set, the command
    line, the programs above this process and the libraries in it."""
    if "1" in (os.environ.get("CUDA_PYTHON_UNDER_SANITIZER"), os.environ.get("SETUP_SANITIZER")):
        return True
    if _SLOW_TOOLS.search(os.environ.get("SANITIZER_CMD", "")) or _SLOW_LIBRARIES.search(os.environ.get("LD_PRELOAD", "")):
        return True
    if _SLOW_TOOLS.search(os.path.basename(sys.argv[0] if sys.argv else "")):
        return True
    return any(_SLOW_TOOLS.search(name) for name in _programs_above()) or bool(_SLOW_LIBRARIES.search(_read("/proc/self/maps")))


def child_timeout_sec() -> int:
    """Seconds that a test should wait for a child: 30, under a tool of under_sanitizer() 120."""
    return TIMEOUT_UNDER_SANITIZER if under_sanitizer() else TIMEOUT


def _programs_above() -> Iterator[str]:
    pid = os.getppid()
    for _ in range(20):
        if pid <= 1:
            return
        yield os.path.basename(_read(f"/proc/{pid}/cmdline").split("\0")[0])
        pid = _stat(pid)[1]


# ---- killing -----------------------------------------------------------------------------------------------------------------------


def kill_subprocesses(*processes: Any) -> list[Any]:
    """Kills those that still run, with all that is below them, and returns them.

    processes: objects of multiprocessing, subprocess or asyncio, anything else with a `pid`, or process ids. One that has not been
    started, has ended, or was closed is nothing special. Returns within about 5 s, whatever they do; their exit status is known then,
    but to asyncio, whose loop has to run for that. Raises TypeError for what is no process, and ValueError for this process or init.
    """
    pids = [(process, _pid_of(process)) for process in processes]
    survivors = [(process, pid) for process, pid in pids if pid is not None and is_running(pid)]
    _kill_trees([pid for _, pid in survivors])
    for process, _ in survivors:
        _collect(process)
    return [process for process, _ in survivors]


def _pid_of(process: Any) -> Optional[int]:
    """None for one that has not been started, or was closed."""
    if isinstance(process, int) and not isinstance(process, bool):
        pid: Any = process
    elif not hasattr(type(process), "pid") and "pid" not in getattr(process, "__dict__", {}):
        raise TypeError(f"kill_subprocesses: {process!r} is no process; give objects with a `pid`, or process ids")
    else:
        try:
            pid = process.pid
        except (ValueError, AssertionError):  # Closed, or another process's object (multiprocessing).
            return None
        if pid is None or getattr(process, "returncode", None) is not None:
            return None  # Its number may be another's by now.
    if not isinstance(pid, int) or pid <= 1 or pid == os.getpid():
        raise ValueError(f"kill_subprocesses: process {pid!r} is not one to kill")
    return pid


def _kill_trees(roots: Iterable[int]) -> list[Survivor]:
    """Stops them first, so that none of them forks while the others are looked for. Returns what was killed, as it was before."""
    found: dict[int, Survivor] = {}
    waiting = list(roots)
    for _ in range(100):
        new = [pid for root in waiting for pid in (root, *descendants_of(root)) if pid not in found and is_running(pid)]
        if not new:
            break
        for pid in new:
            found[pid] = _describe(pid)
            _signal(pid, signal.SIGSTOP)
    for pid in found:
        _signal(pid, signal.SIGKILL)
    deadline = time.monotonic() + _KILL_LIMIT
    while any(is_running(pid) for pid in found) and time.monotonic() < deadline:
        time.sleep(0.002)
    return list(found.values())


def _collect(process: Any) -> None:
    """So that the object knows of its end, and no zombie stays. Not for asyncio: its watcher would miss it."""
    if isinstance(process, int) or inspect.iscoroutinefunction(getattr(process, "wait", None)):
        return
    with contextlib.suppress(Exception):
        if hasattr(process, "join"):
            process.join(timeout=1)
        elif hasattr(process, "wait"):
            process.wait(timeout=1)


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(OSError):
        os.kill(pid, number)


def _describe(pid: int) -> Survivor:
    return Survivor(pid, command_of(pid)[:300], _stat(pid)[0], _read(f"/proc/{pid}/wchan"))


def _read(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def _stat(pid: int) -> tuple[str, int, int]:
    """State, parent, and start in clock ticks since boot; "?", 0, 0 if it is gone."""
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return (fields[0], int(fields[1]), int(fields[19])) if len(fields) > 19 else ("?", 0, 0)


# ---- tracking ----------------------------------------------------------------------------------------------------------------------

_lock = threading.Lock()
_active: list[Tracker] = []
_was_subreaper = 0


class Tracker:
    """What track_child_processes() gives. It may be entered again after its end."""

    def __init__(self, on_survivors: str = "warn") -> None:
        if on_survivors not in ("warn", "fail", "ignore"):
            raise ValueError(f"track_child_processes: on_survivors={on_survivors!r}; give 'warn', 'fail' or 'ignore'")
        self.on_survivors = on_survivors
        # What had to be killed so far.
        self.survivors: list[Survivor] = []
        # It was entered by a fixture.
        self.in_fixture = False
        self._before: set[tuple[int, int]] = set()
        # What ran when a test was called: fixtures have started it.
        self.of_fixtures: set[int] = set()
        self._thread = 0

    def __enter__(self) -> Tracker:
        self.survivors = []
        self.of_fixtures = set()
        request = _request_of_the_fixture()
        self.in_fixture = request is not None
        if request is not None:
            _add_hooks(request.config)
        self._thread = threading.get_native_id()
        # Below the helpers of multiprocessing is what this process has started by them.
        self._before = {(pid, _stat(pid)[2]) for pid in descendants_of(os.getpid())}
        with _lock:
            if not _active:
                _become_subreaper()
            _active.append(self)
        return self

    def __exit__(self, kind: Optional[type[BaseException]], problem: Optional[BaseException], trace: Optional[TracebackType]) -> None:
        try:
            self.finish()
        finally:
            with _lock:
                if self in _active:
                    _active.remove(self)
                if not _active:
                    _become_subreaper(bool(_was_subreaper))
        if kind is None and self.survivors and self.on_survivors == "fail":
            raise AssertionError(_sentence(self.survivors))

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """As a decorator: each call has a tracker of its own."""
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def call_async(*args: Any, **kwargs: Any) -> Any:
                with Tracker(self.on_survivors):
                    return await function(*args, **kwargs)

            return call_async

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            with Tracker(self.on_survivors):
                return function(*args, **kwargs)

        return call

    def children(self) -> list[int]:
        """Process ids of what was started since it was entered and still runs: children, and what is below them."""
        found: list[int] = []
        for root in self._roots():
            found += [pid for pid in (root, *descendants_of(root)) if pid not in found and is_running(pid)]
        return found

    def finish(self, spared: Collection[int] = ()) -> None:
        """Kills them now, but for `spared`. Returns within about 5 s."""
        adopted = set(children_of(os.getpid()))
        killed: list[Survivor] = []
        # What they leave behind when they die is ours then, and is found in the next round.
        for _ in range(10):
            targets = [pid for pid in self.children() if pid not in spared]
            if not targets:
                break
            killed += _kill_trees(targets)
            _reap({survivor.pid for survivor in killed} - adopted)
        self.survivors += killed
        if killed and self.on_survivors == "warn":
            warnings.warn(ChildrenLeft(_sentence(killed)), stacklevel=3)

    def _roots(self) -> list[int]:
        """Children of this process that are new, but for those of a thread that has a tracker of its own."""
        with _lock:
            others = {tracker._thread for tracker in _active if tracker is not self and tracker._thread != self._thread}
        helpers = helpers_of_multiprocessing()
        candidates = [pid for helper in helpers for pid in children_of(helper)]
        for thread in os.listdir("/proc/self/task"):
            if int(thread) not in others:
                candidates += map(int, _read(f"/proc/self/task/{thread}/children").split())
        return [pid for pid in candidates if pid not in helpers and (pid, _stat(pid)[2]) not in self._before]


def track_child_processes(on_survivors: str = "warn") -> Tracker:
    """A context manager and decorator: what is started inside and still runs at the end is killed, with all that is below it.

    on_survivors: what then happens beside that: "warn" (a ChildrenLeft warning that names them), "fail" (an AssertionError does, unless
    there is an exception already) or "ignore". `survivors` of the object has them in any case.

    Threads may use trackers at the same time: each kills what its own thread has started, and what threads without one have. Not
    killed: what ran before, with all that is below it, and the helper processes of multiprocessing.
    """
    return Tracker(on_survivors)


def begin_call() -> None:
    """For pytest: a test is about to be called, and its fixtures are set up."""
    for tracker in _in_fixtures():
        tracker.of_fixtures.update(tracker.children())


def end_call() -> None:
    """For pytest: before any fixture is torn down."""
    for tracker in reversed(_in_fixtures()):
        tracker.finish(tracker.of_fixtures)


def _in_fixtures() -> list[Tracker]:
    with _lock:
        return [tracker for tracker in _active if tracker.in_fixture]


def _sentence(survivors: list[Survivor]) -> str:
    return f"{len(survivors)} process(es) were still running and were killed: " + "; ".join(map(str, survivors))


def _reap(pids: set[int]) -> None:
    """Orphans that became ours. Those that were our own children are for whoever has started them."""
    for pid in pids:
        with contextlib.suppress(OSError):
            os.waitpid(pid, os.WNOHANG)


def helpers_of_multiprocessing() -> set[int]:
    """Processes that multiprocessing starts once for all, and needs later."""
    found = set()
    for module, instance, attribute in (
        ("multiprocessing.resource_tracker", "_resource_tracker", "_pid"),
        ("multiprocessing.forkserver", "_forkserver", "_forkserver_pid"),
    ):
        pid = getattr(getattr(sys.modules.get(module), instance, None), attribute, None)
        if isinstance(pid, int):
            found.add(pid)
    return found


def _request_of_the_fixture() -> Any:
    """Of the pytest fixture that is being set up, or None. Found on the stack: that costs only those who use a tracker."""
    frame: Any = sys._getframe(2)
    while frame is not None and not (frame.f_code.co_name == "pytest_fixture_setup" and "request" in frame.f_locals):
        frame = frame.f_back
    return frame.f_locals["request"] if frame is not None else None


def _add_hooks(config: Any) -> None:
    """Around the call of tests, once a tracker is in a fixture: a hook costs every test of a run, so there is none before."""
    if config.pluginmanager.has_plugin("holdfast-children"):
        return
    import pytest

    class Hooks:
        @pytest.hookimpl(tryfirst=True)
        def pytest_runtest_call(self) -> None:
            begin_call()

        @pytest.hookimpl(hookwrapper=True, tryfirst=True)
        def pytest_runtest_teardown(self) -> Iterator[None]:
            """Before any fixture is torn down: what child processes hold is let go."""
            end_call()
            yield

    config.pluginmanager.register(Hooks(), "holdfast-children")


def _become_subreaper(wanted: bool = True) -> None:
    """Orphans come to this process, however often they have forked, instead of to init."""
    global _was_subreaper
    import ctypes

    libc = ctypes.CDLL(None)
    if wanted and not _active:
        now = ctypes.c_int()
        libc.prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(now), 0, 0, 0)
        _was_subreaper = now.value
    libc.prctl(_PR_SET_CHILD_SUBREAPER, int(wanted), 0, 0, 0)
