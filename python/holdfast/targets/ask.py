"""Asks a program for something, and is not harmed by what it does instead."""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Optional, Union

from holdfast import crash
from holdfast.targets.model import NoTarget

# Bytes; a hundred thousand tests with long names are a tenth of it.
_MOST = 64 << 20
_WORDS = 400
_END = 5.0
# They would make it tell a part of its tests, or write and repeat what nobody asked for.
NOT_THEIRS = frozenset(
    (
        *(f"GTEST_{name}" for name in ("TOTAL_SHARDS", "SHARD_INDEX", "SHARD_STATUS_FILE", "FILTER", "OUTPUT", "REPEAT", "LIST_TESTS")),
        *("TEST_TOTAL_SHARDS", "TEST_SHARD_INDEX", "TEST_SHARD_STATUS_FILE", "TESTBRIDGE_TEST_ONLY", "BAZEL_TEST", "XML_OUTPUT_FILE"),
    )
)
_MACHINES = {3: "i386", 8: "mips", 20: "ppc", 21: "ppc64", 22: "s390x", 40: "arm", 62: "x86_64", 183: "aarch64", 243: "riscv"}


@dataclass(frozen=True)
class Answer:
    code: int  # As subprocess has it: negative for a signal.
    output: bytes
    errors: bytes


def ask(
    command: Sequence[str], question: str, seconds: float, environment: Optional[Mapping[str, str]] = None, *, whole: bool = True
) -> Answer:
    """Ends it, with all that it has started in its session, after `seconds`. `whole`: all that it writes is wanted, at most 64 MiB,
    and otherwise the end. Raises NoTarget: `question` is what it was asked for."""
    own = {name: value for name, value in os.environ.items() if name not in NOT_THEIRS}
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**own, **(environment or {})},
            start_new_session=True, preexec_fn=functools.partial(crash.die_with_parent, os.getpid()),
        )  # fmt: skip
    except OSError as problem:
        raise NoTarget(why_not_run(command[0], problem)) from None
    try:
        return _hear(process, question, seconds, whole=whole)
    finally:
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pipe in (process.stdout, process.stderr):
            assert pipe is not None
            pipe.close()


def _hear(process: subprocess.Popen[bytes], question: str, seconds: float, *, whole: bool) -> Answer:
    assert process.stdout is not None
    assert process.stderr is not None
    output, errors = bytearray(), bytearray()
    heard = {process.stdout.fileno(): output, process.stderr.fileno(): errors}
    deadline = time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        for fd in heard:
            selector.register(fd, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(max(0.0, deadline - time.monotonic()))
            if not ready:
                raise NoTarget(f"has not ended within {seconds:g} s after it was asked for {question}{_last(output, errors)}")
            for key, _ in ready:
                block = os.read(key.fd, 1 << 16)
                heard[key.fd] += block
                if not block:
                    selector.unregister(key.fd)
                if not whole:
                    del heard[key.fd][:-_WORDS]
            if sum(map(len, heard.values())) > _MOST:
                raise NoTarget(f"has written more than {_MOST >> 20} MiB when it was asked for {question}{_last(output, errors)}")
    try:
        code = process.wait(max(_END, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        raise NoTarget(f"has closed its output and not ended after it was asked for {question}") from None
    if code < 0:
        raise NoTarget(f"died of {_signal(-code)} when it was asked for {question}{_last(output, errors)}")
    return Answer(code, bytes(output), bytes(errors))


def last_words(answer: Answer) -> str:
    """The rest of a sentence: how it has ended and what it wrote last."""
    return f"; it has ended with {answer.code}{_last(answer.output, answer.errors)}"


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _last(output: Union[bytes, bytearray], errors: Union[bytes, bytearray]) -> str:
    text = (errors.strip() or output.strip())[-_WORDS:].decode(errors="replace")
    return f"; its last words: {text}" if text else ""


def why_not_run(path: str, problem: OSError) -> str:
    machine = machine_of(path)
    if machine not in ("", platform.machine()):
        return f"is a program for {machine}, and this machine is {platform.machine()}"
    if isinstance(problem, PermissionError):
        return f"may not be run ({problem.strerror}); chmod +x {path}"
    return f"cannot be run: {problem.strerror}"


def machine_of(path: str) -> str:
    """For which an ELF file was made (elf(5), e_machine); empty where it is none or another one."""
    try:
        with open(path, "rb") as file:
            head = file.read(20)
    except OSError:
        return ""
    if len(head) < 20 or head[:4] != b"\x7fELF":
        return ""
    return _MACHINES.get(int.from_bytes(head[18:20], "little" if head[5] == 1 else "big"), "")
