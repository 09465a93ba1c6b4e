"""The run's folder of pages: a test's page is found by its id, also by the controller, after the test's process has died."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Optional

from holdfast.faulted import FOLDER
from holdfast.faults.errors import FaultError
from holdfast.faults.lab import Evidence, memory_folder
from holdfast.faults.page import Page
from holdfast.native import EVALUATES

_FRAMES = 20


def make_folder() -> Path:
    """In memory where there is such a place. The caller removes it."""
    folder = tempfile.mkdtemp(prefix="holdfast-faults-", dir=memory_folder())
    os.environ[FOLDER] = folder
    return Path(folder)


def remove_folder(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _stem(nodeid: str) -> str:
    return hashlib.sha256(nodeid.encode(errors="surrogatepass")).hexdigest()[:24]


def path_for(nodeid: str) -> Optional[Path]:
    """Of this process: ranks of a test have one each. None where there is no folder, as on another machine."""
    folder = os.environ.get(FOLDER)
    if not folder or not os.path.isdir(folder):
        return None
    rank = next((os.environ[name] for name in ("PMIX_RANK", "PMI_RANK") if name in os.environ), "")
    return Path(folder) / f"{_stem(nodeid)}-{rank if rank.isdecimal() else 'alone'}"


def line(title: str, evidence: Evidence) -> str:
    """What has become of a fault, in one line."""
    if not evidence.struck:
        return f"{title}: not seen by any call ({evidence.watched} watched)"
    text = f"{title}: struck {evidence.struck} call{'s' if evidence.struck > 1 else ''}"
    first = evidence.first
    if first is not None:
        text += f", first {first.function}, call {first.call} of process {first.pid}, device {first.device}"
    return text


def left_by(folder: Path, nodeid: str) -> list[str]:
    """Lines about the faults of a test whose process has died, and the stack of the first call that each has struck. Removes its
    pages. Untrusted: the process could write anything there."""
    lines: list[str] = []
    for path in sorted(folder.glob(f"{_stem(nodeid)}-*")):
        with contextlib.suppress(FaultError, OSError, ValueError, KeyError, TypeError):
            lines += _lines_of(path)
        path.unlink(missing_ok=True)
    return lines


def _lines_of(path: Path) -> list[str]:
    page = Page(path)
    try:
        entries = page.report()["faults"]
        page.heal_all()
    finally:
        page.close()
    lines = []
    rank = path.name.rpartition("-")[2]
    for entry in entries:
        evidence = Evidence.of(entry)
        lines.append((f"rank {rank}: " if rank.isdecimal() else "") + line(str(entry["name"]), evidence))
        if evidence.first is not None:
            lines += [f"    {frame}" for frame in _above_the_interpreter(evidence.first.stack.splitlines())]
    return lines


def _above_the_interpreter(frames: list[str]) -> list[str]:
    """Up to the first frame that evaluates Python code: what is below is told better by the Python stack."""
    for position, frame in enumerate(frames):
        if frame.startswith(EVALUATES):
            frames = [*frames[: position + 1], f"... {len(frames) - position - 1} more, of the interpreter"]
            break
    return frames[:_FRAMES]
