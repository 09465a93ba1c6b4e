"""A module that dies while it is imported is one verdict; a module that merely fails to import is what it is in pytest."""

from __future__ import annotations

from typing import Any

import pytest

GOOD = "def test_good(): pass\n"


@pytest.mark.parametrize(
    ("body", "verdict", "says"),
    [
        ("import ctypes; ctypes.string_at(0)", "crashed", "SIGSEGV"),
        ("import os; os._exit(0)", "exited", "exit status 0"),
        ("import time; time.sleep(3600)", "timeout", "not finished after 1 s"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "crashed", "SIGKILL"),
    ],
)
def test_a_fatal_module_is_one_verdict(suite: Any, body: str, verdict: str, says: str) -> None:
    suite.write(test_a=GOOD, test_b=f"print('last words')\n{body}\n{GOOD}", test_c=GOOD)
    run = suite.run("--hf-deadlines=collect:1")
    assert run.verdicts == {"test_a.py::test_good": "passed", "test_b.py": verdict, "test_c.py::test_good": "passed"}
    assert says in run.output
    assert run.code == 1


def test_several_fatal_modules_and_a_package(suite: Any) -> None:
    suite.file("pkg/__init__.py", "")
    suite.file("pkg/test_dies.py", "import os; os.abort()")
    suite.write(test_a="import os; os._exit(3)", test_b=GOOD, test_z="import os; os.abort()")
    run = suite.run()
    assert run.verdicts == {
        "pkg/test_dies.py": "crashed",
        "test_a.py": "exited",
        "test_z.py": "crashed",
        "test_b.py::test_good": "passed",
    }
    assert run.code == 1


def test_an_import_error_interrupts_as_in_pytest(suite: Any) -> None:
    suite.write(test_a=GOOD, test_b="import nonsense_that_is_not_there")
    plain, run = suite.plain(), suite.run()
    assert (run.code, plain.code) == (2, 2)
    assert "1 error during collection" in run.output
    assert run.verdicts == {}


def test_continue_on_collection_errors(suite: Any) -> None:
    suite.write(test_a=GOOD, test_b="import nonsense_that_is_not_there")
    run = suite.run("--continue-on-collection-errors")
    assert run.code == 1
    assert run.verdicts == {"test_a.py::test_good": "passed"}
    assert "ERROR test_b.py" in run.output


def test_a_module_that_skips_itself(suite: Any) -> None:
    suite.write(test_a=GOOD, test_b="import pytest; pytest.skip('not here', allow_module_level=True)")
    plain, run = suite.plain("-rs"), suite.run("-rs")
    assert (run.code, plain.code) == (0, 0)
    assert "not here" in run.output
    assert "1 passed, 1 skipped" in run.output
