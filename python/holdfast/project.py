"""holdfast.toml: what a project wants of its runs (docs/config.md). Read strictly: a wrong word is an error, never a wish that nobody
hears."""

from __future__ import annotations

import argparse
import fnmatch
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Optional

from holdfast.amounts import bytes_in
from holdfast.nearest import nearest
from holdfast.texts import Unreadable, text_of, toml_in

FILE = "holdfast.toml"
# Of an option's name (without --hf-, with underscores): what reads its text; None: it is true or false.
Parsers = Mapping[str, Optional[Callable[[str], Any]]]


class BadProject(Exception):
    """What is wrong, where, and what to do."""


@dataclass(frozen=True)
class Override:
    """What tests that match are to have. `keywords` are those of the holdfast mark."""

    number: int  # As in the file, from 1.
    match: tuple[str, ...]
    keywords: dict[str, Any] = field(default_factory=dict)
    group: str = ""
    slow: float = 0.0  # Seconds; 0: as history says.
    ranks: int = 0  # Of MPI, for programs; 0: as they have them.

    @property
    def title(self) -> str:
        return f"[[tests]] number {self.number} (match {', '.join(map(repr, self.match))})"

    def matches(self, nodeid: str) -> bool:
        return any(fnmatch.fnmatchcase(nodeid, pattern) for pattern in self.match)


@dataclass(frozen=True)
class Project:
    """`options`: parsed values by name, of [options] and of each profile."""

    path: Path
    options: dict[str, Any] = field(default_factory=dict)
    profiles: dict[str, dict[str, Any]] = field(default_factory=dict)
    tests: tuple[Override, ...] = ()
    groups: dict[str, int] = field(default_factory=dict)  # How many of each at a time.

    def lacks(self, profile: str) -> str:
        """What to say where it has no such profile; empty where it has."""
        return "" if profile in self.profiles else f"{self.path} has no [profiles.{profile}]{nearest(profile, self.profiles)}"

    def option(self, name: str, profile: str) -> Optional[tuple[Any, str]]:
        """Its value, and the table that says so."""
        for table, title in ((self.profiles.get(profile, {}), f"[profiles.{profile}]"), (self.options, "[options]")):
            if name in table:
                return table[name], title
        return None


def read(path: Path, parsers: Parsers) -> Project:
    """Raises BadProject."""
    try:
        said = toml_in(text_of(path))
        _check_keys("", said, ("options", "profiles", "tests", "groups"))
        groups = {name: _at_most(name, table) for name, table in _tables("groups", said).items()}
        tests = said.get("tests", [])
        if not isinstance(tests, list) or not all(isinstance(one, dict) for one in tests):
            raise BadProject("tests: is no list of tables; begin each with [[tests]]")
        return Project(
            path,
            _options("[options]", _table("options", said.get("options", {})), parsers),
            {name: _options(f"[profiles.{name}]", table, parsers) for name, table in _tables("profiles", said).items()},
            tuple(_override(number, table, groups) for number, table in enumerate(tests, 1)),
            groups,
        )
    except (BadProject, Unreadable) as problem:
        raise BadProject(f"{path}: {problem}") from None


def _table(where: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadProject(f"{where}: is no table; write [{where}]")
    return value


def _tables(name: str, said: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {key: _table(f"{name}.{key}", value) for key, value in _table(name, said.get(name, {})).items()}


def _check_keys(where: str, table: Mapping[str, Any], known: Iterable[str]) -> None:
    names = list(known)
    for key in table:
        if key not in names:
            raise BadProject(f"{where}{' ' if where else ''}{key!r} is not known{nearest(key, names)}")


def _options(where: str, table: dict[str, Any], parsers: Parsers) -> dict[str, Any]:
    said = {name.replace("-", "_"): value for name, value in table.items()}
    _check_keys(where, said, parsers)
    return {name: _option(f"{where} {name}", value, parsers[name]) for name, value in said.items()}


def _option(where: str, value: Any, parse: Optional[Callable[[str], Any]]) -> Any:
    if parse is None:
        if not isinstance(value, bool):
            raise BadProject(f"{where}: {value!r} is neither true nor false")
        return value
    value = as_text(value)
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise BadProject(f"{where}: {value!r} is neither text nor a number")
    try:
        return parse(str(value))
    except argparse.ArgumentTypeError as problem:
        raise BadProject(f"{where}: {problem}") from None


def as_text(value: Any) -> Any:
    """A table as an option has it, `CAUSE:TIMES,...`; anything else as it is."""
    return ",".join(f"{key}:{one}" for key, one in value.items()) if isinstance(value, dict) else value


def _at_most(name: str, table: dict[str, Any]) -> int:
    where = f"[groups.{name}]"
    _check_keys(where, table, ("at_most",))
    most = table.get("at_most")
    if isinstance(most, bool) or not isinstance(most, int) or not 1 <= most <= 10000:
        raise BadProject(f"{where} at_most: {most!r} is no number of tests from 1 on")
    return most


def _override(number: int, table: dict[str, Any], groups: Mapping[str, int]) -> Override:
    where = f"[[tests]] number {number}:"
    _check_keys(where, table, ("match", "group", *_VALUES))
    patterns = [table["match"]] if isinstance(table.get("match"), str) else table.get("match")
    if not isinstance(patterns, list) or not patterns or not all(isinstance(one, str) and one for one in patterns):
        raise BadProject(f'{where} match: give a pattern of ids, as in match = "tests/gpu/*", or a list of them')
    group = table.get("group", "")
    if group and group not in groups:
        raise BadProject(f"{where} group: there is no [groups.{group}]{nearest(str(group), groups)}")
    for name, value in table.items():
        if name in _VALUES:
            good, wanted = _VALUES[name]
            if not good(value):
                raise BadProject(f"{where} {name}: {value!r} is not possible; give {wanted}")
    keywords = {name: value for name, value in table.items() if name in _VALUES and name not in ("slow", "ranks")}
    return Override(number, tuple(patterns), keywords, group, float(table.get("slow", 0)), table.get("ranks", 0))


# ---- what the values of a test may be, and what to say of others


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_size(value: Any) -> bool:
    if isinstance(value, str):
        return bytes_in(value) is not None
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _are_names(value: Any) -> bool:
    return (isinstance(value, str) and bool(value)) or (isinstance(value, list) and all(isinstance(one, str) and one for one in value))


def _are_retries(value: Any) -> bool:
    from holdfast.options import retries

    text = as_text(value)
    if isinstance(text, int):
        return not isinstance(text, bool) and 0 <= text <= 100
    try:
        return isinstance(text, str) and bool(retries(text))
    except argparse.ArgumentTypeError:
        return False


_VALUES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "timeout": (lambda value: _is_number(value) and 0 <= value < 1e9, "seconds, 0 for none"),
    "slow": (lambda value: _is_number(value) and 0 < value < 1e9, "seconds"),
    "isolate": (lambda value: value in ("test", "class", "module", "worker"), "test, class, module or worker"),
    "retry": (_are_retries, "a number, or CAUSE:TIMES, as in crashed:1"),
    "cores": (lambda value: _is_number(value) and isinstance(value, int) and value >= 1, "a whole number from 1 on"),
    "ranks": (lambda value: _is_number(value) and isinstance(value, int) and 1 <= value <= 4096, "a whole number of 1 to 4096"),
    "memory": (_is_size, 'a number of bytes, or one with a unit, as in "2GiB"'),
    "exclusive": (_are_names, "a name or a list of names"),
    "shared": (_are_names, "a name or a list of names"),
    "serial": (lambda value: isinstance(value, bool), "true or false"),
    "leaks": (lambda value: value in ("report", "fail", "ignore"), "report, fail or ignore"),
    "gpus": (lambda value: _is_number(value) and isinstance(value, int) and 0 <= value <= 64, "a whole number of 0 to 64"),
    "vram": (_is_size, 'a number of bytes, or one with a unit, as in "20GiB"'),
    "gpu_arch": (_are_names, '"9.0", "sm_90", ">=8.0", "nvidia", "amd", or a list of these'),
}
