"""Directories with deadlines (ini `hf_guards`): kept by whoever can, and checked."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

INI = "[pytest]\nhf_guards =\n    ipc: children\n    ipc/quick: 7\n    slow: children + 300   # see above\n"
HANGS = "import time\ndef test_hangs(): time.sleep(3600)\ndef test_fine(): pass\n"


@pytest.fixture
def guarded(suite: Any) -> Any:
    suite.file("pytest.ini", INI)
    for name in ("ipc/test_a.py", "ipc/quick/test_b.py", "slow/test_c.py", "test_d.py"):
        suite.file(name, f"def test_{name[-4]}(): pass\n")
    return suite


def check(suite: Any, *args: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "holdfast", "check-guards", *args],
        cwd=suite.root,
        env=suite.env,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("holdfast", [True, False])
def test_the_closest_one_counts_and_a_mark_of_one_s_own_more(guarded: Any, holdfast: bool) -> None:
    guarded.file(
        "conftest.py",
        """
import pytest
@pytest.fixture(autouse=True)
def _say(request):
    mark = request.node.get_closest_marker("timeout")
    with open(request.config.rootpath / "deadlines", "a") as file:
        file.write(f"{request.node.name} {mark.args[0] if mark else None}\\n")
""",
    )
    guarded.file("ipc/test_own.py", "import pytest\n@pytest.mark.timeout(5)\ndef test_own(): pass\n")
    run = guarded.run(holdfast=holdfast)
    assert run.code == 0, run.output
    found = sorted((guarded.root / "deadlines").read_text().splitlines())
    assert found == ["test_a 60.0", "test_b 7.0", "test_c 330.0", "test_d None", "test_own 5"]


def test_under_a_sanitizer_children_get_more(guarded: Any) -> None:
    guarded.env["CUDA_PYTHON_UNDER_SANITIZER"] = "1"
    guarded.file("ipc/test_a.py", "def test_a(request): assert request.node.get_closest_marker('timeout').args[0] == 150\n")
    assert guarded.plain().code == 0


def test_holdfast_keeps_to_it(suite: Any) -> None:
    suite.file("pytest.ini", "[pytest]\nhf_guards = ipc: 1\n")
    suite.file("ipc/test_a.py", HANGS)
    run = suite.run("--hf-grace=1")
    assert run.short() == {"test_hangs": "timeout", "test_fine": "passed"}, run.output
    assert "not finished after 1 s" in run.output


def test_without_anybody_who_keeps_to_it_the_process_ends_with_its_stacks(suite: Any) -> None:
    suite.file("pytest.ini", "[pytest]\nhf_guards = ipc: 1\n")
    suite.file("ipc/test_a.py", HANGS)
    run = suite.plain("-p", "no:timeout")
    assert run.code == 1
    assert "Timeout (0:00:01)!" in run.output
    assert 'test_a.py", line 2 in test_hangs' in run.output
    suite.file("ipc/test_a.py", "def test_fine(): pass\n")
    assert suite.plain("-p", "no:timeout").code == 0


def test_a_mark_for_a_module(suite: Any) -> None:
    suite.write(
        test_a="import holdfast\npytestmark = holdfast.guard()\ndef test_a(request): assert request.node.get_closest_marker('timeout').args[0] == 60\n"
    )
    assert suite.plain().code == suite.run().code == 0


def test_check_guards(guarded: Any) -> None:
    assert check(guarded) == (0, "3 guard(s), 3 of 4 tests below them, 0 problem(s)\n")
    assert check(guarded, "--require", "ipc", "--require=slow")[0] == 0
    code, text = check(guarded, "--require", "other")
    assert code == 1
    assert "other: it should be guarded, but hf_guards (pytest.ini) has no line for it" in text


def test_check_guards_sees_what_has_gone(guarded: Any) -> None:
    (guarded.root / "slow").rename(guarded.root / "slower")
    code, text = check(guarded)
    assert code == 1
    assert "slow: guarded, but there is no such directory" in text
    assert "slow: guarded, but no test was collected there" in text


def test_check_guards_sees_a_value_that_drifted(guarded: Any) -> None:
    guarded.file(
        "ipc/test_a.py", "import pytest\n@pytest.mark.timeout(3600)\ndef test_a(): pass\n@pytest.mark.timeout(0)\ndef test_z(): pass\n"
    )
    code, text = check(guarded)
    assert code == 1
    assert "ipc/test_a.py::test_a: its deadline is 3600 s, longer than the 60 s of ipc" in text
    assert "ipc/test_a.py::test_z: no deadline, though ipc is guarded with 60 s" in text


def test_check_guards_without_its_table(guarded: Any) -> None:
    (guarded.root / "pytest.ini").write_text("[pytest]\n")
    code, text = check(guarded, "--require=ipc")
    assert code == 1
    assert "ipc: it should be guarded" in text


@pytest.mark.parametrize("holdfast", [True, False])
def test_the_fixture_for_a_test_of_one_s_own(guarded: Any, holdfast: bool) -> None:
    guarded.file("test_meta.py", "def test_guards(check_guards): check_guards('ipc', 'slow')\n")
    assert guarded.run(holdfast=holdfast).code == 0
    guarded.file("test_meta.py", "def test_guards(check_guards): check_guards('other')\n")
    run = guarded.run(holdfast=holdfast)
    assert run.code == 1
    assert "other: it should be guarded" in run.output


@pytest.mark.parametrize("line", ["ipc", "ipc: soon", "ipc: -1", "ipc: 0", ": 3", "ipc: children - 3"])
def test_a_line_that_is_no_guard(suite: Any, line: str) -> None:
    suite.file("pytest.ini", f"[pytest]\nhf_guards = {line}\n")
    suite.write(test_a="def test_a(): pass\n")
    for run in (suite.plain(), suite.run()):
        assert run.code == 4, run.output
        assert f"hf_guards: `{line}` is no guard; write `DIRECTORY: SECONDS`" in run.output
        assert "Traceback" not in run.output
    code, text = check(suite)
    assert code == 4
    assert "is no guard" in text
