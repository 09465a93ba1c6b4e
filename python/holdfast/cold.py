"""Cold processes: where forking is not safe, each test gets an interpreter of its own, which imports the test's file alone."""

from __future__ import annotations

import json
import os
import socket
import sys
from typing import NoReturn

from holdfast import crash, gpu, streams, trail, wire
from holdfast.serve import SlotFiles, look_for_leaks, serve_slot
from holdfast.wrap import LOG
from holdfast.zygote import COLD_SOCKET, WorkerInfo, enter, set_default_signals

_CONFIG_VARIABLE = "HOLDFAST_COLD"


def run_spawner(channel: wire.Channel) -> NoReturn:
    """A slot's zygote that has imported nothing: every `fork` becomes an exec of `--cold`."""
    set_default_signals()
    frame = channel.receive()
    if frame is None:
        os._exit(0)
    crash.reap_orphans_here()
    files = SlotFiles(channel)
    config = frame["config"]
    # Descriptors keep their numbers over exec; these are far above what the interpreter opens.
    keeper = bool(frame.get("keeper"))
    inherited = {"out": files.out, "err": files.err, "stacks": files.stacks, "slate": files.slate_fd, "stream": files.stream}
    told = {"slot": frame["slot"], "files": inherited, "config": config}
    os.environ[_CONFIG_VARIABLE] = json.dumps(told)

    def become_cold(fd: int, parent: int) -> None:
        if not crash.die_with_parent(parent):
            os._exit(0)
        os.setsid()
        streams.null_stdin()
        os.dup2(fd, COLD_SOCKET)
        for number in inherited.values():
            os.set_inheritable(number, True)
        command = [*config["python"], "-m", "holdfast.zygote", "--cold"]
        wrap = config.get("wrap")
        if wrap:
            # A path that leads to a file without a name, whoever opens it.
            os.set_inheritable(files.findings, True)
            log = f"/proc/self/fd/{files.findings}"
            os.environ[_CONFIG_VARIABLE] = json.dumps({**told, "findings": files.findings})
            os.environ.update(wrap["env"])
            command = [*(word.replace(LOG, log) for word in wrap["command"]), *command]
        os.execvp(command[0], command)

    serve_slot(channel, become_cold, keeper=keeper)
    os._exit(3)


def _say_nothing_of_ourselves() -> None:
    """pytest warns of plugins that were imported before it could rewrite their assertions: here, of the one that has started it."""
    from _pytest.assertion.rewrite import AssertionRewritingHook as Hook

    original = Hook._warn_already_imported

    def warn(self: Hook, name: str) -> None:
        if name.partition(".")[0] != "holdfast":
            original(self, name)

    Hook._warn_already_imported = warn  # type: ignore[method-assign]


def run_cold(channel: wire.Channel) -> NoReturn:
    """Waits for its order, then collects the file of that test and runs it; a worker collects everything, as any pytest does."""
    import pytest

    from holdfast.child import TestRunner, clear_exit_functions, enter_slot, keep_finalizers
    from holdfast.reuse import Worker
    from holdfast.slate import SETUP, Slate
    from holdfast.worker import prepare_config

    given = json.loads(os.environ.pop(_CONFIG_VARIABLE))
    files, config, slot = given["files"], given["config"], int(given["slot"])
    for number in files.values():
        os.set_inheritable(number, False)
    channel.sock = socket.socket(fileno=streams.out_of_the_way(channel.sock.detach()))
    slate = Slate(files["slate"])
    os.close(files["slate"])
    if config.get("wrap"):
        # A tool may have started us as its child.
        channel.send({"t": "at", "pid": os.getpid()})
    order = channel.receive()
    if order is None:
        os._exit(0)
    # Before anything is imported that might look for devices.
    if "gpus" in order:
        gpu.enter(order)
    enter(config)
    info = WorkerInfo(config)
    info.set_environment(slot)
    # Importing the file is part of this test's setup: it is watched, and charged, as such.
    slate.enter(SETUP)
    os.dup2(files["out"], 1)
    os.dup2(files["err"], 2)
    crash.arm(files["stacks"], slate)
    if config.get("debug"):
        crash.keep()
    crash.own()
    _say_nothing_of_ourselves()
    test_id = str(order["id"])
    first, reuse = order, bool(order.get("reuse"))
    # The user's own command line, so that rootdir, ini file and conftests are found as ever; then only this test's file.
    pytest_config = prepare_config(config["args"], None, info)
    if not reuse:
        pytest_config.args = [os.path.join(pytest_config.rootpath, test_id.split("::")[0])]
    pytest_config.workerinput.update(info.workerinput(slot))  # type: ignore[attr-defined]

    class ColdRun:
        """Takes the place of the root worker's loop: one test, or a worker's tests, in this very process."""

        @pytest.hookimpl(tryfirst=True)
        def pytest_runtestloop(self, session: pytest.Session) -> bool:
            runner = TestRunner(session, slate, info)
            runner.owner = os.getpid()
            runner.sock = channel.sock
            # Again: pytest's own faulthandler plugin has taken it over while the configuration was made.
            crash.arm(files["stacks"], slate)
            # The same view of the exit as in a forked process: only what the test itself registers runs at its end.
            clear_exit_functions()
            enter_slot(pytest_config, slot, config.get("basetemp"))
            streams.attach(pytest_config, files["out"], files["err"], files["stream"])
            pytest_config.pluginmanager.register(runner, "holdfast-runner")
            keep_finalizers()
            trail.arm(slate, pytest_config)
            look_for_leaks(runner)
            if reuse:
                Worker(runner).run(first)
            for item in session.items:
                if item.nodeid == test_id and first["t"] == "resource":
                    runner.keep(item, first)
                if item.nodeid == test_id:
                    runner.take_resources(first)
                    runner.tool_log = given.get("findings", -1)
                    runner.run_item(item, test_id, first.get("look", True))
            print(f"holdfast: {test_id} was not found again in a cold process", file=sys.stderr)
            os._exit(3)

    pytest_config.pluginmanager.register(ColdRun(), "holdfast-cold")
    pytest_config.hook.pytest_cmdline_main(config=pytest_config)
    print(f"holdfast: {test_id} could not be collected in a cold process", file=sys.stderr)
    os._exit(3)
