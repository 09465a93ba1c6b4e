"""Faults of tests: those that a test declares, and those of `--hf-chaos`. A pytest plugin of the process that runs the test."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any, Optional

import pytest

from holdfast.faulted import PROPERTY
from holdfast.faults import pages, preload
from holdfast.faults.chaos import Chaos
from holdfast.faults.errors import BadFault, FaultNotSeen
from holdfast.faults.fault import Fault
from holdfast.faults.kinds import of
from holdfast.faults.lab import Armed, Lab, lab, new_page
from holdfast.faults.page import VARIABLE


def declared(item: pytest.Item) -> list[Fault]:
    """Of the closest mark that has any. Raises BadFault."""
    mark = next((mark for mark in item.iter_markers("holdfast") if mark.kwargs.get("faults") is not None), None)
    if mark is None:
        return []
    given = mark.kwargs["faults"]
    found = [of(one) for one in (given if isinstance(given, (list, tuple)) else [given])]
    for fault in found:
        fault.check()
    return found


class FaultsOfTests:
    """Arms before the call, heals after it, and fails a test whose fault nothing has met."""

    def __init__(self, chaos: Optional[Chaos]) -> None:
        self.chaos = chaos
        self.lab: Optional[Lab] = None
        self._armed: list[Armed] = []
        self._problem = ""

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, Any, None]:
        self._armed, self._problem, self.lab = [], "", None
        wanted = declared(item) + (self.chaos.faults_for(item.nodeid) if self.chaos is not None else [])
        if not wanted:
            yield
            return
        if not preload.is_loaded():
            self._problem = f"its faults need the shim in this process: {preload.ADVICE}"
            yield
            return
        with page_for(item) as self.lab:
            self._armed = [self.lab.prepare(fault) for fault in wanted]
            yield

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self) -> None:
        if self._problem:
            pytest.fail(self._problem, pytrace=False)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_call(self) -> None:
        for armed in self._armed:
            armed.on()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> None:
        for armed in self._armed:
            armed.heal()
            evidence = armed.evidence()
            if evidence.struck or armed.fault.required:
                item.user_properties.append((PROPERTY, pages.line(armed.fault.title(), evidence)))

    def verify(self) -> None:
        """After a call that has passed."""
        problems = []
        for armed in self._armed:
            armed.heal()
            try:
                armed.verify()
            except FaultNotSeen as problem:
                problems += [str(problem)] if armed.fault.required else []
        if problems:
            pytest.fail("\n".join(problems), pytrace=False)


class FaultsWereSeen:
    """Comes after pytest's own call of the test, and only if that has not raised."""

    def __init__(self, faults: FaultsOfTests) -> None:
        self.faults = faults

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_call(self) -> None:
        self.faults.verify()


@contextlib.contextmanager
def page_for(item: pytest.Item) -> Generator[Lab, None, None]:
    """A new page, which this process (if it can) and its children look at from now on."""
    before = os.environ.get(VARIABLE)
    path = pages.path_for(item.nodeid)
    with lab() if path is None else _kept(path) as made:
        if preload.is_loaded():
            preload.attach(str(made.page.path))
        os.environ[VARIABLE] = str(made.page.path)
        try:
            yield made
        finally:
            if before is None:
                os.environ.pop(VARIABLE, None)
            else:
                os.environ[VARIABLE] = before


@contextlib.contextmanager
def _kept(path: Path) -> Generator[Lab, None, None]:
    """A page in the run's folder: if this process dies, the controller reads it."""
    path.unlink(missing_ok=True)  # Of an attempt that has died.
    with new_page(path) as made:
        yield made


def register(config: pytest.Config, chaos: Optional[Chaos]) -> None:
    """Where nothing is to break, nothing is added to the hooks."""
    faults = FaultsOfTests(chaos)
    config.pluginmanager.register(faults, "holdfast-faults")
    config.pluginmanager.register(FaultsWereSeen(faults), "holdfast-faults-seen")


def check(item: pytest.Item) -> None:
    """Raises pytest.UsageError that names the test."""
    try:
        declared(item)
    except BadFault as problem:
        raise pytest.UsageError(f"{item.nodeid}: the holdfast mark has faults that cannot be: {problem}") from None


@contextlib.contextmanager
def lab_for(item: pytest.Item) -> Generator[Lab, None, None]:
    """The test's page, if it declares faults; else one for it."""
    plugin: Any = item.config.pluginmanager.get_plugin("holdfast-faults")
    if plugin is not None and plugin.lab is not None:
        yield plugin.lab
    else:
        with page_for(item) as made:
            yield made
