"""What the controller and the engine are told of each collected item."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any, Optional

import pytest

from holdfast.marks import wishes_of
from holdfast.options import has_chaos
from holdfast.scopes import Scope, Scopes
from holdfast.wire import Frame


def describe_items(items: Sequence[pytest.Item], with_chain: bool, isolation: str) -> list[Frame]:
    """One object an item: id, location, its own timeout; with_chain: also how --co shows it and its parents."""
    siblings: dict[tuple[int, str], pytest.Item] = {}
    descriptions = [_describe(item, siblings, with_chain, isolation) for item in items]
    if items and has_chaos(items[0].config):
        for entry in descriptions:
            entry["faulted"] = True
    add_precedence(items, descriptions)
    return descriptions


def add_precedence(items: Sequence[pytest.Item], descriptions: list[Frame]) -> None:
    """`after` and `requires`, where an item has them as `holdfast_after` and `holdfast_requires`: node ids of tests that must be over,
    or have passed. Those that are not in this run count as such. Raises pytest.UsageError where tests wait for each other."""
    waiting = [item for item in items if hasattr(item, "holdfast_after")]
    if not waiting:
        return
    numbers = {item.nodeid: number for number, item in enumerate(items)}
    before: dict[int, list[int]] = {}
    for item in waiting:
        number = numbers[item.nodeid]
        for key, names in (("after", item.holdfast_after), ("requires", getattr(item, "holdfast_requires", ()))):
            found = [numbers[name] for name in names if name in numbers]
            if found:
                descriptions[number][key] = found
                before.setdefault(number, []).extend(found)
    try:
        TopologicalSorter(before).prepare()
    except CycleError as cycle:
        names = " -> ".join(items[number].nodeid for number in cycle.args[1])
        raise pytest.UsageError(f"tests wait for each other: {names}") from None


def place_in_scopes(items: Sequence[pytest.Item], descriptions: list[Frame]) -> list[Scope]:
    """Adds to each test that gets a process of its own the number of its scope, if it has one; returns the scopes."""
    scopes = Scopes()
    # The ranks of a test set up all their fixtures themselves: MPI is not there before.
    own = [item for item, entry in zip(items, descriptions) if not entry.get("reuse") and "ranks" not in entry.get("demand", ())]
    found = scopes.assign(own)
    for item, entry in zip(items, descriptions):
        scope = found.get(item)
        if scope is not None:
            entry["in"] = scope.number
    return scopes.all


def _describe(item: pytest.Item, siblings: dict[tuple[int, str], pytest.Item], with_chain: bool, isolation: str) -> Frame:
    _share_location(item, siblings)
    path, line, domain = item.location
    entry: Frame = {"id": item.nodeid, "path": path, "line": line, "domain": domain}
    entry.update(wishes_of(item, isolation))
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
