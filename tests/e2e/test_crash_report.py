"""What the report of a crash says."""

from __future__ import annotations

import re
import subprocess
from typing import Any

import pytest


def test_signal_code_address_phase_stack_and_output(suite: Any) -> None:
    suite.write(
        test_it="""
import ctypes, os
def test_reads_null():
    print("said by python")
    os.write(1, b"said by native\\n")
    print("said last")
    os.write(2, b"on stderr\\n")
    ctypes.string_at(8)
"""
    )
    run = suite.run()
    assert run.short() == {"test_reads_null": "crashed"}
    assert "crashed in call: SIGSEGV (SEGV_MAPERR, address 0x8)" in run.output
    assert "line 8 in test_reads_null" in run.output
    said = [run.output.index(text) for text in ("said by python", "said by native", "said last")]
    assert said == sorted(said)
    assert "on stderr" in run.output


def test_who_sent_a_signal_is_said(suite: Any) -> None:
    suite.write(test_it="import os, signal\ndef test_it(): os.kill(os.getpid(), signal.SIGABRT)\n")
    run = suite.run()
    assert "SIGABRT (SI_USER, sent by process" in run.output


def test_a_failure_before_the_crash_is_kept(suite: Any) -> None:
    suite.write(
        test_it="""
import ctypes, pytest
@pytest.fixture
def dies():
    yield
    ctypes.string_at(0)
def test_it(dies):
    product = 42
    assert product == 41
"""
    )
    run = suite.run()
    assert run.short() == {"test_it": "crashed"}
    assert "assert 42 == 41" in run.output
    assert "crashed in teardown: SIGSEGV" in run.output


def test_a_crash_at_exit_is_charged_to_the_exit(suite: Any) -> None:
    suite.write(test_it="import atexit, ctypes\ndef test_it(): atexit.register(ctypes.string_at, 0)\n")
    run = suite.run()
    assert run.short() == {"test_it": "crashed"}
    assert "crashed in exit" in run.output


CRASHER = r"""
#include <stdlib.h>
__attribute__((noinline)) static void hidden_culprit(int *where) { *where = 1; }
__attribute__((noinline)) void exported_caller(void) { hidden_culprit((int *)8); __asm__(""); }
"""


@pytest.fixture
def crasher(suite: Any) -> Any:
    source = suite.file("crasher.c", CRASHER)
    subprocess.run(["cc", "-g", "-O1", "-fPIC", "-shared", "-o", suite.root / "libcrasher.so", source], check=True)
    suite.write(
        test_it="""
import ctypes, pathlib
def test_native(): ctypes.CDLL(str(pathlib.Path(__file__).parent / "libcrasher.so")).exported_caller()
"""
    )
    return suite


def test_the_native_stack_has_names_and_lines(crasher: Any) -> None:
    run = crasher.run()
    assert run.short() == {"test_native": "crashed"}
    native = run.output[run.output.index("Native stack of the thread that died") :]
    lines = [line.strip() for line in native.splitlines()[1:4]]
    assert re.match(r"hidden_culprit \(.*crasher\.c:3\) in libcrasher\.so", lines[0]), native
    assert lines[1] == "exported_caller in libcrasher.so"
    # After the Python stack, which most people want first.
    assert run.output.index("in test_native") < run.output.index("Native stack of")
    assert native.count("_PyEval_EvalFrame") <= 1


def test_the_native_stack_without_a_tool_that_knows_lines(crasher: Any) -> None:
    tools = crasher.root / "tools"
    tools.mkdir()
    for name in ("cc", "sh"):
        (tools / name).symlink_to(f"/usr/bin/{name}")
    crasher.env["PATH"] = str(tools)
    run = crasher.run()
    assert re.search(r"\?\? in libcrasher\.so at 0x[0-9a-f]+\n +exported_caller in libcrasher\.so", run.output), run.output


def test_a_stack_overflow_and_an_abort_have_native_stacks_too(suite: Any) -> None:
    suite.write(
        test_it="""
import ctypes, os
def test_abort(): os.abort()
def test_overflow():
    callback = ctypes.CFUNCTYPE(None)(lambda: callback())
    import sys; sys.setrecursionlimit(10**9)
    callback()
"""
    )
    run = suite.run("--hf-slots=1")
    assert run.short()["test_abort"] == "crashed"
    assert "abort in libc.so.6" in run.output
    assert run.short()["test_overflow"] == "crashed"
    assert run.output.count("Native stack of the thread that died") == 2


def test_a_crash_inside_the_loader_does_not_hang(suite: Any) -> None:
    """The unwinder waits for the lock that the crashing thread has."""
    suite.file(
        "iterate.c",
        "#define _GNU_SOURCE\n#include <link.h>\nstatic int f(struct dl_phdr_info *i, size_t n, void *d) { *(volatile int *)8 = 1; return 0; }\nvoid crash_inside(void) { dl_iterate_phdr(f, 0); }\n",
    )
    subprocess.run(["cc", "-fPIC", "-shared", "-o", suite.root / "libiterate.so", suite.root / "iterate.c"], check=True)
    suite.write(
        test_it="import ctypes, pathlib\ndef test_it(): ctypes.CDLL(str(pathlib.Path(__file__).parent / 'libiterate.so')).crash_inside()\n"
    )
    run = suite.run("--hf-timeout=30")
    assert run.short() == {"test_it": "crashed"}
    assert "SIGSEGV (SEGV_MAPERR, address 0x8)" in run.output
    assert "in test_it" in run.output


def test_a_handler_that_has_come_between_does_not_go_round_in_circles(suite: Any) -> None:
    """A library that is loaded while tests are collected puts its handler in front of ours and calls ours (UCX); then we are armed again,
    in front of it."""
    source = """
#include <signal.h>
static struct sigaction before;
static void handler(int signal, siginfo_t *info, void *context) { before.sa_sigaction(signal, info, context); }
__attribute__((constructor)) static void put_in_front(void) {
  struct sigaction mine = {0};
  mine.sa_sigaction = handler;
  mine.sa_flags = SA_SIGINFO | SA_NODEFER;
  sigaction(SIGSEGV, &mine, &before);
}
"""
    suite.file("between.c", source)
    subprocess.run(["cc", "-fPIC", "-shared", "-o", suite.root / "libbetween.so", suite.root / "between.c"], check=True)
    suite.write(
        test_it="""
import ctypes, pathlib
ctypes.CDLL(str(pathlib.Path(__file__).parent / "libbetween.so"))
def test_it(): ctypes.string_at(0)
"""
    )
    run = suite.run("--hf-timeout=20")
    assert run.short() == {"test_it": "crashed"}
    assert "SIGSEGV (SEGV_MAPERR, address 0x0)" in run.output
