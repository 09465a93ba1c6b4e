"""Ways to end a process that must never count as passed."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.mark.parametrize(
    ("body", "verdict"),
    [
        ("import os; os._exit(0)", "exited"),
        ("import os; os.execv('/bin/true', ['true'])", "exited"),
        ("import ctypes; ctypes.CDLL(None).exit(0)", "exited"),
        ("import sys; sys.exit(0)", "failed"),
        ("raise KeyboardInterrupt", "failed"),
        ("raise GeneratorExit", "failed"),
    ],
)
def test_ending_early(suite: Any, body: str, verdict: str) -> None:
    suite.write(test_it=f"def test_it():\n    {body}\ndef test_innocent(): pass\n")
    run = suite.run()
    assert run.code == 1
    assert run.short() == {"test_it": verdict, "test_innocent": "passed"}


def test_how_it_ended_is_said(suite: Any) -> None:
    suite.write(
        test_it="""
import os
def test_exits(): os._exit(3)
def test_execs(): os.execv("/bin/sleep", ["sleep", "0.3"])
"""
    )
    run = suite.run("--hf-slots=1", "-rf", "--tb=line")
    assert run.short() == {"test_exits": "exited", "test_execs": "exited"}
    assert "exited in call: the process ended with exit status 3 before the test was over" in run.output
    assert "replaced by another program (exec), and ended with exit status 0" in run.output


def test_a_forked_child_that_returns_into_the_runner_says_nothing(suite: Any) -> None:
    suite.write(
        test_it="""
import os
def test_it():
    pid = os.fork()
    if pid == 0:
        assert False, "in the child"
    os.waitpid(pid, 0)
def test_child_passes_parent_fails():
    pid = os.fork()
    if pid == 0:
        return
    os.waitpid(pid, 0)
    assert False, "in the parent"
"""
    )
    run = suite.run()
    assert run.short() == {"test_it": "passed", "test_child_passes_parent_fails": "failed"}
    assert "in the child" not in run.output


def test_garbage_on_the_channel_costs_that_test_only(suite: Any) -> None:
    suite.write(
        test_it="""
import os
def _sockets():
    found = []
    for number in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{number}").startswith("socket:"):
                found.append(int(number))
        except OSError:
            pass
    return found
def test_garbled():
    for fd in _sockets():
        os.write(fd, b"\\x05\\x00\\x00\\x00nojsn")
def test_oversized():
    for fd in _sockets():
        os.write(fd, b"\\xff\\xff\\xff\\xff")
def test_innocent(): pass
"""
    )
    run = suite.run("--hf-slots=1")
    assert run.short() == {"test_garbled": "error", "test_oversized": "error", "test_innocent": "passed"}
    assert "4294967295 bytes announced" in run.output
    assert "not a JSON object" in run.output


def test_frames_with_fields_of_a_wrong_type_cost_that_test_alone(suite: Any) -> None:
    suite.write(
        test_it="""
import json, os, socket
import pytest
def say(frame):
    data = json.dumps(frame).encode()
    for number in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{number}").startswith("socket:"):
                os.write(int(number), len(data).to_bytes(4, "little") + data)
        except OSError:
            pass
@pytest.mark.parametrize("frame", [
    {"t": "at", "pid": "one"}, {"t": "left", "node": 7}, {"t": 7}, {"t": "ready", "reason": [1]}, {"t": "report", "report": {"x": 1}},
    {"t": "report", "report": {"when": "call"}}, {"t": "done", "verdict": "passed", "exit": 3, "stop": [1], "shared": "no", "poisoned": 1, "leaks": 7,
    "usage": 3, "tool_log": [-1, "x"]}, {"t": "done", "verdict": "passed", "reports": [{"data": 3}]},
])
def test_says(frame): say(frame)
def test_innocent(): pass
"""
    )
    for isolation in ("test", "worker"):
        run = suite.run("--hf-slots=1", f"--hf-isolate={isolation}")
        # A worker that was told nonsense of by its own test may not find its end, which is an entry of its own.
        assert len([nodeid for nodeid in run.verdicts if "::" in nodeid and not nodeid.startswith("worker ")]) == 9, run.output
        assert run.short()["test_innocent"] == "passed", run.output
        assert "INTERNALERROR" not in run.output and "Traceback" not in run.output
