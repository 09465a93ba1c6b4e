from __future__ import annotations

import argparse

import pytest

from holdfast import backend, options


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


@pytest.mark.parametrize("text", ["login1", "login1:4000", "127.0.0.1", "::1", "[::1]", "[fe80::1]:5000"])
def test_addresses_that_nodes_can_dial(text: str) -> None:
    assert backend.listen(text) == text


@pytest.mark.parametrize(
    "text", ["", "a b", "host:", "host:0", "host:99999", "host:port", "[::1", "0.0.0.0", "0.0.0.0:80", "::", "[::]:80", "*"]
)
def test_addresses_that_nodes_cannot_dial(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        backend.listen(text)
