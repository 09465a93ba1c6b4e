"""CTest's fixtures, where only some tests are wanted (-k, -m, --lf): what sets up and cleans up for these is wanted, too, as with
`ctest -R`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest

from holdfast.targets.item import NativeItem


def missing(all_items: Sequence[pytest.Item], chosen: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Those of `all_items` that must be added, in their order."""
    left = set(all_items).difference(chosen)
    added: set[pytest.Item] = set()
    wanted = _required(chosen)
    # What sets up a fixture may require another one.
    while wanted and (new := {item for item in left if _is_for(item, wanted)}):
        left -= new
        added |= new
        wanted = _required(new)
    return [item for item in all_items if item in added]


def _required(items: Iterable[pytest.Item]) -> set[tuple[object, str]]:
    """By target and name: each build folder has its own."""
    return {(item.parent, name) for item in items if isinstance(item, NativeItem) for name in item.test.requires}


def _is_for(item: pytest.Item, wanted: set[tuple[object, str]]) -> bool:
    return isinstance(item, NativeItem) and any((item.parent, name) in wanted for name in (*item.test.sets_up, *item.test.cleans_up))
