"""Which MPI library a program has: that says how its ranks find each other, and what they are told beforehand."""

from __future__ import annotations

import functools
import mmap
import os
import re
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Optional

from holdfast import launchers
from holdfast.targets.ask import ask, machine_of
from holdfast.targets.model import NoTarget

# Of what ldd says: libmpi.so.N is Open MPI's, but for 12, which MPICH and those that are made of it have agreed upon.
_LOADED = re.compile(r"\b(lib(?:mpi|mpich|mpi_[a-z]+)\.so\.\d+) => (\S+)")
# In a program that has its library in it.
_IN_PROGRAMS = (("Open MPI", (b"Open MPI v%",)), ("MPICH", (b"MPICH Version:\t",)))
# Seconds that the loader or a library may take to say what it is.
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
    loaded = _LOADED.search(_said(["ldd", path], dict(pair.partition("=")[::2] for pair in added)))
    if loaded is None:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            family = next((family for family, parts in _IN_PROGRAMS if any(content.find(part) >= 0 for part in parts)), "")
        return Library(family) if family else None
    return Library(_text_of(loaded[2], loaded[1]), loaded[2])


@functools.lru_cache(maxsize=16)
def _text_of(path: str, name: str) -> str:
    text = _said([sys.executable, "-I", "-S", "-c", _ASK, path]).replace("\0", "").strip().partition("\n")[0]
    return text or ("MPICH" if name in ("libmpi.so.12", "libmpich.so.12") else "Open MPI")


_family_of_launcher = functools.lru_cache(maxsize=16)(launchers.family_of)


def _said(command: list[str], environment: Optional[dict[str, str]] = None) -> str:
    """Empty where it cannot be had."""
    try:
        return ask(command, "its MPI library", _LIMIT, environment).output.decode(errors="replace")
    except NoTarget:
        return ""
