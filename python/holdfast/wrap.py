"""`--hf-wrap`: each test's process runs under a tool (valgrind, compute-sanitizer, strace, rr, any command), its children do not.

A tool starts a program, so the tests run in cold processes (cold.py), one each. What the tool writes goes to a file of the slot, which
the engine attaches to the test. Deadlines are multiplied, since everything is slower.
"""

from __future__ import annotations

import shlex
import shutil
from dataclasses import dataclass, field

import pytest

# In a command: where the tool is to write.
LOG = "{log}"


@dataclass(frozen=True)
class Tool:
    """How it is started; the user's own words go behind that."""

    command: tuple[str, ...]
    # Times that a test may take longer.
    scale: float
    environment: dict[str, str] = field(default_factory=dict)
    package: str = ""


_KNOWN = {
    # Python's own allocator hides what is read after it was freed. Children are not followed by default; said for people who read.
    "valgrind": Tool(("valgrind", "--trace-children=no", f"--log-file={LOG}"), 30, {"PYTHONMALLOC": "malloc"}, "valgrind"),
    # Its children without it: a child that is slowed down is what hung CI for hours (holdfast.children, child_timeout_sec()).
    "compute-sanitizer": Tool(
        ("compute-sanitizer", "--target-processes", "application-only", "--log-file", LOG), 4, {"CUDA_PYTHON_UNDER_SANITIZER": "1"}
    ),
    "strace": Tool(("strace", "-o", LOG), 5, {}, "strace"),
    "rr": Tool(("rr", "record"), 5, {}, "rr"),
}


@dataclass(frozen=True)
class Wrap:
    name: str
    command: list[str]
    environment: dict[str, str]
    scale: float


def parse(text: str, scale: float) -> Wrap:
    """Of the option's value: a tool's name, with its options behind it, or any command. `scale`: 0 for the tool's own. Raises
    pytest.UsageError."""
    try:
        words = shlex.split(text)
    except ValueError as problem:
        raise pytest.UsageError(f"--hf-wrap={text!r} is no command line: {problem}") from None
    if not words:
        raise pytest.UsageError("--hf-wrap wants a tool (valgrind, compute-sanitizer, strace, rr) or a command")
    tool = _KNOWN.get(words[0], Tool((words[0],), 1))
    if shutil.which(words[0]) is None:
        hint = f"; `apt-get install {tool.package}` brings it" if tool.package else ""
        raise pytest.UsageError(f"--hf-wrap: there is no program {words[0]!r} on PATH{hint}")
    return Wrap(words[0], [*tool.command, *words[1:]], tool.environment, scale or tool.scale)
