"""Outer guards: deadlines for whole directories, so that no test there can hold up a run, whatever the layers inside it forget.

    [pytest]
    hf_guards =
        tests/memory_ipc: children         # child_timeout_sec() + 30: 60 s, 150 under a sanitizer
        tests/slow: children + 300
        tests/quick: 10

Each test below such a directory that has no `timeout` mark gets one. `--holdfast` keeps to it, pytest-timeout does, and where there is
neither, Python's faulthandler prints the stacks and ends the process. Of several directories the closest one counts.

`holdfast check-guards`, and the fixture `check_guards` for a test of one's own suite, fail when a directory of the table is not there
or has no tests, or when a test below it has another deadline that is longer, or none.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional

import pytest

from holdfast.children import child_timeout_sec

# Seconds beyond those for a child.
EXTRA = 30
_INI = "hf_guards"
_VALUE = re.compile(r"^(?:(?P<children>children)\s*(?:\+\s*(?P<more>\d+(?:\.\d+)?))?|(?P<seconds>\d+(?:\.\d+)?))$")


class Guard(NamedTuple):
    directory: Path
    seconds: float
    # As it stands in the table.
    written: str


def guard(extra: float = EXTRA) -> pytest.MarkDecorator:
    """A mark for a class or module (`pytestmark = holdfast.guard()`): a deadline of child_timeout_sec() + extra seconds."""
    return pytest.mark.timeout(child_timeout_sec() + extra)


def add_option(parser: pytest.Parser) -> None:
    parser.addini(
        _INI, "deadlines of directories: lines of `DIRECTORY: SECONDS`, or `children [+ SECONDS]`", type="linelist", default=[]
    )


def table(config: pytest.Config) -> list[Guard]:
    """The guards of the ini file, directories below rootdir. Raises pytest.UsageError."""
    found = []
    for line in config.getini(_INI):
        name, _, value = (part.strip() for part in line.partition(":"))
        match = _VALUE.match(value.partition("#")[0].strip())
        if not name or match is None or (match["seconds"] and float(match["seconds"]) == 0):
            raise pytest.UsageError(
                f"{_INI}: `{line}` is no guard; write `DIRECTORY: SECONDS` or `DIRECTORY: children [+ SECONDS]`, a line each"
            )
        seconds = float(match["seconds"]) if match["seconds"] else child_timeout_sec() + float(match["more"] or EXTRA)
        found.append(Guard(Path(os.path.normpath(config.rootpath / name)), seconds, name))
    return sorted(found, key=lambda entry: len(entry.directory.parts), reverse=True)


def mark_items(config: pytest.Config, items: Iterable[pytest.Item]) -> None:
    """Gives the tests below guarded directories their deadline, unless they have one."""
    guards = table(config)
    if not guards:
        return
    for item in items:
        found = guard_of(guards, item)
        if found is not None and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(found.seconds))


def guard_of(guards: Sequence[Guard], item: pytest.Item) -> Optional[Guard]:
    place = Path(item.path).parent
    return next((entry for entry in guards if entry.directory == place or entry.directory in place.parents), None)


def problems(config: pytest.Config, items: Sequence[pytest.Item], wanted: Sequence[str] = ()) -> list[str]:
    """What is wrong with the guards, a sentence each. `wanted`: directories, relative to rootdir, that must be guarded."""
    guards = table(config)
    found = []
    of: dict[Guard, list[pytest.Item]] = {entry: [] for entry in guards}
    for item in items:
        mine = guard_of(guards, item)
        if mine is not None:
            of[mine].append(item)
    for name in wanted:
        place = Path(os.path.normpath(config.rootpath / name))
        if not any(entry.directory == place or entry.directory in place.parents for entry in guards):
            found.append(f"{name}: it should be guarded, but {_INI} ({_ini_file(config)}) has no line for it")
    for entry, tests in sorted(of.items()):
        if not entry.directory.is_dir():
            found.append(f"{entry.written}: guarded, but there is no such directory below {config.rootpath}")
        for item in tests:
            seconds = _deadline_of(item)
            if seconds is None:
                found.append(f"{item.nodeid}: no deadline, though {entry.written} is guarded with {entry.seconds:g} s")
            elif seconds > entry.seconds:
                found.append(f"{item.nodeid}: its deadline is {seconds:g} s, longer than the {entry.seconds:g} s of {entry.written}")
    return found


def without_tests(config: pytest.Config, items: Sequence[pytest.Item]) -> list[str]:
    """Guarded directories that none of these tests is in; of interest where all of them were collected."""
    guards = table(config)
    used = {guard_of(guards, item) for item in items}
    return [f"{entry.written}: guarded, but no test was collected there" for entry in guards if entry not in used]


def _deadline_of(item: pytest.Item) -> Optional[float]:
    mark = item.get_closest_marker("timeout")
    value: Any = None if mark is None else mark.args[0] if mark.args else mark.kwargs.get("timeout")
    return float(value) if isinstance(value, (int, float)) and value > 0 else None


def _ini_file(config: pytest.Config) -> str:
    return os.path.relpath(config.inipath, config.rootpath) if config.inipath is not None else "there is no ini file"


class LastResort:
    """Where neither Holdfast nor pytest-timeout keeps to deadlines: a thread of faulthandler's prints the stacks of all threads when a
    guarded test's time is over, and ends the process with exit code 1."""

    def __init__(self, config: pytest.Config, stderr: int) -> None:
        self.guards = table(config)
        # Not captured.
        self.stderr = stderr

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Any:
        import faulthandler

        seconds = _deadline_of(item) if guard_of(self.guards, item) is not None else None
        if seconds is not None:
            faulthandler.dump_traceback_later(seconds, exit=True, file=self.stderr)
        yield
        if seconds is not None:
            faulthandler.cancel_dump_traceback_later()


def configure(config: pytest.Config, stderr: int) -> None:
    """In a process that runs tests itself. `stderr`: a descriptor that the capture does not replace."""
    has_other = any(config.pluginmanager.has_plugin(name) for name in ("timeout", "pytest_timeout"))
    if not has_other and not config.getini("faulthandler_timeout"):
        config.pluginmanager.register(LastResort(config, stderr), "holdfast-guards")
