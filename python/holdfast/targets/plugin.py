"""The pytest plugin of `holdfast run`: the tests of native suites are items like others."""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path
from typing import Any, Optional, Union

import pytest

from holdfast import crash
from holdfast.targets.find import tests_in
from holdfast.targets.model import NoTarget, Test
from holdfast.targets.running import run

# Of the output of a program that has died.
_WORDS = 64 << 10
OPTION = "--hf-native"
_SECONDS = 60.0  # For a target to tell its tests; as `holdfast list`.


def pytest_addoption(parser: pytest.Parser) -> None:
    # What `holdfast run` has found its targets to be, by the path under which pytest meets them.
    parser.addoption(OPTION, default="{}", help="internal: the targets of `holdfast run`")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_TARGETS] = json.loads(config.getoption(OPTION))


_TARGETS = pytest.StashKey[dict[str, list[str]]]()


@pytest.hookimpl(hookwrapper=True)
def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> Generator[None, Any, None]:
    """What is a target is nothing else: pytest's doctests would take any text file."""
    outcome = yield
    target = parent.config.stash[_TARGETS].get(str(file_path))
    if target is not None:
        kind, word, nodeid = target
        outcome.force_result([NativeSuite.from_parent(parent, path=file_path, kind=kind, word=word, nodeid=nodeid)])


class NativeSuite(pytest.File):
    """A target."""

    def __init__(self, *, kind: str, word: str, **given: Any) -> None:
        super().__init__(**given)
        self.kind, self.word = kind, word

    def collect(self) -> Iterable[NativeItem]:
        try:
            tests = tests_in(self.kind, self.word, _SECONDS)
        except NoTarget as problem:
            raise self.CollectError(f"{self.word}: {problem}") from None
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


def _wishes(test: Test) -> dict[str, Any]:
    """For the mark `holdfast`."""
    given = {
        "timeout": test.timeout,
        "cores": test.cores if test.cores > 1 else None,
        "memory": test.memory,
        "gpus": test.all_gpus,
        "serial": test.serial,
        "exclusive": list(test.locks),
    }
    return {name: value for name, value in given.items() if value}


class NotEnded(Exception):
    """Its program has died, or ended without a word of its test: that is the engine's to tell."""


class NativeItem(pytest.Item):
    """One test, in a process of its own."""

    def __init__(self, *, test: Test, **given: Any) -> None:
        super().__init__(**given)
        self.test = test
        self.holdfast_is_program = True
        # Node ids of tests that must be over, and of those that must have passed; absent for none (items.py).
        self.holdfast_after: list[str]
        self.holdfast_requires: list[str]
        # What the engine is to make of it, where its end is its verdict (protocol/README.md, `done`).
        self.holdfast_program: Optional[dict[str, Any]] = None
        if wishes := _wishes(test):
            self.add_marker(pytest.mark.holdfast(**wishes))
        # As marks, for -m. Not pytest.mark.NAME, which wants names of Python's.
        self.own_markers.extend(pytest.Mark(label, (), {}, _ispytest=True) for label in test.labels)
        if test.disabled:
            self.add_marker(pytest.mark.skip(reason="disabled"))

    def reportinfo(self) -> tuple[Union[os.PathLike[str], str], Optional[int], str]:
        return self.test.file or self.path, max(0, self.test.line - 1), self.name

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], *_given: Any, **_more: Any) -> Any:
        """The program's words, not the way to them. Of what has died, or was ended at a deadline, the engine tells."""
        if isinstance(excinfo.value, (KeyboardInterrupt, NotEnded)):
            return ""
        return super().repr_failure(excinfo)

    def runtest(self) -> None:
        if self.test.problem:
            pytest.fail(self.test.problem, pytrace=False)
        if self.test.ranks:
            pytest.fail(
                f"it asks for {self.test.ranks} MPI ranks, which programs cannot have yet (docs/native.md, limits)", pytrace=False
            )
        self.holdfast_program = None
        said: list[str] = []

        def output() -> str:
            if not said:
                said.append(self._read_output())
            return said[0]

        outcome = run(self.parent.kind, self.test, output)  # type: ignore[union-attr]
        if outcome.verdict == "":
            self.holdfast_program = {"status": outcome.status, "output": output()[-_WORDS:], "stacks": outcome.stacks}
            crash.note_of_program(outcome.note)
            raise NotEnded
        if said:
            self.add_report_section("call", "stdout", said[0][-_WORDS:])
        if outcome.verdict == "skipped":
            pytest.skip(outcome.text)
        if outcome.verdict == "failed":
            pytest.fail(outcome.text, pytrace=False)

    def _read_output(self) -> str:
        """Of this phase so far; empty where it is not captured."""
        capture: Any = self.config.pluginmanager.getplugin("capturemanager")
        if capture is None or not capture.is_globally_capturing():
            return ""
        out, err = capture.read_global_capture()
        return str(out) + str(err)
