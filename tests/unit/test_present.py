"""From the engine's words to reports, without an engine."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.present import Item, headline_of, module_report, present, without_runner_frames

ITEM = Item(0, "test_it.py::test_it", ("test_it.py", 4, "test_it"))


def result(verdict: str, **fields: Any) -> dict[str, Any]:
    base: dict[str, Any] = {"verdict": verdict, "notes": [], "attempts": 1, "duration": 0.5, "reports": [], "detail": {}}
    return {**base, **fields}


def short(when: str) -> dict[str, Any]:
    return {"when": when, "duration": 0.1, "start": 1.0, "stop": 1.1, "keywords": ["slow"]}


def phases(reports: list[Any]) -> list[tuple[str, str]]:
    return [(r.when, r.outcome) for r in reports]


def test_a_pass_in_a_few_words(pytestconfig: pytest.Config) -> None:
    got = present(pytestconfig, ITEM, result("passed", reports=[short(w) for w in ("setup", "call", "teardown")]))
    assert phases(got.reports) == [("setup", "passed"), ("call", "passed"), ("teardown", "passed")]
    assert got.reports[1].keywords == {"slow": 1}
    assert got.reports[1].nodeid == ITEM.nodeid


@pytest.mark.parametrize(
    ("phase", "expected"),
    [
        ("start", [("setup", "failed"), ("teardown", "passed")]),
        ("setup", [("setup", "failed"), ("teardown", "passed")]),
        ("call", [("setup", "passed"), ("call", "failed"), ("teardown", "passed")]),
        ("teardown", [("setup", "passed"), ("call", "passed"), ("teardown", "failed")]),
        ("exit", [("setup", "passed"), ("call", "passed"), ("teardown", "failed")]),
    ],
)
def test_a_death_becomes_the_failure_of_its_phase(pytestconfig: pytest.Config, phase: str, expected: Any) -> None:
    detail = {"phase": phase, "signal": "SIGBUS", "stacks": "the stacks", "out": "the output"}
    got = present(pytestconfig, ITEM, result("crashed", detail=detail))
    assert phases(got.reports) == expected
    failed = next(r for r in got.reports if r.failed)
    assert failed.holdfast_verdict == "crashed"
    for text in (f"crashed in {phase}: SIGBUS", "the stacks", "the output"):
        assert text in failed.longreprtext
    assert failed.longrepr.reprcrash.message == f"crashed in {phase}: SIGBUS"
    assert got.reports[-1].user_properties == [("holdfast_verdict", "crashed")]


def test_the_runners_own_frames_are_left_out() -> None:
    stacks = """Fatal Python error: Aborted

Current thread 0x01 (most recent call first):
  File "/suite/test_it.py", line 3 in helper
  File "/venv/lib/_pytest/recwarn.py", line 9 in between
  File "/suite/test_it.py", line 5 in test_it
  File "/venv/lib/_pytest/python.py", line 187 in pytest_pyfunc_call
  File "/venv/lib/pluggy/_execution.py", line 147 in _multicall
  File "/venv/lib/holdfast/child.py", line 75 in run_item
  File "<frozen runpy>", line 88 in _run_code"""
    shown = without_runner_frames(stacks).splitlines()
    assert shown[-1] == '  File "/suite/test_it.py", line 5 in test_it'
    assert len(shown) == 6


def test_headlines() -> None:
    assert headline_of("timeout", {"phase": "call", "limit": 2.5}) == "timeout in call: not finished after 2.5 s"
    assert "SIGSTOP" in headline_of("timeout", {"phase": "call", "limit": 1, "was_stopped": True})
    assert "exit status 3" in headline_of("exited", {"phase": "call", "code": 3})
    assert "exec" in headline_of("exited", {"phase": "call", "code": 0, "hung_up": True})
    crash = {"phase": "call", "signal": "SIGSEGV", "si_code": 1, "si_code_name": "SEGV_MAPERR", "address": "0x0"}
    assert headline_of("crashed", crash) == "crashed in call: SIGSEGV (SEGV_MAPERR, address 0x0)"
    assert headline_of("error", {"problem": "half a frame"}) == "error: half a frame"


def test_leaks_are_a_note_a_property_and_a_section(pytestconfig: pytest.Config) -> None:
    leaked = {"leaked": [{"pid": 7, "command": "sleep 1"}]}
    got = present(pytestconfig, ITEM, result("passed", reports=[short("call")], notes=["leaked"], detail=leaked))
    assert got.reports[-1].user_properties == [("holdfast_notes", "leaked")]
    assert got.reports[-1].sections == [("Holdfast: left behind", "process 7: sleep 1")]


def test_a_module_report() -> None:
    report = module_report({"id": "test_x.py", "verdict": "exited", "detail": {"phase": "collect", "code": 2}})
    assert report.outcome == "failed"
    assert "exited in collect" in str(report.longrepr)
