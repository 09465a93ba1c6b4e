"""Whether the root zygote may be forked: found by looking, not by asking."""

from __future__ import annotations

import os
import re
import sys
import threading

# Opened by the first call into a GPU driver. A context does not survive a fork.
_GPU_DEVICES = re.compile(r"^/dev/(nvidia(\d+|ctl|-uvm)|kfd|dri/renderD\d+)$")


def reason_against() -> str:
    """Why forking is not safe here, as the end of a sentence; empty if nothing speaks against it."""
    return _threads() or _gpu() or _mpi()


def _threads() -> str:
    others = [t for t in threading.enumerate() if t is not threading.current_thread()]
    if others:
        names = ", ".join(sorted(t.name for t in others)[:5])
        return f"{len(others)} Python thread(s) are alive after collection ({names}), and a fork would copy none of them"
    # Threads that did not come from the threading module (_thread.start_new_thread, a C extension that runs Python).
    frames = len(sys._current_frames())
    if frames > 1:
        return f"{frames - 1} thread(s) run Python code after collection, and a fork would copy none of them"
    return ""


def _gpu() -> str:
    try:
        numbers = os.listdir("/proc/self/fd")
    except OSError:
        return ""
    for number in numbers:
        try:
            target = os.readlink(f"/proc/self/fd/{number}")
        except OSError:
            continue
        if _GPU_DEVICES.match(target):
            return f"a GPU driver is initialised after collection ({target} is open), and its contexts do not survive a fork"
    return ""


def _mpi() -> str:
    module = sys.modules.get("mpi4py.MPI")
    if module is None:
        return ""
    try:
        initialised = bool(module.Is_initialized()) and not module.Is_finalized()
    except Exception:
        return ""
    return "MPI is initialised after collection (mpi4py.MPI was imported), and does not survive a fork" if initialised else ""
