"""A lab: a page for faults, and the environment of the processes that are to meet them."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from holdfast.faults.errors import BadFault, FaultNotSeen, NoLab
from holdfast.faults.fault import Fault
from holdfast.faults.page import VARIABLE, Page, with_shim


@dataclass(frozen=True)
class First:
    """The first call that a fault has struck. `call` is its number among those of that process which the fault watches."""

    pid: int
    tid: int
    rank: int
    device: int
    function: str
    call: int
    at_ns: int  # CLOCK_MONOTONIC.
    stack: str


@dataclass(frozen=True)
class Evidence:
    """What has become of a fault so far. `struck` counts calls, those on a broken context included; `occurred` only new strikes."""

    armed: bool
    watched: int
    struck: int
    occurred: int
    first: Optional[First]

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Evidence:
        """Of an entry of the page's report (protocol/faults.md)."""
        first = First(**entry["first"]) if entry["first"] else None
        return cls(bool(entry["armed"]), int(entry["watched"]), int(entry["struck"]), int(entry["occurred"]), first)


@dataclass(frozen=True)
class Calls:
    """Calls of one function by one process, while one device was current (-1: none)."""

    pid: int
    rank: int
    device: int
    function: str
    passed: int
    failed: int

    @property
    def seen(self) -> int:
        return self.passed + self.failed


class Armed:
    """A fault on a page."""

    def __init__(self, lab: Lab, fault: Fault, number: int) -> None:
        self.lab, self.fault, self.number = lab, fault, number

    def on(self) -> None:
        self.lab.page.switch(self.number, True)

    def off(self) -> None:
        """Calls pass from now on; what is broken stays broken."""
        self.lab.page.switch(self.number, False)

    def heal(self) -> None:
        """Off, and the device is whole again for new contexts. Contexts that it has broken stay so until their processes end."""
        self.lab.page.heal(self.number)

    def evidence(self) -> Evidence:
        """Raises BadFault once the page has given this fault's place to another one."""
        for entry in self.lab.page.report()["faults"]:
            if entry["id"] == self.number:
                return Evidence.of(entry)
        raise BadFault(f"fault {self.number} ({self.fault.title()}) was healed long ago; its place on the page has another one")

    def wait(self, seconds: float) -> Evidence:
        """Until it has struck. Raises FaultNotSeen when the time is up."""
        deadline = time.monotonic() + seconds
        while True:
            evidence = self.evidence()
            if evidence.struck:
                return evidence
            if time.monotonic() >= deadline:
                raise FaultNotSeen(f"{self._never(evidence)} within {seconds:g} s")
            time.sleep(0.001)

    def verify(self) -> Evidence:
        """Raises FaultNotSeen if no call has met it."""
        evidence = self.evidence()
        if not evidence.struck:
            raise FaultNotSeen(self._never(evidence))
        return evidence

    def _never(self, evidence: Evidence) -> str:
        text = f"{self.fault.title()} was armed and never struck"
        if evidence.watched:
            return f"{text}: {evidence.watched} calls that it watches were let through (after_calls, after_seconds, probability)"
        if not self.lab.attached:
            return f"{text}: no process had the shim (run it with the lab's environment())"
        return f"{text}: no call that it watches was made"


class Lab:
    """Made by lab(), or for a page that is there already by its path."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def prepare(self, fault: Fault) -> Armed:
        """Written, not armed: `on()` is then one store to memory."""
        return Armed(self, fault, self.page.add(fault.wish(), False))

    def arm(self, fault: Fault) -> Armed:
        return Armed(self, fault, self.page.add(fault.wish(), True))

    @property
    def attached(self) -> int:
        """Processes that the shim was loaded into, forks not counted."""
        return int(self.page.report()["attached"])

    def calls(self) -> list[Calls]:
        """What was called, by process, device and function."""
        sums: dict[tuple[int, int, int, str], list[int]] = {}
        for row in self.page.report()["rows"]:
            for function, (passed, failed) in row["calls"].items():
                total = sums.setdefault((row["pid"], row["rank"], row["device"], function), [0, 0])
                total[0] += passed
                total[1] += failed
        return [Calls(*key, passed, failed) for key, (passed, failed) in sums.items()]

    def seen(self, function: str) -> int:
        """Calls of one function, in all processes."""
        return sum(calls.seen for calls in self.calls() if calls.function == function)

    def wait_seen(self, function: str, count: int, seconds: float) -> None:
        """Until a function has been called so often, in all processes. Raises TimeoutError."""
        deadline = time.monotonic() + seconds
        while (seen := self.seen(function)) < count:
            if time.monotonic() >= deadline:
                raise TimeoutError(f"{function} was called {seen} times within {seconds:g} s, not {count}")
            time.sleep(0.005)

    def environment(self, base: Optional[Mapping[str, str]] = None) -> dict[str, str]:
        """For a process that is to meet the faults."""
        environment = dict(os.environ if base is None else base)
        with_shim(environment)
        environment[VARIABLE] = str(self.page.path)
        return environment


_labs: list[Lab] = []


@contextlib.contextmanager
def within(inner: Lab) -> Iterator[None]:
    """Makes it the current one of this process."""
    _labs.append(inner)
    try:
        yield
    finally:
        _labs.remove(inner)


def current() -> Lab:
    """The innermost lab of this process, else the one in its environment. Raises NoLab."""
    if _labs:
        return _labs[-1]
    path = os.environ.get(VARIABLE)
    if not path:
        raise NoLab(f"there is no page for faults here: neither `with faults.lab():` around this, nor {VARIABLE} in the environment")
    return _from_environment(path)


_opened: dict[str, Lab] = {}


def _from_environment(path: str) -> Lab:
    if path not in _opened:
        _opened[path] = Lab(Page(path))
    return _opened[path]


@contextlib.contextmanager
def new_page(path: Path, *, rows: int = 0) -> Iterator[Lab]:
    """A lab on a page that is made there, and removed at the end."""
    made = Lab(Page(path, create=True, rows=rows))
    try:
        with within(made):
            yield made
    finally:
        # What hangs goes on before its page is gone.
        made.page.heal_all()
        made.page.close()
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def lab(*, rows: int = 0) -> Iterator[Lab]:
    """A page of its own. `rows`: room for counters, one for each thread and device (0: 4,096)."""
    with (
        tempfile.TemporaryDirectory(prefix="holdfast-faults-", dir=memory_folder()) as folder,
        new_page(Path(folder) / "page", rows=rows) as made,
    ):
        yield made


def memory_folder() -> Optional[str]:
    """For files that are written to with every call, which a disk would have to follow; None for the usual place."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
