"""The shim in this very process: whether it is there, how it gets there, and which page it looks at."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Sequence

from holdfast.faults.errors import BadFault
from holdfast.faults.page import shim_path, with_shim

ADVICE = "add --hf-faults (hf_faults = true in the ini file), or run under `holdfast faults run -- COMMAND`"
_AGAIN = "HOLDFAST_FAULTS_AGAIN"


def is_loaded() -> bool:
    return hasattr(ctypes.CDLL(None), "holdfast_faults_attach")


def attach(path: str) -> None:
    """Raises BadFault."""
    problem = ctypes.CDLL(None).holdfast_faults_attach(os.fsencode(path))
    if problem != 0:
        raise BadFault(f"{path}: the shim cannot take this page: {os.strerror(problem)}")


def begin_again(arguments: Sequence[str]) -> None:
    """Starts this program anew with the shim in it, since LD_PRELOAD is read at a process's start only. Returns if it is there.
    Raises EngineMissing, and BadFault where the loader does not take it (a program with more rights than its user has)."""
    if is_loaded():
        os.environ.pop(_AGAIN, None)
        return
    if os.environ.get(_AGAIN):
        raise BadFault(f"LD_PRELOAD={shim_path()} was ignored by the loader; faults cannot be injected here")
    with_shim(os.environ)
    os.environ[_AGAIN] = "1"
    # The user's own words, with those of the interpreter, where it has kept them (Python 3.10).
    words = list(getattr(sys, "orig_argv", ())) or [sys.executable, "-m", "pytest", *arguments]
    os.execv(sys.executable, [words[0], *words[1:]])
