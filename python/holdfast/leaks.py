"""What a test has left, as far as only its own process can know it: threads, listening sockets, shared memory, temporary files; in a
process that goes on to other tests also processes, and what was changed: environment, working directory, signal handlers, umask.

It looks before and after a test, and costs some tens of microseconds; only where something is new it looks closer. What the engine
finds by itself (processes of a test that had its own, all that a dead process has left) is in engine/run/leavings.h.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import stat
import sys
import threading
import time
from collections.abc import Generator, Iterable
from typing import Any, NamedTuple, Optional

import pytest

from holdfast import trail
from holdfast.procs import children_of, descendants_of, is_running
from holdfast.slate import Slate
from holdfast.wire import Frame

# Seconds for threads and processes that are just about to end; as in engine/run/slot.cc.
_GRACE = 0.1
_SHM = "/dev/shm"
# Set by pytest itself, for each phase.
_NOT_THE_TEST_S = ("PYTEST_CURRENT_TEST",)
_SIGNALS = tuple(sorted(set(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP}))


class State(NamedTuple):
    """What a test can change for those that run after it in the same process."""

    environment: dict[str, str]
    cwd: str
    handlers: dict[int, Any]
    umask: int

    @classmethod
    def now(cls) -> State:
        environment = dict(os.environ)
        for name in _NOT_THE_TEST_S:
            environment.pop(name, None)
        try:
            cwd = os.getcwd()
        except OSError:
            cwd = ""  # Somebody has removed it.
        umask = os.umask(0o077)
        os.umask(umask)
        return cls(environment, cwd, {number: signal.getsignal(number) for number in _SIGNALS}, umask)


class Leaks:
    """Looks at the tests of this process, one after the other."""

    def __init__(self, slate: Slate, goes_on: bool) -> None:
        """goes_on: other tests will run in this process."""
        self.slate = slate
        self.goes_on = goes_on
        self._shm: frozenset[str] = frozenset()
        self._segments: frozenset[int] = frozenset()
        self._descriptors: frozenset[int] = frozenset()
        self._threads: frozenset[int] = frozenset()
        self._children: frozenset[int] = frozenset()
        self._state: Optional[State] = None
        # Whether a fixture that several tests share was set up during this test.
        self.shared = False
        self.learn()

    def learn(self) -> None:
        """What is there now is not the next test's doing."""
        self._descriptors = _descriptors()
        self._threads = frozenset(sys._current_frames())
        if self.goes_on:
            self._children = frozenset(children_of(os.getpid()))
            self._state = State.now()

    def begin(self) -> None:
        self.shared = False
        self._shm = _names()
        self._segments = frozenset(_segments())

    def end(self) -> list[Frame]:
        """What is new and still there. Cleans up what can be."""
        found = list(self._new_threads())
        found += self._new_sockets()
        found += self._new_files()
        found += self._new_segments()
        if self.goes_on:
            found += self._new_children()
            found += self._changes()
            trail.reset(self.slate)
            self.learn()
        return found

    # ---- threads

    def _new_threads(self) -> Iterable[Frame]:
        if len(sys._current_frames()) == len(self._threads):
            return
        deadline = time.monotonic() + _GRACE
        while set(sys._current_frames()) - self._threads and time.monotonic() < deadline:
            time.sleep(0.002)
        known = {thread.ident: thread for thread in threading.enumerate()}
        for ident, frame in sys._current_frames().items():
            if ident in self._threads:
                continue
            thread = known.get(ident)
            name = thread.name if thread is not None else f"without a name ({ident})"
            place = f"{frame.f_code.co_name}, {frame.f_code.co_filename}:{frame.f_lineno}"
            yield {"kind": "thread", "text": f"thread {name}{', daemon' if thread is not None and thread.daemon else ''}: in {place}"}

    # ---- sockets

    def _new_sockets(self) -> Iterable[Frame]:
        for number in _descriptors() - self._descriptors:
            try:
                if not stat.S_ISSOCK(os.fstat(number).st_mode):
                    continue
                with socket.socket(fileno=os.dup(number)) as copy:
                    if copy.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                        yield {"kind": "socket", "text": f"listening socket {_address(copy)}"}
            except OSError:
                continue

    # ---- files

    def _new_files(self) -> Iterable[Frame]:
        noted = trail.entries(self.slate)
        shared = {entry.path for entry in noted if entry.kind == trail.SHARED}
        for name in _names() - self._shm:
            path = f"{_SHM}/{name}"
            # Another program's, or another test's, unless there is evidence.
            if path in shared or _is_open_here(path):
                yield from _remove(path, "shm", "shared memory")
        for entry in noted:
            if entry.kind == trail.TEMPORARY:
                yield from _remove(entry.path, "file", "temporary file")
            elif entry.kind == trail.OPENED:
                yield from _left(entry.path)

    def _new_segments(self) -> Iterable[Frame]:
        for number, size in _segments().items():
            if number not in self._segments:
                _remove_segment(number)
                yield {"kind": "sysv", "text": f"System V shared memory segment {number}, {size} bytes"}

    # ---- processes, in a process that goes on

    def _new_children(self) -> Iterable[Frame]:
        new = self._running_children()
        deadline = time.monotonic() + _GRACE
        while new and time.monotonic() < deadline:
            time.sleep(0.002)
            new = self._running_children()
        if not new:
            return
        for pid in [pid for child in new for pid in (child, *descendants_of(child))]:
            yield {"kind": "process", "pid": pid, "command": _command(pid), "text": f"process {pid}: {_command(pid)}"}
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)

    def _running_children(self) -> list[int]:
        """Not those of threads that earlier tests have left: a pool of multiprocessing replaces what is killed."""
        found = []
        for thread in os.listdir("/proc/self/task"):
            if thread != str(os.getpid()) and self._is_of_an_earlier_thread(int(thread)):
                continue
            with contextlib.suppress(OSError), open(f"/proc/self/task/{thread}/children", "rb") as file:
                found += [int(pid) for pid in file.read().split()]
        helpers = _helpers()
        return [pid for pid in found if pid not in self._children and pid not in helpers and is_running(pid)]

    def _is_of_an_earlier_thread(self, native: int) -> bool:
        return any(t.native_id == native and t.ident in self._threads for t in threading.enumerate())

    # ---- what was changed

    def _changes(self) -> Iterable[Frame]:
        before, now = self._state, State.now()
        if before is None or now == before:
            return
        for name in sorted({*before.environment, *now.environment}):
            was, is_now = before.environment.get(name), now.environment.get(name)
            if was != is_now:
                yield {"kind": "environment", "text": f"environment variable {name}: {_shown(was)} became {_shown(is_now)}"}
                if was is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = was
        if now.cwd != before.cwd:
            yield {"kind": "cwd", "text": f"working directory: {before.cwd} became {now.cwd or 'one that was removed'}"}
            with contextlib.suppress(OSError):
                os.chdir(before.cwd)
        for number, handler in before.handlers.items():
            if now.handlers[number] != handler:
                yield {"kind": "signal", "text": f"handler of {signal.Signals(number).name}: {handler!r} became {now.handlers[number]!r}"}
                with contextlib.suppress(OSError, ValueError, TypeError):
                    signal.signal(number, handler)
        if now.umask != before.umask:
            yield {"kind": "umask", "text": f"umask: {before.umask:03o} became {now.umask:03o}"}
            os.umask(before.umask)

    # ---- fixtures that several tests share

    @pytest.hookimpl(hookwrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Generator[None, None, None]:
        """In a process that goes on: what such a fixture sets up is there for the tests after this one."""
        if fixturedef.scope == "function" or not self.goes_on:
            yield
            return
        before, noted = State.now(), trail.position(self.slate)
        seen = (set(sys._current_frames()), set(children_of(os.getpid())), _descriptors(), _names(), set(_segments()))
        yield
        self.shared = True
        self._threads |= set(sys._current_frames()) - seen[0]
        self._children |= set(children_of(os.getpid())) - seen[1]
        self._descriptors |= _descriptors() - seen[2]
        self._shm |= _names() - seen[3]
        self._segments |= set(_segments()) - seen[4]
        trail.forget(self.slate, noted)
        self._state = _moved(self._state, before, State.now())


def _moved(known: Optional[State], before: State, after: State) -> Optional[State]:
    """`known`, with what changed from `before` to `after`."""
    if known is None:
        return None
    environment = dict(known.environment)
    for name in {*before.environment, *after.environment}:
        if before.environment.get(name) != after.environment.get(name):
            environment.pop(name, None)
            if name in after.environment:
                environment[name] = after.environment[name]
    handlers = {n: after.handlers[n] if after.handlers[n] != before.handlers[n] else h for n, h in known.handlers.items()}
    return State(
        environment,
        after.cwd if after.cwd != before.cwd else known.cwd,
        handlers,
        after.umask if after.umask != before.umask else known.umask,
    )


def _names() -> frozenset[str]:
    try:
        return frozenset(os.listdir(_SHM))
    except OSError:
        return frozenset()


def _descriptors() -> frozenset[int]:
    try:
        return frozenset(map(int, os.listdir("/proc/self/fd")))
    except OSError:
        return frozenset()


def _segments() -> dict[int, int]:
    """Number -> bytes of the System V segments that this process has made (sysvipc(7): the sixth field is the maker)."""
    found = {}
    try:
        with open("/proc/sysvipc/shm", "rb") as file:
            for line in file.read().splitlines()[1:]:
                fields = line.split()
                if int(fields[4]) == os.getpid():
                    found[int(fields[1])] = int(fields[3])
    except (OSError, ValueError, IndexError):
        pass
    return found


def _remove_segment(number: int) -> None:
    import ctypes

    ctypes.CDLL(None).shmctl(number, 0, None)  # IPC_RMID


def _is_open_here(path: str) -> bool:
    """This process has it mapped, or open."""
    with contextlib.suppress(OSError), open("/proc/self/maps") as file:
        return any(line.rstrip("\n").endswith(path) for line in file)
    return False


def _remove(path: str, kind: str, name: str) -> Iterable[Frame]:
    """Of something whose name nobody can know by heart."""
    try:
        status = os.lstat(path)
    except OSError:
        return
    directory = stat.S_ISDIR(status.st_mode)
    text = f"temporary directory {path}" if directory else f"{name} {path}, {status.st_size} bytes"
    yield {"kind": kind, "text": text}
    with contextlib.suppress(OSError):
        if directory:
            shutil.rmtree(path, ignore_errors=True)
        else:
            os.unlink(path)


def _left(path: str) -> Iterable[Frame]:
    """Of a file whose name somebody has chosen, and may look for: it stays."""
    try:
        status = os.lstat(path)
    except OSError:
        return
    if stat.S_ISDIR(status.st_mode):
        yield {"kind": "file", "text": f"directory {path} (not removed)"}
    else:
        yield {"kind": "file", "text": f"file {path}, {status.st_size} bytes (not removed)"}


def _address(sock: socket.socket) -> str:
    name: Any = sock.getsockname()
    if isinstance(name, tuple):
        return f"{name[0]}:{name[1]}"
    return str(name) or "without an address"


def _shown(value: Optional[str]) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _command(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read(300).replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def _helpers() -> set[int]:
    """Processes that multiprocessing starts once for all, and needs later."""
    if "multiprocessing.resource_tracker" not in sys.modules and "multiprocessing.forkserver" not in sys.modules:
        return set()
    from holdfast.children import helpers_of_multiprocessing

    return helpers_of_multiprocessing()
