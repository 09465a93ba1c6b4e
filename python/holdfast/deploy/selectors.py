"""Selectors of labels and fields, as they stand in a request: `app=a,tier in (b, c),!old`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Callable

from holdfast.deploy.errors import ApiError
from holdfast.deploy.kinds import Object, labels_of

_TERM = re.compile(
    r"\s*(?:(?P<absent>!)\s*(?P<gone>[\w./-]+)|(?P<key>[\w./-]+)\s*(?:(?P<sign>==|=|!=)\s*(?P<value>[\w.-]*)"
    r"|(?P<word>in|notin)\s*\((?P<values>[^)]*)\))?)\s*(?:,|$)"
)
Test = Callable[[Mapping[str, str]], bool]


def parse(text: str) -> list[Test]:
    """Raises ApiError (400)."""
    tests: list[Test] = []
    position = 0
    while position < len(text):
        found = _TERM.match(text, position)
        if found is None or found.end() == position:
            raise ApiError(400, "BadRequest", f"unable to parse the selector {text!r} at {text[position:]!r}")
        tests.append(_test(found))
        position = found.end()
    return tests


def _test(found: re.Match[str]) -> Test:
    key = found["key"] or found["gone"]
    if found["absent"]:
        return lambda labels: key not in labels
    if found["sign"] == "!=":
        return lambda labels: labels.get(key) != found["value"]
    if found["sign"]:
        return lambda labels: labels.get(key) == found["value"]
    if found["word"]:
        values = {value.strip() for value in found["values"].split(",")}
        return lambda labels: (labels.get(key) in values) == (found["word"] == "in") and (key in labels or found["word"] == "notin")
    return lambda labels: key in labels


def by_labels(text: str) -> Callable[[Object], bool]:
    tests = parse(text)
    return lambda thing: all(test(labels_of(thing)) for test in tests)


def by_fields(text: str) -> Callable[[Object], bool]:
    """`metadata.name=a,spec.nodeName!=b`."""
    tests = parse(text)

    def matches(thing: Object) -> bool:
        return all(test(_Fields(thing)) for test in tests)

    return matches


class _Fields(dict[str, str]):
    def __init__(self, thing: Object) -> None:
        super().__init__()
        self._thing = thing

    def get(self, key: str, default: object = None) -> str:
        value: object = self._thing
        for part in key.split("."):
            value = value.get(part, "") if isinstance(value, dict) else ""
        return str(value)


def of(labels: Mapping[str, str]) -> str:
    """The text that selects these labels."""
    return ",".join(f"{key}={value}" for key, value in labels.items())
