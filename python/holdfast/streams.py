"""Puts the engine's files under pytest's output capture, so that output survives the process that wrote it.

pytest's fd capture writes to an unnamed temporary file. Its descriptor is replaced here, in place, by a memory file that the
engine holds too: pytest reads and truncates it as ever, and after a crash the engine reads what is left. Python's and native
output go through the same file, so their order is kept.
"""

from __future__ import annotations

import fcntl
import os
import resource
import sys
from typing import Any

import pytest

# Files that nobody may close by letting them go out of scope.
_kept: list[Any] = []


def null_stdin() -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)


def _fd_captures(config: pytest.Config) -> list[Any]:
    """pytest's own captures of descriptors 1 and 2; None in the place of one that is not captured at that level."""
    manager: Any = config.pluginmanager.getplugin("capturemanager")
    multi = getattr(manager, "_global_capturing", None)
    captures = [getattr(multi, "out", None), getattr(multi, "err", None)]
    return [c if hasattr(c, "tmpfile") and hasattr(c, "targetfd_save") else None for c in captures]


def attach(config: pytest.Config, out_fd: int, err_fd: int, stream_fd: int) -> None:
    """Captured output goes to `out_fd` and `err_fd`; what bypasses the capture (-s, --capture=sys, `capsys.disabled()`) goes to
    `stream_fd`. All forks of this process share these files."""
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        _flush(stream)
    for number, capture, file_fd in zip((1, 2), _fd_captures(config), (out_fd, err_fd)):
        if capture is None:
            os.dup2(stream_fd, number)
            continue
        os.dup2(file_fd, capture.tmpfile.fileno(), inheritable=False)
        os.dup2(stream_fd, capture.targetfd_save, inheritable=False)
        _move_out_of_the_way(capture, file_fd)
        if getattr(capture, "_state", "") == "started":
            os.dup2(file_fd, number)
        else:
            os.dup2(stream_fd, number)
    for stream in (sys.__stdout__, sys.__stderr__):
        # Not a terminal: Python would hold the lines back, and lose them in a crash.
        if stream is not None and hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=True, write_through=True)


def _move_out_of_the_way(capture: Any, file_fd: int) -> None:
    """pytest's own descriptors go to high numbers, so that a test that closes the low ones does not take its own report along. The old
    file stays open: modules may have kept it as their sys.stdout while they were imported."""
    old = capture.tmpfile
    _kept.append(old)
    file = open(out_of_the_way(os.dup(file_fd)), "w+b", buffering=0)
    new = type(old)(file, encoding=old.encoding, errors=old.errors, newline="", write_through=True)
    capture.tmpfile = new
    capture.targetfd_save = out_of_the_way(capture.targetfd_save)
    system = capture.syscapture
    if getattr(system, "tmpfile", None) is old:
        system.tmpfile = new
        for name in ("stdout", "stderr"):
            if getattr(sys, name) is old:
                setattr(sys, name, new)


def high_descriptor() -> int:
    """The lowest number for descriptors that a test which closes or writes to the low ones should not hit. Not higher: every fork
    copies the table up to the highest number (0.1 ms for 8,192)."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(3, min(soft - 64, 4000))


def out_of_the_way(fd: int) -> int:
    """Moves a descriptor to a high number."""
    try:
        moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, high_descriptor())
    except (OSError, ValueError):
        return fd
    os.close(fd)
    return moved


def _flush(stream: Any) -> None:
    try:
        stream.flush()
    except Exception:  # A stream that a module has closed or replaced is its own affair.
        pass


def flush_all() -> None:
    for stream in {id(s): s for s in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)}.values():
        _flush(stream)
