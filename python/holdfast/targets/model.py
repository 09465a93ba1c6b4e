"""Tests that are programs, before they run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional, Protocol


class Program(Protocol):
    """The bytes of one, mapped."""

    def find(self, part: bytes, /) -> int: ...


class NoTarget(Exception):
    """It cannot tell its tests: why, and what to do."""


# The type of CTest's resources that are leased.
GPUS = "gpus"


@dataclass(frozen=True)
class Expected:
    """When it has passed, where that is not just exit code 0 (CTest's properties of these names)."""

    will_fail: bool = False
    skip_code: Optional[int] = None
    passes: tuple[str, ...] = ()  # Regular expressions, of which one must be in its output;
    fails: tuple[str, ...] = ()  # of which none may be;
    skips: tuple[str, ...] = ()  # of which one means that it was skipped.


@dataclass(frozen=True)
class Test:
    """`command`: runs this one alone; empty for pytest's, and where `problem` says why there is none."""

    name: str
    command: tuple[str, ...] = ()
    folder: str = ""  # Where it runs; empty for here.
    environment: tuple[str, ...] = ()  # NAME=value, to add;
    environment_changes: tuple[str, ...] = ()  # NAME=operation:value, after that, as CTest has them.
    file: str = ""
    line: int = 0
    labels: tuple[str, ...] = ()
    disabled: bool = False
    problem: str = ""
    timeout: Optional[float] = None  # Seconds.
    cores: int = 1
    ranks: int = 0  # Of MPI; what else it wants is then for each.
    launcher: str = ""  # That was to start them.
    memory: Optional[int] = None  # Bytes.
    serial: bool = False
    locks: tuple[str, ...] = ()
    after: tuple[str, ...] = ()  # Names of tests that must be over.
    sets_up: tuple[str, ...] = ()  # Fixtures of CTest.
    cleans_up: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    needs_files: tuple[str, ...] = ()  # Without one of these it cannot run.
    gpus: int = 0
    resource_groups: tuple[tuple[tuple[str, int], ...], ...] = ()  # CTest's: in each, slots of one resource of that type.
    expected: Expected = field(default_factory=Expected)

    @property
    def all_gpus(self) -> int:
        """Devices: CTest's `gpus:N` is N slots of one."""
        return self.gpus or sum(kind == GPUS for group in self.resource_groups for kind, _ in group)


@dataclass(frozen=True)
class Told:
    """What a program has written of its run, in its own report. `good` counts, not the failures: some are expected."""

    cases: int
    good: bool
    failures: tuple[str, ...] = ()
    skipped: Optional[str] = None  # Why.
    seconds: Optional[float] = None  # Where it says so.


@dataclass(frozen=True)
class Suite:
    """The tests of one target. `problem`: why they are not known, then there are none."""

    target: str
    kind: str
    tests: tuple[Test, ...] = ()
    problem: str = ""
