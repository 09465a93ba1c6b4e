"""The loops of zygotes: wait for orders and for children, fork, tell. No test code runs in them.

A zygote is single-threaded and blocks in poll() only. When the engine's socket ends it kills whatever is below it and goes.
"""

from __future__ import annotations

import ctypes
import functools
import os
import select
import signal
import socket
import time
import traceback
from typing import TYPE_CHECKING, Callable

import pytest

from holdfast import child, compat, crash, garbage, streams, trail, wire
from holdfast.engine_path import find_forkloop
from holdfast.leaks import Leaks
from holdfast.procs import children_of, is_running, kill_descendants, resident_bytes
from holdfast.slate import Slate
from holdfast.streams import high_descriptor, out_of_the_way

if TYPE_CHECKING:
    from holdfast.worker import RootWorker
    from holdfast.zygote import WorkerInfo


_HUGE = 2 << 20
_MADV_COLLAPSE = 25
# What the fork loop returns after a signal, and when its scope is to be torn down.
_INTERRUPTED = -2
_DOWN = -3
# Seconds for the process of a resource to end when the engine has gone; a bit more than it gives itself (keeper.py).
_KEEPER_LIMIT = 25.0


class Server:
    """One zygote's loop: `orders` maps a frame's type to what is to be done; children are reaped as they end."""

    def __init__(self, channel: wire.Channel) -> None:
        self.channel = channel
        self.orders: dict[str, Callable[[wire.Frame], None]] = {}
        self.children: dict[int, int] = {}
        self._poll = select.poll()
        self._poll.register(channel.fileno(), select.POLLIN)

    def add_child(self, pid: int) -> None:
        fd = os.pidfd_open(pid)
        self.children[fd] = pid
        self._poll.register(fd, select.POLLIN)

    def run(self) -> wire.Frame | None:
        """Until a `finish` frame, which is returned, or until the engine goes away (None)."""
        while True:
            try:
                while self.channel.pending():
                    frame = self.channel.receive()
                    if frame is None or frame["t"] == "finish":
                        return frame
                    self.orders[frame["t"]](frame)
                for fd, _ in self._poll.poll():
                    if fd == self.channel.fileno():
                        if not self.channel.pump():
                            return None
                    else:
                        self._reap(fd)
            except (OSError, wire.WireError, KeyError):
                return None
            except KeyboardInterrupt:
                continue  # SIGINT to the whole group is the controller's to interpret.

    def _reap(self, fd: int) -> None:
        pid = self.children.pop(fd)
        self._poll.unregister(fd)
        os.close(fd)
        _, status, usage = os.wait4(pid, 0)
        self.channel.send({"t": "exited", "pid": pid, "status": status, "maxrss": usage.ru_maxrss})
        self._reap_orphans()

    def _reap_orphans(self) -> None:
        """Dead orphans (this process is their subreaper) must not stay zombies; our own children are left to _reap."""
        own = set(self.children.values())
        while True:
            try:
                info = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if info is None or info.si_pid in own:
                    return
                os.waitpid(info.si_pid, os.WNOHANG)
            except ChildProcessError:
                return

    def forget(self) -> None:
        """In a fork: the parent's children and socket are not ours."""
        for fd in self.children:
            os.close(fd)
        self.channel.sock.close()


def collapse_memory(forks: int) -> None:
    """Puts the zygote's heap on huge pages where the kernel can (MADV_COLLAPSE, Linux 6.1): a fork copies one entry for 2 MiB instead
    of 512. It costs about 0.3 ms for each of them, once, so only where enough forks follow; and only ever helps speed."""
    if forks < 50:
        return
    with open("/proc/self/maps") as maps:
        spans = [(line.split()[0], line.split()[1], line.split()[5:]) for line in maps]
    for addresses, rights, name in spans:
        start, end = (int(part, 16) for part in addresses.split("-"))
        if "w" not in rights or "p" not in rights or (name and name[0] != "[heap]"):
            continue
        for address in range((start + _HUGE - 1) // _HUGE * _HUGE, end // _HUGE * _HUGE, _HUGE):
            crash.libc.madvise(ctypes.c_void_p(address), ctypes.c_size_t(_HUGE), _MADV_COLLAPSE)


def serve_root(worker: RootWorker, session: pytest.Session) -> int:
    """The root zygote after collection. Returns the exit status that the controller has decided on."""
    compat.before_forks(worker.config)
    garbage.freeze()
    collapse_memory(worker.forks)
    server = Server(worker.channel)
    # Zygotes of resources: they end by themselves.
    keepers: set[int] = set()

    def fork_slot_zygote(frame: wire.Frame) -> None:
        (fd,) = worker.channel.take_fds(1)
        streams.flush_all()
        keeper = bool(frame.get("keeper"))
        pid = os.fork()
        if pid == 0:
            server.forget()
            _run_slot_zygote(worker, session, socket.socket(fileno=fd))
        os.close(fd)
        server.add_child(pid)
        if keeper:
            keepers.add(pid)

    server.orders["zygote"] = fork_slot_zygote
    crash.reap_orphans_here()
    frame = server.run()
    if frame is None:
        kill_descendants(os.getpid(), keepers)
        os._exit(0)
    compat.end_root(worker.config)
    return int(frame.get("exitstatus", 0))


def _run_slot_zygote(worker: RootWorker, session: pytest.Session, sock: socket.socket) -> None:
    """A slot's zygote: forks one process a test. Never returns."""
    try:
        channel = wire.Channel(sock)
        frame = channel.receive()
        if frame is None:
            os._exit(0)
        crash.reap_orphans_here()
        files = SlotFiles(channel)
        take_slot(worker.config, worker.info, files, frame)
        os.close(worker.stacks_fd)
        worker.config.pluginmanager.unregister(worker)
        child.clear_exit_functions()
        runner = child.TestRunner(session, files.slate, worker.info, worker.scopes, worker.has_ranks)
        worker.config.pluginmanager.register(runner, "holdfast-runner")
        child.keep_finalizers()
        if worker.scopes:
            from holdfast.scope import prepare

            prepare(runner)
        look_for_leaks(runner)
        garbage.freeze()
        keeper = bool(frame.get("keeper"))
        cpu = None if keeper else own_cpu(worker.info, int(frame["slot"]))
        serve_slot(channel, runner.run_forked, cpu, keeper)
    except BaseException:
        traceback.print_exc()
    os._exit(3)


class SlotFiles:
    """The files that came with the `slot` frame."""

    def __init__(self, channel: wire.Channel) -> None:
        fds = [out_of_the_way(fd) for fd in channel.take_fds(6)]
        self.out, self.err, self.stacks, self.slate_fd, self.stream, self.findings = fds
        self.slate = Slate(self.slate_fd)


def take_slot(config: pytest.Config, info: WorkerInfo, files: SlotFiles, frame: wire.Frame) -> None:
    """This process, and what it forks, belongs to the slot of `frame` from now on: its name, its directory, its files."""
    slot = int(frame["slot"])
    info.set_environment(slot)
    config.workerinput.update(info.workerinput(slot))  # type: ignore[attr-defined]
    child.enter_slot(config, slot, (frame.get("config") or {}).get("basetemp"))
    crash.arm(files.stacks, files.slate)
    if (frame.get("config") or {}).get("debug"):
        crash.keep()
    trail.arm(files.slate, config)
    os.close(files.slate_fd)
    streams.attach(config, files.out, files.err, info.terminal_fd if info.interactive else files.stream)


def look_for_leaks(runner: child.TestRunner) -> None:
    """From here on what is new in a fork of this process is its test's."""
    runner.leaks = Leaks(runner.slate, above=runner.leaks)


def own_cpu(info: WorkerInfo, slot: int) -> int | None:
    """The CPU for the zygotes of a slot, where there is a slot for each that may be used. A fork begins on its parent's CPU, whose
    caches hold what it is about to copy; the kernel would move the two about (3 % of the time of numpy's tests). With more CPUs than
    slots a free one for the next fork is worth more."""
    usable = sorted(os.sched_getaffinity(0))
    return usable[slot % len(usable)] if info.slots >= len(usable) else None


def serve_slot(channel: wire.Channel, run: Callable[[int, int], None], cpu: int | None = None, keeper: bool = False) -> None:
    """Says hello, then forks a process for every `fork` frame; `run(fd, parent)` is the process's life. Never returns."""
    channel.sock = socket.socket(fileno=out_of_the_way(channel.sock.detach()))
    # Anything that is ignored here would be so in every test. Held back until the loop can take it: whoever has read our hello may
    # send it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    signal.signal(signal.SIGINT, signal.default_int_handler)
    channel.send({"t": "hello", "v": wire.PROTOCOL_VERSION, "pid": os.getpid(), "resident": resident_bytes()})
    fork_until_down(channel.sock.detach(), run, cpu, keeper)
    os._exit(3)


def serve_forks(runner: child.TestRunner) -> None:
    """Forks until the engine says that the scope is to be torn down, over the socket that the runner has."""
    assert runner.sock is not None
    sock = runner.sock.detach()
    fork_until_down(sock, runner.run_forked, own_cpu(runner.info, runner.slot))
    runner.sock = socket.socket(fileno=sock)


def fork_until_down(sock: int, run: Callable[[int, int], None], cpu: int | None, keeper: bool = False) -> None:
    """Returns after a `down` frame. Ends the process when the engine has gone, and with it all below, but for a `keeper`: there a
    resource is torn down first. It stays on `cpu` meanwhile, its forks do not."""
    loop = load_forkloop()
    zygote = os.getpid()
    usable = os.sched_getaffinity(0)
    if cpu is not None:
        os.sched_setaffinity(0, {cpu})
    result = _INTERRUPTED
    while result == _INTERRUPTED:
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
            result = loop(sock)
            if result >= 0:
                if cpu is not None:
                    os.sched_setaffinity(0, usable)
                run(result, zygote)
        except KeyboardInterrupt:
            pass  # SIGINT to the whole group is the controller's to interpret.
        except Exception:
            traceback.print_exc()
        finally:
            if os.getpid() != zygote:
                os._exit(3)
    if result == _DOWN:
        os.sched_setaffinity(0, usable)
        return
    if keeper:
        _wait_for_children(_KEEPER_LIMIT)
    kill_descendants(zygote)
    os._exit(0)


def _wait_for_children(limit: float) -> None:
    """At most so many seconds, and for no orphans."""
    own = children_of(os.getpid())
    deadline = time.monotonic() + limit
    while any(is_running(pid) for pid in own) and time.monotonic() < deadline:
        time.sleep(0.01)


@functools.cache
def load_forkloop() -> Callable[[int], int]:
    """The loop of shim/forkloop.c: returns the test's socket in a new child, _INTERRUPTED after a signal, _DOWN, or -1 at the end."""
    # PyDLL: the interpreter's lock stays held, as it must be around a fork.
    serve = ctypes.PyDLL(find_forkloop()).forkloop_serve
    handlers = ("PyOS_BeforeFork", "PyOS_AfterFork_Parent", "PyOS_AfterFork_Child")
    pointers = [ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p) for name in handlers]
    floor = high_descriptor()
    return lambda sock: int(serve(sock, floor, *pointers))
