"""A thousand tests that do nothing, in a module that has imported what numeric suites import."""

import numpy  # noqa: F401
import pandas  # noqa: F401
import pytest


@pytest.mark.parametrize("i", range(1000))
def test_trivial(i):
    assert i >= 0
