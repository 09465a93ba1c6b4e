"""What the controller and the engine are told of each collected item."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, Optional

import pytest

from holdfast.options import ISOLATIONS
from holdfast.wire import Frame


def describe_items(items: Sequence[pytest.Item], with_chain: bool, isolation: str) -> list[Frame]:
    """One object an item: id, location, its own timeout; with_chain: also how --co shows it and its parents."""
    siblings: dict[tuple[int, str], pytest.Item] = {}
    return [_describe(item, siblings, with_chain, isolation) for item in items]


def _describe(item: pytest.Item, siblings: dict[tuple[int, str], pytest.Item], with_chain: bool, isolation: str) -> Frame:
    _share_location(item, siblings)
    path, line, domain = item.location
    entry: Frame = {"id": item.nodeid, "path": path, "line": line, "domain": domain}
    if reuses_process(item, isolation):
        entry["reuse"] = True
    timeout = timeout_of(item)
    if timeout is not None:
        entry["timeout"] = timeout
    if with_chain:
        entry["chain"] = [[node.nodeid, str(node), _doc(node)] for node in item.listchain()[1:]]
    return entry


def _share_location(item: pytest.Item, siblings: dict[tuple[int, str], pytest.Item]) -> None:
    """`Item.location` costs about 50 us (it unwraps the function and asks the code for its file). Parameters of one function differ
    only in the name, so the first one's answer is put into the others' cache."""
    original = getattr(item, "originalname", None)
    if not isinstance(item, pytest.Function) or not original or "location" in vars(item):
        return
    first = siblings.setdefault((id(item.parent), original), item)
    if first is item:
        return
    path, line, domain = first.location
    if domain.endswith(first.name):
        vars(item)["location"] = (path, line, domain[: len(domain) - len(first.name)] + item.name)


def _doc(node: Any) -> Optional[str]:
    obj = getattr(node, "obj", None)
    return inspect.getdoc(obj) if obj is not None else None


def reuses_process(item: pytest.Item, isolation: str) -> bool:
    """Whether the test may run in a process that has run others. Raises pytest.UsageError for an isolation that is none."""
    mark = item.get_closest_marker("holdfast")
    wanted = mark.kwargs.get("isolate") if mark is not None else None
    if wanted is None:
        return isolation == "worker" and item.get_closest_marker("forked") is None
    if wanted not in ISOLATIONS:
        raise pytest.UsageError(
            f"{item.nodeid}: the holdfast mark's isolate is {wanted!r}; give one out of {', '.join(ISOLATIONS)}"
        )
    return bool(wanted == "worker")


def timeout_of(item: pytest.Item) -> Optional[float]:
    """Seconds from @pytest.mark.holdfast(timeout=) or @pytest.mark.timeout. Raises pytest.UsageError for a value that is none."""
    for name, positional in (("holdfast", False), ("timeout", True)):
        mark = item.get_closest_marker(name)
        if mark is None:
            continue
        value = mark.args[0] if positional and mark.args else mark.kwargs.get("timeout")
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
            raise pytest.UsageError(f"{item.nodeid}: the {name} mark's timeout is {value!r}; give a number of seconds, 0 for none")
        # 0 lifts the limit, as with pytest-timeout; for the engine that is a day.
        return float(value) or 86400.0
    return None
