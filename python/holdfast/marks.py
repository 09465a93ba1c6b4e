"""What a test's marks ask of the engine: `holdfast(...)`, `timeout`, `forked`. Wrong values are a usage error that names the test."""

from __future__ import annotations

import argparse
from typing import Any, Optional

import pytest

from holdfast.options import ISOLATIONS, MAX_RETRIES, RETRY_CAUSES, retries
from holdfast.wire import Frame

KEYWORDS = ("timeout", "isolate", "retry")


def wishes_of(item: pytest.Item, isolation: str) -> Frame:
    """Only what differs from the defaults, in the words of protocol/README.md (`items`). Raises pytest.UsageError."""
    given = _keywords(item)
    wishes: Frame = {}
    if _reuses_process(item, isolation, given):
        wishes["reuse"] = True
    timeout = timeout_of(item, given)
    if timeout is not None:
        wishes["timeout"] = timeout
    if given.get("retry") is not None:
        wishes["retries"] = _retries(item, given["retry"])
    return wishes


def _keywords(item: pytest.Item) -> dict[str, Any]:
    """Of all `holdfast` marks of the test; the closest one wins."""
    found: dict[str, Any] = {}
    for mark in item.iter_markers("holdfast"):
        if mark.args:
            raise _wrong(item, f"takes keywords only, not {mark.args[0]!r}", f"holdfast({KEYWORDS[0]}=...)")
        for name, value in mark.kwargs.items():
            if name not in KEYWORDS:
                raise _wrong(item, f"does not know {name!r}", f"one out of {', '.join(KEYWORDS)}")
            found.setdefault(name, value)
    return found


def _wrong(item: pytest.Item, problem: str, instead: str) -> pytest.UsageError:
    return pytest.UsageError(f"{item.nodeid}: the holdfast mark {problem}; give {instead}")


def _reuses_process(item: pytest.Item, isolation: str, given: dict[str, Any]) -> bool:
    """Whether the test may run in a process that has run others."""
    wanted = given.get("isolate")
    forked = item.get_closest_marker("forked") is not None or bool(item.config.getoption("forked", False))
    if wanted is None:
        return isolation == "worker" and not forked
    if wanted not in ISOLATIONS:
        raise _wrong(item, f"has isolate={wanted!r}", f"one out of {', '.join(ISOLATIONS)}")
    if wanted == "worker" and forked:
        raise _wrong(item, "has isolate='worker', but there is a `forked` mark too", "one of the two")
    return bool(wanted == "worker")


def timeout_of(item: pytest.Item, given: dict[str, Any]) -> Optional[float]:
    """Seconds from @pytest.mark.holdfast(timeout=) or else @pytest.mark.timeout."""
    name, value = "holdfast", given.get("timeout")
    if value is None:
        mark = item.get_closest_marker("timeout")
        if mark is None:
            return None
        name, value = "timeout", mark.args[0] if mark.args else mark.kwargs.get("timeout")
        if value is None:
            return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e9:
        raise pytest.UsageError(f"{item.nodeid}: the {name} mark's timeout is {value!r}; give a number of seconds, 0 for none")
    # 0 lifts the limit, as with pytest-timeout; for the engine that is a day.
    return float(value) or 86400.0


def _retries(item: pytest.Item, value: Any) -> dict[str, int]:
    """`2` (for every cause), `"crashed:1"` or `{"crashed": 1}`."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_RETRIES:
        return dict.fromkeys(RETRY_CAUSES, value)
    if isinstance(value, dict):
        value = ",".join(f"{cause}:{times}" for cause, times in value.items())
    try:
        if isinstance(value, str):
            return retries(value)
    except argparse.ArgumentTypeError as problem:
        raise _wrong(item, f"has a retry that is wrong: {problem}", "CAUSE:TIMES") from None
    raise _wrong(item, f"has retry={value!r}", f"0 to {MAX_RETRIES}, or CAUSE:TIMES")
