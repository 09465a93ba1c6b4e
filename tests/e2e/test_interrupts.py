"""Ctrl-C once and twice, SIGTERM, a closed terminal: teardowns run, results are reported, no process stays."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

SUITE = """
import pathlib, pytest, subprocess, time
def test_first(): pass
@pytest.fixture
def slow():
    yield
    pathlib.Path("tearing_down").touch()
    time.sleep(TEARDOWN)
    pathlib.Path("torn_down").touch()
def test_hangs(slow):
    subprocess.Popen(["sleep", "3600"])
    pathlib.Path("begun").touch()
    time.sleep(3600)
def test_never(): pass
"""


class Terminal:
    """A run on a pseudo-terminal, as its foreground job."""

    def __init__(self, suite: Any, *args: str) -> None:
        suite.env["TERM"] = "xterm"
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            suite.command(*args),
            cwd=suite.root,
            env=suite.env,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: os.close(os.open(os.ttyname(0), os.O_RDWR)),
        )
        os.close(slave)
        os.set_blocking(self.master, False)
        self.output = ""

    def read(self) -> str:
        try:
            while chunk := os.read(self.master, 65536):
                self.output += chunk.decode(errors="replace")
        except (BlockingIOError, OSError):
            pass
        return self.output

    def press(self, key: bytes) -> None:
        os.write(self.master, key)

    def ended(self) -> bool:
        self.read()
        return self.process.poll() is not None


def begin(suite: Any, until: Any, teardown: float) -> Terminal:
    suite.write(test_it=SUITE.replace("TEARDOWN", str(teardown)))
    terminal = Terminal(suite, "--hf-slots=1", "--hf-journal=j.db")
    until(lambda: terminal.read() is not None and (suite.root / "begun").exists(), "the test did not begin")
    return terminal


def test_ctrl_c_once_lets_teardowns_finish(suite: Any, until: Any) -> None:
    terminal = begin(suite, until, 0.3)
    terminal.press(b"\x03")
    until(terminal.ended, "the run did not end")
    assert terminal.process.returncode == 2
    assert (suite.root / "torn_down").exists()
    assert "KeyboardInterrupt" in terminal.read()
    assert "1 passed" in terminal.output
    resumed = suite.run("--hf-journal=j.db", "--hf-resume", "--deselect=nothing", "--hf-timeout=1")
    assert resumed.short() == {"test_first": "passed", "test_hangs": "timeout", "test_never": "passed"}


def test_ctrl_c_twice_ends_now(suite: Any, until: Any) -> None:
    terminal = begin(suite, until, 3600)
    terminal.press(b"\x03")
    until(lambda: (suite.root / "tearing_down").exists() and not terminal.ended(), "the teardown did not begin")
    terminal.press(b"\x03")
    until(terminal.ended, "the run did not end")
    assert terminal.process.returncode == 2
    assert not (suite.root / "torn_down").exists()


def test_ctrl_c_during_collection(suite: Any, until: Any) -> None:
    suite.write(test_it="import pathlib, time\npathlib.Path('begun').touch()\ntime.sleep(3600)\n")
    terminal = Terminal(suite, "--hf-slots=1")
    until(lambda: terminal.read() is not None and (suite.root / "begun").exists(), "the import did not begin")
    terminal.press(b"\x03")
    until(terminal.ended, "the run did not end", limit=5)
    assert terminal.process.returncode == 2


def test_closed_terminal(suite: Any, until: Any) -> None:
    terminal = begin(suite, until, 0)
    os.close(terminal.master)
    until(lambda: terminal.process.poll() is not None, "the run did not end")
    until(lambda: not suite.survivors(), "processes are left")
    terminal.master = os.open(os.devnull, os.O_RDWR)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_termination_signals(suite: Any, until: Any, number: signal.Signals) -> None:
    suite.write(test_it=SUITE.replace("TEARDOWN", "0"))
    process = suite.start("--hf-slots=1", "--hf-journal=j.db")
    until(lambda: (suite.root / "begun").exists(), "the test did not begin")
    process.send_signal(number)
    run = suite.finish(process)
    assert run.code == 128 + number
    assert (suite.root / "torn_down").exists()
    assert run.short() == {"test_first": "passed"}
    assert f"received {number.name}" in run.output


def test_x_interrupts_the_others(suite: Any) -> None:
    suite.write(
        test_it="""
import pathlib, time
def test_hangs():
    pathlib.Path("begun").touch()
    time.sleep(3600)
def test_fails():
    while not pathlib.Path("begun").exists(): time.sleep(0.01)
    assert 0
def test_never(): pass
"""
    )
    run = suite.run("-x", "--hf-slots=2")
    assert run.code == 1
    assert run.short() == {"test_fails": "failed"}


def test_progress_line_on_a_terminal(suite: Any, until: Any) -> None:
    suite.write(test_it="import time\ndef test_long(): time.sleep(2.5)\n")
    terminal = Terminal(suite)
    until(lambda: "0/1 done, 1 running: test_it.py::test_long" in terminal.read(), "no progress line")
    until(terminal.ended, "the run did not end")
    assert terminal.process.returncode == 0
    assert Path(suite.log).exists()


@pytest.mark.parametrize("isolation", ["test", "worker"])
def test_pdb_has_the_terminal_with_one_slot(suite: Any, until: Any, isolation: str) -> None:
    suite.write(
        test_it="def test_fine(): pass\ndef test_fails():\n    secret = 41 + 1\n    assert secret == 0\ndef test_after(): pass\n"
    )
    terminal = Terminal(suite, "--hf-slots=1", "--hf-timeout=1", f"--hf-isolate={isolation}", "--pdb", "--color=no")
    prompts = 0
    while not terminal.ended():
        until(lambda seen=prompts: terminal.read().count("(Pdb)") > seen or terminal.ended(), "no prompt came")
        if terminal.ended():
            break
        terminal.press(b"p 'it is', secret\nc\n" if not prompts else b"c\n")
        prompts = terminal.output.count("(Pdb)") + (0 if prompts else 1)
    assert "('it is', 42)" in terminal.read(), terminal.output
    assert terminal.process.returncode == 1
    assert "1 failed, 2 passed" in terminal.output


def test_quitting_pdb_ends_the_run(suite: Any, until: Any) -> None:
    suite.write(test_it="def test_fails(): assert 0\ndef test_after(): pass\n")
    terminal = Terminal(suite, "--hf-slots=1", "--pdb")
    until(lambda: "(Pdb)" in terminal.read(), "no prompt came")
    terminal.press(b"q\n")
    until(terminal.ended, "the run did not end")
    assert terminal.process.returncode == 2
    assert "Quitting debugger" in terminal.read()


@pytest.mark.parametrize("isolation", ["test", "worker"])
def test_x_begins_nothing_after_a_failure(suite: Any, isolation: str) -> None:
    suite.write(
        test_it="""
import pytest
def note(i):
    with open("ran", "a") as file: file.write(f"{i} ")
@pytest.mark.parametrize("i", range(40))
def test_it(i):
    note(i)
    assert i % 10 != 9
"""
    )
    common = ("--hf-slots=1", f"--hf-isolate={isolation}", "--hf-history=none")
    for args, last in ((("-x",), 9), (("--maxfail=3",), 29)):
        run = suite.run(*common, *args)
        assert run.code == 1, run.output
        ran = [int(i) for i in (suite.root / "ran").read_text().split()]
        assert sorted(set(ran)) == list(range(last + 1))
        assert f"stopping after {1 if last == 9 else 3} failures" in run.output
        (suite.root / "ran").unlink()


def test_a_worker_that_dies_with_a_test_reserved_for_it(suite: Any) -> None:
    # With --maxfail the next test is named, but not begun; then the worker dies in the teardown, and the last test must not be lost.
    suite.write(
        test_it="""
import os, pytest
@pytest.fixture
def deadly():
    yield
    os.abort()
def test_one(): pass
def test_two(deadly): pass
def test_three(): pass
"""
    )
    run = suite.run("--hf-slots=1", "--hf-isolate=worker", "--hf-history=none", "--maxfail=5")
    assert run.short() == {"test_one": "passed", "test_two": "crashed", "test_three": "passed"}, run.output
