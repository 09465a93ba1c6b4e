"""Where forking is not safe, cold processes run the tests, and one line says why."""

from __future__ import annotations

from typing import Any

THREAD = """
import threading, time
threading.Thread(target=time.sleep, args=(3600,), daemon=True, name="keeps-going").start()
"""


def test_a_living_thread_makes_processes_cold(suite: Any) -> None:
    suite.write(
        test_it=THREAD
        + """
import os, pytest, sys
@pytest.mark.parametrize("v", ["a", "x::y", "b c"])
def test_it(v, worker_id, tmp_path):
    assert any(t.name == "keeps-going" for t in threading.enumerate())
    assert worker_id == "gw0"
def test_fails(): print("said"); assert 0
def test_crashes(): os.abort()
def test_exits(): os._exit(0)
"""
    )
    run = suite.run("--hf-slots=1")
    assert run.short() == {
        "test_it[a]": "passed",
        "test_it[x::y]": "passed",
        "test_it[b c]": "passed",
        "test_fails": "failed",
        "test_crashes": "crashed",
        "test_exits": "exited",
    }
    assert run.output.count("tests run in cold processes, since forking is not safe here") == 1
    assert "keeps-going" in run.output
    assert "SIGABRT" in run.output


def test_cold_processes_have_the_options_and_conftests_of_the_run(suite: Any, tmp_path: Any) -> None:
    suite.file("pytest.ini", "[pytest]\naddopts = --own=ini\n")
    suite.file("conftest.py", "import pytest\ndef pytest_addoption(parser): parser.addoption('--own')\n")
    suite.file("sub/test_it.py", THREAD + "def test_it(pytestconfig): assert pytestconfig.getoption('own') == 'line'\n")
    suite.file("sub/test_other.py", "def test_other(): pass\n")
    run = suite.run("--own=line", "-k", "test_it or other", cwd=tmp_path / "sub")
    assert run.verdicts == {"sub/test_it.py::test_it": "passed", "sub/test_other.py::test_other": "passed"}


def test_a_cold_test_that_hangs_is_ended(suite: Any) -> None:
    suite.write(test_it=THREAD + "def test_hang(): time.sleep(3600)\n")
    run = suite.run("--hf-timeout=3", "--hf-grace=1")
    assert run.short() == {"test_hang": "timeout"}
    assert "in test_hang" in run.output


def test_an_open_gpu_device_is_a_reason(suite: Any, tmp_path: Any) -> None:
    # Looked at in the zygote by /proc/self/fd, so the real check runs on a name that looks like a device.
    suite.write(
        test_it="""
import os
from holdfast import forksafe
def test_it(monkeypatch):
    monkeypatch.setattr(os, "readlink", lambda path: "/dev/nvidia0")
    assert "/dev/nvidia0 is open" in forksafe.reason_against()
"""
    )
    assert suite.run().short() == {"test_it": "passed"}
