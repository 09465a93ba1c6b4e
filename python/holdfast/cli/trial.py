"""A pytest plugin for `holdfast pollution`: runs the tests of HOLDFAST_ORDER, in that order, and records how the last one ends."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_bad: set[str] = set()


def _record(text: str) -> None:
    with open(os.environ["HOLDFAST_RECORD"], "a") as file:
        file.write(text + "\n")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    wanted = Path(os.environ["HOLDFAST_ORDER"]).read_text().split("\n")
    by_id = {item.nodeid: item for item in items}
    items[:] = [by_id[nodeid] for nodeid in wanted if nodeid in by_id]


def pytest_runtest_logstart(nodeid: str) -> None:
    _record(f"begin {nodeid}")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.failed:
        _bad.add(report.nodeid)


def pytest_runtest_logfinish(nodeid: str) -> None:
    if nodeid not in _bad:
        _record(f"passed {nodeid}")
