"""On GitHub Actions: annotations and the step's summary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

SUITE = """
import os
state = []
def test_fine(): state.append(1)
def test_suffers(): assert not state
def test_fails(): assert 1 == 2, "100% wrong: a,b | `c`"
def test_crashes(): os.abort()
"""


def test_annotations_and_summary(suite: Any, tmp_path: Path) -> None:
    suite.write(test_it=SUITE)
    suite.env.update(GITHUB_ACTIONS="true", GITHUB_STEP_SUMMARY=str(tmp_path / "summary.md"))
    run = suite.run("--hf-slots=1", "--hf-isolate=worker")
    commands = [line for line in run.output.splitlines() if line.startswith("::")]
    assert any(c.startswith("::error file=test_it.py,line=6,title=failed%3A test_it.py%3A%3Atest_fails::") for c in commands), commands
    assert any("100%25 wrong: a,b | `c`" in c for c in commands)
    assert any("title=crashed%3A test_it.py%3A%3Atest_crashes::crashed in call: SIGABRT" in c for c in commands)
    assert any(c.startswith("::notice title=polluted%3A test_it.py%3A%3Atest_suffers::") for c in commands)
    text = (tmp_path / "summary.md").read_text()
    assert "1 crashed, 1 failed, 2 passed" in text
    assert "| `test_it.py::test_crashes` | crashed | `crashed in call: SIGABRT" in text
    assert "a,b \\| 'c'" in text


def test_nothing_of_it_elsewhere(suite: Any, tmp_path: Path) -> None:
    suite.write(test_it=SUITE)
    suite.env.pop("GITHUB_ACTIONS", None)
    suite.env["GITHUB_STEP_SUMMARY"] = str(tmp_path / "summary.md")
    run = suite.run("--hf-slots=1")
    assert "::error" not in run.output and not (tmp_path / "summary.md").exists()


def test_a_summary_that_cannot_be_written_is_said(suite: Any) -> None:
    suite.write(test_it=SUITE)
    suite.env.update(GITHUB_ACTIONS="true", GITHUB_STEP_SUMMARY="/nonexistent/summary.md")
    run = suite.run("--hf-slots=1")
    assert run.code == 1 and "GITHUB_STEP_SUMMARY cannot be written: No such file" in run.output
