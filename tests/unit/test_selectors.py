"""Selectors, as Kubernetes' API has them."""

from __future__ import annotations

import pytest

from holdfast.deploy import ApiError
from holdfast.deploy.selectors import by_fields, by_labels, of


def thing(**labels: str) -> dict:
    return {"metadata": {"name": "n", "labels": labels}, "spec": {"nodeName": "a"}, "status": {"phase": "Running"}}


@pytest.mark.parametrize(
    "text, yes, no",
    [
        ("app=a", {"app": "a"}, {"app": "b"}),
        ("app==a,tier=x", {"app": "a", "tier": "x"}, {"app": "a"}),
        ("app!=a", {}, {"app": "a"}),
        ("app", {"app": ""}, {}),
        ("!app", {"b": "1"}, {"app": "1"}),
        ("tier in (a, b)", {"tier": "b"}, {}),
        ("tier notin (a,b)", {}, {"tier": "a"}),
        ("nvidia.com/x=d-e.f, app", {"nvidia.com/x": "d-e.f", "app": "1"}, {"nvidia.com/x": "d-e.f"}),
    ],
)
def test_labels(text, yes, no):
    assert by_labels(text)(thing(**yes)) and not by_labels(text)(thing(**no))


def test_fields():
    assert by_fields("metadata.name=n,spec.nodeName!=b")(thing())
    assert not by_fields("status.phase=Pending")(thing()) and by_fields("spec.nothing.there=")(thing())


@pytest.mark.parametrize("text", ["=a", "a b", "a in b", "a in (b", ","])
def test_what_is_none(text):
    with pytest.raises(ApiError, match="unable to parse the selector"):
        by_labels(text)


def test_of():
    assert by_labels(of({"a": "1", "b": "2"}))(thing(a="1", b="2"))
