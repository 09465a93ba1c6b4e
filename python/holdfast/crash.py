"""What a process says when it dies or hangs: Python stacks by faulthandler, signal and address by libcrashnote.

faulthandler writes from inside its C signal handler, so it also works in a process that holds the GIL, loops in C, or ignores
SIGINT. No ptrace is needed.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
from typing import Any, Optional

from holdfast.engine_path import find_crashnote
from holdfast.slate import Slate

# The engine sends it to ask for the stacks (engine/run/slot.cc). A real-time signal that glibc and common libraries leave alone.
STACK_SIGNAL = 52

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

libc = ctypes.CDLL(None, use_errno=True)
_crashnote: Any = None
_slate: Optional[Slate] = None
# Where the slate has what is noted of a crash, and how much that is (protocol/slate.md).
_NOTE_AT, _NOTE_SIZE = 24, 24


def arm(stacks_fd: int, slate: Slate) -> None:
    """Sends the stacks of this process and its forks to `stacks_fd`, and crash notes to `slate`."""
    global _crashnote, _slate
    _slate = slate
    faulthandler.enable(file=stacks_fd, all_threads=True)
    # The signal mask is inherited over exec; a user's launcher may have blocked everything.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {STACK_SIGNAL})
    faulthandler.register(STACK_SIGNAL, file=stacks_fd, all_threads=True, chain=False)
    path = find_crashnote()
    if path is None:
        return
    _crashnote = ctypes.CDLL(path)
    _crashnote.crashnote_arm.argtypes = [ctypes.c_void_p, ctypes.c_int]
    _crashnote.crashnote_arm(slate.address, stacks_fd)


def note_of_program(note: bytes) -> None:
    """The crash of the program that this process runs as its test, in the place of its own; empty for none."""
    if _slate is not None:
        _slate.write(_NOTE_AT, note.ljust(_NOTE_SIZE, b"\0")[:_NOTE_SIZE])


def keep() -> None:
    """A process that crashes stops first, for a debugger."""
    if _crashnote is not None:
        _crashnote.crashnote_keep(1)


def own() -> None:
    """After a fork, in the process whose crash counts."""
    if _crashnote is not None:
        _crashnote.crashnote_own()


def begin_process(parent: int) -> bool:
    """First thing in a forked test's process: own its notes, die with `parent`, have a session of its own (signals that a test sends to
    its process group reach nobody else). False if `parent` has ended already."""
    if _crashnote is not None:
        return int(_crashnote.crashnote_begin(parent)) == 0
    alive = die_with_parent(parent)
    os.setsid()
    return alive


def die_with_parent(parent: int, number: int = signal.SIGKILL) -> bool:
    """Asks the kernel to send this process that signal when its parent ends. False if `parent` has ended already."""
    libc.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
    # The parent may have died between the fork and the call.
    return os.getppid() == parent


def live_on() -> None:
    """Takes back what begin_process() asked for: this process does not die with its parent."""
    libc.prctl(_PR_SET_PDEATHSIG, 0, 0, 0, 0)


def reap_orphans_here() -> None:
    """Makes this process the parent of whatever its descendants leave behind."""
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
