"""Starts the engine, and with it the root zygote, before the user's conftest files are loaded.

    controller --fork--> A --fork--> root zygote
                         A --exec--> engine

So the engine is the zygote's parent, the zygote has pytest imported without having waited for it, and it configures itself while
the controller does the same. Where the controller cannot be forked safely, the engine starts the zygote as a program instead.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from typing import Any, Optional

import pytest

from holdfast import crash
from holdfast.engine_path import EngineMissing, find_engine, find_forkloop
from holdfast.zygote import WorkerInfo, run_forked_root


class Engine:
    """A running engine: its process and our end of the socket."""

    def __init__(self, pid: int, sock: socket.socket, info: WorkerInfo, sys_path: list[str]) -> None:
        self.pid = pid
        self.sock = sock
        self.info = info
        self.sys_path = sys_path

    def end(self) -> Optional[int]:
        """Closes the socket and waits for the process: it ends when it has killed and recorded everything. Its wait status."""
        self.sock.close()
        try:
            return os.waitpid(self.pid, 0)[1]
        except ChildProcessError:
            return None

    def abandon(self) -> None:
        """If nobody has ended it yet (pytest gave up while it was still configuring itself)."""
        if self.sock.fileno() >= 0:
            self.end()


def start_engine(slots: str, args: Sequence[str], plugins: Optional[Sequence[Any]], info: WorkerInfo) -> Engine:
    """Raises pytest.UsageError where the engine cannot be started."""
    try:
        binary = find_engine()
        find_forkloop()
    except EngineMissing as missing:
        raise pytest.UsageError(f"--holdfast: {missing}") from None
    sys_path = list(sys.path)
    # If the engine is killed, what it supervised comes to us, and can be found and killed.
    crash.reap_orphans_here()
    try:
        ours, engines = socket.socketpair()
        with engines:
            pid = _fork_engine(binary, slots, engines, ours, args, plugins, info)
    except OSError as problem:
        raise pytest.UsageError(
            f"--holdfast: the engine cannot be started: {problem.strerror} (is the limit on open files or processes reached?)"
        ) from None
    return Engine(pid, ours, info, sys_path)


def may_fork() -> bool:
    return threading.active_count() == 1 and len(sys._current_frames()) == 1


def _fork_engine(
    binary: str,
    slots: str,
    engines: socket.socket,
    ours: socket.socket,
    args: Sequence[str],
    plugins: Optional[Sequence[Any]],
    info: WorkerInfo,
) -> int:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    zygote_pair = socket.socketpair() if may_fork() else None
    pid = os.fork()
    if pid != 0:
        for end in zygote_pair or ():
            end.close()
        return pid
    try:
        # Out of the terminal's process group: Ctrl-C is for the controller, which decides what becomes of the tests.
        os.setsid()
        ours.close()
        command = [binary, "engine", f"--control-fd={engines.fileno()}", f"--slots={slots}"]
        if zygote_pair is not None:
            engine_end, zygote_end = zygote_pair
            zygote = os.fork()
            if zygote == 0:
                engines.close()
                engine_end.close()
                _become_zygote(zygote_end, args, plugins, info)
            engine_end.set_inheritable(True)
            command += [f"--zygote-fd={engine_end.fileno()}", f"--zygote-pid={zygote}"]
        engines.set_inheritable(True)
        signal.pthread_sigmask(signal.SIG_SETMASK, set())
        os.execv(binary, command)
    finally:
        os._exit(127)


def _become_zygote(sock: socket.socket, args: Sequence[str], plugins: Optional[Sequence[Any]], info: WorkerInfo) -> None:
    from holdfast import crash

    # It imports the user's modules, so it may be unable to notice that the engine has gone.
    crash.die_with_parent(os.getppid())
    run_forked_root(sock, args, plugins, info)
