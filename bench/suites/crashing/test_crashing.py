"""A thousand tests, of which 5 % die from a signal where BENCH_CRASH is set."""

import os

import pytest

CRASH = bool(os.environ.get("BENCH_CRASH"))


@pytest.mark.parametrize("i", range(1000))
def test_it(i):
    if CRASH and i % 20 == 10:
        os.abort()
