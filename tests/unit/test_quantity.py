"""Amounts as Kubernetes writes them."""

from __future__ import annotations

import pytest

from holdfast.deploy.quantity import whole


@pytest.mark.parametrize(
    ("amount", "number"),
    [
        ("2Gi", 2 << 30), ("128974848", 128974848), (5, 5), ("129e6", 129_000_000), ("129M", 129_000_000), ("1.5Ki", 1536),
        ("100m", 1), ("128974848000m", 128974848), (".5k", 500), ("2.", 2), ("1E", 10**18), ("1E3", 1000), ("1Ei", 1 << 60), ("0", 0),
    ],
)  # fmt: skip
def test_an_amount(amount, number):
    assert whole(amount) == number


@pytest.mark.parametrize("amount", ["", "Gi", "2 GB", "2gi", "1e", "-1", "1_000", "0x10", "nan", "1e9999", None, True, [], "\u0662"])
def test_no_amount(amount):
    with pytest.raises(ValueError, match="is no quantity"):
        whole(amount)
