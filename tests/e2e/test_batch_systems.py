"""Runs through PBS and LSF, whose commands are stand-ins here (batch_stand_in.py): written from their manuals, not tried on the real
ones. What is common to all batch systems is tested with a real Slurm (test_slurm.py)."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

COMMANDS = {"pbs": ("qsub", "qstat", "qdel"), "lsf": ("bsub", "bjobs", "bkill")}
TITLES = {"pbs": "PBS", "lsf": "LSF"}


@pytest.fixture(params=["pbs", "lsf"])
def system(request: pytest.FixtureRequest, suite: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("batch")
    (folder / "bin").mkdir()
    for name in COMMANDS[request.param]:
        (folder / "bin" / name).symlink_to(Path(__file__).with_name("batch_stand_in.py"))
    (folder / "state").mkdir()
    suite.env.update(PATH=f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}", BATCH_STATE=str(folder / "state"))
    return str(request.param)


def state(suite: Any) -> Path:
    return Path(suite.env["BATCH_STATE"])


def test_tests_run_in_a_job(suite, system):
    suite.write(
        test_two="""
import os
def test_in_the_job(): assert "PBS_ENVIRONMENT" in os.environ or "LSB_BATCH_JID" in os.environ
def test_fails(): assert 0
"""
    )
    run = suite.run(f"--hf-backend={system}", "--hf-slots=2", "--hf-job-commands=export ADDED=1")
    assert run.short() == {"test_in_the_job": "passed", "test_fails": "failed"}, run.output
    assert f"{TITLES[system]} job 101" in run.output
    script = (state(suite) / "101" / "script").read_text()
    assert "export ADDED=1" in script and "HOLDFAST_AGENT_TOKEN=" in script


def test_a_job_that_waits_too_long(suite, system):
    (state(suite) / "hold").touch()
    suite.write(test_one="def test_one(): pass\n")
    run = suite.run(f"--hf-backend={system}", "--hf-slots=1", "--hf-job-wait=1")
    assert run.short() == {"test_one": "infra"}, run.output
    assert "waits: Not" in run.output and "has not started within 1 s" in run.output
    assert (state(suite) / "101" / "code").read_text() == "271", "it was not cancelled"


def test_a_job_that_is_cancelled(suite, system, until):
    suite.write(test_one="import time\ndef test_one(): open('begun', 'w').close(); time.sleep(100)\n")
    process = suite.start(f"--hf-backend={system}", "--hf-slots=1")
    until((suite.root / "begun").exists, "the test has not begun")
    os.killpg(int((state(suite) / "101" / "pid").read_text()), signal.SIGKILL)
    (state(suite) / "101" / "code").write_text("137")
    began = time.monotonic()
    run = suite.finish(process)
    assert run.short() == {"test_one": "infra"}, run.output
    assert "137" in run.output and time.monotonic() - began < 60


def test_ctrl_c_cancels_the_job(suite, system, until):
    (state(suite) / "hold").touch()
    suite.write(test_one="def test_one(): pass\n")
    process = suite.start(f"--hf-backend={system}", "--hf-slots=1")
    until((state(suite) / "101" / "pid").exists, "the job was not submitted")
    process.send_signal(signal.SIGINT)
    assert suite.finish(process).code == 2
    assert (state(suite) / "101" / "code").read_text() == "271"


def test_a_job_that_is_refused(suite, system):
    suite.write(test_one="def test_one(): pass\n")
    run = suite.run(f"--hf-backend={system}", "--hf-slots=1", "--hf-job-options=-q none")
    assert run.code == 4 and "the job was not submitted" in run.output and "queue" in run.output, run.output
