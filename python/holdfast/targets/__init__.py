"""What `holdfast list` is given: test programs (GoogleTest, Catch2, doctest), CTest build folders, files with commands, and what pytest
collects; and the tests that each has."""

from __future__ import annotations

from collections.abc import Sequence

from holdfast.targets.find import suites
from holdfast.targets.model import NoTarget, Suite, Test


def listed(words: Sequence[str], *, seconds: float) -> list[Suite]:
    """One for each target, in their order, problems included. `seconds`: for each, to tell its tests."""
    return suites(words, seconds)


__all__ = ["NoTarget", "Suite", "Test", "listed"]
