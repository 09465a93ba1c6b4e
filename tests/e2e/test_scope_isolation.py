"""--hf-isolate=module|class: a process a scope. What its tests leave to each other is meant to be there."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

HEADER = """
import os, pytest
def note(text):
    with open("order", "a") as file: file.write(f"{os.getpid()} {text}\\n")
"""
MODULE = (
    HEADER
    + """
state = []
@pytest.fixture(scope="module", autouse=True)
def scope(request):
    note(f"setup {request.node.name}")
    yield
    note(f"teardown {request.node.name}")
@pytest.mark.parametrize("i", range(5))
def test_it(i, request):
    note(f"{request.node.parent.name}[{i}]")
    assert len(state) == i, "the tests before it have run here"
    state.append(i)
"""
)
CLASSES = (
    HEADER
    + """
def test_outside(): note("outside")
def test_outside_too(): note("outside too")
class TestOne:
    seen = []
    @classmethod
    def setup_class(cls): note("setup")
    def test_a(self): self.seen.append(1); note("one")
    def test_b(self): assert self.seen == [1]; note("one")
    class TestNested:
        def test_c(self): assert TestOne.seen == [1]; note("one")
class TestTwo:
    def test_a(self): note("two")
    def test_b(self): note("two")
"""
)


def lines(path: Path) -> list[list[str]]:
    return [line.split(" ", 1) for line in (path / "order").read_text().splitlines()]


@pytest.mark.parametrize("slots", [1, 2, 8])
def test_a_module_has_a_process_of_its_own(suite: Any, tmp_path: Path, slots: int) -> None:
    for name in "abcd":
        suite.write(**{f"test_{name}": MODULE})
    run = suite.run("--hf-isolate=module", f"--hf-slots={slots}")
    assert run.code == 0, run.output
    assert "a process per module" in run.output
    processes: dict[str, list[str]] = {}
    for pid, text in lines(tmp_path):
        processes.setdefault(pid, []).append(text)
    expected = [[f"setup test_{n}.py", *(f"test_{n}.py[{i}]" for i in range(5)), f"teardown test_{n}.py"] for n in "abcd"]
    assert sorted(processes.values()) == expected


def test_a_class_has_a_process_of_its_own(suite: Any, tmp_path: Path) -> None:
    suite.write(test_it=CLASSES)
    run = suite.run("--hf-isolate=class", "--hf-slots=2")
    assert run.code == 0, run.output
    where: dict[str, set[str]] = {}
    for pid, text in lines(tmp_path):
        where.setdefault(text, set()).add(pid)
    pids = [where[text] for text in ("outside", "outside too", "one", "two")]
    assert all(len(pid) == 1 for pid in pids)
    assert len(set().union(*pids)) == 4
    assert where["setup"] == where["one"]


def test_a_failure_is_not_judged_again_since_it_may_need_those_before_it(suite: Any, tmp_path: Path) -> None:
    suite.write(test_it=HEADER + "def test_a(): note('a')\ndef test_b(): note('b'); assert 0\ndef test_c(): note('c')")
    run = suite.run("--hf-isolate=module", "--hf-slots=1")
    assert Counter(run.verdicts.values()) == {"passed": 2, "failed": 1}
    assert [text for _, text in lines(tmp_path)] == ["a", "b", "c"]


@pytest.mark.parametrize("slots", [1, 3])
@pytest.mark.parametrize("history", [False, True])
def test_a_crash_costs_one_test_and_the_scope_goes_on_in_its_slot(suite: Any, tmp_path: Path, slots: int, history: bool) -> None:
    body = MODULE.replace(
        "    assert len(state)", "    if os.environ.get('BREAK') and i == 2: os.abort()\n    if i < 2: assert len(state)"
    )
    suite.write(test_a=body, test_b=body, test_c=body)
    if history:
        assert suite.run("--hf-isolate=module", f"--hf-slots={slots}").code == 0
        (tmp_path / "order").unlink()
    suite.env["BREAK"] = "1"
    run = suite.run("--hf-isolate=module", f"--hf-slots={slots}")
    assert Counter(run.verdicts.values()) == {"passed": 12, "crashed": 3}
    for name in "abc":
        of_module = [(pid, text) for pid, text in lines(tmp_path) if f"test_{name}.py" in text]
        # Once for those before the crash, once for the rest; never two processes at a time.
        assert [text for _, text in of_module] == [
            f"setup test_{name}.py",
            *(f"test_{name}.py[{i}]" for i in range(3)),
            f"setup test_{name}.py",
            *(f"test_{name}.py[{i}]" for i in range(3, 5)),
            f"teardown test_{name}.py",
        ]
        assert len({pid for pid, _ in of_module}) == 2


def test_marks_mix_isolations(suite: Any, tmp_path: Path) -> None:
    suite.write(
        test_it=HEADER
        + """
@pytest.mark.holdfast(isolate="module")
def test_a(): note("module")
@pytest.mark.holdfast(isolate="worker")
def test_b(): note("worker")
def test_c(): note("own")
@pytest.mark.holdfast(isolate="module")
def test_d(): note("module")
@pytest.mark.holdfast(isolate="worker")
def test_e(): note("worker")
def test_f(): note("own")
"""
    )
    run = suite.run("--hf-slots=1")
    assert run.code == 0, run.output
    pids: dict[str, list[str]] = {}
    for pid, text in lines(tmp_path):
        pids.setdefault(text, []).append(pid)
    assert len(set(pids["module"])) == 1
    assert len(set(pids["worker"])) == 1
    assert len(set(pids["own"])) == 2
    assert not {*pids["module"]} & {*pids["worker"], *pids["own"]}


@pytest.mark.parametrize("dist", ["dynamic", "file", "group", "sequential"])
@pytest.mark.parametrize("isolation", ["module", "class"])
def test_same_outcomes_as_plain_in_every_distribution(suite: Any, isolation: str, dist: str) -> None:
    suite.write(test_a=MODULE, test_b=CLASSES, test_c=MODULE)
    run = suite.run(f"--hf-isolate={isolation}", f"--hf-dist={dist}", "--hf-slots=2")
    failed = {i for i, v in run.verdicts.items() if v != "passed"}
    # In isolation `class` functions outside of classes are on their own.
    expected = {f"test_{n}.py::test_it[{i}]" for n in "ac" for i in range(1, 5)} if isolation == "class" else set()
    assert failed == expected


def test_interrupted_scope_is_torn_down(suite: Any, tmp_path: Path) -> None:
    suite.write(test_a=MODULE.replace("    state.append(i)", "    state.append(i)\n    assert i != 2"), test_b=MODULE)
    run = suite.run("--hf-isolate=module", "--hf-slots=1", "-x")
    assert run.code == 1
    assert [text for _, text in lines(tmp_path)][-1] == "teardown test_a.py"


def test_an_unknown_isolation_is_refused(suite: Any) -> None:
    suite.write(test_it="def test_it(): pass")
    run = suite.run("--hf-isolate=package")
    assert run.code == 4
    assert "`module` (a process per module)" in run.output
