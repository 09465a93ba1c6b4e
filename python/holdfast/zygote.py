"""Zygotes: the processes that tests are forked from, and how each of them begins.

- The root zygote collects once and then forks a zygote for each slot. It is forked from the controller before the user's
  conftest files are loaded, or started as `python -m holdfast.zygote --root` when it has to be replaced.
- Where forking is not safe, a slot gets a bare `python -m holdfast.zygote --spawner`, which starts a cold process a test.
- `python -m holdfast.zygote --cold` is such a process.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import uuid
from collections.abc import Sequence
from typing import Any, NoReturn, Optional

from holdfast import streams, wire
from holdfast.slate import Slate

# Descriptor of the socket in a process that was started, not forked (engine/run/root.cc).
COLD_SOCKET = 3


class WorkerInfo:
    """What xdist gives to a worker: the run's id and the number of workers."""

    def __init__(self, config: wire.Frame) -> None:
        self.testrun_uid = str(config.get("testrun_uid") or uuid.uuid4().hex)
        self.slots = int(config.get("slots") or 1)
        # Of this node of a job; 0 elsewhere.
        self.slots_here = int(config.get("slots_here") or 0)
        # Its slot 0 in the numbers of the run: there may be other machines.
        self.first_slot = int(config.get("first_slot") or 0)
        self.argv = list(config.get("argv") or sys.argv)
        # --pdb and --trace: the tests have the terminal.
        self.interactive = bool(config.get("interactive"))
        # Where an interactive test's uncaptured output goes.
        self.terminal_fd = -1

    def workerinput(self, slot: int) -> dict[str, Any]:
        return {
            "workerid": f"gw{self.first_slot + slot}",
            "workercount": self.slots,
            "slots_here": self.slots_here,
            "testrunuid": self.testrun_uid,
            "mainargv": self.argv,
        }

    def set_environment(self, slot: int) -> None:
        os.environ["PYTEST_XDIST_WORKER"] = f"gw{self.first_slot + slot}"
        os.environ["PYTEST_XDIST_WORKER_COUNT"] = str(self.slots)
        os.environ["PYTEST_XDIST_TESTRUNUID"] = self.testrun_uid


def set_default_signals() -> None:
    """The dispositions of a fresh Python, whatever the process that we were forked from had set."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, set())


def run_root(
    channel: wire.Channel,
    args: Sequence[str],
    plugins: Optional[Sequence[Any]],
    info: WorkerInfo,
    start: Optional[wire.Frame] = None,
) -> NoReturn:
    """Collects, serves the slots, and ends the process. `start` is the engine's start frame if it has been read already."""
    set_default_signals()
    start = start or channel.receive()
    if start is None:
        os._exit(0)
    out_fd, err_fd, stacks_fd, slate_fd = channel.take_fds(4)
    if info.interactive:
        info.terminal_fd = streams.out_of_the_way(os.dup(1))
    else:
        streams.null_stdin()
    os.dup2(out_fd, 1)
    os.dup2(err_fd, 2)
    slate = Slate(slate_fd)
    for fd in (out_fd, err_fd, slate_fd):
        os.close(fd)
    os.environ.update({str(k): str(v) for k, v in start.get("env", {}).items()})
    info.set_environment(0)
    code = _run_session(channel, args, plugins, info, start, stacks_fd, slate)
    streams.flush_all()
    # Not sys.exit: above us may be the controller's frames, whose cleanup is the controller's alone.
    os._exit(code)


def _run_session(
    channel: wire.Channel,
    args: Sequence[str],
    plugins: Optional[Sequence[Any]],
    info: WorkerInfo,
    start: wire.Frame,
    stacks_fd: int,
    slate: Slate,
) -> int:
    import pytest

    from holdfast import mpi
    from holdfast.worker import RootWorker, prepare_config

    mpi.hold_back()
    channel.send({"t": "hello", "v": wire.PROTOCOL_VERSION, "pid": os.getpid()})
    try:
        config = prepare_config(args, plugins, info)
        worker = RootWorker(config, channel, info, [str(s) for s in start.get("skip", [])], stacks_fd, slate)
        config.pluginmanager.register(worker, "holdfast-worker")
        code = config.hook.pytest_cmdline_main(config=config)
        return int(code or 0)
    except pytest.UsageError as error:
        channel.send({"t": "usage", "text": "\n".join(str(a) for a in error.args)})
    except OSError:
        return 3  # The engine has gone away; there is nobody to tell.
    except BaseException as error:
        import traceback

        channel.send({"t": "internal", "text": "".join(traceback.format_exception(type(error), error, error.__traceback__))})
    return 3


def run_forked_root(sock: socket.socket, args: Sequence[str], plugins: Optional[Sequence[Any]], info: WorkerInfo) -> NoReturn:
    """The root zygote, in a fork of the controller."""
    try:
        run_root(wire.Channel(sock), args, plugins, info)
    except BaseException:
        import traceback

        traceback.print_exc()
    os._exit(3)


def main(argv: Sequence[str]) -> int:
    sock = socket.socket(fileno=os.dup(COLD_SOCKET))
    os.close(COLD_SOCKET)
    sock.set_inheritable(False)
    channel = wire.Channel(sock)
    role = argv[0] if argv else ""
    if role == "--root":
        start = channel.receive()
        if start is None:
            return 0
        config = start["config"]
        enter(config)
        run_root(channel, config["args"], None, WorkerInfo(config), start)
    if role == "--spawner":
        from holdfast.cold import run_spawner

        run_spawner(channel)
    if role == "--cold":
        from holdfast.cold import run_cold

        run_cold(channel)
    print("holdfast.zygote is started by the engine", file=sys.stderr)
    return 4


def enter(config: wire.Frame) -> None:
    """Makes this process look like the one that the user started: directory, module path, argv."""
    os.chdir(config["cwd"])
    sys.path[:] = list(config["sys_path"])
    sys.argv[:] = list(config["argv"])


if __name__ == "__main__":
    # Under its real name: other modules import it too, and there must be one copy.
    from holdfast import zygote

    sys.exit(zygote.main(sys.argv[1:]))
