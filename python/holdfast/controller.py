"""The controller: the pytest process. Has no items; passes what the engine tells to pytest's hooks, as xdist's controller does."""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any, NoReturn, Optional

import pytest

from holdfast import __version__, backend, github, gpu_report, options, programs, wire
from holdfast.compat import fkit
from holdfast.fault_report import FaultReport
from holdfast.kept import Kept
from holdfast.launch import Engine
from holdfast.present import GOOD, SHOWN, Gateway, Item, WorkerNode, module_report, present
from holdfast.procs import children_of, descendants_of
from holdfast.progress import Progress
from holdfast.relay import publish_warning
from holdfast.summary import Summary

EXIT_INCOMPLETE = 12
EXIT_INFRASTRUCTURE = 11
# How long the engine may take to end after `finish`: it kills whatever is left, and has its own limits for that.
_END_LIMIT = 60.0
# How long resources may take to be torn down when the engine has died; a bit more than they give themselves (keeper.py, serve.py).
_KEEPER_LIMIT = 30.0


class _Terminated(BaseException):
    """SIGTERM or SIGHUP, raised in the main thread like KeyboardInterrupt."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Controller:
    def __init__(self, config: pytest.Config, engine: Engine) -> None:
        self.config = config
        self.engine = engine
        self.settings = options.settings_of(config)
        self.channel = wire.Channel(engine.sock)
        self.slots = engine.info.slots
        self.items: list[Item] = []
        self.settled: set[int] = set()
        self.summary = Summary()
        self.faults = FaultReport(config)
        self.ready: wire.Frame = {}
        self.stopped = False
        self.without_verdict = 0
        self.ended = False
        self.failure: Optional[wire.Frame] = None
        self.progress = Progress(None, 0)
        self._nodes: dict[int, WorkerNode] = {}
        self._partial_lines: dict[int, str] = {}
        # Zygotes of resources: they end by themselves.
        self._keepers: set[int] = set()
        self._kept = Kept(self._write_line, lambda slot: self._send({"t": "go_on", "slot": slot}))
        self._own_children: set[int] = set(children_of(os.getpid()))

    # ---- talking to the engine

    def _send(self, frame: wire.Frame) -> None:
        try:
            self.channel.send(frame)
        except OSError:
            pass  # It has gone; reading says so next.

    def _receive(self, timeout: Optional[float] = None) -> Optional[wire.Frame]:
        """The next frame, or None if none came in time. Raises pytest.exit.Exception (12) if the engine has died."""
        try:
            if not self.channel.pending():
                if not select.select([self.channel.sock], [], [], timeout)[0]:
                    return None
                if not self.channel.pump():
                    self._engine_died()
                if not self.channel.pending():
                    return None
            return self.channel.receive()
        except (wire.WireError, OSError) as problem:
            self._engine_died(str(problem))

    def _engine_died(self, problem: str = "") -> NoReturn:
        status = self.engine.end()
        self.ended = True
        self._kill_what_the_engine_left()
        how = _how_it_ended(status) + (f": {problem}" if problem else "")
        missing = len(self.items) - len(self.settled)
        raise pytest.exit.Exception(
            f"holdfast: the engine {how}; {missing} test(s) have no verdict. "
            f"What was reported is in {self.settings.journal}; `--hf-resume --hf-journal={self.settings.journal}` runs the rest",
            returncode=EXIT_INCOMPLETE,
        )

    def _kill_what_the_engine_left(self) -> None:
        """Its zygotes end by themselves; what else was below it is now below us (start_engine made us a subreaper)."""
        began = time.monotonic()
        while time.monotonic() < began + 5 + (_KEEPER_LIMIT if self._keepers else 0):
            if time.monotonic() > began + _KEEPER_LIMIT:
                self._keepers.clear()
            strays = [p for p in children_of(os.getpid()) if p not in self._own_children and p != self.engine.pid]
            if not strays:
                return
            for stray in strays:
                if stray in self._keepers:
                    self._reap(stray)
                    continue
                for pid in (*descendants_of(stray, self._keepers), stray):
                    try:
                        os.kill(pid, signal.SIGKILL)
                    except OSError:
                        pass
                self._reap(stray)
            time.sleep(0.005)

    @staticmethod
    def _reap(pid: int) -> None:
        """If it has ended."""
        try:
            os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            pass

    def _configure(self) -> None:
        params = self.config.invocation_params
        factory: Any = getattr(self.config, "_tmp_path_factory", None)
        python = [sys.executable, *_interpreter_flags()]
        wrap = self.settings.wrap
        zygote = {
            "args": [str(a) for a in params.args],
            "cwd": str(params.dir),
            "sys_path": self.engine.sys_path,
            "argv": self.engine.info.argv,
            "python": python,
            "testrun_uid": self.engine.info.testrun_uid,
            "slots": self.slots,
            "debug": self.settings.debug,
            "wrap": {"command": wrap.command, "env": wrap.environment} if wrap is not None else None,
            "basetemp": str(factory.getbasetemp()) if factory is not None else None,
        }
        where = {"backend": self.settings.backend} if self.settings.backend is not None else {}
        self._send(
            {
                "t": "configure",
                **where,
                "limits": self.settings.limits(),
                "journal": str(self.settings.journal),
                "history": str(self.settings.history or ""),
                "dist": self.settings.dist,
                "pin": self.settings.pin,
                "resume": self.settings.resume,
                "log": str(self.settings.log or ""),
                "rootdir": str(self.config.rootpath),
                "args": " ".join(str(a) for a in params.args),
                "argv": [*python, "-m", "holdfast.zygote"],
                "cwd": str(params.dir),
                "diagnose": programs.isolated("holdfast.diagnose"),
                "tell_starts": True,
                "strict": self.settings.strict,
                "pause_on_failure": self._stops_at_failures(),
                "retries": self.settings.retries,
                "again": self.settings.again,
                "leaks": self.settings.leaks,
                "gpus": self.settings.gpus,
                "debug": self.settings.debug,
                "wrap": wrap.name if wrap is not None else "",
                "flaky_fails": self.settings.flaky_fails,
                "zygote": zygote,
            }
        )

    def _stops_at_failures(self) -> bool:
        """Whether a failure may end the run, so that nothing may begin before it has been looked at."""
        option = self.config.option
        return bool(option.maxfail or getattr(option, "stepwise", False) or getattr(option, "stepwise_skip", False))

    # ---- what pytest asks

    def pytest_report_header(self) -> list[str]:
        per = options.ISOLATIONS[self.settings.isolation]
        slots = f"{self.slots} slot(s)"
        if self.settings.backend is not None:
            # Without a number each node has as many as the job gives it, and nobody knows yet.
            job = backend.BACKENDS[self.settings.backend["job"]["system"]]
            slots = f"{slots} in {job}" if self.settings.slots != "auto" else f"slots of {job}"
        lines = [f"holdfast {__version__}: {slots}, {per}, ledger {self._short(self.settings.journal)}"]
        project = options.project_of(self.config, self.config.option)
        if project is not None:
            profile = self.config.getoption("hf_profile")
            lines.append(f"holdfast: {self._short(project.path)}{f', profile {profile}' if profile else ''}")
        return lines + self.faults.header() + [f"holdfast: {note}" for note in self.settings.notes]

    def _short(self, path: Path) -> str:
        try:
            return os.path.relpath(path, self.config.invocation_params.dir)
        except ValueError:
            return str(path)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        try:
            self._configure()
        except OSError as problem:
            raise pytest.UsageError(
                f"--holdfast: the run cannot be prepared: {problem} (if open files are short, raise `ulimit -n`)"
            ) from None
        frame = self._receive(30)
        if frame is None or frame["t"] != "hello" or frame["v"] != wire.PROTOCOL_VERSION:
            raise pytest.UsageError("--holdfast: the engine speaks another protocol; reinstall holdfast")
        self.slots = int(frame["slots"])

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self, session: pytest.Session) -> bool:
        from holdfast.collected import Collected

        reporter = self._reporter()
        if reporter is not None:
            reporter.pytest_collection()
        collected = Collected(self.config, session)
        while not self.ready:
            frame = self._receive()
            if frame is None:
                continue
            if frame["t"] == "ready":
                self.ready = frame
            elif frame["t"] == "error":
                self._raise_error(frame)
            elif frame["t"] == "output":
                self._show_output(frame)
            elif frame["t"] == "note":
                self._write_line(f"holdfast: {frame['text']}")
            else:
                collected.take(frame)
        self.items = collected.items
        collected.publish(self.ready, reporter)
        return True

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if session.testsfailed and not session.config.option.continue_on_collection_errors:
            count = session.testsfailed
            raise session.Interrupted(f"{count} error{'s' if count != 1 else ''} during collection")
        if session.config.option.collectonly:
            return True
        if self.ready.get("stop"):
            raise session.Interrupted(str(self.ready["stop"]))
        # No line below the dots while a test may have the terminal.
        reporter = None if options.is_interactive(self.config.option) else self._reporter()
        self.progress = Progress(reporter, len(self.items))
        self._send({"t": "run"})
        previous = _raise_on_termination()
        try:
            self._loop(session)
        except (KeyboardInterrupt, _Terminated) as interruption:
            self._stop_in_order(session, interruption)
        finally:
            self.progress.clear()
            _restore(previous)
        self._flush_output()
        self._raise_outcome(session)
        return True

    def _loop(self, session: pytest.Session, limit: Optional[float] = None) -> None:
        """Until the engine says that no test runs any more (or `limit` seconds have passed)."""
        deadline = None if limit is None else time.monotonic() + limit
        while not self.ended_running():
            if deadline is not None and time.monotonic() > deadline:
                return
            frame = self._receive(0.1 if self._kept.any else self.progress.wait())
            if frame is not None:
                self._handle(session, frame)
            self._kept.look()
            self.progress.tick()

    def ended_running(self) -> bool:
        return bool(self.ready.get("ended"))

    def _handle(self, session: pytest.Session, frame: wire.Frame) -> None:
        kind = frame["t"]
        if kind == "begun":
            index = int(frame["test"])
            self.progress.begun(index, self.items[index].nodeid, float(frame["since"]))
            return
        if kind == "progress":
            self.progress.remaining = float(frame["remaining"])
            return
        if kind == "gpus":
            self.summary.gpus = frame["devices"]
            return
        if kind == "scope":
            self.summary.add_scope(frame)
            return
        if kind == "kept":
            self.progress.clear()
            self._kept.add(frame, self.items[int(frame["test"])].nodeid)
            return
        if kind == "released":
            self._kept.remove(int(frame["slot"]))
            return
        if kind == "keeper":
            self._keepers.add(int(frame["pid"]))
            return
        self.progress.clear()
        if kind == "result":
            self._show_result(frame)
        elif kind == "output":
            self._show_output(frame)
        elif kind == "note":
            self._write_line(f"holdfast: {frame['text']}")
        elif kind == "warning":
            publish_warning(self.config, frame)
        elif kind == "exit":
            wish = frame["with"]
            self._stop(self.settings.grace)
            raise pytest.exit.Exception(str(wish.get("reason", "")), returncode=wish.get("code"))
        elif kind == "stop":
            session.shouldstop = session.shouldstop or str(frame["with"])
        elif kind == "error":
            self.failure = self.failure or frame
        elif kind == "end":
            self.ready["ended"] = True
            self.without_verdict = int(frame["without_verdict"])
        if session.shouldfail or session.shouldstop:
            if not self.stopped:
                self._stop(self.settings.grace)
        elif kind == "result" and frame["verdict"] not in GOOD:
            self._send({"t": "seen"})

    def _stop(self, grace: float) -> None:
        self.stopped = True
        self._send({"t": "stop", "grace": grace})

    def _stop_in_order(self, session: pytest.Session, interruption: BaseException) -> NoReturn:
        """Ctrl-C once: running tests tear down within the grace. Twice: they are killed now. Then pytest's own end."""
        try:
            # The second Ctrl-C may come at once.
            self.progress.clear()
            self._write_line(
                f"holdfast: stopping; running tests get {self.settings.grace:g} s for their teardown (Ctrl-C again kills them now)"
            )
            self._stop(self.settings.grace)
            self._loop(session, self.settings.grace + 20)
        except (KeyboardInterrupt, _Terminated):
            self._send({"t": "stop", "grace": 0})
            self._loop(session, 20)
        if isinstance(interruption, _Terminated):
            name = signal.Signals(interruption.number).name
            raise pytest.exit.Exception(f"received {name}", returncode=128 + interruption.number)
        raise interruption

    def _raise_outcome(self, session: pytest.Session) -> None:
        if self.failure is not None:
            self._raise_error(self.failure)
        if session.shouldfail:
            raise session.Failed(session.shouldfail)
        if session.shouldstop:
            raise session.Interrupted(session.shouldstop)
        if self.without_verdict:
            raise pytest.exit.Exception(f"holdfast: {self.without_verdict} test(s) have no verdict", returncode=EXIT_INCOMPLETE)

    def _raise_error(self, frame: wire.Frame) -> NoReturn:
        kind, text = frame["kind"], str(frame["text"])
        if kind == "usage":
            raise pytest.UsageError(
                text if "\n" in text or not text.startswith(("use ", "open ", "write ", "resume")) else f"--holdfast: failed to {text}"
            )
        if kind == "internal":
            raise RuntimeError(f"while collecting, in the root zygote:\n{text}")
        if kind == "died":
            raise pytest.exit.Exception(f"holdfast: {text}", returncode=EXIT_INCOMPLETE)
        if kind == "infra":
            raise pytest.exit.Exception(f"holdfast: {text}", returncode=EXIT_INFRASTRUCTURE)
        raise pytest.exit.Exception(
            f"holdfast: failed to {text}; the run was stopped, {self.without_verdict} test(s) have no verdict",
            returncode=EXIT_INCOMPLETE,
        )

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: Any) -> Generator[None, None, None]:
        if int(exitstatus) == pytest.ExitCode.TESTS_FAILED and self.summary.only_infrastructure_failed():
            session.exitstatus = EXIT_INFRASTRUCTURE
        self._end_engine(int(exitstatus))
        yield

    def _end_engine(self, exitstatus: int) -> None:
        if self.ended:
            return
        self.ended = True
        self._send({"t": "finish", "exitstatus": exitstatus})
        deadline = time.monotonic() + _END_LIMIT
        try:
            while time.monotonic() < deadline:
                frame = self._receive(1)
                if frame is not None and frame["t"] == "warning":
                    publish_warning(self.config, frame)
                if frame is not None and frame["t"] == "bye":
                    break
        except (pytest.exit.Exception, KeyboardInterrupt):
            pass  # All verdicts are in; closing the socket makes the engine kill what is left.
        self.engine.end()

    # ---- showing

    def _reporter(self) -> Optional[Any]:
        return self.config.pluginmanager.get_plugin("terminalreporter")

    def _write_line(self, text: str) -> None:
        reporter = self._reporter()
        if reporter is not None:
            reporter.ensure_newline()
            if reporter._tw.width_of_current_line:
                reporter.line("")  # With -q there are dots without a file's name, of which it knows nothing.
            reporter.write_line(text)

    def _node(self, slot: int, machine: str) -> WorkerNode:
        """`machine`: the node of a job, empty for this machine."""
        if slot not in self._nodes:
            info = {
                "id": f"gw{slot}",
                "version": sys.version,
                "version_info": tuple(sys.version_info),
                # Shown with a failure.
                "sysplatform": f"{sys.platform}, node {machine}" if machine else sys.platform,
                "platform": sys.platform,
                "executable": sys.executable,
                "cwd": os.getcwd(),
            }
            self._nodes[slot] = WorkerNode(Gateway(f"gw{slot}"), self.engine.info.workerinput(slot), info)
        return self._nodes[slot]

    def _show_result(self, result: wire.Frame) -> None:
        if result["test"] is not None:
            self.settled.add(int(result["test"]))
        self.summary.add(result, self.items)
        self.progress.ended(result["test"])
        if result["test"] is None:
            module = module_report(result)
            self.summary.add_reports(result, [module])
            self.config.hook.pytest_collectreport(report=module)
            return
        item = self.items[result["test"]]
        presented = present(self.config, item, result, self.items)
        self.faults.add(item.nodeid, str(result["verdict"]), presented.reports)
        if result["verdict"] not in GOOD:
            self.summary.add_reports(result, presented.reports)
        for text in presented.internal_errors:
            self._write_line(f"holdfast: internal error of a plugin in {item.nodeid}:\n{text}")
        for warning in presented.warnings:
            publish_warning(self.config, warning)
        hook = self.config.hook
        node = self._node(int(result["slot"]), str(result["detail"].get("node", "")))
        hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for report in presented.reports:
            report.node = node
            report.worker_id = node.gateway.id
            report.item_index = item.index
            report.testrun_uid = self.engine.info.testrun_uid
            hook.pytest_runtest_logreport(report=report)
        hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)

    def _show_output(self, frame: wire.Frame) -> None:
        """Output that was not captured (-s), a line at a time, each with the worker it came from."""
        slot = int(frame["slot"])
        text = self._partial_lines.pop(slot, "") + str(frame["text"])
        *lines, rest = text.split("\n")
        for line in lines:
            self._write_line(f"[gw{slot}] {line}")
        if rest:
            self._partial_lines[slot] = rest

    def _flush_output(self) -> None:
        for slot, rest in sorted(self._partial_lines.items()):
            self._write_line(f"[gw{slot}] {rest}")
        self._partial_lines.clear()

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: Any) -> Optional[tuple[str, str, str]]:
        verdict = getattr(report, "holdfast_verdict", None)
        if verdict is None or verdict not in SHOWN:
            return None
        letter, word = SHOWN[verdict]
        category = "failed" if report.when == "call" else "error"
        # A bare word, red since the report has failed: pytest 7 shows a word with its colours as a tuple in the short summary.
        return category, letter, word

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        self.summary.write(terminalreporter)
        self.summary.write_scopes(terminalreporter)
        gpu_report.write(terminalreporter, self.summary.gpus)
        self.faults.write(terminalreporter)
        if github.is_here():
            github.write(terminalreporter, self.summary.failures, self.summary.notes(), self.summary.verdicts)
        fkit.write_summary(self.config, terminalreporter, self.summary)
        if self.without_verdict:
            journal = self._short(self.settings.journal)
            terminalreporter.write_line(
                f"{self.without_verdict} test(s) without a verdict; run them with --hf-resume --hf-journal={journal}"
            )


def _interpreter_flags() -> list[str]:
    import subprocess

    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    return flags


def _how_it_ended(status: Optional[int]) -> str:
    if status is None:
        return "is gone"
    if os.WIFSIGNALED(status):
        return f"was killed by {signal.Signals(os.WTERMSIG(status)).name}"
    return f"ended with exit status {os.WEXITSTATUS(status)}"


def _raise_on_termination() -> dict[int, Any]:
    def raise_it(number: int, _frame: object) -> None:
        raise _Terminated(number)

    previous: dict[int, Any] = {}
    try:
        for number in (signal.SIGTERM, signal.SIGHUP):
            # A user's handler stays: it knows better what its process should do.
            if signal.getsignal(number) is signal.SIG_DFL:
                previous[number] = signal.signal(number, raise_it)
    except ValueError:
        pass  # Not in the main thread: pytest was started inside another program.
    return previous


def _restore(previous: dict[int, Any]) -> None:
    for number, handler in previous.items():
        signal.signal(number, handler)
