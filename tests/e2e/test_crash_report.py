"""What the report of a crash says."""

from __future__ import annotations

from typing import Any


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
