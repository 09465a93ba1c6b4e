"""--hf-isolate=worker: a process runs many tests; a crash costs one of them, and a failure there is judged again in a pristine process."""

from __future__ import annotations

import json
import sqlite3
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

MIXED = """
import os, pytest, unittest

@pytest.fixture(scope="module")
def shared():
    yield os.getpid()

@pytest.fixture(scope="session")
def whole():
    yield 1

@pytest.mark.parametrize("i", range(20))
def test_many(i, shared, whole): assert i >= 0
def test_fails(shared): assert 0, "on purpose"
@pytest.mark.skip(reason="no")
def test_skipped(): pass
@pytest.mark.xfail
def test_xfails(): assert 0
@pytest.mark.xfail
def test_xpasses(): pass
@pytest.mark.xfail(strict=True)
def test_strict(): pass
@pytest.fixture
def broken(): raise ValueError("setup")
def test_error(broken): pass
@pytest.fixture
def rude():
    yield
    raise ValueError("teardown")
def test_rude(rude): pass
class TestClass:
    @pytest.fixture(scope="class", autouse=True)
    def klass(self):
        yield
    def test_one(self): pass
    def test_two(self): assert 0
class TestUnit(unittest.TestCase):
    @classmethod
    def setUpClass(cls): cls.value = 1
    def test_it(self): self.assertEqual(self.value, 1)
"""

SCOPES = """
import pytest
def note(text):
    with open("order", "a") as file: file.write(text + "\\n")
@pytest.fixture(scope="module", autouse=True)
def scope(request):
    note(f"setup {request.node.name}")
    yield
    note(f"teardown {request.node.name}")
@pytest.mark.parametrize("i", range(3))
def test_it(i, request): note(f"run {request.node.parent.name}")
"""


def outcomes(path: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for case in ET.parse(path).iter("testcase"):
        found[f"{case.get('classname')}.{case.get('name')}"] = sorted(child.tag for child in case if child.tag != "properties")
    return found


@pytest.mark.parametrize("slots", [1, 2, 4])
def test_outcomes_are_those_of_plain_pytest(suite: Any, slots: int, tmp_path: Path) -> None:
    suite.write(test_mixed=MIXED, test_more=MIXED)
    suite.plain("--junitxml=plain.xml")
    run = suite.run(f"--hf-slots={slots}", "--hf-isolate=worker", "--junitxml=ours.xml")
    assert run.code == 1
    assert outcomes(tmp_path / "ours.xml") == outcomes(tmp_path / "plain.xml")
    assert not any("polluted" in notes for notes in run.notes.values())


def test_a_slot_sets_up_each_scope_once_and_tears_it_down_before_the_next(suite: Any, tmp_path: Path) -> None:
    suite.write(test_a=SCOPES, test_b=SCOPES, test_c=SCOPES)
    run = suite.run("--hf-slots=1", "--hf-isolate=worker")
    assert run.code == 0, run.output
    order = (tmp_path / "order").read_text().split("\n")[:-1]
    assert order == [
        f"{what} test_{name}.py" for name in "abc" for what in ("setup", "run", "run", "run", "teardown")
    ]  # fmt: skip


def test_an_error_in_a_scopes_teardown_is_the_last_tests(suite: Any) -> None:
    suite.write(
        test_a="""
import pytest
@pytest.fixture(scope="module")
def scope():
    yield
    raise ValueError("scope teardown")
def test_one(scope): pass
def test_two(scope): pass
""",
        test_b="def test_three(): pass",
    )
    run = suite.run("--hf-slots=1", "--hf-isolate=worker")
    assert run.short() == {"test_one": "passed", "test_two": "error", "test_three": "passed"}
    assert "scope teardown" in run.output


@pytest.mark.parametrize(
    "death, verdict",
    [("os.abort()", "crashed"), ("os._exit(0)", "exited"), ("time.sleep(3600)", "timeout")],
)
def test_a_death_costs_the_running_test_alone(suite: Any, death: str, verdict: str) -> None:
    suite.write(
        test_it=f"""
import os, pytest, time
@pytest.mark.parametrize("i", range(9))
def test_it(i):
    if i == 4: {death}
"""
    )
    run = suite.run("--hf-slots=2", "--hf-isolate=worker", "--hf-timeout=1", "--hf-grace=0.2")
    assert run.code == 1, run.output
    assert run.short() == {f"test_it[{i}]": verdict if i == 4 else "passed" for i in range(9)}
    assert run.notes["test_it.py::test_it[4]"] == []


POLLUTED = """
import os, pytest
state = []
def test_harmless(): pass
def test_pollutes(): state.append(1)
def test_suffers(): assert not state
def test_dies_of_it():
    if state: os.abort()
"""


def test_what_passes_alone_is_passed_and_polluted(suite: Any, tmp_path: Path) -> None:
    suite.write(test_it=POLLUTED)
    run = suite.run("--hf-slots=1", "--hf-isolate=worker", "--hf-journal=j.db", "--junitxml=junit.xml")
    assert run.code == 0, run.output
    assert set(run.verdicts.values()) == {"passed"}
    assert run.notes["test_it.py::test_suffers"] == ["polluted"]
    assert run.notes["test_it.py::test_dies_of_it"] == ["polluted"]
    # Who ran before it, and what it said there, is shown and kept.
    assert "polluted: test_it.py::test_suffers" in run.output
    assert "test_it.py::test_pollutes" in run.output
    rows = list(
        sqlite3.connect(tmp_path / "j.db").execute(
            "SELECT number, a.verdict, cause, detail FROM attempts a JOIN tests t ON t.idx=a.test WHERE t.id LIKE '%suffers' ORDER BY number"
        )
    )
    assert [row[:3] for row in rows] == [(1, "failed", "judged again"), (2, "passed", "")]
    assert json.loads(rows[0][3])["before"] == [0, 1]
    assert "assert not [1]" in (tmp_path / "junit.xml").read_text()


def test_strict_makes_pollution_a_failure(suite: Any, tmp_path: Path) -> None:
    suite.write(test_it=POLLUTED)
    run = suite.run("--hf-slots=1", "--hf-isolate=worker", "--hf-strict", "--hf-journal=j.db")
    assert run.code == 1, run.output
    assert run.short() == {"test_harmless": "passed", "test_pollutes": "passed", "test_suffers": "failed", "test_dies_of_it": "crashed"}
    assert run.notes["test_it.py::test_suffers"] == ["polluted"]
    again = suite.run("--hf-slots=1", "--hf-isolate=worker", "--hf-strict", "--hf-journal=j.db", "--hf-resume")
    assert again.short() == run.short()
    assert "assert not [1]" in again.output


def test_a_test_that_fails_by_itself_is_not_polluted(suite: Any) -> None:
    suite.write(test_it="def test_one(): pass\ndef test_two(): assert 0\ndef test_three(): pass\n")
    run = suite.run("--hf-slots=1", "--hf-isolate=worker")
    assert run.short() == {"test_one": "passed", "test_two": "failed", "test_three": "passed"}
    assert not any(run.notes.values())


def test_a_crash_at_the_workers_exit_blames_no_test(suite: Any, tmp_path: Path) -> None:
    suite.write(test_it="import atexit, os\ndef test_one(): atexit.register(os.abort)\ndef test_two(): pass\n")
    run = suite.run("--hf-slots=1", "--hf-isolate=worker", "--junitxml=junit.xml")
    assert run.code == 1, run.output
    assert {k: v for k, v in run.verdicts.items() if "::" in k and "worker" not in k} == {
        "test_it.py::test_one": "passed",
        "test_it.py::test_two": "passed",
    }
    assert "worker gw0 (at its exit, after 2 tests" in run.output
    assert "SIGABRT" in (tmp_path / "junit.xml").read_text()


def test_what_a_worker_leaves_behind_is_killed_and_told(suite: Any) -> None:
    suite.write(
        test_it="""
import subprocess
def test_one(): pass
def test_leaves(): subprocess.Popen(["setsid", "sleep", "3600"])
"""
    )
    run = suite.run("--hf-slots=1", "--hf-isolate=worker")
    assert run.code == 0, run.output
    assert "sleep 3600" in run.output
    assert not suite.survivors()


def test_x_stops_and_tears_down(suite: Any, tmp_path: Path) -> None:
    suite.write(
        test_it="""
import pytest, pathlib
@pytest.fixture(scope="module")
def scope():
    yield
    pathlib.Path("torn_down").touch()
def test_one(scope): pass
def test_fails(scope): assert 0
@pytest.mark.parametrize("i", range(50))
def test_more(i, scope): pass
"""
    )
    run = suite.run("--hf-slots=1", "--hf-isolate=worker", "-x")
    assert run.code == 1, run.output
    assert "stopping after 1 failures" in run.output
    assert (tmp_path / "torn_down").exists()


def test_the_mark_decides_for_one_test(suite: Any, tmp_path: Path) -> None:
    suite.write(
        test_it="""
import os, pathlib, pytest
def note(name): pathlib.Path(name).write_text(str(os.getpid()))
def test_a(): note("a")
@pytest.mark.holdfast(isolate="test")
def test_b(): note("b")
@pytest.mark.forked
def test_c(): note("c")
def test_d(): note("d")
""",
    )
    run = suite.run("--hf-slots=1", "--hf-isolate=worker")
    assert run.code == 0, run.output
    a, b, c, d = ((tmp_path / name).read_text() for name in "abcd")
    assert a == d and len({a, b, c}) == 3


def test_where_forking_is_not_safe_the_workers_are_cold(suite: Any) -> None:
    suite.write(test_it="import threading, time\nthreading.Thread(target=time.sleep, args=(3600,), daemon=True).start()\n" + MIXED)
    suite.plain("--junitxml=plain.xml")
    run = suite.run("--hf-slots=2", "--hf-isolate=worker", "--junitxml=ours.xml")
    assert "forking is not safe" in run.output
    assert outcomes(suite.root / "ours.xml") == outcomes(suite.root / "plain.xml")


def test_a_killed_run_is_resumed(suite: Any, until: Any, tree: Any, kill: Any) -> None:
    suite.write(test_it="import pytest, time\n@pytest.mark.parametrize('i', range(40))\ndef test_it(i): time.sleep(0.03)\n")
    process = suite.start("--hf-slots=2", "--hf-isolate=worker", "--hf-journal=j.db")
    until(lambda: len([e for e in suite.events() if e["event"] == "verdict"]) >= 5, "five verdicts did not come")
    kill(tree(process).engine)
    assert suite.finish(process).code == 12
    run = suite.run("--hf-slots=2", "--hf-isolate=worker", "--hf-journal=j.db", "--hf-resume")
    assert run.code == 0, run.output
    assert len(run.verdicts) == 40


def test_a_worker_that_hangs_at_its_exit_is_ended(suite: Any) -> None:
    suite.write(
        test_it="import atexit, time\ndef hang(): time.sleep(3600)\ndef test_one(): atexit.register(hang)\ndef test_two(): pass\n"
    )
    run = suite.run("--hf-slots=1", "--hf-isolate=worker", "--hf-deadlines=exit:1")
    assert run.code == 1, run.output
    assert {v for k, v in run.verdicts.items() if "worker" not in k} == {"passed"}
    assert [v for k, v in run.verdicts.items() if "worker" in k] == ["timeout"]
    assert "in hang" in run.output


def test_a_crash_is_not_charged_with_what_earlier_tests_left(suite: Any) -> None:
    suite.write(
        test_it="""
import os, subprocess, time
def test_leaves(): subprocess.Popen(["setsid", "sleep", "3600"])
def test_waits(): time.sleep(0.05)
def test_crashes(): os.abort()
"""
    )
    run = suite.run("--hf-slots=1", "--hf-isolate=worker")
    assert run.short()["test_crashes"] == "crashed"
    assert run.notes["test_it.py::test_crashes"] == []
    assert not suite.survivors()


QUICK = """
import os, pytest
@pytest.mark.parametrize("i", range(30))
def test_quick(i):
    with open("order", "a") as file: file.write(f"{i} ")
    if os.environ.get("BREAK") == str(i): {how}
"""


@pytest.mark.parametrize("how", ["os.abort()", "os._exit(0)", "assert 0"])
def test_what_breaks_among_tests_that_were_announced_together_costs_itself_alone(suite: Any, tmp_path: Path, how: str) -> None:
    suite.write(test_it=QUICK.replace("{how}", how))
    assert suite.run("--hf-isolate=worker", "--hf-slots=1").code == 0
    (tmp_path / "order").unlink()
    # They are known to be quick now, so the worker is told of many at once.
    suite.env["BREAK"] = "13"
    run = suite.run("--hf-isolate=worker", "--hf-slots=1")
    verdict = {"os.abort()": "crashed", "os._exit(0)": "exited", "assert 0": "failed"}[how]
    expected = {f"test_it.py::test_quick[{i}]": verdict if i == 13 else "passed" for i in range(30)}
    assert run.verdicts == expected
    ran = (tmp_path / "order").read_text().split()
    assert sorted(ran, key=int) == sorted([*map(str, range(30)), "13"], key=int), "each once, and the broken one twice"


def test_a_slow_one_among_quick_ones_is_shown_and_stopped(suite: Any) -> None:
    suite.write(test_it=QUICK.replace("{how}", "import time; time.sleep(60)"))
    assert suite.run("--hf-isolate=worker", "--hf-slots=1").code == 0
    suite.env["BREAK"] = "5"
    run = suite.run("--hf-isolate=worker", "--hf-slots=1", "--hf-timeout=0.5")
    assert run.verdicts["test_it.py::test_quick[5]"] == "timeout"
    assert list(run.verdicts.values()).count("passed") == 29, run.output


def test_what_died_last_time_takes_no_worker_along(suite: Any, tmp_path: Path) -> None:
    suite.write(
        test_it="""
import ctypes, os, pytest
def note():
    with open("pids", "a") as file: file.write(f"{os.getpid()}\\n")
@pytest.mark.parametrize("i", range(3))
def test_before(i): note()
def test_dies():
    if not os.path.exists("mended"): ctypes.string_at(0)
@pytest.mark.parametrize("i", range(3))
def test_after(i): note()
"""
    )
    workers, attempts = [], []
    for _ in range(4):
        (tmp_path / "pids").unlink(missing_ok=True)
        run = suite.run("--hf-slots=1", "--hf-isolate=worker")
        dying = next(e for e in run.events if e["event"] == "verdict" and "test_dies" in e["id"])
        attempts.append((dying["verdict"], dying["attempts"]))
        workers.append(len(set((tmp_path / "pids").read_text().split())))
        if len(attempts) == 2:
            (tmp_path / "mended").touch()
    # The second time it is alone from the beginning; so it is still when it has been mended, and then a worker's again.
    assert attempts == [("crashed", 2), ("crashed", 1), ("passed", 1), ("passed", 1)]
    assert workers == [2, 1, 1, 1]
