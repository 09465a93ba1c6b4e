"""Which kind of target a word is, by looking at it; `KIND:WORD` says so where a look does not."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import Callable

from holdfast.targets import catch2, commands, ctest, doctest, googletest, pytests
from holdfast.targets.ask import machine_of
from holdfast.targets.model import NoTarget, Suite, Test

# What `KIND:` may be.
_COMMAND = "command"
_KINDS: dict[str, tuple[str, Callable[[str, float], list[Test]]]] = {
    "gtest": (googletest.KIND, googletest.tests_of),
    "catch2": (catch2.KIND, catch2.tests_of),
    "doctest": (doctest.KIND, doctest.tests_of),
    "ctest": (ctest.KIND, ctest.tests_of),
    "commands": (commands.KIND, commands.tests_of),
    "pytest": (pytests.KIND, pytests.tests_of),
}
_OF_COMMANDS = (".toml", ".txt", ".list")
_PROGRAMS = {"gtest": googletest.is_in, "catch2": catch2.is_in, "doctest": doctest.is_in}


def suites(words: Sequence[str], seconds: float) -> list[Suite]:
    return [_suite(word, seconds) for word in words]


def _suite(word: str, seconds: float) -> Suite:
    kind, _, rest = word.partition(":")
    try:
        if kind == _COMMAND and rest:
            return Suite(rest, _COMMAND, (Test(rest, _words(rest)),))
        if kind in _KINDS and rest and not Path(word).exists():
            title, tests_of = _KINDS[kind]
            return Suite(rest, title, tuple(tests_of(_path(kind, rest), seconds)))
        kind = _kind(word)
        if kind in _PROGRAMS:
            return _program(word, seconds)
        title, tests_of = _KINDS[kind]
        return Suite(word, title, tuple(tests_of(word, seconds)))
    except NoTarget as problem:
        return Suite(word, _KINDS[kind][0] if kind in _KINDS else "", problem=str(problem))


def _path(kind: str, rest: str) -> str:
    """As it can be run: a program without a slash would be looked for in PATH."""
    return str(Path(rest).absolute()) if kind in _PROGRAMS else rest


def _words(text: str) -> tuple[str, ...]:
    try:
        return commands.words(text)
    except ValueError as problem:
        raise NoTarget(f"is no command: {problem}") from None


def _kind(word: str) -> str:
    """Raises NoTarget."""
    path = Path(word.partition("::")[0])
    if path.is_dir():
        return "ctest" if ctest.is_in(path) else "pytest"
    if path.suffix == ".py" and path.exists():
        return "pytest"
    if not path.exists():
        raise NoTarget("is not there" if "::" not in word else f"{path} is not there")
    if not path.is_file():
        raise NoTarget("is neither a file nor a folder")
    if _is_program(path):
        return next(iter(_PROGRAMS))
    if path.read_bytes()[:2] == b"#!":
        raise NoTarget(f"is a script; say what it is: gtest:{word}, catch2:{word}, doctest:{word}, or command:{word} for one test")
    if path.suffix not in _OF_COMMANDS:
        raise NoTarget(f"is no test program; where it has commands, commands:{word} says so ({', '.join(_OF_COMMANDS)} need not)")
    return "commands"


def _is_program(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def _program(word: str, seconds: float) -> Suite:
    """Only those are asked whose framework is in it: others might take what they are asked for a reason to run. Raises NoTarget."""
    path = Path(word).absolute()
    if not path.stat().st_size:
        raise NoTarget("is empty")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as program:
        kinds = [kind for kind, is_in in _PROGRAMS.items() if is_in(program)]
    if not kinds:
        machine = f" ({machine_of(word)})" if machine_of(word) else ""
        raise NoTarget(f"is a program{machine} without GoogleTest, Catch2 or doctest; command:{word} runs it as one test")
    problems = []
    for kind in kinds:
        title, tests_of = _KINDS[kind]
        try:
            return Suite(word, title, tuple(tests_of(str(path), seconds)))
        except NoTarget as problem:
            problems.append(f"{problem}")
    raise NoTarget("; as another kind it ".join(problems))
