"""What the controller and the engine are told of each collected item."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, Optional

import pytest

from holdfast.wire import Frame


def describe_items(items: Sequence[pytest.Item], with_chain: bool) -> list[Frame]:
    """One object an item: id, location, its own timeout; with_chain: also how --co shows it and its parents."""
    siblings: dict[tuple[int, str], pytest.Item] = {}
    return [_describe(item, siblings, with_chain) for item in items]


def _describe(item: pytest.Item, siblings: dict[tuple[int, str], pytest.Item], with_chain: bool) -> Frame:
    _share_location(item, siblings)
    path, line, domain = item.location
    entry: Frame = {"id": item.nodeid, "path": path, "line": line, "domain": domain}
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
