"""A file of commands, one test each: lines of a shell's words, or TOML with what each needs."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any, Callable

from holdfast.amounts import bytes_in
from holdfast.nearest import nearest
from holdfast.targets.launched import is_launcher
from holdfast.targets.model import NoTarget, Test
from holdfast.texts import Unreadable, text_of, toml_in

KIND = "commands"


def tests_of(file: str, _seconds: float) -> list[Test]:
    """Raises NoTarget."""
    try:
        text = text_of(Path(file))
        tests = _from_toml(toml_in(text), Path(file).parent) if file.endswith(".toml") else _from_lines(text, file)
    except Unreadable as problem:
        raise NoTarget(str(problem)) from None
    seen: set[str] = set()
    for test in tests:
        if test.name in seen:
            raise NoTarget(f"has two tests named {test.name!r}; each needs a name of its own")
        seen.add(test.name)
    if missing := next(((test.name, name) for test in tests for name in test.after if name not in seen), None):
        raise NoTarget(f"test {missing[0]!r}: after = {missing[1]!r}, and no test has that name{nearest(missing[1], seen)}")
    return tests


def words(text: str) -> tuple[str, ...]:
    """As a shell divides them; nothing is expanded. Raises ValueError."""
    found = tuple(shlex.split(text))
    if not found:
        raise ValueError("no command")
    return found


def _from_lines(text: str, file: str) -> list[Test]:
    tests = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            try:
                tests.append(Test(line.strip(), words(line), file=file, line=number))
            except ValueError as problem:
                raise NoTarget(f"line {number}: {problem}: {line.strip()}") from None
    return tests


def _from_toml(said: dict[str, Any], folder: Path) -> list[Test]:
    _check_keys("", said, {"test"})
    tables = said.get("test", [])
    if not isinstance(tables, list) or not all(isinstance(one, dict) for one in tables):
        raise NoTarget("test is no list of tables; begin each with [[test]]")
    return [_test(number, table, folder) for number, table in enumerate(tables, 1)]


def _test(number: int, table: dict[str, Any], folder: Path) -> Test:
    where = f"test {table['name']!r}: " if isinstance(table.get("name"), str) else f"test {number}: "
    _check_keys(where, table, _KEYS)
    for name in ("name", "command"):
        if name not in table:
            raise NoTarget(f"{where}{name} is missing")
    values = {}
    for name, value in table.items():
        try:
            values[name] = _KEYS[name](value)
        except ValueError as problem:
            raise NoTarget(f"{where}{name} = {value!r}: {problem}") from None
    if "ranks" in values and is_launcher(values["command"][0]):
        raise NoTarget(f"{where}ranks = {values['ranks']}, and its command starts ranks itself; leave out {values['command'][0]}")
    values["folder"] = str((folder / values.get("folder", "")).absolute())
    return Test(**values)


def _check_keys(where: str, table: dict[str, Any], known: Any) -> None:
    for key in table:
        if key not in known:
            raise NoTarget(f"{where}there is no key {key!r}{nearest(key, known)}")


# ---- what values must be; each raises ValueError


def _text(value: object) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("a text")
    return value


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError("a list of texts")
    return tuple(_text(one) for one in value)


def _command(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return words(value)
    found = _texts(value)
    if not found:
        raise ValueError("no command")
    return found


def _number(least: int) -> Callable[[object], int]:
    def check(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ValueError(f"a whole number from {least} on")
        return value

    return check


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise ValueError("seconds, more than 0")
    return float(value)


def _switch(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def _memory(value: object) -> int:
    found = bytes_in(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError("an amount of memory, such as 300M or 2GiB")
    return found


def _environment(value: object) -> tuple[str, ...]:
    if not isinstance(value, dict) or not all(isinstance(one, str) for one in value.values()):
        raise ValueError("a table of texts")
    return tuple(f"{name}={text}" for name, text in value.items())


_KEYS: dict[str, Callable[[object], Any]] = {
    "name": _text, "command": _command, "folder": _text, "environment": _environment, "labels": _texts, "timeout": _seconds,
    "cores": _number(1), "ranks": _number(1), "memory": _memory, "gpus": _number(0), "serial": _switch, "locks": _texts,
    "after": _texts, "disabled": _switch,
}  # fmt: skip
