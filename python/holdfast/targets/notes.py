"""What a program that is a test says when it dies: libcrashnote is loaded into it, as it is into Python (crash.py)."""

from __future__ import annotations

import contextlib
import functools
import mmap
import os
from collections.abc import Iterator, Mapping

from holdfast.engine_path import find_crashnote

_PAGE = 4096
# Of the slate (protocol/slate.md): what is noted of a crash.
_NOTE = slice(24, 48)
_MOST = 64 << 10
# Their runtimes want to be the first library, and write stacks of their own.
_SANITIZERS = (b"__asan_init", b"__tsan_init", b"__msan_init")


@contextlib.contextmanager
def memory_file(name: str) -> Iterator[int]:
    """The descriptor of a file that is nowhere on a disk."""
    number = os.memfd_create(name)
    try:
        yield number
    finally:
        os.close(number)


class Notes:
    """For one run of a program: `word`, as it is called in `folder`. Close it."""

    def __init__(self, word: str, folder: str) -> None:
        self._word = word
        program = self._program = os.path.join(os.path.abspath(folder), word)
        self._library = find_crashnote() if _can_load(program) else None
        self._page = self._stacks = -1
        if self._library is not None:
            self._page, self._stacks = os.memfd_create("holdfast-note"), os.memfd_create("holdfast-stacks")
            os.ftruncate(self._page, _PAGE)

    @property
    def descriptors(self) -> tuple[int, ...]:
        """That the program is to inherit."""
        return (self._page, self._stacks) if self._library is not None else ()

    def environment(self, given: Mapping[str, str]) -> dict[str, str]:
        """With what makes the loader load the library; that puts LD_PRELOAD back as it was (shim/crashnote.c)."""
        found = dict(given)
        if self._library is not None:
            before = found.get("LD_PRELOAD", "")
            found["LD_PRELOAD"] = f"{self._library}:{before}" if before else self._library
            found["HOLDFAST_CRASHNOTE"] = f"{self._page},{self._stacks},{before}"
        return found

    def read(self) -> tuple[bytes, str]:
        """The note, as it is on a slate, and the native stack; empty for none."""
        if self._library is None:
            return b"", ""
        note = os.pread(self._page, _PAGE, 0)[_NOTE]
        stacks = os.pread(self._stacks, _MOST, 0).decode(errors="replace")
        # Its own frames have the word by which it was called, which means nothing in another folder.
        stacks = "\n".join(
            f"{self._program}{line[len(self._word) :]}" if line.startswith(f"{self._word}(") else line for line in stacks.split("\n")
        )
        return note if any(note) else b"", stacks

    def close(self) -> None:
        for fd in self.descriptors:
            os.close(fd)


@functools.lru_cache(maxsize=64)
def _can_load(program: str) -> bool:
    try:
        with open(program, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content[:4] == b"\x7fELF" and all(content.find(name) < 0 for name in _SANITIZERS)
    except (OSError, ValueError):
        return False
