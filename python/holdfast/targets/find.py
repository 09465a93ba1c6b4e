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
COMMAND = "command"
# Seconds that a target has to tell its tests, if nobody says.
SECONDS = 60.0
_KINDS: dict[str, tuple[str, Callable[..., list[Test]]]] = {
    "gtest": (googletest.KIND, googletest.tests_of),
    "catch2": (catch2.KIND, catch2.tests_of),
    "doctest": (doctest.KIND, doctest.tests_of),
    "ctest": (ctest.KIND, ctest.tests_of),
    "commands": (commands.KIND, commands.tests_of),
    "pytest": (pytests.KIND, pytests.tests_of),
}
_OF_COMMANDS = (".toml", ".txt", ".list")
_PROGRAMS = {"gtest": googletest.is_in, "catch2": catch2.is_in, "doctest": doctest.is_in}


def suites(words: Sequence[str], seconds: float, configuration: str = "") -> list[Suite]:
    """One for each target, in their order, problems included. `seconds`: for each, to tell its tests; `configuration`: of CTest's."""
    return [_suite(word, seconds, configuration) for word in words]


def _suite(word: str, seconds: float, configuration: str) -> Suite:
    kind, rest = "", word
    try:
        kind, rest = kind_of(word)
        return Suite(rest, title_of(kind), tuple(tests_in(kind, rest, seconds, configuration)))
    except NoTarget as problem:
        return Suite(rest, title_of(kind) if kind else "", problem=str(problem))


def kind_of(word: str) -> tuple[str, str]:
    """The kind of a target, and what it is without `KIND:`. Raises NoTarget."""
    kind, _, rest = word.partition(":")
    if rest and kind == COMMAND:
        _words(rest)
    if rest and (kind == COMMAND or (kind in _KINDS and not Path(word).exists())):
        return kind, rest
    return _kind(word), word


def title_of(kind: str) -> str:
    return _KINDS[kind][0] if kind in _KINDS else kind


def tests_in(kind: str, rest: str, seconds: float, configuration: str) -> list[Test]:
    """Raises NoTarget."""
    if kind == COMMAND:
        return [Test(rest, _words(rest))]
    more = (configuration,) if kind == "ctest" else ()
    return _KINDS[kind][1](str(Path(rest).absolute()) if kind in _PROGRAMS else rest, seconds, *more)


def _words(text: str) -> tuple[str, ...]:
    try:
        return commands.words(text)
    except ValueError as problem:
        raise NoTarget(f"is no command: {problem}") from None


def _kind(word: str) -> str:
    path = Path(word.partition("::")[0])
    if path.is_dir():
        return "ctest" if ctest.is_in(path) else "pytest"
    if path.suffix == ".py" and path.exists():
        return "pytest"
    if not path.exists():
        raise NoTarget("is not there" if "::" not in word else f"{path} is not there")
    if not path.is_file():
        raise NoTarget("is neither a file nor a folder")
    if _begins_with(path, b"\x7fELF"):
        return _kind_of_program(word, path)
    if _begins_with(path, b"#!"):
        raise NoTarget(f"is a script; say what it is: gtest:{word}, catch2:{word}, doctest:{word}, or command:{word} for one test")
    if path.suffix not in _OF_COMMANDS:
        raise NoTarget(f"is no test program; where it has commands, commands:{word} says so ({', '.join(_OF_COMMANDS)} need not)")
    return "commands"


def _begins_with(path: Path, start: bytes) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(start)) == start
    except OSError as problem:
        raise NoTarget(f"cannot be read: {problem.strerror}") from None


def _kind_of_program(word: str, path: Path) -> str:
    """Only those are asked whose framework is in it: others might take what they are asked for a reason to run."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as program:
        kinds = [kind for kind, is_in in _PROGRAMS.items() if is_in(program)]
    if not kinds:
        machine = f" ({machine_of(word)})" if machine_of(word) else ""
        raise NoTarget(f"is a program{machine} without GoogleTest, Catch2 or doctest; command:{word} runs it as one test")
    if len(kinds) > 1:
        raise NoTarget(f"has more than one of these; say which one has its tests: {', '.join(f'{kind}:{word}' for kind in kinds)}")
    return kinds[0]
