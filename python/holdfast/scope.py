"""The process of a scope: sets its fixtures up, serves forks of itself as a slot's zygote does, and tears down when it is told to.

    zygote of the slot, or of the scope above --fork--> this process --fork--> tests; scopes below; replicas

A replica is a fork of it that belongs to another slot, with that slot's files; it tears nothing down. What stands on pytest's
SetupState stack when a test is forked was set up above it, and stays when the test's own fixtures are torn down.
"""

from __future__ import annotations

import builtins
import contextlib
import importlib
import os
import signal
import time
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any, Callable, NoReturn

import pytest

from holdfast import crash, forksafe, garbage, streams, wire
from holdfast.inherited import share_children
from holdfast.options import wants_leaks
from holdfast.procs import resident_bytes
from holdfast.relay import full_report
from holdfast.reuse import Worker
from holdfast.scopes import Scope, shown
from holdfast.serve import SlotFiles, load_forkloop, look_for_leaks, serve_forks, take_slot
from holdfast.slate import IDLE, SETUP, TEARDOWN

if TYPE_CHECKING:
    from holdfast.child import TestRunner

# Fixtures that are another value in each slot: never taken from the process of a scope.
_SLOTS_OWN = ("worker_id",)
# What pytest takes for a failure of a fixture. (An outcome is no Exception.)
FAILURES = (Exception, pytest.fail.Exception, pytest.skip.Exception)


class Above:
    """What a process has inherited from the scopes above it."""

    def __init__(self, session: pytest.Session) -> None:
        self.state: Any = session._setupstate
        self.collector: Any = None
        self._teardown_exact: Callable[[Any], None] = self.state.teardown_exact
        # Fixtures of higher levels that were set up in this very process.
        self._here: list[tuple[Any, Any]] = []
        # Those that the scope of this process consists of, with what they needed.
        self._scope_s: list[tuple[Any, Any]] = []
        # Fixtures that are another value in each slot.
        self._slots_own: list[Any] = []

    def keep(self, collector: Any) -> None:
        """From now on a teardown of everything stops below `collector` and what is above it."""
        self.collector = collector
        self._scope_s, self._here = self._here, []
        self.state.teardown_exact = self.teardown_exact

    def teardown_exact(self, nextitem: Any) -> None:
        """In the place of SetupState's."""
        if nextitem is not None or self.collector is None:
            self._teardown_exact(nextitem)
            return
        # Fixtures of higher levels that were first asked for in this process: nobody else knows them.
        self._tear_down(self.collector, self._here)

    def tear_down_scope(self, collector: Any) -> None:
        """What this process has set up as a scope: all that is above `collector` (everything for None), and its fixtures of the
        collector itself."""
        self._tear_down(collector, self._scope_s + self._here)

    def _tear_down(self, collector: Any, fixtures: list[tuple[Any, Any]]) -> None:
        problems: list[BaseException] = []
        if collector is None or list(self.state.stack)[-1:] != [collector]:
            _try(problems, self._teardown_exact, collector)
        while fixtures:
            definition, request = fixtures.pop()
            # Nothing happens to one that has been torn down with its collector.
            if definition.cached_result is not None:
                _try(problems, definition.finish, request)
        _raise(problems)

    @contextlib.contextmanager
    def pretended(self, item: pytest.Item) -> Iterator[None]:
        """As if the test were being set up: pytest complains of a test that asks for a fixture at any other time."""
        self.state.stack[item] = ([], None)
        try:
            yield
        finally:
            del self.state.stack[item]

    def forget_slot(self) -> None:
        """This process belongs to another slot than the one that has set up the scopes above it."""
        for definition in self._slots_own:
            definition.cached_result = None
            definition._finalizers.clear()

    @pytest.hookimpl(hookwrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any, request: Any) -> Generator[None, None, None]:
        if fixturedef.scope != "function":
            self._here.append((fixturedef, request))
        if fixturedef.argname in _SLOTS_OWN:
            self._slots_own.append(fixturedef)
        yield


class ScopeProcess:
    """A process in which a scope was set up."""

    def __init__(self, runner: TestRunner, scope: Scope) -> None:
        self.runner = runner
        self.session = runner.session
        self.config = runner.session.config
        self.scope = scope
        assert runner.above is not None
        self.above = runner.above

    def run(self, order: wire.Frame) -> NoReturn:
        """Sets up, and then what the engine says. Ends the process."""
        runner = self.runner
        runner.slate.enter(SETUP)
        runner.sets_up_alone = True
        runner.take_resources(order)
        crash.reap_orphans_here()
        began = time.perf_counter()
        first = runner.item_of(order)
        if runner.leaks is not None and wants_leaks(self.config):
            runner.leaks.begin()
        with recorded(first, "setup"):
            call = pytest.CallInfo.from_call(self._set_up, when="setup", reraise=None)
        if call.excinfo is not None:
            self._give_up(first, call)
        fixture, reason = call.result
        streams.flush_all()
        ready = {"t": "ready", "duration": time.perf_counter() - began, "fixture": fixture, "reason": reason}
        if reason:
            runner.send(ready)
            self._go_on_as_worker()
        self._serve(ready)
        self._end(self._receive())

    # ---- setup

    def _set_up(self) -> tuple[str, str]:
        """Returns the fixture after which this process can no longer be forked, and why; two empty texts if there is none."""
        before = forksafe.descriptors()
        try:
            self.above.state.setup(self.scope.collector)
        except FAILURES:
            return "", ""  # It is kept on the stack, and raised again in each test.
        for name, item in self.scope.fixtures:
            try:
                with self.above.pretended(item):
                    item._request.getfixturevalue(name)  # type: ignore[attr-defined]
            except (*FAILURES, SystemExit):
                # pytest keeps it with the fixture, and raises it again in each test that asks for it.
                return "", ""
            reason = forksafe.reason_since(before)
            if reason:
                return shown(name), reason
        return "", ""

    def _give_up(self, first: pytest.Item, call: pytest.CallInfo[Any]) -> NoReturn:
        """It was interrupted: a deadline has passed, or the run ends. What was set up is torn down, within the engine's grace."""
        report = self.config.hook.pytest_runtest_makereport(item=first, call=call)
        self.runner.send({"t": "report", "report": full_report(self.config, report)})
        self.runner.slate.enter(TEARDOWN)
        self.above.keep(self.above.collector)
        with contextlib.suppress(BaseException):
            self._tear_down()
        os._exit(3)

    # ---- the time between

    def _serve(self, ready: wire.Frame) -> None:
        """Forks, until the engine says that nobody needs the scope any more."""
        self.above.keep(self.scope.collector)
        self.runner.sets_up_alone = False
        share_children()
        own = self.runner.leaks
        if own is not None:
            own.keep()
            look_for_leaks(self.runner)
        garbage.freeze()
        self.runner.send({**ready, "resident": resident_bytes()})
        serve_forks(self.runner)
        self.runner.leaks = own

    def _receive(self) -> wire.Frame:
        sock = self.runner.sock
        assert sock is not None
        frame = wire.receive_one(sock)
        if frame is None:
            os._exit(0)
        return frame

    def _go_on_as_worker(self) -> NoReturn:
        """The scope's tests run here, one after the other."""
        runner = self.runner
        runner.slate.enter(IDLE)
        runner.sets_up_alone = False
        Worker(runner).run(self._receive())

    # ---- teardown

    def _tear_down(self) -> None:
        self.above.tear_down_scope(self.scope.parent.collector if self.scope.parent is not None else None)

    def _end(self, frame: wire.Frame) -> NoReturn:
        """`frame` names the test that ended last: what goes wrong now is reported with it, as in pytest."""
        runner = self.runner
        runner.sets_up_alone = True
        end_with(runner, runner.item_of(frame), self._tear_down)


def _try(problems: list[BaseException], do: Callable[[Any], None], what: Any) -> None:
    try:
        do(what)
    except FAILURES as problem:
        problems.append(problem)


def _raise(problems: list[BaseException]) -> None:
    """As pytest: one as it is, several as a group."""
    if len(problems) == 1:
        raise problems[0]
    if problems:
        # Before Python 3.11 pytest itself depends on the package.
        group: Any = getattr(builtins, "BaseExceptionGroup", None) or importlib.import_module("exceptiongroup").BaseExceptionGroup
        raise group("errors in the teardown of a scope", problems)


def end_with(runner: TestRunner, last: pytest.Item, tear_down: Callable[[], None]) -> NoReturn:
    """Tears down, says what came of it, and ends the process."""
    runner.slate.enter(TEARDOWN)
    began = time.perf_counter()
    reports = []
    with recorded(last, "teardown"):
        call = pytest.CallInfo.from_call(tear_down, when="teardown", reraise=None)
    if call.excinfo is not None:
        report = runner.config.hook.pytest_runtest_makereport(item=last, call=call)
        reports.append(full_report(runner.config, report))
    duration = time.perf_counter() - began
    runner.prepare_exit()
    done: wire.Frame = {"t": "done", "verdict": "error" if reports else "passed", "reports": reports, "duration": duration}
    if wants_leaks(runner.config):
        runner.add_leaks(done)
    runner.send(done)
    os._exit(0)


def close_node(runner: TestRunner, order: wire.Frame) -> NoReturn:
    """What iso_scheduling has set up for a node is torn down, since every process that could have done so has died: the fixtures of
    the node that use it begin, find everything set up, and end."""
    runner.sets_up_alone = True
    crash.reap_orphans_here()
    item = runner.item_of(order)
    node = str(order["node"])
    above = Above(runner.session)
    info: Any = item._fixtureinfo  # type: ignore[attr-defined]

    def uses(name: str) -> bool:
        definitions = info.name2fixturedefs.get(name) or ()
        return name == "iso_scheduling" or any(uses(needed) for definition in definitions[-1:] for needed in definition.argnames)

    def begin_and_end() -> None:
        collector = next((c for c in item.listchain() if str(c.nodeid) == node), item.session)
        above.state.setup(collector)
        try:
            for name in info.names_closure:
                definitions = info.name2fixturedefs.get(name)
                if definitions and definitions[-1].scope != "function" and uses(name):
                    with above.pretended(item):
                        item._request.getfixturevalue(name)  # type: ignore[attr-defined]
        finally:
            above.tear_down_scope(None)

    end_with(runner, item, begin_and_end)


def prepare(runner: TestRunner) -> None:
    """In the slot's zygote, so that the processes of scopes need not: every first call in a fork copies pages."""
    runner.above = Above(runner.session)
    runner.config.pluginmanager.register(runner.above, "holdfast-scopes")
    load_forkloop()


@contextlib.contextmanager
def recorded(item: pytest.Item, when: str) -> Iterator[None]:
    """What is printed and logged becomes a section of the test's next report, as pytest's hooks around the phases of a test do it."""
    with contextlib.ExitStack() as stack:
        logging_plugin: Any = item.config.pluginmanager.getplugin("logging-plugin")
        logged = getattr(logging_plugin, "_runtest_for", None)
        if logged is not None:
            _prepare_log(item)
            phase = logged(item, when)
            # A plain generator before pytest 9.
            stack.enter_context(phase if hasattr(phase, "__enter__") else contextlib.contextmanager(lambda: phase)())
        capture: Any = item.config.pluginmanager.getplugin("capturemanager")
        if capture is not None:
            stack.enter_context(capture.item_capture(when, item))
        yield


def _prepare_log(item: pytest.Item) -> None:
    """What pytest's logging plugin does in its pytest_runtest_setup, before the phase."""
    from _pytest import logging as plugin

    key: Any = getattr(plugin, "caplog_records_key", None)
    if key is not None and key not in item.stash:
        item.stash[key] = {}


def become_replica(runner: TestRunner) -> NoReturn:
    """This fork of a scope's process belongs to another slot from now on: its files, its name, its tests."""
    # It outlives the process that it was forked from: tests of its slot run in it.
    crash.live_on()
    crash.reap_orphans_here()
    assert runner.sock is not None
    runner.send({"t": "replica"})
    channel = wire.Channel(runner.sock)
    frame = channel.receive()
    if frame is None:
        os._exit(0)
    files = SlotFiles(channel)
    take_slot(runner.config, runner.info, files, frame)
    runner.slate = files.slate
    look_for_leaks(runner)
    runner.slot = int(frame["slot"])
    if runner.above is not None:
        runner.above.forget_slot()
    garbage.freeze()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    runner.send({"t": "hello", "v": wire.PROTOCOL_VERSION, "pid": os.getpid(), "resident": resident_bytes()})
    serve_forks(runner)
    os._exit(0)
