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


# Writes a frame to every socket of the process; one of them is the engine's.
SAYS = """
import json, os, pytest
def say(frame):
    data = json.dumps(frame).encode()
    for number in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{number}").startswith("socket:"):
                os.write(int(number), len(data).to_bytes(4, "little") + data)
        except OSError:
            pass
"""


def test_frames_with_fields_of_a_wrong_type_cost_that_test_alone(suite: Any) -> None:
    suite.write(
        test_it=SAYS
        + """
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


def test_a_test_that_speaks_for_its_worker_does_not_bring_it_out_of_step(suite: Any) -> None:
    suite.write(
        test_it=SAYS
        + """
LIES = [{"t": "done", "verdict": "passed"}, {"t": "done", "verdict": "passed", "test": "own"}, {"t": "ask"}, {"t": "ask", "test": "own"},
    {"t": "settled"}, {"t": "settled", "test": "own"}, {"t": "left", "node": ""}, {"t": "left", "node": "test_it.py"}, {"t": "left"}]
@pytest.mark.parametrize("number", range(len(LIES)))
def test_lies(number):
    # Each is followed by one that tells the truth.
    say({key: 2 * number if value == "own" else value for key, value in LIES[number].items()})
@pytest.mark.parametrize("number", range(len(LIES)))
def test_innocent(number): pass
""",
        conftest="""
def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: (item.callspec.params["number"], "innocent" in item.name))
""",
    )
    for _ in range(3):
        run = suite.run("--hf-slots=1", "--hf-isolate=worker")
        short = run.short()
        assert [short[f"test_innocent[{number}]"] for number in range(9)] == ["passed"] * 9, run.output
        assert all(f"test_lies[{number}]" in short for number in range(9)), run.output
        assert short["test_lies[0]"] == short["test_lies[2]"] == short["test_lies[8]"] == "error", run.output
