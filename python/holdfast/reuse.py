"""A worker: a process that runs many tests (isolation `worker`).

Before a test's teardown it asks the engine which test comes next, as pytest's runner wants to know it: fixtures that the two share
stay, all others are torn down now, as part of the test that used them last. So nothing is held back and nothing is set up twice.
"""

from __future__ import annotations

import os
import resource
import sys
from collections import deque
from typing import TYPE_CHECKING, Any, NoReturn, Optional

import pytest

from holdfast import gpu, streams, wire
from holdfast.compat import cov
from holdfast.leaks import Leaks, watched
from holdfast.marks import wishes_of
from holdfast.options import isolation_of
from holdfast.slate import IDLE, TEARDOWN

if TYPE_CHECKING:
    from holdfast.child import TestRunner


class Worker:
    def __init__(self, runner: TestRunner) -> None:
        self.runner = runner
        self._asked = False
        self._next: Optional[wire.Frame] = None
        # Known already, since they are quickly over; they follow the next one without a question.
        self._coming: deque[wire.Frame] = deque()

    def run(self, order: wire.Frame) -> NoReturn:
        """The test of `order`, and then what the engine says, until it says `end`. Ends the process."""
        _ask_before_teardown(self)
        runner = self.runner
        _look_for_leaks(runner, runner.item_of(order))
        going = order
        while going["t"] == "go":
            self._asked = False
            self._next = None
            runner.forget_test()
            runner.take_resources(going)
            runner.test = int(going["test"])
            item = runner.item_of(going)
            if (follow := getattr(item, "holdfast_follow", None)) is not None:
                follow(map(runner.item_of, self._coming))
            began = _cpu()
            if runner.rank is not None:
                runner.rank.begin(going["mpi"])
            with watched(runner.leaks, item, going.get("look", True)) as found:
                done = runner.run_protocol(item, str(going["id"]))
            if not self._asked:
                self.next_item()  # It has run without pytest's protocol, which asks before its teardown.
            done["usage"] = {name: after - before for name, before, after in zip(("user", "system"), began, _cpu())}
            if found:
                done["leaks"] = found
            if runner.leaks is not None and runner.leaks.shared:
                done["shared"] = True
            if "gpus" in going and gpu.is_poisoned():
                done["poisoned"] = True
            # A phase that is over must not be taken for one of the next test.
            runner.slate.enter(IDLE)
            if runner.rank is not None:
                self._settle(done)
            else:
                runner.report_done(done)
            cov.save_now_and_then(runner.config)
            following = self._next
            if done.get("poisoned") or done.get("apart"):
                self._end_early()
            went_on = following is not None and following.get("go")
            going = {**(following or {}), "t": "go"} if went_on else runner.hear("go", "end")
        runner.slate.enter(TEARDOWN)
        state: Any = runner.session._setupstate
        if getattr(state, "stack", None):
            # The run was stopped, after it had been said that another test would follow.
            state.teardown_exact(None)
        runner.prepare_exit()
        if runner.rank is not None:
            runner.rank.finalise()
            streams.flush_all()
        os._exit(0)

    def _settle(self, done: wire.Frame) -> None:
        """Of a rank that is kept: its verdict first, since the others may never come to what follows; then, if it has ended well, what
        the test has left in MPI, when all have ended it."""
        runner, rank = self.runner, self.runner.rank
        assert rank is not None
        # Only then will the ranks be used again.
        done["unsettled"] = runner.ended_well()
        runner.report_done(done)
        if done["unsettled"]:
            left, good = rank.settle()
            leaks = [{"kind": "mpi", "text": text} for text in left]
            runner.send({"t": "settled", "test": runner.test, "spent": not good, "leaks": leaks})

    def _end_early(self) -> NoReturn:
        """Nothing more runs here. What was set up for several tests is torn down as far as it can be, after a device has been lost."""
        self._coming.clear()
        while self.runner.hear("go", "end")["t"] != "end":
            pass
        self.runner.slate.enter(TEARDOWN)
        try:
            state: Any = self.runner.session._setupstate
            state.teardown_exact(None)
        except BaseException as problem:
            print(f"holdfast: teardown after the GPU's context was lost: {problem!r}", file=sys.stderr)
        self.runner.prepare_exit()
        os._exit(0)

    def next_item(self) -> Optional[pytest.Item]:
        """Asks once a test, also where a plugin runs it several times."""
        if self.runner.rank is not None:
            return None  # All ranks would have to know the same.
        if not self._asked:
            self._asked = True
            self._next = self._coming.popleft() if self._coming else self._ask()
        return self.runner.item_of(self._next) if self._next is not None else None

    def _ask(self) -> Optional[wire.Frame]:
        self.runner.send({"t": "ask", "test": self.runner.test})
        answer = self.runner.hear("next")
        if "test" not in answer:
            return None
        self._coming.extend({**frame, "go": True} for frame in answer.get("then", ()))
        return answer

    def is_owner(self) -> bool:
        return os.getpid() == self.runner.owner


def _cpu() -> tuple[float, float]:
    """Seconds of user and of system time, of this process and of those that it has waited for."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + children.ru_utime, own.ru_stime + children.ru_stime


def _look_for_leaks(runner: TestRunner, first: pytest.Item) -> None:
    """Between the tests of a process. Where they share it because they belong together (isolation `module` and `class`) they may well
    leave something to each other."""
    config = runner.config
    if runner.leaks is None or "scope" in wishes_of(first, isolation_of(config)):
        runner.leaks = None
        return
    runner.leaks = Leaks(runner.slate, goes_on=True)
    config.pluginmanager.register(runner.leaks, "holdfast-leaks")


def _ask_before_teardown(worker: Worker) -> None:
    """pytest hands `nextitem` down from the start of a test; here it becomes known when it is needed, which is at the teardown."""
    from _pytest import runner

    original: Any = runner.call_and_report

    def call_and_report(item: pytest.Item, when: Any, log: bool = True, **given: Any) -> Any:
        if when == "teardown" and "nextitem" in given and worker.is_owner():
            given["nextitem"] = worker.next_item()
        return original(item, when, log, **given)

    runner.call_and_report = call_and_report
