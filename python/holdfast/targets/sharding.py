"""GoogleTest's variables for CI machines that share a program's tests (Bazel's scripts set them, too).

A program that ran a single test would skip it where its shard says so, so programs never see them (ask.py); they hold for the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from holdfast.targets.model import Test

_TOTAL, _INDEX, _STATUS = "GTEST_TOTAL_SHARDS", "GTEST_SHARD_INDEX", "GTEST_SHARD_STATUS_FILE"


class BadShard(Exception):
    """The variables make no sense together."""


def shard_of(environment: Mapping[str, str]) -> tuple[int, int]:
    """This shard, and how many there are; (0, 1) where nobody says so. Raises BadShard."""
    if _TOTAL not in environment and _INDEX not in environment:
        return 0, 1
    total, index = (_number(environment.get(name)) for name in (_TOTAL, _INDEX))
    if total < 1 or not 0 <= index < total:
        said = ", ".join(f"{name}={environment[name]}" for name in (_TOTAL, _INDEX) if name in environment)
        raise BadShard(f"{said}: give {_TOTAL}=N and {_INDEX}=0 to N-1, or neither")
    if file := environment.get(_STATUS):
        _touch(file)
    return index, total


def part_of(tests: Sequence[Test], index: int, total: int) -> list[Test]:
    """As GoogleTest counts: the disabled ones are in no shard, here they are told by the first."""
    found = []
    number = 0
    for test in tests:
        if test.disabled:
            mine = index == 0
        else:
            mine = number % total == index
            number += 1
        if mine:
            found.append(test)
    return found


def _touch(file: str) -> None:
    """It tells who has set the variables that they were heard."""
    try:
        Path(file).touch()
    except OSError as problem:
        raise BadShard(f"{_STATUS}={file}: cannot be made: {problem.strerror}") from None


def _number(text: object) -> int:
    return int(text) if isinstance(text, str) and text.isdecimal() and text.isascii() else -1
