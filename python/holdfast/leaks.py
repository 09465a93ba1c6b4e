"""What a test has left, as far as only its own process can know it: threads, listening sockets, shared memory, temporary files; in a
process that goes on to other tests also processes, and what was changed: environment, working directory, signal handlers, umask.

It looks before and after a test, and costs some tens of microseconds; only where something is new it looks closer. What the engine
finds by itself (processes of a test that had its own, all that a dead process has left) is in engine/run/leavings.h.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # The functions of signal turn each number into an object.
import contextlib
import fcntl
import os
import shutil
import signal
import socket
import stat
import sys
import threading
from collections.abc import Generator, Iterable
from time import sleep as _sleep
from typing import Any, Callable, NamedTuple, Optional

import pytest

from holdfast import trail
from holdfast.procs import children_of, command_of, descendants_of, is_running
from holdfast.slate import Slate
from holdfast.wire import Frame

# Looks at threads and processes that are just about to end, and seconds between them: 0.1 s, as in engine/run/slot.cc. Counted, since a
# test may have left a clock that stands still.
_LOOKS, _BETWEEN = 50, 0.002
_SHM = "/dev/shm"
_DRIVERS = (b"\0cuda-uvmfd-",)  # Abstract names of their sockets; more of it: numbers of the name space and the process.
# Of MPI libraries, which make and remove them as ranks meet.
_TRANSPORTS = ("vader_segment.", "sm_segment.", "ucx_shm_", "psm2_shm", "psm3_shm", "mpich_shm")
# Set by pytest itself, for each phase.
_NOT_THE_TEST_S = b"PYTEST_CURRENT_TEST"
_SIGNALS = tuple(sorted(set(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP}))


class State(NamedTuple):
    """What a test can change for those that run after it in the same process."""

    environment: dict[bytes, bytes]
    cwd: str
    # Of _SIGNALS, in their order.
    handlers: list[Any]
    umask: int

    @classmethod
    def now(cls) -> State:
        # What is behind os.environ: to copy that itself would decode each name and value.
        environment = dict(os.environ._data)  # type: ignore[attr-defined]
        environment.pop(_NOT_THE_TEST_S, None)
        try:
            cwd = os.getcwd()
        except OSError:
            cwd = ""  # Somebody has removed it.
        umask = os.umask(0o077)
        os.umask(umask)
        return cls(environment, cwd, list(map(_signal.getsignal, _SIGNALS)), umask)


class Leaks:
    """Looks at the tests of this process, one after the other."""

    def __init__(self, slate: Slate, goes_on: bool = False, above: Optional[Leaks] = None) -> None:
        """goes_on: other tests will run in this process. above: of the process of a scope that this one is forked from."""
        self.slate = slate
        self.goes_on = goes_on
        # Of the setup of a scope: the page is used by its tests afterwards.
        self._kept: list[trail.Entry] = []
        # What is below these goes with them: shared fixtures have made them.
        self._shared_places: list[str] = above.places() if above is not None else []
        self._shm: frozenset[str] = frozenset()
        self._segments: frozenset[int] = frozenset()
        self._descriptors: frozenset[int] = frozenset()
        self._threads: frozenset[int] = frozenset()
        self._children: frozenset[int] = frozenset()
        self._state: Optional[State] = None
        # A shared fixture has been torn down since the last look.
        self._stale = False
        # Whether a fixture that several tests share was set up during this test.
        self.shared = False
        self.learn()

    def learn(self) -> None:
        """What is there now is not the next test's doing."""
        if trail.position(self.slate):
            trail.forget(self.slate, 0)
        self._descriptors = _descriptors()
        self._threads = frozenset(sys._current_frames())
        trail.learn()
        if self.goes_on:
            self._children = frozenset(children_of(os.getpid()))
            self._segments = frozenset(_segments())
            self._state = State.now()

    def begin(self) -> None:
        self.shared = False
        if self._stale:
            self._stale = False
            self.learn()
        self._shm = frozenset()
        trail.begin()

    def keep(self) -> None:
        """A scope has been set up: what it has made so far counts when it has been torn down."""
        self._kept = trail.entries(self.slate)

    def places(self) -> list[str]:
        return self._shared_places + [entry.path + "/" for entry in self._kept]

    def end(self) -> list[Frame]:
        """What is new and still there. Cleans up what can be."""
        seen = trail.found()
        found: list[Frame] = []
        if seen or self._kept:
            found = [*self._new_threads(), *self._new_sockets(), *self._new_files(), *self._new_segments()]
        if self.goes_on:
            found += [*self._new_children(), *self._changes()]
            if found or seen:
                self.learn()
            # Numbers of threads are used again.
            self._threads = frozenset(sys._current_frames())
        return found

    # ---- threads

    def _new_threads(self) -> Iterable[Frame]:
        if self._threads.issuperset(sys._current_frames()):
            return
        for _ in range(_LOOKS):
            if self._threads.issuperset(sys._current_frames()):
                return
            _sleep(_BETWEEN)
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
        now = _descriptors()
        new, self._descriptors = now - self._descriptors, now
        for number in new:
            try:
                if not stat.S_ISSOCK(os.fstat(number).st_mode):
                    continue
                with socket.socket(fileno=os.dup(number)) as copy:
                    if copy.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) and not _is_of_a_driver(copy):
                        yield {"kind": "socket", "text": f"listening socket {_address(copy)}"}
            except OSError:
                continue

    # ---- files

    def _new_files(self) -> Iterable[Frame]:
        noted = self._kept + trail.entries(self.slate)
        shared = {entry.path for entry in noted if entry.kind == trail.SHARED}
        for name in _names() - self._shm - trail.names_before():
            if name.startswith(_TRANSPORTS):
                continue
            path = f"{_SHM}/{name}"
            # Another program's, or another test's, unless there is evidence.
            if path in shared or _is_open_here(path):
                yield from _remove(path, "shm", "shared memory")
        needed = (*self._shared_places, *(_folder_of_multiprocessing() if self.goes_on else ()))
        for entry in noted:
            if entry.path.startswith(needed):
                continue
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
        for _ in range(_LOOKS):
            if not new:
                return
            _sleep(_BETWEEN)
            new = self._running_children()
        for pid in [pid for child in new for pid in (child, *descendants_of(child))]:
            command = command_of(pid)[:300]
            yield {"kind": "process", "pid": pid, "command": command, "text": f"process {pid}: {command}"}
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

    def allow(self, change: Callable[[], None]) -> None:
        """Makes a change that is ours, not a test's."""
        before = State.now()
        change()
        self._state = _moved(self._state, before, State.now())

    def _changes(self) -> Iterable[Frame]:
        before, now = self._state, State.now()
        if before is None or now == before:
            return
        for name in sorted({*before.environment, *now.environment}):
            was, is_now = before.environment.get(name), now.environment.get(name)
            if was != is_now:
                text = os.fsdecode(name)
                yield {"kind": "environment", "text": f"environment variable {text}: {_shown(was)} became {_shown(is_now)}"}
                if was is None:
                    os.environ.pop(text, None)
                else:
                    os.environ[text] = os.fsdecode(was)
        if now.cwd != before.cwd:
            yield {"kind": "cwd", "text": f"working directory: {before.cwd} became {now.cwd or 'one that was removed'}"}
            with contextlib.suppress(OSError):
                os.chdir(before.cwd)
        for number, was, is_now in zip(_SIGNALS, before.handlers, now.handlers):
            if was != is_now:
                yield {"kind": "signal", "text": f"handler of {signal.Signals(number).name}: {_named(was)} became {_named(is_now)}"}
                with contextlib.suppress(OSError, ValueError, TypeError):
                    signal.signal(number, was)
        if now.umask != before.umask:
            yield {"kind": "umask", "text": f"umask: {before.umask:03o} became {now.umask:03o}"}
            os.umask(before.umask)

    # ---- fixtures that several tests share

    @pytest.hookimpl
    @contextlib.contextmanager
    def not_counting(self) -> Generator[None, None, None]:
        """Threads, sockets and shared memory that are made inside are not the test's."""
        seen = (set(sys._current_frames()), _descriptors(), _names(), set(_segments()))
        yield
        self._threads |= set(sys._current_frames()) - seen[0]
        self._descriptors |= _descriptors() - seen[1]
        self._shm |= _names() - seen[2]
        self._segments |= set(_segments()) - seen[3]

    def pytest_fixture_post_finalizer(self, fixturedef: Any) -> None:
        if fixturedef.scope != "function":
            self._stale = True

    @pytest.hookimpl(hookwrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Generator[None, None, None]:
        """In a process that goes on: what such a fixture sets up is there for the tests after this one."""
        if fixturedef.scope == "function" or not self.goes_on:
            yield
            return
        before, noted = State.now(), trail.position(self.slate)
        children = set(children_of(os.getpid()))
        with self.not_counting():
            yield
        self.shared = True
        self._children |= set(children_of(os.getpid())) - children
        self._shared_places += [entry.path + "/" for entry in trail.entries(self.slate, noted)]
        trail.forget(self.slate, noted)
        self._state = _moved(self._state, before, State.now())


@contextlib.contextmanager
def watched(leaks: Optional[Leaks], item: pytest.Item, look: bool) -> Generator[list[Frame], None, None]:
    """For a test in a process that goes on. The moment to look is between the teardown of its own fixtures and that of those which it
    shares with other tests: pytest calls an item's own teardown() then, as the last of what was put on its stack. Without `look` what
    it leaves is wanted."""
    found: list[Frame] = []
    if leaks is None or not look:
        yield found
        if leaks is not None:
            leaks.learn()
        return
    leaks.begin()
    original = item.teardown

    def teardown() -> None:
        try:
            original()
        finally:
            found.extend(leaks.end())

    item.teardown = teardown  # type: ignore[method-assign]
    try:
        yield found
    finally:
        vars(item).pop("teardown", None)


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
    handlers = [c if c != b else a for a, b, c in zip(known.handlers, before.handlers, after.handlers)]
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
    """But for the one that the listing itself has open: its number is the next one to be given out."""
    try:
        return frozenset(number for number in map(int, os.listdir("/proc/self/fd")) if _is_open(number))
    except OSError:
        return frozenset()


def _is_open(number: int) -> bool:
    try:
        fcntl.fcntl(number, fcntl.F_GETFD)
    except OSError:
        return False
    return True


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


def _is_of_a_driver(listening: socket.socket) -> bool:
    """CUDA's driver passes descriptors between processes by one that it keeps until the process ends."""
    name = listening.getsockname()
    return isinstance(name, bytes) and name.startswith(_DRIVERS)


def _address(sock: socket.socket) -> str:
    name: Any = sock.getsockname()
    if isinstance(name, tuple):
        return f"{name[0]}:{name[1]}"
    return str(name) or "without an address"


def _named(handler: Any) -> str:
    if handler in (0, 1):
        return "the default" if handler == 0 else "ignored"
    return "one that is not Python's" if handler is None else str(getattr(handler, "__qualname__", handler))


def _shown(value: Optional[bytes]) -> str:
    text = "nothing" if value is None else repr(os.fsdecode(value))
    return text if len(text) <= 80 else text[:77] + "..."


def _folder_of_multiprocessing() -> list[str]:
    """That it makes once for all, and removes at the end of the process: the socket of its fork server is there."""
    process = sys.modules.get("multiprocessing.process")
    folder = getattr(process.current_process(), "_config", {}).get("tempdir") if process is not None else None
    return [folder] if folder else []


def _helpers() -> set[int]:
    """Processes that multiprocessing starts once for all, and needs later."""
    if "multiprocessing.resource_tracker" not in sys.modules and "multiprocessing.forkserver" not in sys.modules:
        return set()
    from holdfast.children import helpers_of_multiprocessing

    return helpers_of_multiprocessing()
