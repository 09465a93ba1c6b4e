"""The native stack that libcrashnote has written (shim/crashnote.c), for people: names, files and lines where they can be known."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from typing import NamedTuple, Optional

HEADING = "Native stack of the thread that died (most recent call first):"
# Frames that are shown; below them is the interpreter, again and again.
_SHOWN = 16
# How the names of functions begin that evaluate Python code.
EVALUATES = ("_PyEval_EvalFrame", "PyEval_EvalCode", "_PyFunction_Vectorcall")
# Seconds for naming the frames of one stack.
_LIMIT = 2.0
# As glibc's backtrace_symbols_fd() writes them: library(symbol+offset)[address], the symbol only where it is exported.
_FRAME = re.compile(r"^(?P<library>[^(]*)\((?P<symbol>[^+)]*)(?:\+(?P<offset>0x[0-9a-f]+))?\)\s*\[(?P<address>0x[0-9a-f]+)\]$")


class Frame(NamedTuple):
    library: str
    symbol: str
    offset: str

    def __str__(self) -> str:
        name = self.symbol or "??"
        return f"  {name} in {self.library.rpartition('/')[2]}{'' if self.symbol or not self.offset else ' at ' + self.offset}"


def show(block: str) -> str:
    """A block that begins with HEADING, as it is shown."""
    frames = [_parse(line) for line in block.split("\n")[1:]]
    known = [frame for frame in frames if frame is not None]
    if not known:
        return block
    shown = _above_the_interpreter(known)
    named = _look_up(shown)
    lines = [f"  {named[i]} in {frame.library.rpartition('/')[2]}" if i in named else str(frame) for i, frame in enumerate(shown)]
    if len(shown) < len(known):
        lines.append(f"  ... {len(known) - len(shown)} more, of the interpreter")
    return "\n".join([HEADING, *lines])


def _parse(line: str) -> Optional[Frame]:
    match = _FRAME.match(line.strip())
    return Frame(match["library"], match["symbol"], match["offset"] or "") if match is not None else None


def _above_the_interpreter(frames: list[Frame]) -> list[Frame]:
    """Up to the first frame that evaluates Python code: what is below is told better by the Python stack."""
    for position, frame in enumerate(frames):
        if position and frame.symbol.startswith(EVALUATES):
            return frames[: min(position + 1, _SHOWN)]
    return frames[:_SHOWN]


def _look_up(frames: Sequence[Frame]) -> dict[int, str]:
    """Names, files and lines of functions that are not exported, by the debug information of their libraries; by position."""
    wanted: dict[str, list[tuple[int, str]]] = {}
    for position, frame in enumerate(frames):
        if not frame.symbol and frame.offset and frame.library.startswith("/"):
            # All but the first are return addresses: of the next instruction, perhaps of the next line.
            place = frame.offset if position == 0 else hex(max(0, int(frame.offset, 16) - 1))
            wanted.setdefault(frame.library, []).append((position, place))
    found: dict[int, str] = {}
    deadline = time.monotonic() + _LIMIT
    for library, places in wanted.items():
        names = _ask(library, tuple(place for _, place in places), deadline - time.monotonic())
        found.update((position, name) for (position, _), name in zip(places, names) if name)
    return found


# What has been asked, and libraries that took too long.
_known: dict[tuple[str, tuple[str, ...]], list[str]] = {}
_slow: set[str] = set()


def _ask(library: str, places: tuple[str, ...], limit: float) -> list[str]:
    """One answer a place, empty where nobody knows."""
    tool = shutil.which("addr2line") or shutil.which("eu-addr2line")
    if tool is None or library in _slow or limit <= 0:
        return []
    if (library, places) not in _known:
        command = [tool, "-f", "-C", "-e", library, *places]
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=limit, check=False)
        except (OSError, subprocess.SubprocessError):
            _slow.add(library)
            return []
        lines = done.stdout.splitlines()
        _known[library, places] = [_named(name, place) for name, place in zip(lines[::2], lines[1::2])]
    return _known[library, places]


def _named(name: str, place: str) -> str:
    place = place.partition(" (")[0]
    if not name or name == "??":
        return ""
    return name if place.startswith("??") or place.endswith(":?") else f"{name} ({place})"
