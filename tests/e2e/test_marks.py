"""Marks with values that are none end the run before its first test, with the test's id."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.mark.parametrize(
    "mark, text",
    [
        ("memory='lots'", "has memory='lots'"),
        ("memory=-1", "has memory=-1"),
        ("cores=0", "has cores=0"),
        ("cores='all'", "has cores='all'"),
        ("exclusive=8080", "has exclusive=8080"),
        ("exclusive='a', shared='a'", "wants 'a' both exclusively and shared"),
        ("serial='yes'", "has serial='yes'"),
        ("retry='boom:1'", "has a retry that is wrong"),
        ("retry=-1", "has retry=-1"),
        ("isolate='planet'", "has isolate='planet'"),
        ("speed=3", "does not know 'speed'"),
        ("timeout='long'", "timeout is 'long'"),
        ("3", "takes keywords only"),
    ],
)
def test_wrong_marks(suite: Any, mark: str, text: str) -> None:
    suite.write(test_it=f"import pytest\n@pytest.mark.holdfast({mark})\ndef test_one(): pass\n")
    run = suite.run()
    assert run.code == 4
    assert text in run.output and "test_it.py::test_one" in run.output
    assert "Traceback" not in run.output
