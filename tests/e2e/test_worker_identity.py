"""What suites and plugins that know xdist look at."""

from __future__ import annotations

import os
from typing import Any


def test_variables_workerinput_and_fixtures(suite: Any) -> None:
    suite.write(
        test_it="""
import os, pytest
@pytest.mark.parametrize("i", range(6))
def test_it(worker_id, testrun_uid, pytestconfig, i):
    assert os.environ["PYTEST_XDIST_WORKER"] == worker_id
    assert worker_id in ("gw0", "gw1")
    assert os.environ["PYTEST_XDIST_WORKER_COUNT"] == "2"
    assert os.environ["PYTEST_XDIST_TESTRUNUID"] == testrun_uid
    given = pytestconfig.workerinput
    assert (given["workerid"], given["workercount"], given["testrunuid"]) == (worker_id, 2, testrun_uid)
"""
    )
    assert set(suite.run("--hf-slots=2").verdicts.values()) == {"passed"}


def test_without_holdfast_the_fixtures_say_master(suite: Any) -> None:
    suite.write(test_it="def test_it(worker_id, testrun_uid): assert worker_id == 'master' and testrun_uid\n")
    assert suite.plain().code == 0


def test_the_controller_imports_no_test_module(suite: Any) -> None:
    suite.file(
        "conftest.py",
        "import sys\ndef pytest_sessionfinish(session):\n"
        "    if not hasattr(session.config, 'workerinput'): print('controller has it:', 'test_it' in sys.modules)\n",
    )
    suite.write(test_it="def test_it(): pass\n")
    assert "controller has it: False" in suite.run("-s").output


def test_each_test_has_a_process_of_its_own(suite: Any) -> None:
    suite.write(
        test_it="""
import os
seen = []
def test_a(): seen.append("a"); os.environ["SPOILED"] = "1"; assert seen == ["a"]
def test_b(): seen.append("b"); assert seen == ["b"] and "SPOILED" not in os.environ
"""
    )
    assert suite.run("--hf-slots=1").short() == {"test_a": "passed", "test_b": "passed"}


def test_threads_of_numeric_libraries_get_the_slots_share(suite: Any) -> None:
    suite.write(test_it="import os\ndef test_it(): print('OMP', os.environ['OMP_NUM_THREADS'], os.environ['MKL_NUM_THREADS'])\n")
    suite.env["MKL_NUM_THREADS"] = "7"
    run = suite.run("-s", "--hf-slots=64")
    assert "OMP 1 7" in run.output


def test_collection_happens_once(suite: Any, tmp_path: Any) -> None:
    suite.write(
        test_it="""
import pathlib, pytest
with open("imported", "a") as file: file.write("x")
@pytest.mark.parametrize("i", range(20))
def test_it(i): pass
"""
    )
    suite.run("--hf-slots=4")
    assert (tmp_path / "imported").read_text() == "x"


def test_tests_may_use_all_cpus(suite: Any) -> None:
    suite.write(
        test_it=f"""
import os, pytest
USABLE = {sorted(os.sched_getaffinity(0))}
@pytest.fixture(scope="module")
def shared(): return sorted(os.sched_getaffinity(0))
@pytest.mark.parametrize("i", range(8))
def test_it(i): assert sorted(os.sched_getaffinity(0)) == USABLE
@pytest.mark.parametrize("i", range(8))
def test_shared(i, shared): assert shared == USABLE == sorted(os.sched_getaffinity(0))
"""
    )
    for slots in (1, len(os.sched_getaffinity(0))):
        assert set(suite.run(f"--hf-slots={slots}").verdicts.values()) == {"passed"}
