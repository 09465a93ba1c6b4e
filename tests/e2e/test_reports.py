"""JUnit XML, the event log, and values that are hard to report."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

SCHEMA = Path(__file__).parent / "junit.xsd"


def test_junit_is_valid_and_complete(suite: Any, tmp_path: Any) -> None:
    etree = pytest.importorskip("lxml.etree", reason="lxml is missing: JUnit XML is not validated")
    suite.write(
        test_it="""
import os, pytest, subprocess
def test_pass(record_property): record_property("key", "value")
def test_fail(): print("out \\x00 \\x1b[31m \\ud800"); assert 0, "bad \\x08 char"
def test_crash(): print("before the end"); os.abort()
def test_exit(): os._exit(0)
@pytest.mark.skip
def test_skip(): pass
""",
        test_dies="import os; os.abort()",
    )
    suite.run("--junitxml=junit.xml")
    document = etree.parse(str(tmp_path / "junit.xml"))
    etree.XMLSchema(etree.parse(str(SCHEMA))).assertValid(document)
    root = ET.parse(tmp_path / "junit.xml").getroot()
    cases = {case.get("name"): case for case in root.iter("testcase")}
    assert "crashed in call: SIGABRT" in ET.tostring(cases["test_crash"], "unicode")
    assert "before the end" in ET.tostring(cases["test_crash"], "unicode")
    assert {p.get("name"): p.get("value") for p in cases["test_crash"].iter("property")} == {"holdfast_verdict": "crashed"}
    assert {p.get("name"): p.get("value") for p in cases["test_pass"].iter("property")} == {"key": "value"}
    suite_element = root.find("testsuite")
    assert suite_element is not None
    assert {k: suite_element.get(k) for k in ("failures", "errors", "skipped")} == {
        "failures": "3",
        "errors": "1",
        "skipped": "1",
    }


def test_log_has_one_verdict_event_a_test(suite: Any) -> None:
    suite.write(test_it="def test_a(): pass\ndef test_b(): assert 0\n")
    run = suite.run("--hf-slots=1")
    verdicts = [e for e in run.events if e["event"] == "verdict"]
    assert [list(e) for e in verdicts] == [["event", "id", "verdict", "notes", "attempts", "duration", "usage"]] * 2
    assert [e["event"] for e in run.events] == ["run_started", "collected", "first_attempt", "verdict", "verdict", "run_finished"]
    assert json.dumps(run.events[-1]) == '{"event": "run_finished", "without_verdict": 0}'


def test_values_that_cannot_be_sent_are_sent_as_their_repr(suite: Any) -> None:
    suite.write(
        test_it="""
import pytest
class Odd:
    def __repr__(self): raise RuntimeError("no repr")
def test_property(record_property):
    record_property("odd", Odd()); record_property("nan", float("nan")); record_property("set", {1})
    record_property("surrogate", "\\ud800"); record_property(b"bytes", object)
def test_message(): raise ValueError("\\ud800 \\x00")
"""
    )
    run = suite.run()
    assert run.short() == {"test_property": "passed", "test_message": "failed"}


def test_much_output_is_cut_in_the_middle(suite: Any) -> None:
    suite.write(test_it="def test_it():\n    for i in range(200000): print('line', i, 'x' * 40)\n    assert 0\n")
    run = suite.run("--hf-slots=1")
    assert run.short() == {"test_it": "failed"}
    assert "line 0 " in run.output
    assert "line 199999 " in run.output
    assert "left out by holdfast" in run.output


def test_warnings_of_a_category_that_only_the_test_knows(suite: Any) -> None:
    suite.write(
        test_it="""
import warnings
class Mine(DeprecationWarning):
    def __init__(self, a, b): super().__init__(f"{a} and {b}")
def test_it(): warnings.warn(Mine("one", "two"))
"""
    )
    run = suite.run()
    assert "Mine: one and two" in run.output
    assert "1 passed, 1 warning" in run.output


def test_a_hook_that_raises_costs_that_test(suite: Any) -> None:
    suite.file(
        "conftest.py",
        "def pytest_runtest_logreport(report):\n    if report.nodeid.endswith('test_b') and report.when == 'call' "
        "and not hasattr(report, 'node'): raise RuntimeError('bad hook')\n",
    )
    suite.write(test_it="def test_a(): pass\ndef test_b(): pass\ndef test_c(): pass\n")
    run = suite.run()
    assert run.short() == {"test_a": "passed", "test_b": "error", "test_c": "passed"}
    assert "bad hook" in run.output


FIXTURES = """
import pytest
@pytest.fixture(scope="module")
def wide():
    yield 1
@pytest.fixture
def narrow(wide):
    with open("made", "a") as file: file.write("x")
    yield 2
def test_a(narrow): open("called", "w")
def test_b(narrow): pass
"""


@pytest.mark.parametrize("isolation", ["test", "module", "worker"])
def test_setup_show_tells_what_was_set_up(suite: Any, isolation: str) -> None:
    suite.write(test_it=FIXTURES)
    run = suite.run("--setup-show", "--hf-slots=1", f"--hf-isolate={isolation}", "-q")
    assert run.code == 0
    shown = [line.partition("] ")[2].strip() for line in run.output.splitlines() if line.startswith("[gw0] ")]
    assert shown.count("SETUP    M wide") == shown.count("TEARDOWN M wide") == 1
    assert shown.count("SETUP    F narrow (fixtures used: wide)") == shown.count("TEARDOWN F narrow") == 2
    assert "test_it.py::test_a (fixtures used: narrow, wide)" in shown


@pytest.mark.parametrize(("option", "made"), [("--setup-plan", ""), ("--setup-only", "xx")])
def test_setups_without_calls(suite: Any, tmp_path: Path, option: str, made: str) -> None:
    suite.write(test_it=FIXTURES)
    run = suite.run(option, "--hf-slots=2", "--hf-history=h.db")
    plain = suite.plain(option)
    assert run.code == plain.code == 0
    assert "no tests ran" in plain.output
    assert "no tests ran" in run.output
    assert (tmp_path / "made").read_text() == made * 2 if made else not (tmp_path / "made").exists()
    assert not (tmp_path / "called").exists()
    assert set(run.verdicts.values()) == {"skipped"}
    assert not (tmp_path / "h.db").exists(), "these are no durations of the tests"
