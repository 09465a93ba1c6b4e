"""Which resources the collected tests need: found in their fixture closures, in the root zygote."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Optional

import pytest

from holdfast import resources
from holdfast.scopes import Scope, is_skipped
from holdfast.wire import Frame


class Needs:
    """The resources of a collection, numbered so that those that others need come first."""

    def __init__(self, items: Sequence[pytest.Item]) -> None:
        self.frames: list[Frame] = []
        # Resource id -> how many tests may use it at a time; 0 for any number.
        self.leases: dict[str, int] = {}
        self._numbers: dict[str, int] = {}
        self._of: dict[str, list[int]] = {}
        self._positions = {item: position for position, item in enumerate(items)}

    def of_test(self, item: pytest.Item) -> set[int]:
        info = getattr(item, "_fixtureinfo", None)
        if info is None or not hasattr(item, "_request") or is_skipped(item) or item.config.getoption("setupplan", False):
            return set()
        return self._of_names(item, info.names_closure)

    def of_scope(self, scope: Scope) -> set[int]:
        found: set[int] = set()
        for name, item in scope.fixtures:
            found |= self._of_names(item, [name])
        return found

    def _of_names(self, item: pytest.Item, names: Iterable[str]) -> set[int]:
        """All that these fixtures are, need, or need for what they need."""
        found: set[int] = set()
        waiting, seen = list(names), set(names)
        while waiting:
            name = waiting.pop()
            for definition in _definitions(item, name):
                declaration = resources.declaration_of(definition)
                if declaration is not None:
                    found.update(self._numbers_of(item, definition, declaration))
                    continue
                new = [needed for needed in definition.argnames if needed not in seen]
                seen.update(new)
                waiting += new
        return found

    def _numbers_of(self, item: pytest.Item, definition: Any, declaration: resources.Declaration) -> list[int]:
        """Its own number, and those of what it needs."""
        name = resources.id_of(definition, item)
        known = self._of.get(name)
        if known is not None:
            return known
        self._of[name] = []  # One that needs itself is pytest's to report.
        needs = sorted(self._of_names(item, declaration.arguments))
        self._numbers[name] = len(self.frames)
        self._of[name] = [*needs, self._numbers[name]]
        self.leases[name] = declaration.lease
        self.frames.append(
            {
                "id": name,
                "name": str(definition.argname),
                "scope": declaration.scope,
                "needs": needs,
                "test": self._positions[item],
            }
        )
        return self._of[name]

    def demand(self, numbers: Iterable[int]) -> Frame:
        """What tests that need these ask of the scheduler."""
        result: Frame = {}
        for number in numbers:
            name = self.frames[number]["id"]
            most = self.leases[name]
            if most == 1:
                result.setdefault("tokens", {})[f"resource {name}"] = True
            elif most > 1:
                result.setdefault("leases", {})[name] = most
        return result


def _definitions(item: pytest.Item, name: str) -> list[Any]:
    """What a test means by a fixture's name; more than one where it overrides, and uses, another of that name."""
    info: Any = item._fixtureinfo  # type: ignore[attr-defined]
    definitions = info.name2fixturedefs.get(name)
    if not definitions:
        manager: Any = item.session._fixturemanager
        try:
            definitions = manager.getfixturedefs(name, item)
        except Exception:
            definitions = None  # An argument that is no fixture: making the resource will say so.
    found: list[Any] = []
    for definition in reversed(definitions or ()):
        found.append(definition)
        declaration = resources.declaration_of(definition)
        if name not in (declaration.arguments if declaration is not None else definition.argnames):
            break
    return found


def add_needs(items: Sequence[pytest.Item], descriptions: list[Frame], scopes: Sequence[Scope]) -> tuple[list[Frame], list[Frame]]:
    """Adds to each test's description which resources it needs, also for the scopes around it. Returns the frames of the resources and
    of the scopes."""
    frames = [scope.frame() for scope in scopes]
    if not resources.declared:
        return [], frames
    needs = Needs(items)
    around: list[set[int]] = []
    for scope, frame in zip(scopes, frames):
        mine = needs.of_scope(scope)
        if mine:
            frame["needs"] = sorted(mine)
        around.append(mine | (around[scope.parent.number] if scope.parent is not None else set()))
    for item, entry in zip(items, descriptions):
        scope_number: Optional[int] = entry.get("in")
        wanted = needs.of_test(item) | (around[scope_number] if scope_number is not None else set())
        if not wanted:
            continue
        entry["needs"] = sorted(wanted)
        _merge_demand(entry, needs.demand(entry["needs"]))
    return needs.frames, frames


def _merge_demand(entry: Frame, more: Frame) -> None:
    if not more:
        return
    demand = entry.setdefault("demand", {})
    for kind, names in more.items():
        demand.setdefault(kind, {}).update(names)
