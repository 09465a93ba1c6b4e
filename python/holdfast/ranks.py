"""What is shown of a test with several MPI ranks: who failed first, who failed alike, who waited for whom. Pure."""

from __future__ import annotations

import os
import re
from typing import Any, Callable

from holdfast.wire import Frame

_PLACE = re.compile(r'^  File "(?P<file>.+)", line (?P<line>\d+) in (?P<name>.+)$', re.MULTILINE)
# Of the native stack, innermost first: what the code has called, also by its name for profilers.
_CALL = re.compile(r"\bP?(MPI_[A-Z][A-Za-z_0-9]*)\b")
_ADDRESS = re.compile(r"0x[0-9a-f]+")
_ENDED = "ended"
# On the Python stack of a rank that is a program: whatever waits for it says nothing of it.
_RUNS_PROGRAM = os.path.join("holdfast", "targets", "running.py")

Texts = Callable[[Frame], str]


def named(numbers: list[int]) -> str:
    """`rank 3`, `ranks 0, 2-5`."""
    parts: list[str] = []
    for first, last in _spans(numbers):
        parts.append(str(first) if first == last else f"{first}, {last}" if last == first + 1 else f"{first}-{last}")
    return f"rank{'s' if len(numbers) > 1 else ''} {', '.join(parts)}"


def _spans(numbers: list[int]) -> list[tuple[int, int]]:
    spans: list[tuple[int, int]] = []
    for number in numbers:
        if spans and spans[-1][1] == number - 1:
            spans[-1] = (spans[-1][0], number)
        else:
            spans.append((number, number))
    return spans


def summary(detail: Frame, headline: Texts) -> str:
    """A line for each group of ranks that ended alike, those that had failed first. `headline`: of what is no verdict of pytest."""
    groups: dict[str, list[int]] = {}
    codes = {entry["mpi_abort"] for entry in detail["ranks"] if "mpi_abort" in entry}
    for number, entry in enumerate(detail["ranks"]):
        ended = entry["verdict"] == "exited" and "mpi_abort" not in entry and entry.get("code") in codes
        groups.setdefault("ended by that" if ended else _how(entry, headline), []).append(number)
    first = detail.get("rank", 0)
    lines = []
    for text, numbers in sorted(groups.items(), key=lambda group: (first not in group[1], group[1])):
        lines.append(f"{named(numbers)}: {text}")
    return "\n".join(lines)


def _how(entry: Frame, headline: Texts) -> str:
    verdict = entry["verdict"]
    if "mpi_abort" in entry:
        return f"called MPI_Abort({entry['mpi_abort']})"
    if verdict == _ENDED:
        return f"waited{where(entry)} when it was ended for the others' failure"
    if verdict == "timeout":
        return f"not finished after {entry.get('limit', 0):g} s{where(entry)}"
    if verdict in ("crashed", "exited", "oom"):
        return headline(entry)
    return str(verdict)


def where(entry: Frame) -> str:
    """` in MPI_Recv at halo.py:17 (exchange)`, as far as it is known."""
    processes = entry.get("processes", ())
    stacks = str(entry.get("stacks") or "")
    waits_for_program = _RUNS_PROGRAM in stacks
    call = None
    for process in processes if waits_for_program else processes[:1]:
        call = call or _CALL.search(_native_text(process))
    place = _innermost(stacks) if not waits_for_program else ""
    text = f" in {call[1]}" if call is not None else ""
    return text + (f" at {place}" if place else "")


def _native_text(process: Any) -> str:
    if isinstance(process, dict):
        return "\n".join(_native_text(value) for key, value in process.items() if key != "python")
    if isinstance(process, (list, tuple)):
        return "\n".join(_native_text(value) for value in process)
    return str(process)


def _innermost(stacks: str) -> str:
    """Of the main thread, which faulthandler writes last."""
    match = _PLACE.search(stacks.strip().split("\n\n")[-1])
    return f"{match['file'].rpartition('/')[2]}:{match['line']} ({match['name']})" if match is not None else ""


def others(detail: Frame, text_of: Texts) -> list[tuple[str, str]]:
    """A section for each group of the other ranks that failed alike. `text_of`: what a rank's report says, empty for one that is
    good."""
    size = len(detail["ranks"])
    first = detail.get("rank", 0)
    groups: dict[str, tuple[str, list[int]]] = {}
    for number, entry in enumerate(detail["ranks"]):
        text = text_of(entry) if entry["verdict"] not in (_ENDED, "exited") else ""
        if text:
            groups.setdefault(_ADDRESS.sub("0x", text), (text, []))[1].append(number)
    sections = []
    for text, numbers in groups.values():
        if first in numbers:
            if len(numbers) > 1:
                sections.append(("Holdfast: the same on", named([number for number in numbers if number != first])))
            continue
        sections.append((f"Holdfast: {named(numbers)} of {size}", text))
    return sections


def outputs(detail: Frame, sections_of: Callable[[Frame], list[tuple[str, str]]]) -> list[tuple[str, str]]:
    """What the other ranks have printed."""
    found = []
    for number, entry in enumerate(detail["ranks"]):
        if number != detail.get("rank", 0):
            found += [(f"{title}, rank {number}", text) for title, text in sections_of(entry)]
    return found


def prefix(detail: Frame) -> str:
    """For one-line messages."""
    return f"[rank {detail.get('rank', 0)} of {len(detail['ranks'])}] "
