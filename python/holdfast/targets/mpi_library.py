"""Which MPI library a program has: that says how its ranks find each other, and what they are told beforehand."""

from __future__ import annotations

import functools
import mmap
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Optional

from holdfast.targets.ask import machine_of
from holdfast.targets.model import Program

# Of what ldd says: libmpi.so.N is Open MPI's, but for 12, which MPICH and those that are made of it have agreed upon.
_LOADED = re.compile(r"\b(lib(?:mpi|mpich|mpi_[a-z]+)\.so\.\d+) => (\S+)")
# In a program that has its library in it,
_IN_PROGRAMS = (("Open MPI", (b"Open MPI v%",)), ("MPICH", (b"MPICH Version:\t",)))
# and in what launchers say of themselves.
_IN_WORDS = (("Open MPI", (b"Open MPI", b"OpenRTE", b"PRRTE", b"PRTE")), ("MPICH", (b"HYDRA", b"MPICH", b"Intel")))
# Seconds that the loader, a library or a launcher may take to say what it is.
_LIMIT = 20
# MPI_Get_library_version() may be called before MPI_Init (MPI 3.1, 8.1.1).
_ASK = (
    "import ctypes, sys; library = ctypes.CDLL(sys.argv[1]); text = ctypes.create_string_buffer(8192); length = ctypes.c_int(); "
    "library.MPI_Get_library_version(text, ctypes.byref(length)); sys.stdout.buffer.write(text.value)"
)


@dataclass(frozen=True)
class Library:
    """`text`: the first line of what MPI_Get_library_version says, or only the name that begins it. `path`: empty where it is a part of
    the program."""

    text: str
    path: str = ""


def library_of(command: Sequence[str], folder: str, environment: Iterable[str], launcher: str = "") -> Optional[Library]:
    """Of the first of the command's words that is a program with MPI; a script has none, then that of `launcher` counts, which was to
    start it, or of the mpiexec in PATH. None where there is nothing to go by. `folder`: in which it runs; `environment`: NAME=value, to
    add."""
    added = tuple(environment)
    for word in command:
        path = os.path.join(folder, word) if "/" in word else shutil.which(word) or ""
        if machine_of(path) and (found := _library_of_program(path, added)) is not None:
            return found
    for name in (launcher, "mpiexec", "mpirun"):
        if name and (path := shutil.which(name) or "") and (family := _family_of_launcher(path)):
            return Library(family)
    return None


@functools.lru_cache(maxsize=256)
def _library_of_program(path: str, added: tuple[str, ...]) -> Optional[Library]:
    environment = {**os.environ, **dict(pair.partition("=")[::2] for pair in added)}
    said = _said(["ldd", path], environment)
    loaded = _LOADED.search(said)
    if loaded is None:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            family = _family_in(content, _IN_PROGRAMS)
        return Library(family) if family else None
    return Library(_text_of(loaded[2], loaded[1]), loaded[2])


@functools.lru_cache(maxsize=16)
def _text_of(path: str, name: str) -> str:
    text = _said([sys.executable, "-I", "-S", "-c", _ASK, path], dict(os.environ)).replace("\0", "").strip().partition("\n")[0]
    return text or ("MPICH" if name in ("libmpi.so.12", "libmpich.so.12") else "Open MPI")


@functools.lru_cache(maxsize=16)
def _family_of_launcher(path: str) -> str:
    return _family_in(_said([path, "--version"], dict(os.environ)).encode(), _IN_WORDS)


def _family_in(content: Program, marks: tuple[tuple[str, tuple[bytes, ...]], ...]) -> str:
    return next((family for family, parts in marks if any(content.find(part) >= 0 for part in parts)), "")


def _said(command: list[str], environment: dict[str, str]) -> str:
    """Empty where it cannot be had."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_LIMIT, check=False, env=environment)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode(errors="replace")
