from __future__ import annotations

import warnings
from typing import Any

import pytest

from holdfast.relay import TEXT_LIMIT, cut_text, full_report, is_plain_pass, report_from, warning_data, warning_from


def make_report(**fields: Any) -> pytest.TestReport:
    base: dict[str, Any] = {
        "nodeid": "a.py::b",
        "location": ("a.py", 1, "b"),
        "keywords": {},
        "outcome": "passed",
        "longrepr": None,
        "when": "call",
    }
    return pytest.TestReport(**{**base, **fields})


def test_a_plain_pass_is_recognised() -> None:
    assert is_plain_pass(make_report())
    assert not is_plain_pass(make_report(sections=[("a", "b")]))
    assert not is_plain_pass(make_report(outcome="failed"))
    assert not is_plain_pass(make_report(user_properties=[("a", 1)]))
    assert not is_plain_pass(make_report(something_of_a_plugin=1))


def test_tuples_survive(pytestconfig: pytest.Config) -> None:
    skip = make_report(outcome="skipped", longrepr=("a.py", 3, "not now"), user_properties=[("k", 1)], sections=[("s", "t")])
    back = report_from(pytestconfig, full_report(pytestconfig, skip))
    assert back.longrepr == ("a.py", 3, "not now")
    assert back.location == ("a.py", 1, "b")
    assert (back.user_properties, back.sections) == ([("k", 1)], [("s", "t")])


def test_long_texts_keep_both_ends() -> None:
    text = cut_text("a" + "x" * TEXT_LIMIT * 2 + "z", TEXT_LIMIT)
    assert text[0] == "a"
    assert text[-1] == "z"
    assert len(text) < TEXT_LIMIT + 100


def test_a_warning_of_an_unknown_category_gets_a_stand_in() -> None:
    class Unknown(DeprecationWarning):
        def __init__(self, a: int, b: int) -> None:
            super().__init__(f"{a} {b}")

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.warn(Unknown(1, 2), stacklevel=1)
    data = warning_data(caught[0], "runtest", "a.py::b", None)
    data["category"] = ["a_module_that_is_not_loaded", "Unknown"]
    back = warning_from(data)
    assert back.category.__name__ == "Unknown"
    assert issubclass(back.category, DeprecationWarning)
    assert str(back.message) == "1 2"
