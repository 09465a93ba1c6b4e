"""CTest's fixtures, where only some tests are wanted (-k, -m, --lf): what sets up and cleans up for these is wanted, too, as with
`ctest -R`."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from holdfast.targets.item import NativeItem


def missing(all_items: Sequence[pytest.Item], chosen: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Those of `all_items` that must be added, in their order."""
    there = set(chosen)
    wanted = _required(chosen)
    if not wanted:
        return []
    added: list[pytest.Item] = []
    more = True
    while more:
        # What sets up a fixture may require another one.
        new = [item for item in all_items if item not in there and _is_for(item, wanted)]
        there.update(new)
        added += new
        wanted |= _required(new)
        more = bool(new)
    return [item for item in all_items if item in set(added)]


def _required(items: Sequence[pytest.Item]) -> set[tuple[object, str]]:
    """By target and name: each build folder has its own."""
    return {(item.parent, name) for item in items if isinstance(item, NativeItem) for name in item.test.requires}


def _is_for(item: pytest.Item, wanted: set[tuple[object, str]]) -> bool:
    return isinstance(item, NativeItem) and any((item.parent, name) in wanted for name in (*item.test.sets_up, *item.test.cleans_up))
