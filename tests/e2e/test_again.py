"""--hf-stress and --hf-repeat-until: tests run again and again until they fail, round after round, with one verdict each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

COUNT = """
import os, pathlib, pytest, time
def count(name):
    path = pathlib.Path(name)
    with path.open("a") as file: file.write("x")
    return len(path.read_text())
def log(text):
    with open("log", "a") as file: file.write(text + "\\n")
"""
SUITE = (
    COUNT
    + """
def test_fine():
    log("fine")
    count("fine")
def test_now_and_then():
    log("now and then")
    assert count("now") < 4
def test_dies():
    if count("dies") == 3: os.abort()
def test_skipped():
    count("skipped")
    pytest.skip("no")
@pytest.mark.xfail
def test_xfail():
    count("xfail")
    assert False
"""
)


def counts(suite: Any, *names: str) -> list[int]:
    return [len((suite.root / name).read_text()) for name in names]


@pytest.mark.parametrize("isolation", ["test", "worker", "module"])
@pytest.mark.parametrize("slots", [1, 3])
def test_each_runs_so_often_or_until_it_fails(suite: Any, isolation: str, slots: int) -> None:
    suite.write(test_it=SUITE)
    run = suite.run("--hf-stress=6", f"--hf-isolate={isolation}", f"--hf-slots={slots}")
    assert run.short() == {
        "test_fine": "passed",
        "test_now_and_then": "failed",
        "test_dies": "crashed",
        "test_skipped": "skipped",
        "test_xfail": "xfailed",
    }, run.output
    assert counts(suite, "fine", "skipped", "xfail", "now", "dies") == [6, 1, 6, 4, 3]
    assert "it passed 3 time(s) before that" in run.output and "it passed 2 time(s) before that" in run.output
    attempts = {event["id"].rpartition("::")[2]: event["attempts"] for event in run.events if event["event"] == "verdict"}
    assert attempts["test_fine"] == 6 and attempts["test_skipped"] == 1


def test_none_runs_again_before_all_others_have_begun(suite: Any) -> None:
    suite.write(test_it=COUNT + "@pytest.mark.parametrize('i', range(5))\ndef test(i): log(str(i))\n")
    assert suite.run("--hf-stress=8", "--hf-slots=1").code == 0
    so_far = dict.fromkeys("01234", 0)
    for line in (suite.root / "log").read_text().splitlines():
        so_far[line] += 1
        # The last one of a round may still run when the next begins.
        assert max(so_far.values()) - min(so_far.values()) <= 2
    assert set(so_far.values()) == {8}


def test_until_a_time_is_over(suite: Any) -> None:
    suite.write(test_it=COUNT + "def test_one(): count('one')\ndef test_two(): assert count('two') < 3\n")
    run = suite.run("--hf-repeat-until=1.5s", "--hf-slots=2")
    assert run.short() == {"test_one": "passed", "test_two": "failed"}, run.output
    one, two = counts(suite, "one", "two")
    assert two == 3 and one > 3, run.output
    # Both limits.
    (suite.root / "one").unlink()
    assert suite.run("--hf-repeat-until=1h", "--hf-stress=4", "-k", "one").short() == {"test_one": "passed"}
    assert counts(suite, "one") == [4]


def test_what_is_shared_is_set_up_once(suite: Any) -> None:
    suite.write(
        test_it=COUNT
        + """
@pytest.fixture(scope="module")
def shared():
    count("setup")
    yield
    count("teardown")
@pytest.mark.parametrize("i", range(3))
def test(shared, i): count("ran")
"""
    )
    run = suite.run("--hf-stress=5", "--hf-slots=2")
    assert set(run.verdicts.values()) == {"passed"}, run.output
    assert counts(suite, "ran", "setup", "teardown") == [15, 1, 1]


def test_what_one_run_has_left_is_told(suite: Any) -> None:
    text = "import subprocess\ndef test():\n    if count('ran') == 2: subprocess.Popen(['sleep', '1000'])\n"
    suite.write(test_it=COUNT + text)
    run = suite.run("--hf-stress=4", "--hf-slots=1")
    assert run.short() == {"test": "passed"} and run.notes["test_it.py::test"] == ["leaked"], run.output
    assert "sleep 1000" in run.output
    assert suite.run("--hf-stress=4", "--hf-leaks=fail", "--hf-slots=1").code == 0  # It has run twice by now.
    (suite.root / "ran").unlink()
    assert suite.run("--hf-stress=4", "--hf-leaks=fail", "--hf-slots=1").short() == {"test": "error"}


def test_one_that_is_stopped_tells_what_it_knows(suite: Any, until: Any) -> None:
    import signal

    suite.write(test_it=COUNT + "@pytest.mark.parametrize('i', range(4))\ndef test(i): count(str(i))\n")
    process = suite.start("--hf-repeat-until=1h", "--hf-slots=2")
    until(lambda: all((suite.root / str(i)).exists() and counts(suite, str(i)) >= [3] for i in range(4)))
    process.send_signal(signal.SIGINT)
    run = suite.finish(process)
    assert run.code == 2 and set(run.verdicts.values()) <= {"passed"}, run.output


def test_the_first_failure_ends_the_run_where_that_is_wanted(suite: Any) -> None:
    suite.write(test_it=COUNT + "def test_a(): count('a')\ndef test_b(): assert count('b') < 3\n")
    run = suite.run("--hf-stress=1000", "-x", "--hf-slots=1")
    assert run.code == 1 and run.short()["test_b"] == "failed", run.output
    assert counts(suite, "a")[0] in (2, 3)


def test_retries_of_a_mark_are_not_for_these(suite: Any) -> None:
    suite.write(test_it=COUNT + "@pytest.mark.holdfast(retry=3)\ndef test(): assert count('ran') != 3\n")
    assert suite.run("--hf-stress=5", "--hf-slots=1").short() == {"test": "failed"}
    assert counts(suite, "ran") == [3]


def test_a_killed_run_goes_on(suite: Any, until: Any, kill: Any) -> None:
    suite.write(test_it=COUNT + "def test(): count('ran')\n")
    process = suite.start("--hf-stress=1000000", "--hf-journal=j.db")
    until(lambda: (suite.root / "ran").exists() and counts(suite, "ran") >= [3])
    process.kill()
    process.communicate(timeout=60)
    run = suite.run("--hf-stress=3", "--hf-journal=j.db", "--hf-resume")
    assert run.short() == {"test": "passed"}, run.output


def test_programs_run_again_and_again(suite: Any, programs: Any, tmp_path: Path) -> None:
    from test_run_native import Native, run

    native = Native(suite.root)
    native.env = suite.env
    done = run(native, f"{programs.path('ends')}::Ends.Flaky", options=("--hf-stress=3",), RAN=str(tmp_path / "ran"))
    assert done.short() == {"Ends.Flaky": "failed"}
    done = run(native, f"{programs.path('ends')}::Ends.Well", options=("--hf-stress=3", "--hf-isolate=worker"))
    assert done.short() == {"Ends.Well": "passed"}
    assert [event["attempts"] for event in done.events if event["event"] == "verdict"] == [3]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--hf-stress=0"], "'0' is no number of runs; give 1 to 1000000"),
        (["--hf-stress=many"], "'many' is no number of runs"),
        (["--hf-repeat-until=soon"], "'soon' is no time; give one as in 30s, 10m or 2h"),
        (["--hf-repeat-until=0s"], "'0s' is no time"),
        (["--hf-stress=3", "--hf-retry=failed:1"], "--hf-stress looks for the failures that --hf-retry forgives"),
        (["--hf-repeat-until=1m", "--hf-retry=failed:1"], "--hf-repeat-until looks for the failures"),
    ],
)
def test_mistakes(suite: Any, options: list[str], said: str) -> None:
    suite.write(test_it="def test(): pass\n")
    run = suite.run(*options)
    assert run.code == 4 and said in run.output, run.output
    assert "Traceback" not in run.output
