"""The pytest plugin of `holdfast run`: the tests of native suites are items like others."""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path
from typing import Any, Optional

import pytest

from holdfast.options import isolation_of
from holdfast.targets.batch import End
from holdfast.targets.ctest import CONFIGURATION
from holdfast.targets.find import SECONDS, tests_in
from holdfast.targets.fixtures import missing
from holdfast.targets.item import NativeItem
from holdfast.targets.model import NoTarget, Test
from holdfast.targets.sharding import BadShard, part_of, shard_of

OPTION = "--hf-native"


def pytest_addoption(parser: pytest.Parser) -> None:
    # What `holdfast run` has found its targets to be, by the path under which pytest meets them.
    parser.addoption("--hf-build-config", default="", metavar="NAME", help=CONFIGURATION)
    parser.addoption(OPTION, default="{}", help="internal: the targets of `holdfast run`")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_TARGETS] = json.loads(config.getoption(OPTION))
    try:
        config.stash[_SHARD] = shard_of(os.environ)
    except BadShard as problem:
        raise pytest.UsageError(str(problem)) from None


_TARGETS = pytest.StashKey[dict[str, list[str]]]()
_SHARD = pytest.StashKey[tuple[int, int]]()
_BATCHES = pytest.StashKey[dict[tuple[str, object], int]]()


@pytest.hookimpl(hookwrapper=True)
def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> Generator[None, Any, None]:
    """What is a target is nothing else: pytest's doctests would take any text file."""
    outcome = yield
    target = parent.config.stash[_TARGETS].get(str(file_path))
    if target is not None:
        kind, word, nodeid = target
        outcome.force_result([NativeSuite.from_parent(parent, path=file_path, kind=kind, word=word, nodeid=nodeid)])


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Generator[None, Any, None]:
    """Around all who leave something out."""
    before = list(items)
    yield
    suites = dict.fromkeys(item.suite for item in items if isinstance(item, NativeItem))
    # What was not chosen by its id has never been among the items.
    all_items = dict.fromkeys([*before, *(item for suite in suites for item in suite.collected)])
    added = missing(list(all_items), items) if len(items) < len(all_items) else []
    if added:
        items.extend(added)
        worker: Any = config.pluginmanager.get_plugin("holdfast-worker")
        if worker is not None:
            worker.selected_again(len(set(added).intersection(before)))


class NativeSuite(pytest.File):
    """A target."""

    def __init__(self, *, kind: str, word: str, **given: Any) -> None:
        super().__init__(**given)
        self.kind, self.word = kind, word
        # Of the last process with several tests, in this process (batch.py), and whether there are to be any.
        self.batch_end: Optional[End] = None
        self.has_batches = isolation_of(self.config) == "worker"
        self.collected: list[NativeItem] = []

    def number_of(self, key: object) -> int:
        """The same for the same key of the same target, and for no other."""
        numbers = self.config.stash.setdefault(_BATCHES, {})
        return numbers.setdefault((self.nodeid, key), len(numbers))

    def collect(self) -> Iterable[NativeItem]:
        self.collected = list(self._items())
        return self.collected

    def _items(self) -> Iterable[NativeItem]:
        try:
            tests = tests_in(self.kind, self.word, SECONDS, self.config.getoption("--hf-build-config"))
        except NoTarget as problem:
            raise self.CollectError(f"{self.word}: {problem}") from None
        if self.kind == "gtest":
            tests = part_of(tests, *self.config.stash[_SHARD])
        for label in sorted({label for test in tests for label in test.labels}):
            self.config.addinivalue_line("markers", f"{label}: of a native suite")
        waits = waits_in(tests)
        names: dict[str, int] = {}
        for test in tests:
            names[test.name] = names.get(test.name, 0) + 1
            name = test.name if names[test.name] == 1 else f"{test.name} #{names[test.name]}"
            item = NativeItem.from_parent(self, name=name, test=test)
            if test.name in waits:
                item.holdfast_after, item.holdfast_requires = (
                    [f"{self.nodeid}::{other}" for other in sorted(others)] for others in waits[test.name]
                )
            yield item


def waits_in(tests: Sequence[Test]) -> dict[str, tuple[set[str], set[str]]]:
    """Of each test that waits: for which it must wait, and which must have passed. CTest's fixtures: what requires one waits for all
    that set it up, and what cleans up for all that require it."""
    sets_up: dict[str, set[str]] = {}
    requires: dict[str, set[str]] = {}
    for test in tests:
        for name in test.sets_up:
            sets_up.setdefault(name, set()).add(test.name)
        for name in test.requires:
            requires.setdefault(name, set()).add(test.name)
    found = {}
    for test in tests:
        needed = {other for name in test.requires for other in sets_up.get(name, ())} - {test.name}
        after = {*test.after, *(other for name in test.cleans_up for other in (*requires.get(name, ()), *sets_up.get(name, ())))}
        after -= {test.name, *needed}
        if after or needed:
            found[test.name] = (after, needed)
    return found
