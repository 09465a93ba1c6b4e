"""--hf-debug: in a terminal, what crashes or hangs stays, stopped, until the user has looked at it."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import time
from typing import Any

import pytest


class Terminal:
    """The suite's run with a terminal of its own."""

    def __init__(self, suite: Any, *args: str) -> None:
        self.suite = suite
        suite.log.unlink(missing_ok=True)
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(suite.root)
            os.execve(suite.command()[0], suite.command(*args), suite.env)
        self.text = ""

    def until(self, pattern: str, limit: float = 40) -> re.Match[str]:
        deadline = time.monotonic() + limit
        while time.monotonic() < deadline:
            found = re.search(pattern, self.text)
            if found is not None:
                return found
            self.read(0.1)
        pytest.fail(f"{pattern!r} did not come:\n{self.text}")

    def read(self, patience: float) -> bool:
        if not select.select([self.fd], [], [], patience)[0]:
            return True
        try:
            data = os.read(self.fd, 65536)
        except OSError:
            return False  # The other side has gone.
        self.text += data.decode(errors="replace")
        return bool(data)

    def press_enter(self) -> None:
        os.write(self.fd, b"\n")

    def end(self, limit: float = 60) -> int:
        deadline = time.monotonic() + limit
        while self.read(0.1) and time.monotonic() < deadline:
            pass
        _, status = os.waitpid(self.pid, 0)
        os.close(self.fd)
        return os.waitstatus_to_exitcode(status)


def state_of(pid: int) -> str:
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0]


SUITE = """
import ctypes, time
def test_crash(): ctypes.string_at(0)
def test_hang(): time.sleep(3600)
def test_good(): pass
"""


def test_a_crash_and_a_hang_are_kept_until_enter(suite: Any) -> None:
    suite.write(test_it=SUITE)
    terminal = Terminal(suite, "--hf-slots=1", "--hf-timeout=2", "--hf-grace=0.5", "--hf-debug")
    crash = terminal.until(r"test_crash has crashed: SIGSEGV; its process (\d+) is kept, stopped")
    pid = int(crash[1])
    assert state_of(pid) == "T"
    terminal.until(rf"(gdb|lldb) -p {pid}[^$]*holdfast diagnose {pid}[^$]*press Enter")
    # A debugger can look at it, and it is still where it crashed.
    shown = subprocess.run(["eu-stack", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    assert "strlen" in shown, shown
    # It is not hurried by the deadline, which is over by then.
    end = time.monotonic() + 2.5
    while time.monotonic() < end:
        assert terminal.read(0.1) and state_of(pid) == "T"
    assert state_of(pid) == "T"
    terminal.press_enter()
    hang = terminal.until(r"test_hang hangs in call; its process (\d+) is kept, stopped")
    assert state_of(int(hang[1])) == "T"
    terminal.press_enter()
    assert terminal.end() == 1
    run = suite.events()
    assert {e["id"].partition("::")[2]: e["verdict"] for e in run if e["event"] == "verdict"} == {
        "test_crash": "crashed",
        "test_hang": "timeout",
        "test_good": "passed",
    }
    assert "SIGSEGV (SEGV_MAPERR" in terminal.text and 'test_it.py", line 4 in test_hang' in terminal.text


def test_what_is_kept_can_be_killed_and_interrupted(suite: Any) -> None:
    suite.write(test_it=SUITE)
    terminal = Terminal(suite, "--hf-slots=1", "--hf-timeout=2", "--hf-grace=0.5", "--hf-debug")
    pid = int(terminal.until(r"test_crash has crashed: SIGSEGV; its process (\d+)")[1])
    os.kill(pid, 9)
    terminal.until(r"test_hang hangs in call; its process (\d+) is kept")
    os.write(terminal.fd, b"\x03")  # Ctrl-C
    assert terminal.end() == 2
    verdicts = {e["id"].partition("::")[2]: e["verdict"] for e in suite.events() if e["event"] == "verdict"}
    assert verdicts["test_crash"] == "crashed"


def test_nothing_is_kept_without_a_terminal_or_in_ci(suite: Any) -> None:
    suite.write(test_it=SUITE)
    run = suite.run("--hf-slots=1", "--hf-timeout=2", "--hf-grace=0.5", "--hf-debug", start_new_session=True)
    assert "--hf-debug does nothing here: there is no terminal" in run.output
    assert run.short() == {"test_crash": "crashed", "test_hang": "timeout", "test_good": "passed"}
    suite.env["CI"] = "true"
    terminal = Terminal(suite, "--hf-slots=1", "--hf-timeout=2", "--hf-grace=0.5", "--hf-debug")
    assert terminal.end() == 1
    assert "--hf-debug does nothing here: CI is set" in terminal.text
