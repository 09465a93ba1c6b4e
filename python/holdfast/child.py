"""The process of one test: waits for its order, runs setup, call and teardown, says what came of it, and ends.

It never returns into the zygote's frames, and a process that the test itself forks says nothing here.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import socket
import sys
import time
import warnings
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Optional

import pytest

from holdfast import compat, crash, gpu, mpi, streams, wire
from holdfast.options import calls_nothing
from holdfast.relay import full_report, is_plain_pass, plain_attributes, short_report, warning_data
from holdfast.reuse import Worker
from holdfast.slate import CALL, EXIT, SETUP, TEARDOWN, Slate

if TYPE_CHECKING:
    from holdfast.leaks import Leaks
    from holdfast.scope import Above
    from holdfast.scopes import Scope
    from holdfast.zygote import WorkerInfo


def enter_slot(config: pytest.Config, slot: int, base: Optional[str]) -> None:
    """What belongs to the slot and not to the test: its directory below `base`, the run's temporary directory."""
    # Failures are counted by the controller, which also knows those of the other slots, and what a second judgement has made of them.
    config.option.maxfail = 0
    compat.enter_slot(config, slot)
    factory = getattr(config, "_tmp_path_factory", None)
    if base and factory is not None:
        own = Path(base) / f"popen-gw{slot}"
        own.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Not `_given_basetemp`: a given one is emptied by whoever uses it first, which here is every test.
        factory._basetemp = own


class TestRunner:
    """The pytest plugin of a test's process."""

    __test__ = False

    def __init__(
        self, session: pytest.Session, slate: Slate, info: WorkerInfo, scopes: Sequence[Scope] = (), has_ranks: bool = False
    ) -> None:
        self.session = session
        self.info = info
        self.slot = int(session.config.workerinput["workerid"][2:])  # type: ignore[attr-defined]
        self.scopes = scopes
        # Tests with MPI ranks were collected.
        self.has_ranks = has_ranks
        # What the scopes around the test have set up, if there are any.
        self.above: Optional[Above] = None
        # In the process of a scope, and in one that only tears down: no other process sets up the same thing.
        self.sets_up_alone = False
        self.config = session.config
        self.slate = slate
        self.sock: Optional[socket.socket] = None
        self.owner = 0
        # The number of a worker's test: the engine believes only what names it.
        self.test = -1
        # What the engine has said of the resources that the test needs: id -> generation, and value, skip or problem.
        self.resources: dict[str, wire.Frame] = {}
        # The resource that this process makes, if it is that of one.
        self.makes = ""
        # Which rank of its test's MPI program this process is; None for none.
        self.rank: Optional[mpi.Rank] = None
        # Requests of the fixtures that have handed out a resource.
        self._resource_requests: dict[str, Any] = {}
        # Where a tool writes that this process runs under; what is there before the test begins is the interpreter's.
        self.tool_log = -1
        # Looks for what the test leaves; None where nobody wants to know.
        self.leaks: Optional[Leaks] = None
        self._held: list[wire.Frame] = []
        self._keywords_sent = False
        self._escaped = False
        self._outcomes: dict[str, str] = {}
        plain_attributes()

    # ---- the life of the process

    def run_forked(self, fd: int, parent: int) -> NoReturn:
        self.run(socket.socket(fileno=fd), parent)

    def run(self, sock: socket.socket, parent: int) -> NoReturn:
        """Becomes what the engine says: the process of one test, a worker, that of a scope, or a replica. Ends the process."""
        self.owner = os.getpid()
        if not crash.begin_process(parent):
            os._exit(0)
        self.sock = sock
        order, fds = wire.receive_with_fds(sock) if self.has_ranks else (wire.receive_one(sock), [])
        if order is None:
            os._exit(0)
        if "mpi" in order:
            self._enter_world(order, fds)
        if order.get("reuse"):
            Worker(self).run(order)
        if order["t"] != "go":
            self._become(order)
        self.take_resources(order)
        self.run_item(self.item_of(order), str(order["id"]), order.get("look", True))

    def _enter_world(self, order: wire.Frame, fds: list[int]) -> None:
        """As a rank of MPI; where the test is a program, that is one."""
        item = self.item_of(order)
        self.rank = mpi.enter(order["mpi"], fds, getattr(item, "holdfast_mpi_library", ""))
        if not getattr(item, "holdfast_is_program", False):
            self.config.pluginmanager.register(Initialiser(self, self.rank), "holdfast-rank")

    def _become(self, order: wire.Frame) -> NoReturn:
        from holdfast.scope import ScopeProcess, become_replica, close_node

        if order["t"] == "replica":
            become_replica(self)
        if order["t"] == "close":
            close_node(self, order)
        if order["t"] == "resource":
            self.keep(self.item_of(order), order)
        ScopeProcess(self, self.scopes[int(order["scope"])]).run(order)

    def keep(self, item: pytest.Item, order: wire.Frame) -> NoReturn:
        """This is the process of a resource; `item` is a test that can see its fixture."""
        from holdfast.keeper import Keeper

        self.take_resources(order)
        Keeper(self, item, order).run()

    def take_resources(self, order: wire.Frame) -> None:
        if "gpus" in order and self.leaks is not None:
            self.leaks.allow(lambda: gpu.enter(order))
        elif "gpus" in order:
            gpu.enter(order)
        elif not order.get("reuse"):
            gpu.leave()
        self._take_values(order)

    def _take_values(self, order: wire.Frame) -> None:
        """What the engine gives to the test, or to the scope. A fixture that still has the value of one that is no more is torn down,
        with all that was built on it."""
        for name, entry in (order.get("resources") or {}).items():
            known = self.resources.get(name)
            request = self._resource_requests.pop(name, None)
            if request is not None and known is not None and known["generation"] != entry["generation"]:
                try:
                    request._fixturedef.finish(request)
                except (Exception, pytest.fail.Exception, pytest.skip.Exception):
                    pass  # It is to be expected of what was built on something that has died.
            elif request is not None:
                self._resource_requests[name] = request
            self.resources[name] = entry

    def note_resource(self, name: str, request: Any) -> None:
        self._resource_requests[name] = request

    def item_of(self, order: wire.Frame) -> pytest.Item:
        return self.session.items[int(order["test"])]

    def run_item(self, item: pytest.Item, expected_id: str, look: bool = True) -> NoReturn:
        """Runs a test and ends the process. Without `look` what it leaves is wanted."""
        if not look:
            self.leaks = None
        if self.leaks is not None:
            self.leaks.begin()
        start = os.fstat(self.tool_log).st_size if self.tool_log >= 0 else 0
        done = self.run_protocol(item, expected_id)
        if self.tool_log >= 0:
            done["tool_log"] = [start, os.fstat(self.tool_log).st_size]
        self.prepare_exit()
        self.add_leaks(done)
        self.report_done(done)
        if self.rank is not None and self.ended_well():
            self.rank.finalise()
            streams.flush_all()
        os._exit(0)

    def prepare_exit(self) -> None:
        """What an interpreter does at its end, and os._exit does not."""
        self.slate.enter(EXIT)
        run_exit_functions()
        streams.flush_all()
        compat.end_of_process(self.config)

    def add_leaks(self, done: wire.Frame) -> None:
        found = self.leaks.end() if self.leaks is not None else []
        if found:
            done["leaks"] = found

    def report_done(self, done: wire.Frame) -> None:
        done["verdict"] = self._verdict()
        self._held += compat.end_of_test(self.config)
        held, self._held = self._held, []
        data = wire.encode({**done, "reports": held})
        if len(data) > wire.TEST_FRAME_LIMIT:
            # Many reports of many words (subtests): one by one they are within the limit.
            self._held = held
            self._send_held()
            data = wire.encode(done)
        self.send_bytes(data)

    def run_protocol(self, item: pytest.Item, expected_id: str) -> wire.Frame:
        """Setup, call and teardown. Returns the frame that says so, without the verdict."""
        done: wire.Frame = {"t": "done", "test": self.test}
        if item.nodeid != expected_id:
            self.send({**done, "verdict": "error", "reason": f"collected {item.nodeid}, asked for {expected_id}"})
            os._exit(3)
        try:
            if self._ran_quickly(item):
                _add_program(done, item)
                return done
            self.slate.enter(SETUP)
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
        except pytest.exit.Exception as request:
            done["exit"] = {"reason": str(request.msg), "code": request.returncode}
        except BaseException as problem:
            self._leave_if_not_owner()
            self._report_escape(item, problem)
            self._escaped = True
        self._leave_if_not_owner()
        _add_program(done, item)
        if self.session.shouldstop or self.session.shouldfail:
            done["stop"] = str(self.session.shouldstop or self.session.shouldfail)
        return done

    def _ran_quickly(self, item: pytest.Item) -> bool:
        """A program that has passed needs none of pytest's protocol (targets/item.py)."""
        run: Any = getattr(item, "holdfast_run", None)
        if run is None:
            return False
        self.slate.enter(CALL)
        start, begun = time.time(), time.perf_counter()
        if not run():
            return False
        shared: Any = getattr(item, "holdfast_seconds", None)
        duration = time.perf_counter() - begun if shared is None else float(shared)
        end = start + duration
        for when, took, begin, stop in (("setup", 0.0, start, start), ("call", duration, start, end), ("teardown", 0.0, end, end)):
            self._held.append({"when": when, "duration": took, "start": begin, "stop": stop})
        self._held[0]["keywords"] = [str(keyword) for keyword in item.keywords]
        self._outcomes = {"setup": "passed", "call": "passed", "teardown": "passed"}
        return True

    def hear(self, *kinds: str) -> wire.Frame:
        """What the engine says next, which is one of these. Ends the process if it is not: the engine has gone, or a test has asked it
        something in this process's name, and from then on every answer would be taken for that to another question."""
        assert self.sock is not None
        try:
            frame = wire.receive_one(self.sock)
        except wire.WireError as problem:  # Two answers at once.
            self._end_out_of_step(str(problem))
        if frame is None:
            os._exit(0)
        if frame.get("t") not in kinds:
            self._end_out_of_step(f"`{frame.get('t')}` came, not {' or '.join(kinds)}")
        return frame

    def _end_out_of_step(self, why: str) -> NoReturn:
        os.write(2, f"holdfast: this worker is out of step with the engine ({why}): has a test written to its socket?\n".encode())
        os._exit(3)

    def forget_test(self) -> None:
        """A worker begins another test."""
        self._held.clear()
        self._outcomes.clear()
        self._keywords_sent = False
        self._escaped = False

    def _leave_if_not_owner(self) -> None:
        """A child that the test forked, and that walked back out of the test into the runner, ends here, unheard."""
        if os.getpid() != self.owner:
            os._exit(0)

    def _report_escape(self, item: pytest.Item, problem: BaseException) -> None:
        """An exception that left the protocol itself: a plugin's hook raised. In plain pytest that is an internal error of the whole
        run; here it is the test's."""
        info = pytest.ExceptionInfo.from_exception(problem)
        report = pytest.TestReport(
            nodeid=item.nodeid,
            location=item.location,
            keywords={},
            outcome="failed",
            longrepr="a hook raised outside of the test:\n" + str(info.getrepr(style="short")),
            when="teardown" if "setup" in self._outcomes else "setup",
        )
        self.pytest_runtest_logreport(report)

    # ---- hooks

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_call(self) -> None:
        self.slate.enter(CALL)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_teardown(self) -> None:
        self._leave_if_not_owner()
        self.slate.enter(TEARDOWN)

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: Any) -> None:
        self._leave_if_not_owner()
        if failed_subtests(self.config):
            # pytest turns the report of a test with failed subtests into a failure while the terminal reporter asks for its letter.
            self.config.hook.pytest_report_teststatus(report=report, config=self.config)
        self._note_outcome(report)
        if is_plain_pass(report):
            keywords = None if self._keywords_sent else [str(k) for k in report.keywords]
            self._keywords_sent = True
            self._held.append(short_report(report, keywords))
            return
        self._held.append(full_report(self.config, report))
        # At once: what it says must not be lost if a later phase dies.
        self._send_held()

    @pytest.hookimpl
    def pytest_warning_recorded(self, warning_message: warnings.WarningMessage, when: str, nodeid: str, location: Any) -> None:
        if os.getpid() == self.owner:
            data = warning_data(warning_message, when, nodeid, location)
            self._held.append({"warning": data})

    @pytest.hookimpl
    def pytest_internalerror(self, excrepr: object) -> None:
        self._held.append({"internal": str(excrepr)})
        self._send_held()

    # ---- what came of it

    def _note_outcome(self, report: Any) -> None:
        when = str(getattr(report, "when", "call"))
        outcome = report.outcome
        if hasattr(report, "wasxfail"):
            outcome = {"skipped": "xfailed", "passed": "xpassed"}.get(outcome, outcome)
        if self._outcomes.get(when) == "failed":
            return  # A later report of the same phase (a subtest, a rerun's successor) does not undo a failure.
        if outcome == "rerun":
            return
        self._outcomes[when] = outcome

    def ended_well(self) -> bool:
        return self._verdict() in ("passed", "skipped", "xfailed", "xpassed")

    def _verdict(self) -> str:
        if self._escaped:
            return "error"
        setup, call, teardown = (self._outcomes.get(when, "") for when in ("setup", "call", "teardown"))
        if setup == "failed":
            return "error"
        if setup in ("skipped", "xfailed"):
            return "error" if teardown == "failed" else setup
        if call == "failed":
            return "failed"
        if teardown == "failed":
            return "error"
        if not call and calls_nothing(self.config):
            return "skipped"  # Only fixtures were wanted; the test was not called.
        return call or "error"

    def _send_held(self) -> None:
        held, self._held = self._held, []
        if self.sock is not None and held:
            self.send_bytes(b"".join(wire.encode({"t": "report", "report": report}) for report in held))

    def send(self, frame: wire.Frame) -> None:
        self.send_bytes(wire.encode(frame))

    def send_bytes(self, data: bytes) -> None:
        assert self.sock is not None
        try:
            self.sock.sendall(data)
        except OSError:
            # The test has closed the socket, or the engine has gone. The engine sees a process that ended without a word.
            os._exit(3)


class Initialiser:
    """Initialises MPI as the first part of the test's setup. A plugin of a rank's process alone: other tests have no such hook."""

    def __init__(self, runner: TestRunner, rank: mpi.Rank) -> None:
        self.runner = runner
        self.rank = rank

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self) -> None:
        leaks = self.runner.leaks
        with leaks.not_counting() if leaks is not None else contextlib.nullcontext():
            self.rank.initialise()


def _add_program(done: wire.Frame, item: pytest.Item) -> None:
    """Of a test that is one, how that has ended, which may have run other tests as well (targets/batch.py)."""
    if (program := getattr(item, "holdfast_program", None)) is not None:
        done["program"] = program
    if getattr(item, "holdfast_interrupted", False):
        done["interrupted"] = True
    if getattr(item, "holdfast_batched", False):
        done["batched"] = True
    if (seconds := getattr(item, "holdfast_seconds", None)) is not None:
        done["seconds"] = seconds
    if getattr(item, "holdfast_apart", False):
        done["apart"] = True


def failed_subtests(config: pytest.Config) -> bool:
    """Whether a test of this process had one (pytest 9 and later)."""
    module = sys.modules.get("_pytest.subtests")
    key = getattr(module, "failed_subtests_key", None)
    return key is not None and bool(config.stash.get(key, None))


def clear_exit_functions() -> None:
    """What modules registered while they were collected belongs to the root zygote, which goes on when a test ends."""
    atexit._clear()


# Objects of weakref.finalize that were there before the fork.
_inherited_finalizers: frozenset[Any] = frozenset()


def keep_finalizers() -> None:
    """What modules have to clean up at the end (a temporary directory made while they were imported) belongs to the root zygote."""
    global _inherited_finalizers
    _inherited_finalizers = frozenset(weakref.finalize._registry)  # type: ignore[attr-defined]


def _run_finalizers(finalizers: Sequence[Any]) -> None:
    for finalizer in finalizers:
        try:
            finalizer()
        except Exception:
            pass


def run_exit_functions() -> None:
    """What the test registered itself, and what multiprocessing has to clean up, as at the end of an interpreter."""
    registry = weakref.finalize._registry  # type: ignore[attr-defined]
    if not registry.keys() <= _inherited_finalizers:
        _run_finalizers([f for f in registry if f not in _inherited_finalizers and f.atexit])
    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        try:
            util._run_finalizers()
        except Exception:
            pass
    atexit._run_exitfuncs()
