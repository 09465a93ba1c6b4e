"""The pytest plugin of the root zygote: tells the engine of the collection, then serves it.

It relates to the controller as an xdist worker does: `config.workerinput` is set, no terminal, no cache written.
"""

from __future__ import annotations

import warnings
from collections.abc import Generator, Sequence
from typing import Any, Optional

import pytest

from holdfast import compat, crash, forksafe, garbage, mpi, options, wire
from holdfast.compat import randomly
from holdfast.compat.loaded import is_loaded
from holdfast.relay import collect_report_data, warning_data
from holdfast.scopes import Scope
from holdfast.slate import Slate
from holdfast.terminal import WorkerTerminal
from holdfast.zygote import WorkerInfo

_CHUNK = 500


def prepare_config(args: Sequence[str], plugins: Optional[Sequence[Any]], info: WorkerInfo) -> pytest.Config:
    """A worker's configuration from the controller's arguments. Raises pytest.UsageError as pytest does."""
    from _pytest.config import _prepareconfig

    from holdfast import plugin

    plugin.configuring_zygote = True
    try:
        config = _prepareconfig(list(args), list(plugins) if plugins else None)
    finally:
        plugin.configuring_zygote = False
    # The controller has the terminal. (Not `-p no:terminal`: then its options would be unknown.)
    config.pluginmanager.unregister(name="terminal")
    config.pluginmanager.register(WorkerTerminal(config), "terminalreporter")
    config.workerinput = info.workerinput(0)  # type: ignore[attr-defined]
    compat.prepare_worker(config, config.workerinput)  # type: ignore[attr-defined]
    config.workeroutput = {}  # type: ignore[attr-defined]
    _report_interrupts_as_failures()
    return config


def _report_interrupts_as_failures() -> None:
    """A KeyboardInterrupt inside a test is that test's failure: SIGINT comes from the engine (a deadline) or from the test.

    pytest would let it through its protocol, and with it skip the teardown. Every version asks CallInfo.from_call for that.
    """
    from _pytest.runner import CallInfo

    original: Any = CallInfo.from_call
    if getattr(original, "holdfast", False):
        return

    def from_call(func: Any, when: str, reraise: Any = None) -> Any:
        if when != "collect" and reraise is not None:
            kinds = reraise if isinstance(reraise, tuple) else (reraise,)
            reraise = tuple([kind for kind in kinds if kind is not KeyboardInterrupt])
        return original(func, when, reraise)

    from_call.holdfast = True  # type: ignore[attr-defined]
    CallInfo.from_call = staticmethod(from_call)  # type: ignore[method-assign]


class RootWorker:
    """Collects in this process, then forks. Lives in the root zygote; its forks replace it by their own plugin."""

    def __init__(
        self,
        config: pytest.Config,
        channel: wire.Channel,
        info: WorkerInfo,
        skip: Sequence[str],
        stacks_fd: int,
        slate: Slate,
    ) -> None:
        self.config = config
        self.channel = channel
        self.info = info
        self.skip = frozenset(skip)
        self.stacks_fd = stacks_fd
        self.slate = slate
        self.exit_status: Optional[int] = None
        # Tests that will be forked, each from a slot's zygote.
        self.forks = 0
        # What is set up once for many of them.
        self.scopes: list[Scope] = []
        # Whether there are tests with MPI ranks.
        self.has_ranks = False
        # Tests that have been collected so far.
        self.found = 0

    # ---- before the collection

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self) -> None:
        # After pytest's own faulthandler plugin, which would send the stacks to the captured stderr.
        crash.arm(self.stacks_fd, self.slate)
        crash.own()
        compat.configured(self.config)

    @pytest.hookimpl
    def pytest_internalerror(self, excrepr: object) -> None:
        self.channel.send({"t": "internal", "text": str(excrepr)})

    # ---- the collection

    @pytest.hookimpl(tryfirst=True)
    def pytest_make_collect_report(self, collector: pytest.Collector) -> Optional[pytest.CollectReport]:
        if collector.nodeid in self.skip:
            # It killed the zygote before this one; its verdict is the engine's to give.
            return pytest.CollectReport(collector.nodeid, "passed", None, [])
        return None

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_collectstart(self, collector: pytest.Collector) -> Generator[None, None, None]:
        if _may_import(collector):
            self.channel.send({"t": "collecting", "id": collector.nodeid})
        yield

    @pytest.hookimpl(tryfirst=True)
    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self.found += sum(isinstance(node, pytest.Item) for node in report.result or ())
        garbage.begin_growth(self.found)
        self.channel.send({"t": "collected", "id": report.nodeid})
        self.channel.send({"t": "collectreport", **collect_report_data(self.config, report)})

    @pytest.hookimpl
    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        self.channel.send({"t": "deselected", "count": len(items)})

    def selected_again(self, count: int) -> None:
        """Of those that were deselected, so many run after all."""
        self.channel.send({"t": "deselected", "count": -count})

    @pytest.hookimpl
    def pytest_warning_recorded(self, warning_message: warnings.WarningMessage, when: str, nodeid: str, location: Any) -> None:
        self.channel.send({"t": "warning", **warning_data(warning_message, when, nodeid, location)})

    # ---- the run

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        from holdfast.items import describe_items, place_in_scopes
        from holdfast.needs import add_needs
        from holdfast.serve import serve_root

        garbage.end_growth()
        mpi.end_hold()
        with_chain = bool(self.config.getoption("collectonly"))
        descriptions = describe_items(session.items, with_chain, options.isolation_of(self.config))
        wrap = options.wrap_of(self.config)
        if wrap is not None:
            _each_by_itself(descriptions, wrap.scale)
        self.scopes = place_in_scopes(session.items, descriptions)
        resources, scopes = add_needs(session.items, descriptions, self.scopes)
        for kind, frames in (("resources", resources), ("scopes", scopes)):
            for start in range(0, len(frames), _CHUNK):
                self.channel.send({"t": kind, kind: frames[start : start + _CHUNK]})
        self.forks = sum(not entry.get("reuse") for entry in descriptions)
        for start in range(0, len(descriptions), _CHUNK):
            self.channel.send({"t": "items", "items": descriptions[start : start + _CHUNK]})
        self.has_ranks = any("ranks" in entry.get("demand", ()) for entry in descriptions)
        mpi_ready = self._prepare_mpi(session.items, descriptions) if self.has_ranks else {}
        reason = f"each runs under {wrap.name}" if wrap is not None else forksafe.reason_against()
        self.channel.send(
            {
                "t": "ready",
                "count": len(session.items),
                "lines": self._finish_lines(session),
                "forkable": not reason,
                "reason": reason,
                "mpi": mpi_ready,
                "keep_order": order_is_wanted(self.config),
                "go": self._nothing_is_against_running(session),
                "stop": str(session.shouldstop or session.shouldfail or ""),
            }
        )
        self.exit_status = serve_root(self, session)
        return True

    def _prepare_mpi(self, items: Sequence[pytest.Item], descriptions: Sequence[wire.Frame]) -> wire.Frame:
        """MPI is loaded here for tests of Python; programs have their own."""
        wanted, words = options.mpi_of(self.config)
        with_ranks = [item for item, entry in zip(items, descriptions) if "ranks" in entry.get("demand", ())]
        programs = [item for item in with_ranks if getattr(item, "holdfast_is_program", False)]
        if len(programs) < len(with_ranks):
            return mpi.prepare(wanted, words)
        return mpi.joined(wanted, words, programs[0].holdfast_mpi_library, programs[0].holdfast_mpi_path)  # type: ignore[attr-defined]

    def _nothing_is_against_running(self, session: pytest.Session) -> bool:
        """False where the controller will not run the tests, or wants to be asked."""
        option = self.config.option
        wrong = session.testsfailed and not option.continue_on_collection_errors
        return not (wrong or option.collectonly or session.shouldstop or session.shouldfail)

    def _finish_lines(self, session: pytest.Session) -> list[str]:
        """What pytest_report_collectionfinish hooks say; here, where the items are."""
        lines: list[str] = []
        for answer in reversed(
            self.config.hook.pytest_report_collectionfinish(
                config=self.config, start_path=self.config.invocation_params.dir, items=session.items
            )
        ):
            lines.extend([answer] if isinstance(answer, str) else answer)
        return [str(line) for line in lines]

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.exit_status is not None:
            session.exitstatus = self.exit_status


def _each_by_itself(descriptions: list[wire.Frame], scale: float) -> None:
    """A tool watches one process, and its findings are one test's."""
    for entry in descriptions:
        entry.pop("reuse", None)
        entry.pop("scope", None)
        entry.get("demand", {}).pop("pool", None)
        if "timeout" in entry:
            entry["timeout"] *= scale


def order_is_wanted(config: pytest.Config) -> bool:
    """Whether the order of the tests is somebody's wish, so that the longest do not go first."""
    if any(config.getoption(name, False) for name in ("failedfirst", "newfirst", "stepwise")):
        return True
    return is_loaded(config, *randomly.NAMES, "random_order", "random-order", "pytest_order", "ordering")


def _may_import(collector: pytest.Collector) -> bool:
    """Collectors whose collection runs code of the suite: files, packages, directories (their conftest)."""
    return isinstance(collector, (pytest.File, pytest.Session)) or type(collector).__name__ in ("Dir", "Package", "Directory")
