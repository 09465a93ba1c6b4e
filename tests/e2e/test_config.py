"""holdfast.toml: options, profiles, overrides of tests by pattern, groups; and what is wrong with one."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

SUITE = """
import os, pathlib, time, pytest
def until(condition):
    deadline = time.monotonic() + 20
    while not condition(): assert time.monotonic() < deadline; time.sleep(0.01)
"""


def config(suite: Any, *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "holdfast", "config", *args]
    return subprocess.run(command, cwd=suite.root, env=suite.env, capture_output=True, text=True, timeout=60, check=False)


def test_options_of_the_file_count_less_than_those_of_the_command(suite: Any) -> None:
    suite.write(test_it="def test(): pass\n")
    suite.file("holdfast.toml", '[options]\nslots = 3\nisolate = "worker"\n[profiles.ci]\nslots = 2\n')
    suite.file("pytest.ini", "[pytest]\nhf_slots = 7\nhf_isolate = module\n")
    for options, said in (
        ((), "3 slot(s), a worker per slot"),
        (("--hf-profile=ci",), "2 slot(s), a worker per slot"),
        (("--hf-profile=ci", "--hf-slots=1"), "1 slot(s), a worker per slot"),
        (("--hf-config=none",), "7 slot(s), a process per module"),
    ):
        run = suite.run(*options)
        assert run.code == 0 and said in run.output, run.output
    assert "holdfast: holdfast.toml, profile ci" in suite.run("--hf-profile=ci").output


def test_true_and_false(suite: Any) -> None:
    text = "import sys\ndef test_a(): sys.modules['left'] = sys\ndef test_b(): assert 'left' not in sys.modules\n"
    suite.write(test_it=text)
    suite.file("holdfast.toml", '[options]\nisolate = "worker"\nslots = 1\nstrict = true\n')
    assert suite.run("--hf-history=none").short() == {"test_a": "passed", "test_b": "failed"}
    suite.file("holdfast.toml", '[options]\nisolate = "worker"\nslots = 1\nstrict = false\n')
    assert suite.run("--hf-history=none").short() == {"test_a": "passed", "test_b": "passed"}
    # The ini's word counts less than the file's, the command's more.
    suite.file("pytest.ini", "[pytest]\nhf_strict = true\n")
    assert suite.run("--hf-history=none").short() == {"test_a": "passed", "test_b": "passed"}
    assert suite.run("--hf-history=none", "--hf-strict").short() == {"test_a": "passed", "test_b": "failed"}
    suite.file("holdfast.toml", '[options]\nisolate = "worker"\nslots = 1\n')
    assert suite.run("--hf-history=none").short() == {"test_a": "passed", "test_b": "failed"}


def test_what_a_pattern_says_counts_more_than_marks(suite: Any) -> None:
    suite.write(
        test_it=SUITE
        + """
@pytest.mark.holdfast(timeout=100)
def test_hangs(): time.sleep(1000)
@pytest.mark.parametrize("i", range(2))
def test_dies(i):
    with open(f"died{i}", "a") as file: file.write("x")
    os.abort()
def test_takes_time(): time.sleep(0.05)
"""
    )
    suite.file(
        "holdfast.toml",
        """
[[tests]]
match = "*"
timeout = 200
[[tests]]
match = ["*::test_hangs", "*::absent"]
timeout = 1
[[tests]]
match = "*::test_dies[[]1]"
retry = { crashed = 2 }
[[tests]]
match = "*takes_time"
slow = 0.01
""",
    )
    run = suite.run("--hf-slots=3")
    assert run.short() == {"test_hangs": "timeout", "test_dies[0]": "crashed", "test_dies[1]": "crashed", "test_takes_time": "passed"}
    assert "not finished after 1 s" in run.output
    assert [len((suite.root / f"died{i}").read_text()) for i in (0, 1)] == [1, 3]
    assert run.notes["test_it.py::test_takes_time"] == ["slow"] and "more than 0.01 s is slow (holdfast.toml)" in run.output


@pytest.mark.parametrize("most", [1, 2])
def test_a_group_has_so_many_at_a_time(suite: Any, most: int) -> None:
    text = """
@pytest.mark.parametrize("i", range(8))
def test_in_group(i):
    here = pathlib.Path(f"here{i}")
    here.touch()
    for _ in range(20):
        assert len(list(pathlib.Path().glob("here*"))) <= MOST
        time.sleep(0.01)
    if i < 2 and MOST == 2:
        # They pass only if they run at the same time.
        pathlib.Path(f"met{i}").touch()
        until(lambda: pathlib.Path(f"met{1 - i}").exists())
    here.unlink()
def test_outside(): pass
"""
    suite.write(test_it=SUITE + text.replace("MOST", str(most)))
    suite.file("holdfast.toml", f'[groups.database]\nat_most = {most}\n[[tests]]\nmatch = "*in_group*"\ngroup = "database"\n')
    run = suite.run("--hf-slots=4")
    assert set(run.verdicts.values()) == {"passed"}, run.output


def test_without_holdfast_it_means_nothing(suite: Any) -> None:
    suite.write(test_it="def test(request): assert not list(request.node.iter_markers('holdfast'))\n")
    suite.file("holdfast.toml", '[[tests]]\nmatch = "*"\ntimeout = 1\nwrong = 1\n')
    assert suite.run(holdfast=False).code == 0


WRONG = [
    ("[option]\n", "'option' is not known; did you mean 'options'?"),
    ("[options]\nslot = 3\n", "[options] 'slot' is not known; did you mean 'slots'?"),
    ("[options]\nslots = 0\n", "[options] slots: "),
    ("[options]\nslots = []\n", "[options] slots: [] is neither text nor a number"),
    ("[options]\nstrict = 1\n", "[options] strict: 1 is neither true nor false"),
    ("[profiles.ci]\ntimout = 3\n", "[profiles.ci] 'timout' is not known; did you mean 'timeout'?"),
    ("[profiles]\nci = 3\n", "profiles.ci: is no table"),
    ("tests = 3\n", "tests: is no list of tables; begin each with [[tests]]"),
    ("[[tests]]\ntimeout = 3\n", "[[tests]] number 1: match: give a pattern of ids"),
    ('[[tests]]\nmatch = "*"\nretries = 3\n', "[[tests]] number 1: 'retries' is not known; did you mean 'retry'?"),
    (
        '[[tests]]\nmatch = "*"\n[[tests]]\nmatch = "*"\ncores = 0\n',
        "number 2: cores: 0 is not possible; give a whole number from 1 on",
    ),
    ('[[tests]]\nmatch = "*"\nretry = "often"\n', "retry: 'often' is not possible; give a number, or CAUSE:TIMES"),
    ('[[tests]]\nmatch = "*"\nmemory = "much"\n', "memory: 'much' is not possible"),
    ('[[tests]]\nmatch = "*"\nisolate = "no"\n', "isolate: 'no' is not possible; give test, class, module or worker"),
    ('[[tests]]\nmatch = "*"\ngroup = "db"\n[groups.dbs]\nat_most = 1\n', "there is no [groups.db]; did you mean 'dbs'?"),
    ("[groups.db]\nat_most = 0\n", "[groups.db] at_most: 0 is no number of tests from 1 on"),
    ("[groups.db]\nmost = 1\n", "[groups.db] 'most' is not known; did you mean 'at_most'?"),
    ("[options\n", "is no TOML"),
]


@pytest.mark.parametrize(("text", "said"), WRONG)
def test_mistakes(suite: Any, text: str, said: str) -> None:
    suite.write(test_it="def test(): pass\n")
    path = suite.file("holdfast.toml", text)
    run = suite.run()
    assert run.code == 4 and f"{path}: " in run.output and said in run.output, run.output
    assert "Traceback" not in run.output and "test_it" not in run.output
    checked = config(suite, "check")
    assert checked.returncode == 4 and said in checked.stderr and "Traceback" not in checked.stderr


def test_profiles_and_files_that_are_not_there(suite: Any) -> None:
    suite.write(test_it="def test(): pass\n")
    assert "--hf-profile=ci: there is no " in suite.run("--hf-profile=ci").output
    assert "absent.toml: cannot be read: No such file" in suite.run("--hf-config=absent.toml").output
    suite.file("holdfast.toml", "[profiles.nightly]\n")
    run = suite.run("--hf-profile=nightli")
    assert run.code == 4 and "has no [profiles.nightli]; did you mean 'nightly'?" in run.output, run.output


def test_check_and_explain(suite: Any) -> None:
    assert "there is no holdfast.toml here" in config(suite, "check").stderr
    suite.file(
        "holdfast.toml",
        """
[options]
slots = 3
timeout = 60
[profiles.ci]
slots = 2
[groups.db]
at_most = 1
[[tests]]
match = "tests/gpu/*"
timeout = 5
gpus = 1
[[tests]]
match = "*::test_big*"
timeout = 7
group = "db"
slow = 2
""",
    )
    done = config(suite, "check")
    assert done.returncode == 0 and done.stdout.endswith("holdfast.toml: 2 options, 1 profile, 2 overrides, 1 group\n"), done
    done = config(suite, "explain", "--profile=ci", "tests/gpu/test_a.py::test_big[1]", "test_b.py::test_other")
    assert done.stdout.splitlines() == [
        "tests/gpu/test_a.py::test_big[1]",
        "  gpus = 1    [[tests]] number 1 (match 'tests/gpu/*')",
        "  group = 'db'    [[tests]] number 2 (match '*::test_big*')",
        "  slow = 2.0    [[tests]] number 2 (match '*::test_big*')",
        "  timeout = 7    [[tests]] number 2 (match '*::test_big*')",
        "  slots = '2'    [profiles.ci]",
        "",
        "test_b.py::test_other",
        "  slots = '2'    [profiles.ci]",
        "  timeout = 60.0    [options]",
    ]
    assert "required: TEST" in config(suite, "explain").stderr
    assert "has no [profiles.c]" in config(suite, "explain", "--profile=c", "x").stderr
    assert "unrecognized arguments: x" in config(suite, "check", "x").stderr


def test_native_suites_have_it_too(suite: Any, programs: Any) -> None:
    from test_run_native import Native, run

    native = Native(suite.root)
    native.env = suite.env
    suite.file("holdfast.toml", '[options]\nisolate = "worker"\n[[tests]]\nmatch = "*::Ends.Hangs"\ntimeout = 1\n')
    done = run(native, programs.path("ends"), options=("-k", "Well or Hangs"), RAN=str(suite.root / "ran"))
    assert done.short() == {"Ends.Well": "passed", "Ends.Hangs": "timeout"} and "not finished after 1 s" in done.output, done.output
