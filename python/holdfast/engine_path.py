"""Where the engine and the libraries for Python processes are: in the installed package, unless the environment says otherwise."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Optional

ENGINE_VARIABLE = "HOLDFAST_ENGINE"
_BIN = Path(__file__).parent / "bin"


class EngineMissing(Exception):
    """The engine cannot be run; the text says why and what to do."""


def find_engine() -> str:
    """Path of an executable engine. Raises EngineMissing."""
    chosen = os.environ.get(ENGINE_VARIABLE)
    path = Path(chosen) if chosen else _BIN / "holdfast"
    if not path.is_file():
        origin = f"named by {ENGINE_VARIABLE}" if chosen else "which the wheel brings"
        raise EngineMissing(f"the engine binary {path}, {origin}, is missing; reinstall with `pip install --force-reinstall holdfast`")
    if not os.access(path, os.X_OK):
        raise EngineMissing(f"the engine binary {path} is not executable; `chmod +x` it or reinstall holdfast")
    return str(path)


def find_crashnote() -> Optional[str]:
    """Path of libcrashnote.so, or None: crashes are then reported without si_code and address."""
    return find_library("libcrashnote.so")


def find_forkloop() -> str:
    """Path of libforkloop.so. Raises EngineMissing."""
    path = find_library("libforkloop.so")
    if path is None:
        raise EngineMissing(
            "libforkloop.so, which the wheel brings, is missing; reinstall with `pip install --force-reinstall holdfast`"
        )
    return path


def find_library(name: str) -> Optional[str]:
    """Path of one of the libraries that the wheel brings, or None."""
    chosen = os.environ.get(ENGINE_VARIABLE)
    for directory in ([Path(chosen).parent] if chosen else []) + [_BIN]:
        path = directory / name
        if path.is_file():
            return str(path)
    return None
