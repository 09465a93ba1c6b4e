"""The process of a resource: makes it, answers whether it still works, and tears it down.

It is the one process of a run that outlives the engine for a moment: where that is gone, it tears down by itself.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING, Any, NoReturn, Optional

import pytest

from holdfast import crash, streams, wire
from holdfast.procs import children_of, is_running, kill_descendants
from holdfast.relay import full_report
from holdfast.resources import declaration_of, id_of
from holdfast.scope import FAILURES, Above, end_with, prepare, recorded
from holdfast.slate import IDLE, SETUP

if TYPE_CHECKING:
    from holdfast.child import TestRunner

# Seconds for a teardown that nobody watches any more, since the engine has died.
_ALONE = 20
# Characters of what a failed setup has to say.
_WORDS = 20000


class Keeper:
    def __init__(self, runner: TestRunner, item: pytest.Item, order: wire.Frame) -> None:
        self.runner = runner
        self.item = item
        self.id = str(order["resource"])
        self.name = str(order["name"])
        if runner.above is None:
            prepare(runner)
        assert runner.above is not None
        self.above: Above = runner.above
        assert runner.sock is not None
        # `down` and `last` come together.
        self._channel = wire.Channel(runner.sock)
        self.value: Any = None
        # What the resource had started when it was ready.
        self._children: list[int] = []

    def run(self) -> NoReturn:
        """Ends the process."""
        runner = self.runner
        runner.makes = self.id
        runner.sets_up_alone = True
        crash.reap_orphans_here()
        runner.slate.enter(SETUP)
        began = time.perf_counter()
        with recorded(self.item, "setup"):
            call = pytest.CallInfo.from_call(self._make, when="setup", reraise=None)
        made = self._outcome(call)
        self._children = children_of(os.getpid())
        runner.slate.enter(IDLE)
        streams.flush_all()
        # The engine speaks of Ctrl-C itself.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        runner.send({"t": "ready", "duration": time.perf_counter() - began, **made})
        while True:
            self._obey(self._receive())

    def _make(self) -> None:
        request: Any = self.item._request  # type: ignore[attr-defined]
        definitions = self._definitions()
        definition = definitions[-1]
        # The test may mean another fixture by that name, which overrides this one.
        request._arg2fixturedefs[self.name] = definitions
        collector = self.item.session if definition.scope == "session" else self.item.getparent(pytest.Module)
        self.above.state.setup(collector)
        with self.above.pretended(self.item):
            self.value = request.getfixturevalue(self.name)

    def _definitions(self) -> list[Any]:
        """Of the fixtures of this name, that of the resource and those that it may override."""
        manager: Any = self.item.session._fixturemanager
        seen = list(manager.getfixturedefs(self.name, self.item))
        return next(seen[: i + 1] for i, definition in enumerate(seen) if id_of(definition, self.item) == self.id)

    def _outcome(self, call: pytest.CallInfo[Any]) -> wire.Frame:
        """What the users are told."""
        if call.excinfo is None:
            return {"value": self.value}
        problem = call.excinfo.value
        if isinstance(problem, pytest.skip.Exception):
            return {"skip": str(problem)}
        if not isinstance(problem, (*FAILURES, SystemExit)):
            self._give_up(call)
        report = self.runner.config.hook.pytest_runtest_makereport(item=self.item, call=call)
        said = str(report.longrepr)
        words = said if len(said) <= _WORDS else "..." + said[-_WORDS:]
        return {"problem": f"resource {self.id} could not be made:\n{words}"}

    def _give_up(self, call: pytest.CallInfo[Any]) -> NoReturn:
        """It was interrupted: a deadline has passed, or the run ends."""
        report = self.runner.config.hook.pytest_runtest_makereport(item=self.item, call=call)
        self.runner.send({"t": "report", "report": full_report(self.runner.config, report)})
        with contextlib.suppress(BaseException):
            self._tear_down()
        os._exit(3)

    # ---- between uses

    def _receive(self) -> wire.Frame:
        frame = self._channel.receive()
        if frame is None:
            self._tear_down_alone()
        return frame

    def _obey(self, order: wire.Frame) -> None:
        if order["t"] == "check":
            problem = self._problem()
            streams.flush_all()
            self.runner.send({"t": "checked", "problem": problem})
        elif order["t"] == "last":
            signal.signal(signal.SIGINT, signal.default_int_handler)
            end_with(self.runner, self.item, self._tear_down)

    def _problem(self) -> str:
        """Why it no longer works, as a part of a line; empty if it does."""
        check = _check_of(self._definitions()[-1])
        if check is None:
            dead = [pid for pid in self._children if not is_running(pid)]
            return f"process {dead[0]}, which it had started, has ended" if dead else ""
        try:
            answer = check(self.value)
        except (*FAILURES, SystemExit) as problem:
            return f"its check raised {type(problem).__name__}: {' '.join(str(problem).split())[:300]}"
        return "its check says that it does not work" if answer is False else ""

    # ---- teardown

    def _tear_down(self) -> None:
        self.above.tear_down_scope(None)

    def _tear_down_alone(self) -> NoReturn:
        """The engine has gone."""
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(_ALONE)
        with contextlib.suppress(BaseException):
            self._tear_down()
        kill_descendants(os.getpid())
        os._exit(0)


def _check_of(definition: Any) -> Optional[Any]:
    declaration = declaration_of(definition)
    return declaration.check if declaration is not None else None
