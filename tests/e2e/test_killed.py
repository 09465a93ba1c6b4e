"""kill -9 of anything, at moments of the run: no process stays, and a resumed run runs exactly what has no verdict."""

from __future__ import annotations

import re
import sqlite3
from typing import Any, Callable

import pytest

COUNT = 30
SUITE = f"""
import pytest, subprocess, time
@pytest.mark.parametrize("i", range({COUNT}))
def test_it(i):
    with open("ran", "a") as file: file.write(f"{{i}}\\n")
    if i % 5 == 0: subprocess.Popen(["sleep", "3600"])
    time.sleep(0.05)
"""


def begin(suite: Any, until: Callable[..., None]) -> Any:
    suite.write(test_it=SUITE)
    process = suite.start("--hf-slots=2", "--hf-journal=j.db")
    until(lambda: len([e for e in suite.events() if e["event"] == "verdict"]) >= 5, "five verdicts did not come")
    return process


def with_verdict(suite: Any) -> set[str]:
    db = sqlite3.connect(suite.root / "j.db")
    try:
        return {row[0] for row in db.execute("SELECT id FROM tests WHERE verdict IS NOT NULL")}
    finally:
        db.close()


def resume(suite: Any) -> None:
    done = {re.search(r"\[(\d+)\]", i).group(1) for i in with_verdict(suite)}  # type: ignore[union-attr]
    (suite.root / "ran").unlink()
    run = suite.run("--hf-slots=2", "--hf-journal=j.db", "--hf-resume")
    assert run.code == 0, run.output
    assert f"{COUNT} passed" in run.output
    assert len(run.verdicts) == COUNT
    ran = (suite.root / "ran").read_text().split() if (suite.root / "ran").exists() else []
    assert sorted(ran, key=int) == sorted({str(i) for i in range(COUNT)} - done, key=int)


@pytest.mark.parametrize("who", ["controller", "engine", "both"])
def test_controller_or_engine(suite: Any, until: Any, tree: Any, kill: Any, who: str) -> None:
    process = begin(suite, until)
    engine = tree(process).engine
    if who in ("controller", "both"):
        kill(process.pid)
    if who in ("engine", "both"):
        kill(engine)
    run = suite.finish(process)
    until(lambda: not suite.survivors(), "processes are left after the kill")
    if who == "engine":
        assert run.code == 12
        assert "the engine was killed by SIGKILL" in run.output
        assert "--hf-resume" in run.output
        assert "Traceback" not in run.output
    resume(suite)


@pytest.mark.parametrize("who", ["root", "slot", "test"])
def test_zygotes_and_tests(suite: Any, until: Any, tree: Any, kill: Any, who: str) -> None:
    process = begin(suite, until)
    processes = tree(process)
    victims = {"root": lambda: [processes.root], "slot": lambda: processes.slots, "test": lambda: processes.tests}
    until(lambda: victims[who](), "nothing to kill was found")
    kill(victims[who]()[0])
    run = suite.finish(process)
    assert len(run.verdicts) == COUNT, run.output
    crashed = [i for i, v in run.verdicts.items() if v != "passed"]
    assert len(crashed) <= 1, run.output


def test_kill_during_collection(suite: Any, until: Any, tree: Any, kill: Any) -> None:
    suite.write(test_a="import time; time.sleep(3600)\n", test_b="def test_b(): pass\n")
    process = suite.start("--hf-journal=j.db")
    until(lambda: tree(process).root, "no root zygote")
    until(lambda: (suite.root / "j.db").exists(), "no ledger")
    kill(process.pid)
    suite.finish(process)
    until(lambda: not suite.survivors(), "processes are left")


def test_a_test_that_kills_its_zygote_costs_itself_only(suite: Any) -> None:
    suite.write(
        test_it="""
import os, pytest, signal, time
@pytest.mark.parametrize("i", range(4))
def test_innocent(i): pass
def test_kills_parent(): os.kill(os.getppid(), signal.SIGKILL); time.sleep(3600)
@pytest.mark.parametrize("i", range(4))
def test_innocent_too(i): pass
"""
    )
    run = suite.run("--hf-slots=1", "--hf-timeout=20")
    assert {i for i, v in run.short().items() if v != "passed"} == {"test_kills_parent"}
    assert run.short()["test_kills_parent"] == "crashed"
    assert "together with its zygote" in run.output


def test_a_test_that_stops_its_zygote_costs_itself_only(suite: Any) -> None:
    suite.write(
        test_it="""
import os, signal, time
def test_stops_parent(): os.kill(os.getppid(), signal.SIGSTOP)
def test_innocent(): pass
"""
    )
    run = suite.run("--hf-slots=1", "--hf-timeout=1", "--hf-grace=0.5")
    assert run.short()["test_innocent"] == "passed"
    assert run.short()["test_stops_parent"] in ("timeout", "crashed", "passed")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("def test_other(): pass\n", "another suite"),
        (SUITE + "def test_added(): pass\n", "another suite"),
    ],
)
def test_a_ledger_of_another_suite_is_refused(suite: Any, change: str, says: str) -> None:
    suite.write(test_it=SUITE)
    suite.run("--hf-journal=j.db", "-k", "it")
    suite.write(test_it=change)
    run = suite.run("--hf-journal=j.db", "--hf-resume")
    assert run.code == 4
    assert says in run.output
    assert "Traceback" not in run.output


def test_resume_takes_the_latest_ledger(suite: Any) -> None:
    suite.write(test_it="def test_it(): pass\n")
    suite.run()
    run = suite.run("--hf-resume")
    assert run.code == 0
    assert "1 passed" in run.output


def test_resume_reports_fatal_modules_once(suite: Any) -> None:
    suite.write(test_a="import os; os.abort()", test_b="def test_b(): assert 0\n")
    first = suite.run("--hf-journal=j.db")
    again = suite.run("--hf-journal=j.db", "--hf-resume")
    assert again.verdicts == first.verdicts == {"test_a.py": "crashed", "test_b.py::test_b": "failed"}
    assert again.code == 1
    assert "assert 0" in again.output
