"""`holdfast history`, `show`, `shard`, `merge` and `pollution` on files of real runs."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

SUITE = """
import os, pytest, time
@pytest.mark.parametrize("i", range(6))
def test_many(i): pass
def test_slow(): time.sleep(0.2)
def test_fails(): print("some words"); assert 1 == 2
def test_crashes(): os.abort()
def test_big(): bytearray(200 << 20)[::4096] = b"x" * (200 << 8)
"""


def holdfast(suite: Any, *args: str, stdin: str = "") -> Any:
    return subprocess.run(
        [sys.executable, "-m", "holdfast", *args],
        cwd=suite.root,
        env=suite.env,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )


def test_show(suite: Any) -> None:
    suite.write(test_it=SUITE)
    suite.run("--hf-slots=2", "--hf-journal=j.db", "--hf-retry=crashed:1")
    whole = holdfast(suite, "show", "j.db")
    assert whole.returncode == 0, whole.stderr
    assert "1 crashed, 1 failed, 8 passed" in whole.stdout
    assert "crashed, 2 attempts: test_it.py::test_crashes" in whole.stdout
    one = holdfast(suite, "show", "j.db", "test_crashes").stdout
    assert "attempt 1: crashed, then retried" in one and "attempt 2: crashed" in one
    assert "SIGABRT" in one and 'test_it.py", line' in one
    failed = holdfast(suite, "show", "j.db", "test_fails").stdout
    assert "some words" in failed and "assert 1 == 2" in failed


def test_history(suite: Any) -> None:
    suite.write(test_it=SUITE)
    for _ in range(2):
        suite.run("--hf-slots=1")
    suite.file("test_it.py", SUITE.replace("os.abort()", "pass"))
    suite.run("--hf-slots=1")
    whole = holdfast(suite, "history").stdout
    assert whole.count("10 tests in") == 3
    slowest = whole.partition("slowest\n")[2].split("\n")[0]
    assert "test_slow" in slowest
    biggest = whole.partition("biggest")[2].split("\n")[1]
    assert "test_big" in biggest and "MiB" in biggest
    assert "2 bad, 0 noted of 3  test_it.py::test_crashes" in whole
    trend = holdfast(suite, "history", "test_crashes").stdout
    assert trend.count("crashed ") == 2 and trend.count("passed") == 1
    below = suite.root / "below"
    below.mkdir()
    found = subprocess.run(
        [sys.executable, "-m", "holdfast", "history"], cwd=below, env=suite.env, capture_output=True, text=True, check=False
    )
    assert found.stdout == whole


def test_shards_cover_the_suite_and_merge_again(suite: Any, tmp_path: Path) -> None:
    suite.file("pytest.ini", "[pytest]\naddopts = --holdfast\n")
    suite.write(test_it=SUITE, test_more=SUITE)
    suite.run("--hf-slots=2")
    # On CI every machine starts from the same history.
    shards = [holdfast(suite, "shard", "--count=2", f"--index={index}", "--", "test_it.py", "test_more.py") for index in range(2)]
    assert [shard.returncode for shard in shards] == [0, 0], shards[0].stderr
    seen: list[str] = []
    for index, shard in enumerate(shards):
        ids = shard.stdout.split("\n")[:-1]
        seen += ids
        run = suite.run("--hf-slots=2", f"--hf-journal=part{index}.db", f"--junitxml=part{index}.xml", *ids)
        assert sorted(run.verdicts) == sorted(ids)
    assert len(seen) == 20 and len(set(seen)) == 20
    merged = holdfast(suite, "merge", "whole.db", "part0.db", "part1.db")
    assert merged.returncode == 0, merged.stderr
    assert "2 crashed, 2 failed, 16 passed" in holdfast(suite, "show", "whole.db").stdout
    assert "SIGABRT" in holdfast(suite, "show", "whole.db", "test_more.py::test_crashes").stdout
    assert holdfast(suite, "merge", "whole.xml", "part0.xml", "part1.xml").returncode == 0
    root = ET.parse(tmp_path / "whole.xml").getroot()
    assert root.get("tests") == "20" and len(list(root.iter("testcase"))) == 20
    again = holdfast(suite, "merge", "whole.db", "part0.db")
    assert again.returncode == 4 and "exists" in again.stderr


def test_shard_of_given_ids(suite: Any) -> None:
    done = holdfast(suite, "shard", "--count=3", "--index=0", "--ids=-", stdin="a\nb\nc\n")
    assert done.stdout == "a\n"


POLLUTED = """
import pytest
state = set()
@pytest.mark.parametrize("i", range(3))
def test_harmless(i): pass
def test_one(): state.add(1)
@pytest.mark.parametrize("i", range(3, 6))
def test_harmless_too(i): pass
def test_two(): state.add(2)
def test_suffers(): assert len(state) < 2
"""


@pytest.mark.parametrize("addopts", ["", "--holdfast --hf-isolate=worker"])
def test_pollution(suite: Any, addopts: str) -> None:
    suite.file("pytest.ini", f"[pytest]\naddopts = {addopts}\n")
    suite.write(test_it=POLLUTED)
    run = suite.run("--hf-slots=1", "--hf-isolate=worker", "--hf-journal=j.db")
    assert run.notes["test_it.py::test_suffers"] == ["polluted"]
    done = holdfast(suite, "pollution", "j.db", "test_suffers")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split("\n")[-3:] == ["  test_it.py::test_one", "  test_it.py::test_two", ""]


def test_mistakes(suite: Any, tmp_path: Path) -> None:
    suite.write(test_it=SUITE)
    suite.run("--hf-slots=2", "--hf-journal=j.db", "-k", "many")
    (tmp_path / "text").write_text("no database")
    for args, text in (
        (["show", "nothing.db"], "there is no ledger nothing.db"),
        (["show", "text"], "text is not a ledger"),
        (["show", ".holdfast/history.db"], "is not a ledger of holdfast"),
        (["show", "j.db", "unheard_of"], "no test of this run has 'unheard_of' in its id"),
        (["history", "unheard_of"], "no test in the history has 'unheard_of' in its id"),
        (["history", "--history=j.db"], "is not a history of holdfast"),
        (["shard", "--count=0", "--index=0"], "there must be at least one part"),
        (["shard", "--count=2", "--index=2"], "numbered 0 to 1"),
        (["shard", "--count=2", "--index=0", "--", "no_such_file.py"], "collecting failed"),
        (["merge", "new.xml", "text"], "cannot be read as JUnit XML"),
        (["merge", "new.db", "text"], "text is not a ledger"),
        (["pollution", "j.db", "test_many[3]"], "did not fail in a worker"),
        (["pollution", "j.db", "test_many"], "give a longer part"),
    ):
        done = holdfast(suite, *args)
        assert done.returncode == 4, (args, done.stdout, done.stderr)
        assert text in done.stderr and "Traceback" not in done.stderr, (args, done.stderr)
