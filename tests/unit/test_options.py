from __future__ import annotations

import argparse

import pytest

from holdfast import options


@pytest.mark.parametrize("text", ["0", "-1", "many", "", "1.5", "99999"])
def test_no_number_of_slots(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        options.slots(text)


def test_slots() -> None:
    assert options.slots("auto") == "auto"
    assert options.slots("07") == "7"


@pytest.mark.parametrize("text", ["-1", "nan", "inf", "x", ""])
def test_no_number_of_seconds(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        options.seconds(text)


def test_deadlines() -> None:
    assert options.deadlines("setup:1.5, exit:0") == {"setup": 1.5, "exit": 0.0}
    for bad in ("setup", "lunch:1", "setup:x", "setup:-1"):
        with pytest.raises(argparse.ArgumentTypeError):
            options.deadlines(bad)
