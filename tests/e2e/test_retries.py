"""--hf-retry: tried again by cause, in a fresh process; every attempt is kept, and flakiness is never silent."""

from __future__ import annotations

import sqlite3
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

# Goes well when it is run for the `GOOD`th time.
FLAKY = """
import os, pathlib, pytest, time
def count(name):
    path = pathlib.Path(name)
    with path.open("a") as file: file.write("x")
    return len(path.read_text())
def test_crash():
    if count("crash") < 2: os.abort()
def test_fail(): assert count("fail") >= 2
def test_always():
    count("always")
    os.abort()
def test_fine(): pass
"""


def attempts(path: Path, name: str) -> list[tuple[int, str, str]]:
    rows = sqlite3.connect(path).execute(
        "SELECT number, a.verdict, cause FROM attempts a JOIN tests t ON t.idx=a.test WHERE t.id LIKE ? ORDER BY number", (f"%{name}",)
    )
    return list(rows)


@pytest.mark.parametrize("isolation", ["test", "worker"])
def test_by_cause_and_bounded(suite: Any, tmp_path: Path, isolation: str) -> None:
    suite.write(test_it=FLAKY)
    run = suite.run(f"--hf-isolate={isolation}", "--hf-slots=1", "--hf-retry=crashed:2", "--hf-journal=j.db", "--junitxml=junit.xml")
    assert run.code == 1, run.output
    # The crash of test_crash has cost the worker; in the next one test_fail is the first and test_always the second.
    judged_again = isolation == "worker"
    assert run.short() == {
        "test_crash": "passed",
        "test_fail": "failed",
        "test_always": "crashed",
        "test_fine": "passed",
    }
    assert run.notes["test_it.py::test_crash"] == ["flaky"]
    assert run.notes["test_it.py::test_always"] == []
    assert "flaky: test_it.py::test_crash" in run.output
    assert "crashed in call: SIGABRT" in run.output
    assert attempts(tmp_path / "j.db", "test_crash") == [(1, "crashed", "retried"), (2, "passed", "")]
    first = [(1, "crashed", "judged again")] if judged_again else []
    assert attempts(tmp_path / "j.db", "test_always") == [
        *first,
        *((number, "crashed", "retried") for number in range(1 + len(first), 3 + len(first))),
        (3 + len(first), "crashed", ""),
    ]
    case = next(c for c in ET.parse(tmp_path / "junit.xml").iter("testcase") if c.get("name") == "test_crash")
    properties = {p.get("name"): p.get("value") for p in case.iter("property")}
    assert properties["holdfast_attempts"] == "2"
    assert str(properties["holdfast_attempt_1"]).startswith("crashed: crashed in call: SIGABRT")
    assert properties["holdfast_notes"] == "flaky"


def test_flaky_can_fail(suite: Any) -> None:
    suite.write(test_it=FLAKY)
    run = suite.run("--hf-slots=1", "--hf-retry=crashed:1,failed:1", "--hf-flaky=fail", "-k", "test_crash or test_fail or fine")
    assert run.code == 1, run.output
    assert run.short() == {"test_crash": "crashed", "test_fail": "failed", "test_fine": "passed"}
    assert run.notes["test_it.py::test_fail"] == ["flaky"]


def test_the_marks_own_number(suite: Any, tmp_path: Path) -> None:
    suite.write(
        test_it="""
import os, pathlib, pytest
def tries(name):
    with open(name, "a") as file: file.write("x")
@pytest.mark.holdfast(retry=2)
def test_any(): tries("any"); assert 0
@pytest.mark.holdfast(retry={"crashed": 1})
def test_crashes(): tries("crashes"); os.abort()
@pytest.mark.holdfast(retry="crashed:0")
def test_never(): tries("never"); os.abort()
def test_plain(): tries("plain"); os.abort()
"""
    )
    run = suite.run("--hf-slots=2", "--hf-retry=crashed:1")
    assert run.code == 1
    assert {name: len((tmp_path / name).read_text()) for name in ("any", "crashes", "never", "plain")} == {
        "any": 3,
        "crashes": 2,
        "never": 1,
        "plain": 2,
    }


@pytest.mark.parametrize(
    "args, text",
    [
        (["--hf-retry=boom:1"], "'boom:1' is not CAUSE:TIMES"),
        (["--hf-retry=crashed:many"], "'many' is not a number of times"),
        (["--hf-retry=crashed"], "'crashed' is not CAUSE:TIMES"),
        (["--hf-flaky=maybe"], "'maybe' is none of pass, fail"),
        (["--hf-isolate=planet"], "'planet' is not an isolation"),
    ],
)
def test_wrong_options(suite: Any, args: list[str], text: str) -> None:
    suite.write(test_it="def test_one(): pass")
    run = suite.run(*args)
    assert run.code == 4
    assert text in run.output
    assert "Traceback" not in run.output
