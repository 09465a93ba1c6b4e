"""Runs the program of a test, and finds out what became of it: from how it has ended, from its own report, from its output."""

from __future__ import annotations

import contextlib
import os
import re
import select
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Callable, Optional

from holdfast import mpi
from holdfast.targets import catch2, doctest, googletest
from holdfast.targets.ask import NOT_THEIRS, why_not_run
from holdfast.targets.changes import changed
from holdfast.targets.model import Expected, Test, Told
from holdfast.targets.notes import Notes, memory_file
from holdfast.targets.resources import resources_for

# By kind (find.py): what has a report of its own.
REPORTS: dict[str, ModuleType] = {"gtest": googletest, "catch2": catch2, "doctest": doctest}


@dataclass(frozen=True)
class Outcome:
    """`verdict`: passed, skipped, failed, or empty where `status` (as from wait) is all that is known."""

    verdict: str
    text: str = ""
    status: int = 0
    note: bytes = b""  # Of its crash (notes.py),
    stacks: str = ""  # and where that was.


def run(kind: str, test: Test, output: Callable[[], str]) -> Outcome:
    """It inherits what this process has open as 1 and 2. `output`: what it has written there."""
    if missing := next((file for file in test.needs_files if not os.path.exists(os.path.join(test.folder, file))), None):
        return Outcome("failed", f"{missing} is not there, which it needs (REQUIRED_FILES)")
    reporting = REPORTS.get(kind)
    try:
        if reporting is None:
            ended = run_program(list(test.command), test)
            return ended if os.WIFSIGNALED(ended.status) else _judged(test.expected, ended.status, output)
        with memory_file("holdfast-report") as number:
            # Not by a descriptor of the program: a test may close all that it finds. On a disk it would cost more than many a test.
            file = Path(f"/proc/{os.getpid()}/fd/{number}")
            ended = run_program([*test.command, *reporting.report_options(str(file))], test)
            return (
                ended
                if os.WIFSIGNALED(ended.status)
                else _reported(reporting, test.name, told=reporting.told(file), status=ended.status, output=output)
            )
    except OSError as problem:
        return Outcome("failed", f"{test.command[0]} {why_not_run(test.command[0], problem)}")


class OutOfTime(Exception):
    """It was ended."""


def run_program(command: list[str], test: Test, limit: Optional[float] = None) -> Outcome:
    """How it has ended. Raises OSError, OutOfTime (after `limit` seconds)."""
    rank = mpi.of_this_process()
    joined = rank.descriptors if rank is not None else ()
    with contextlib.closing(Notes(command[0], test.folder)) as notes:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, cwd=test.folder or None, env=notes.environment(_environment(test)),
            pass_fds=(*notes.descriptors, *joined),
        )  # fmt: skip
        try:
            if limit is not None and not _ends_within(process.pid, limit):
                raise OutOfTime
            code = process.wait()
        except BaseException:
            # At a deadline: it is not to be taken for something that the test has left behind.
            process.kill()
            process.wait()
            raise
        note, stacks = notes.read()
        return Outcome("", status=-code if code < 0 else code << 8, note=note, stacks=stacks)


def _ends_within(pid: int, seconds: float) -> bool:
    """Popen.wait() with a limit looks again and again, and would find many a quick end late."""
    ends = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(ends, select.POLLIN)
        return bool(poll.poll(seconds * 1000))
    finally:
        os.close(ends)


def _environment(test: Test) -> dict[str, str]:
    """Ours, without what would make it run a part of its tests, and with what is wanted."""
    found = {name: value for name, value in os.environ.items() if name not in NOT_THEIRS}
    found.update(resources_for(test, found.get("CUDA_VISIBLE_DEVICES", "")))
    found.update(pair.partition("=")[::2] for pair in test.environment)
    return changed(found, test.environment_changes)


def _reported(reporting: ModuleType, name: str, *, told: Optional[Told], status: int, output: Callable[[], str]) -> Outcome:
    """A program that has not written its report to the end has not ended its test, whatever its exit code; and one that ends as if
    something were wrong is not believed that nothing is."""
    if told is None:
        return Outcome("", status=status)
    if told.cases == 0:
        return Outcome("failed", "it has run no test: has the program changed since it told its tests?")
    outcome = with_reason(reporting, name, outcome_of(told, output), output)
    good = {"passed": (0,), "skipped": reporting.SKIP_CODES}.get(outcome.verdict)
    return outcome if good is None or os.WEXITSTATUS(status) in good else Outcome("", status=status)


def outcome_of(told: Told, output: Callable[[], str] = str) -> Outcome:
    """By its own report alone."""
    if not told.good:
        return Outcome("failed", "\n\n".join(told.failures) or output().strip() or "it says that the test has failed, and not why")
    return Outcome("skipped", told.skipped) if told.skipped is not None else Outcome("passed")


def with_reason(reporting: ModuleType, name: str, outcome: Outcome, output: Callable[[], str]) -> Outcome:
    """Of a skipped test whose report has none: its output may."""
    if outcome.verdict != "skipped" or outcome.text != getattr(reporting, "NO_REASON", None):
        return outcome
    return replace(outcome, text=reporting.why_skipped(name, output()) or outcome.text)


def _judged(expected: Expected, status: int, output: Callable[[], str]) -> Outcome:
    """By the rules of CTest (its properties of these names): a skip first, then what is not to be said, then what is, which decides
    instead of the exit code; and WILL_FAIL turns it round."""
    code = os.WEXITSTATUS(status)
    said = output() if expected.passes or expected.fails or expected.skips else ""
    if code == expected.skip_code or _found(expected.skips, said):
        return Outcome("skipped", f"exit code {code}" if code == expected.skip_code else "its output says so")
    if (found := _found(expected.fails, said)) is not None:
        verdict = Outcome("failed", f"its output matches {found!r}, which means that it has failed")
    elif expected.passes:
        good = _found(expected.passes, said) is not None
        wanted = ", ".join(map(repr, expected.passes))
        verdict = Outcome("passed") if good else Outcome("failed", f"its output matches none of {wanted}")
    else:
        verdict = Outcome("passed") if code == 0 else Outcome("failed", f"exit code {code}")
    if not expected.will_fail:
        return verdict
    return Outcome("passed") if verdict.verdict == "failed" else Outcome("failed", "it was to fail (WILL_FAIL), and has not")


def _found(patterns: tuple[str, ...], text: str) -> Optional[str]:
    """CMake's regular expressions are a subset of Python's, but for what nobody could mean."""
    return next((pattern for pattern in patterns if re.search(pattern, text)), None)
