"""Whether the root zygote may be forked: found by looking, not by asking."""

from __future__ import annotations

import os
import re
import socket
import sys
import threading

# Opened by the first call into a GPU driver. A context does not survive a fork.
_GPU_DEVICES = re.compile(r"^/dev/(nvidia(\d+|ctl|-uvm)|kfd|dri/renderD\d+)$|^/memfd:simgpu")

# What a loop of asyncio, uvloop or trio waits with.
_EVENT_LOOPS = ("anon_inode:[eventpoll]", "anon_inode:[io_uring]")


def reason_against() -> str:
    """Why forking is not safe here, as the end of a sentence; empty if nothing speaks against it."""
    return _threads() or _gpu() or _mpi()


def descriptors() -> dict[int, str]:
    """What each open descriptor refers to."""
    found = {}
    for number in os.listdir("/proc/self/fd"):
        try:
            found[int(number)] = os.readlink(f"/proc/self/fd/{number}")
        except OSError:
            continue  # The one of listdir itself.
    return found


def reason_since(before: dict[int, str]) -> str:
    """Why this process can no longer be forked, for something that was not there `before` (or that nothing but a look at the whole
    process shows); empty if nothing speaks against it."""
    reason = _threads() or _mpi() or _multiprocessing()
    if reason:
        return reason
    for number, target in descriptors().items():
        if before.get(number) == target:
            continue
        if _GPU_DEVICES.match(target):
            return f"a GPU driver is initialised ({target} is open), and its contexts do not survive a fork"
        if target in _EVENT_LOOPS:
            return "an event loop is there, and forks would share its descriptor"
        if target.startswith("socket:") and _is_connected(number):
            return "a connection is open, and forks would all speak over it"
    return ""


def _multiprocessing() -> str:
    """A process of subprocess is no hindrance: holdfast/inherited.py."""
    module = sys.modules.get("multiprocessing.process")
    if any(child.is_alive() for child in list(getattr(module, "_children", ()))):
        return "a process of multiprocessing runs, and only the one that has started it may ask for it"
    return ""


def _is_connected(number: int) -> bool:
    try:
        with socket.socket(fileno=os.dup(number)) as copy:
            copy.getpeername()
            return copy.type & socket.SOCK_DGRAM == 0 or copy.family == socket.AF_UNIX
    except OSError:
        return False


def _threads() -> str:
    others = [t for t in threading.enumerate() if t is not threading.current_thread()]
    if others:
        names = ", ".join(sorted(t.name for t in others)[:5])
        return f"{len(others)} Python thread(s) are alive ({names}), and a fork would copy none of them"
    # Threads that did not come from the threading module (_thread.start_new_thread, a C extension that runs Python).
    frames = len(sys._current_frames())
    if frames > 1:
        return f"{frames - 1} thread(s) run Python code, and a fork would copy none of them"
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
