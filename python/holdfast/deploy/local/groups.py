"""Control groups (cgroups(7)) of the local cluster: one for each node, in it one for each pod, in that one for each container. What
is in a group ends as a whole, whatever its processes have done to get away, and has no more memory than its container may have.

The kill is that of v2 (`cgroup.kill`, Linux 5.14; a v2 hierarchy may stand beside those of v1). The memory is v1's, where that
has the controller, or v2's, where it may be enabled: not beside processes that live in the parent itself ("no internal processes").
Who may make no groups has empty ones, which keep nobody and end nothing; pods are then known by their mark (container.py).
"""

from __future__ import annotations

import fcntl
import os
import secrets
import select
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

_ROOT = Path("/sys/fs/cgroup")
_V2 = (_ROOT / "unified", _ROOT)
_PREFIX = "hf-nodes-"
_DIE = 5.0  # Seconds from the kill until all have ended; the kernel has no limit.
_TRIES = 3


@dataclass(frozen=True)
class _Folder:
    path: Path
    v2: bool
    memory: bool  # Whether it can be limited.

    def child(self, name: str) -> Optional[_Folder]:
        """None where it cannot be made."""
        memory = self.memory and (not self.v2 or _write(self.path / "cgroup.subtree_control", "+memory"))
        path = self.path / name
        try:
            path.mkdir(exist_ok=True)
        except OSError:
            return None
        return _Folder(path, self.v2, memory)


class Group:
    """A folder in each hierarchy that is used."""

    def __init__(self, folders: list[_Folder]) -> None:
        self._folders = folders

    def child(self, name: str) -> Group:
        return Group([made for one in self._folders if (made := one.child(name)) is not None])

    def limit(self, memory: int) -> bool:
        """To so many bytes; of who needs more, the kernel kills. False where that cannot be."""
        one = self._with_memory()
        if one is None:
            return False
        limit = str(memory)
        if not _write(one.path / ("memory.max" if one.v2 else "memory.limit_in_bytes"), limit):
            return False
        # Swap would let it go on, slowly. The file is missing where swap is not accounted for.
        _write(one.path / ("memory.swap.max" if one.v2 else "memory.memsw.limit_in_bytes"), "0" if one.v2 else limit)
        return True

    def join(self) -> None:
        """This process, and what it starts from now on. Raises OSError."""
        for one in self._folders:
            file = os.open(one.path / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(file, b"0")
            finally:
                os.close(file)

    def memory_kills(self) -> int:
        """Processes of it that the kernel has killed for want of memory, so far."""
        one = self._with_memory()
        if one is None:
            return 0
        lines = _read(one.path / ("memory.events" if one.v2 else "memory.oom_control")).splitlines()
        return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)

    def end(self) -> bool:
        """SIGKILL for all that is in it and below, at once; waits until they have ended. False where that is not known."""
        one = next((one for one in self._folders if one.v2), None)
        return one is not None and _write(one.path / "cgroup.kill", "1") and _wait_until_empty(one.path / "cgroup.events")

    def remove(self) -> None:
        """With all below; what has processes in it stays."""
        for one in self._folders:
            for path, _, _ in os.walk(one.path, topdown=False):
                try:
                    os.rmdir(path)
                except OSError:
                    continue

    def _with_memory(self) -> Optional[_Folder]:
        return next((one for one in self._folders if one.memory), None)


class Cluster:
    """The group of all nodes, below our own; gone with what is in it after close()."""

    def __init__(self) -> None:
        self._locks: list[int] = []
        made = []
        for parent in _own():
            _remove_stale(parent)
            if (own := _make(parent)) is not None:
                made.append(own[0])
                self._locks.append(own[1])
        self.group = Group(made)

    def close(self) -> None:
        self.group.end()
        self.group.remove()
        for lock in self._locks:
            os.close(lock)


def _own() -> Iterator[_Folder]:
    """The groups of this process that are of use: of v2, and of v1 for memory."""
    v1 = False
    lines = _read(Path("/proc/self/cgroup")).splitlines()
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            v1 = True
            yield _Folder(_ROOT / controllers / path.lstrip("/"), False, True)
    for line in lines:
        if line.startswith("0::"):
            for mount in _V2:
                folder = mount / line[4:]
                if (folder / "cgroup.controllers").exists():
                    yield _Folder(folder, True, not v1)
                    break


def _make(parent: _Folder) -> Optional[tuple[_Folder, int]]:
    """One of our own and its lock; None where that cannot be."""
    for _ in range(_TRIES):
        made = parent.child(_PREFIX + secrets.token_hex(4))
        if made is None:
            return None
        lock = _lock(made.path)
        # Before it had its lock, it looked like one that nobody has any more.
        if lock is not None and made.path.exists():
            return made, lock
        if lock is not None:
            os.close(lock)
    return None


def _remove_stale(parent: _Folder) -> None:
    """Of clusters that were killed. One that runs holds a lock on its folder, whatever name space it counts its processes in."""
    for path in parent.path.glob(_PREFIX + "*"):
        lock = _lock(path)
        if lock is None:
            continue
        stale = Group([_Folder(path, parent.v2, False)])
        stale.end()
        stale.remove()
        os.close(lock)


def _lock(folder: Path) -> Optional[int]:
    try:
        file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return file
    except OSError:
        os.close(file)
        return None


def _wait_until_empty(events: Path) -> bool:
    """The kernel tells who polls the file of each change (cgroups(7))."""
    try:
        file = os.open(events, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        changed = select.poll()
        changed.register(file, select.POLLPRI)
        deadline = time.monotonic() + _DIE
        while b"populated 0" not in os.pread(file, 4096, 0):
            rest = deadline - time.monotonic()
            if rest <= 0:
                return False
            changed.poll(rest * 1000)
        return True
    finally:
        os.close(file)


def _write(path: Path, text: str) -> bool:
    """Into a file that is there."""
    try:
        file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.write(file, text.encode()) == len(text)
    except OSError:
        return False
    finally:
        os.close(file)


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
