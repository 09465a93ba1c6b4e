"""`holdfast run --hf-isolate=worker`: quick tests of one program share a process, and every verdict is what it would be alone."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from test_run_native import Native, native, run

__all__ = ["native"]
BATCHES = ("--hf-isolate=worker",)


def processes(ran: Path) -> dict[str, list[str]]:
    """Of each test, in which it has run, in order."""
    found: dict[str, list[str]] = {}
    for line in ran.read_text().splitlines():
        name, _, pid = line.rpartition(" ")
        found.setdefault(name, []).append(pid)
    return found


def notes(done) -> dict[str, list[str]]:
    return {name.rpartition("::")[2]: found for name, found in done.notes.items() if found}


def test_tests_of_one_program_share_a_process(native: Native, programs, tmp_path):
    ran = tmp_path / "ran"
    alone = run(native, programs.path("batch"), RAN=str(ran))
    assert set(Counter(pids[0] for pids in processes(ran).values()).values()) == {1}
    ran.unlink()
    # Nobody knows yet how long they take.
    done = run(native, programs.path("batch"), options=(*BATCHES, "--hf-slots=1", "--hf-history=none"))
    assert done.short() == alone.short() and done.code == 0, done.output
    found = processes(ran)
    assert all(len(pids) == 1 for pids in found.values()) and len(found) == len(done.verdicts)
    # The first is asked for before anything is known of those that follow it.
    assert sorted(Counter(pids[0] for pids in found.values()).values()) == [1, len(found) - 1]
    assert not notes(done)
    # What was measured of tests that shared a process is theirs, so the next run does the same, but for one that was held up.
    ran.unlink()
    assert run(native, programs.path("batch"), options=(*BATCHES, "--hf-slots=1")).short() == alone.short()
    assert len({pids[0] for pids in processes(ran).values()}) < len(found) // 2


@pytest.mark.parametrize("wrong", ["fails", "dies", "exits", "hangs", "lies", "slow", "setup"])
def test_what_goes_wrong_is_told_of_the_test_that_is_to_blame(native: Native, programs, tmp_path, wrong):
    options = ("--hf-timeout=3",)
    alone = run(native, programs.path("batch"), options=options, RAN=str(tmp_path / "alone"), WRONG=wrong)
    # What is known to take longest would come first, by itself.
    done = run(native, programs.path("batch"), options=(*options, *BATCHES, "--hf-history=none"), RAN=str(tmp_path / "ran"))
    assert done.short() == alone.short() and done.code == alone.code, done.output
    expected = {"fails": "failed", "dies": "crashed", "exits": "exited", "hangs": "timeout", "lies": "crashed", "slow": "passed"}
    if wrong == "setup":
        assert {done.short()[name] for name in ("SetUp.First", "SetUp.Second")} == {"exited"}, done.output
        assert done.code == 1 and "nothing is there" in done.output
    else:
        assert done.short()["One.MayGoWrong" if wrong != "slow" else "One.TakesTime"] == expected[wrong]
        assert Counter(done.short().values())["passed"] == (19 if wrong == "slow" else 18), done.output
    assert not notes(done), done.output
    # In the process that did not end well, and by itself; what went wrong once more.
    assert max(map(len, processes(tmp_path / "ran").values())) <= 3


@pytest.mark.parametrize(("wrong", "verdict"), [("polluted", "failed"), ("dies if touched", "crashed")])
def test_a_test_that_fails_among_others_only_passes_and_that_is_said(native: Native, programs, tmp_path, wrong, verdict):
    ran = tmp_path / "ran"
    done = run(native, programs.path("batch"), options=(*BATCHES, "--hf-slots=1"), RAN=str(ran), WRONG=wrong)
    assert done.code == 0 and done.short()["One.WantsItUntouched"] == "passed", done.output
    assert notes(done) == {"One.WantsItUntouched": ["polluted"]}
    assert "polluted" in done.output
    strict = run(native, programs.path("batch"), options=(*BATCHES, "--hf-slots=1", "--hf-strict"))
    assert strict.code == 1 and strict.short()["One.WantsItUntouched"] == verdict, strict.output


def test_a_program_whose_tests_are_not_quick_runs_them_one_by_one(native: Native, programs, tmp_path):
    ran = tmp_path / "ran"
    done = run(native, programs.path("batch"), options=(*BATCHES, "--hf-slots=1"), RAN=str(ran), WRONG="slow")
    assert set(done.short().values()) == {"passed", "skipped"}
    found = processes(ran)
    assert len(found["One.TakesTime"]) == 2
    # From then on.
    assert len({pids[-1] for pids in found.values()}) >= len(found) - 1


@pytest.mark.parametrize("name", ["catch2", "catch2-v3", "doctest", "googletest", "ends"])
def test_all_frameworks_come_to_the_same_in_batches(native: Native, programs, tmp_path, name):
    program = programs.path(name)
    for environment in ({"FAIL": ""}, {"FAIL": "1"}) if name not in ("googletest", "ends") else ({},):
        native.env.pop("FAIL", None)
        given = {key: value for key, value in environment.items() if value}
        # Whether that one passes is a matter of how often it has run.
        options = ("--hf-timeout=3", "-k", "not Flaky")
        alone = run(native, program, options=options, RAN=str(tmp_path / "ran"), **given)
        for _ in range(2):
            done = run(native, program, options=(*BATCHES, *options), **given)
            assert done.short() == alone.short(), done.output


def test_where_somebody_wants_the_output_of_each_there_are_none(native: Native, programs, tmp_path):
    ran = tmp_path / "ran"
    done = run(native, f"{programs.path('batch')}::One.Touches", options=(*BATCHES, "-rP"), RAN=str(ran))
    assert "[ RUN      ] One.Touches" in done.output
    ran.unlink()
    run(native, programs.path("batch"), options=(*BATCHES, "-rP"))
    assert set(Counter(pids[0] for pids in processes(ran).values()).values()) == {1}


def test_what_is_to_be_skipped_is_not_run_with_others(native: Native, programs, tmp_path):
    """By a plugin, which knows nothing of batches."""
    native.file(
        "skipper.py",
        "import pytest\ndef pytest_collection_modifyitems(items):\n"
        "    for item in items:\n        if 'Quick/3' in item.name: item.add_marker(pytest.mark.skip(reason='not now'))\n",
    )
    native.env["PYTHONPATH"] = f"{native.root}:{native.env.get('PYTHONPATH', '')}"
    for _ in range(2):
        done = run(native, programs.path("batch"), options=(*BATCHES, "--hf-slots=1", "-p", "skipper"), RAN=str(tmp_path / "ran"))
        assert done.short()["A/Many.Quick/3"] == done.short()["Z/Many.Quick/3"] == "skipped", done.output
        assert "Many.Quick/3" not in " ".join(processes(tmp_path / "ran"))


@pytest.mark.parametrize("options", [(), BATCHES])
def test_why_a_test_was_skipped(native: Native, programs, options):
    """GoogleTest 1.12 does not say so in its report."""
    done = run(native, programs.path("batch"), options=(*options, "-rs"))
    assert "why not" in next(line for line in done.output.splitlines() if line.startswith("SKIPPED")), done.output
