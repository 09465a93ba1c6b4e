"""What a test leaves running is killed, named, and charged to that test."""

from __future__ import annotations

from typing import Any


def test_children_daemons_and_grandchildren(suite: Any) -> None:
    suite.write(
        test_it="""
import os, subprocess, time
def test_child(): subprocess.Popen(["sleep", "3601"])
def test_daemon():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execvp("sleep", ["sleep", "3602"])
        os._exit(0)
    os.wait()
def test_grandchild(): subprocess.Popen(["sh", "-c", "sleep 3603 & sleep 3604"])
def test_clean(): subprocess.run(["true"])
"""
    )
    run = suite.run("--hf-slots=2")
    assert set(run.verdicts.values()) == {"passed"}
    noted = {nodeid.partition("::")[2]: notes for nodeid, notes in run.notes.items()}
    assert noted == {"test_child": ["leaked"], "test_daemon": ["leaked"], "test_grandchild": ["leaked"], "test_clean": []}
    for number in (3601, 3602, 3603, 3604):
        assert f"sleep {number}" in run.output


def test_a_helper_that_ends_by_itself_is_no_leak(suite: Any) -> None:
    suite.write(
        test_it="""
from multiprocessing import shared_memory
def test_it():
    segment = shared_memory.SharedMemory(create=True, size=10)
    segment.close()
    segment.unlink()
"""
    )
    run = suite.run()
    assert run.notes == {"test_it.py::test_it": []}


def test_leaks_are_in_junit(suite: Any, tmp_path: Any) -> None:
    suite.write(test_it="import subprocess\ndef test_it(): subprocess.Popen(['sleep', '3600'])\n")
    suite.run("--junitxml=junit.xml")
    xml = (tmp_path / "junit.xml").read_text()
    assert '<property name="holdfast_notes" value="leaked"' in xml
