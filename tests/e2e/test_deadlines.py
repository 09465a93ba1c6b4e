"""Every phase has its deadline, and the report says which passed, with the stacks."""

from __future__ import annotations

from typing import Any

import pytest

HANG = "import time; time.sleep(3600)"


@pytest.mark.parametrize(
    ("body", "options", "phase"),
    [
        (f"def test_it(): {HANG}", ["--hf-timeout=0.5"], "call"),
        (f"import pytest\n@pytest.mark.timeout(0.5)\ndef test_it(): {HANG}", [], "call"),
        (f"import pytest\n@pytest.mark.holdfast(timeout=0.5)\ndef test_it(): {HANG}", [], "call"),
        (f"import pytest\n@pytest.fixture\ndef f(): {HANG}\ndef test_it(f): pass", ["--hf-deadlines=setup:0.5"], "setup"),
        (
            f"import pytest\n@pytest.fixture\ndef f():\n    yield\n    {HANG}\ndef test_it(f): pass",
            ["--hf-deadlines=teardown:0.5"],
            "teardown",
        ),
        (
            "import atexit, time\ndef test_it(): atexit.register(time.sleep, 3600)",
            ["--hf-deadlines=exit:0.5"],
            "exit",
        ),
    ],
)
def test_each_phase_has_a_deadline(suite: Any, body: str, options: list[str], phase: str) -> None:
    suite.write(test_it=body + "\n\ndef test_innocent(): pass\n")
    run = suite.run("--hf-grace=1", *options)
    assert run.short() == {"test_it": "timeout", "test_innocent": "passed"}
    assert f"timeout in {phase}: not finished after 0.5 s" in run.output
    assert "most recent call first" in run.output


def test_what_it_printed_before_is_in_its_report(suite: Any, tmp_path: Any) -> None:
    suite.write(test_it=f"def test_it():\n    print('printed before')\n    {HANG}\n")
    run = suite.run("--hf-timeout=0.5", "--hf-grace=1", f"--junitxml={tmp_path}/x.xml", "-o", "junit_logging=no")
    assert run.short() == {"test_it": "timeout"}
    assert "Captured stdout call:\nprinted before" in run.output and "printed before" in (tmp_path / "x.xml").read_text()


def test_sigint_gives_teardown_a_chance(suite: Any, tmp_path: Any) -> None:
    suite.write(
        test_it=f"""
import pytest, pathlib
@pytest.fixture
def resource():
    yield
    pathlib.Path("torn_down").touch()
def test_it(resource): {HANG}
"""
    )
    run = suite.run("--hf-timeout=0.5")
    assert run.short() == {"test_it": "timeout"}
    assert (tmp_path / "torn_down").exists()


def test_a_deaf_test_and_its_daemon_are_killed(suite: Any, tmp_path: Any) -> None:
    suite.write(
        test_it="""
import os, pathlib, signal, time
def test_deaf():
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            pathlib.Path("daemon").write_text(str(os.getpid()))
            time.sleep(3600)
        os._exit(0)
    while True:
        time.sleep(1)
"""
    )
    run = suite.run("--hf-timeout=1", "--hf-grace=0.3")
    assert run.short() == {"test_deaf": "timeout"}
    assert (tmp_path / "daemon").exists()  # That it is gone is what the fixture looks at.


def test_all_threads_are_shown(suite: Any) -> None:
    suite.write(
        test_it="""
import threading, time
def waits_in_a_thread():
    time.sleep(3600)
def test_it():
    thread = threading.Thread(target=waits_in_a_thread)
    thread.start()
    thread.join()
"""
    )
    run = suite.run("--hf-timeout=0.5", "--hf-grace=0.3")
    assert run.short() == {"test_it": "timeout"}
    assert "in waits_in_a_thread" in run.output
    assert "in test_it" in run.output


def test_a_mark_that_is_no_number_is_a_usage_error(suite: Any) -> None:
    suite.write(test_it="import pytest\n@pytest.mark.timeout('soon')\ndef test_it(): pass\n")
    run = suite.run()
    assert run.code == 4
    assert "test_it.py::test_it: the timeout mark's timeout is 'soon'; give a number of seconds" in run.output
