"""Processes below this one, and how they are ended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Collection


def children_of(pid: int) -> list[int]:
    """Direct children, zombies included; empty where /proc does not tell."""
    found: list[int] = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children", "rb") as file:
                found.extend(int(number) for number in file.read().split())
    except OSError:
        pass
    return found


def command_of(pid: int) -> str:
    """The command line, at most 500 bytes, or the name in brackets of a process that has none; empty for one that is gone."""
    for name, shape in (("cmdline", "{}"), ("comm", "[{}]")):
        try:
            with open(f"/proc/{pid}/{name}", "rb") as file:
                text = file.read(500).replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            return ""
        if text:
            return shape.format(text)
    return ""


def resident_bytes() -> int:
    """Of this process; 0 where /proc does not tell."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


def is_running(pid: int) -> bool:
    """False for zombies and for processes that are gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except (OSError, IndexError):
        return False


def descendants_of(pid: int, without: Collection[int] = ()) -> list[int]:
    """But for `without` and what is below those."""
    found = [p for p in children_of(pid) if p not in without]
    for other in found:  # Grows while it is walked.
        found.extend(p for p in children_of(other) if p not in found and p not in without)
    return found


def kill_descendants(pid: int, spared: Collection[int] = ()) -> None:
    """SIGKILL until a pass finds nothing running, at most 100 passes; but not to `spared` and what is below those."""
    for _ in range(100):
        targets = [p for p in descendants_of(pid, spared) if is_running(p)]
        if not targets:
            return
        for target in targets:
            try:
                os.kill(target, signal.SIGKILL)
            except OSError:
                pass


def end_child(child: subprocess.Popen[bytes], grace: float) -> None:
    """SIGTERM, and SIGKILL after `grace` seconds. It is reaped."""
    child.send_signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(grace)
    child.kill()
    child.wait()
