"""The scopes of a suite: what is set up once for many tests, each in a process of its own, from which those tests are forked.

A scope is one node of a tree: fixtures of one level (session, package, module, class) that belong to one collector. On each level
come first the fixtures that have no parameters, those with the most users first, in groups of the same users; a test's scope is
below all groups up to the last that it uses. So every such fixture is set up exactly once. Then come parametrized fixtures and those
that depend on them: a scope for each fixture and parameter, and only for tests that use them.

Computed in the root zygote after the collection; docs/design/fork-tree.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Optional

import pytest

from holdfast.resources import declaration_of
from holdfast.wire import Frame

LEVELS = ("session", "package", "module", "class")

# Session fixtures of pytest, pytest-xdist and ours that only look something up, so that a process of their own would be waste.
_CHEAP_MODULES = ("_pytest.", "xdist.", "holdfast.")
# What pytest itself makes of setup_module, setup_class and setUpClass is the suite's code.
_XUNIT = "xunit_setup_"


class Use(NamedTuple):
    """A fixture as one test uses it."""

    definition: Any
    level: int
    collector: Any
    # The index of its parameter; None for one without, -1 for one that depends on such.
    parameter: Optional[int]


# By level, then by the collector (its identity and itself): groups of fixtures without parameters.
Depths = dict[int, dict[Any, list[list[Any]]]]


class Scope:
    def __init__(
        self, number: int, parent: Optional[Scope], level: int, collector: Any, fixtures: Sequence[tuple[str, pytest.Item]]
    ) -> None:
        self.number = number
        self.parent = parent
        self.level = level
        self.collector = collector
        # Their names, each with a test that can see it.
        self.fixtures = list(fixtures)

    @property
    def id(self) -> str:
        place = str(self.collector.nodeid) or "session"
        return f"{place} ({LEVELS[self.level]}: {', '.join(shown(name) for name, _ in self.fixtures)})"

    def frame(self) -> Frame:
        return {"id": self.id, "level": LEVELS[self.level], "parent": self.parent.number if self.parent else -1}


def shown(name: str) -> str:
    """A fixture's name as users know it."""
    for part, word in (("setup_module", "setup_module"), ("setup_class", "setup_class"), ("setUpClass", "setUpClass")):
        if name.startswith("_") and part in name:
            return word
    return name


class Scopes:
    """Of all tests of a collection that get a process of their own."""

    def __init__(self) -> None:
        self.all: list[Scope] = []
        self._known: dict[Any, Scope] = {}
        self._relevant: dict[int, bool] = {}
        # When a definition was first seen; what it needs comes before it.
        self._rank: dict[int, int] = {}
        # By the identity of what the parameters of one function share: its fixtures that matter.
        self._by_function: dict[int, list[tuple[str, Any, int]]] = {}

    def assign(self, items: Iterable[pytest.Item]) -> dict[pytest.Item, Scope]:
        """The scope of each test that has one."""
        uses = {item: found for item in items for found in [self._uses(item)] if found}
        depths = _depths(uses, _groups(uses))
        return {item: self._scope_of(item, found, depths[item]) for item, found in uses.items()}

    # ---- what a test uses

    def _uses(self, item: pytest.Item) -> list[Use]:
        info = getattr(item, "_fixtureinfo", None)
        if info is None or not hasattr(item, "_request"):
            return []
        names = self._by_function.get(id(info))
        if names is None:
            names = self._by_function[id(info)] = self._shared(info)
        if not names or is_skipped(item):
            return []
        parameters = getattr(getattr(item, "callspec", None), "indices", {})
        found = []
        varying: dict[str, int] = {}
        for name, definition, level in names:
            parameter = self._parameter(name, definition, info, parameters, varying, level)
            collector = _collector(item, definition, level)
            if collector is not None and self._matters(definition):
                found.append(Use(definition, level, collector, parameter))
        return found

    def _shared(self, info: Any) -> list[tuple[str, Any, int]]:
        """Fixtures of a level above the test, what they need before them. Empty if none of them matters."""
        found: list[tuple[str, Any, int]] = []
        seen: set[str] = set()

        def visit(name: str) -> None:
            if name in seen:
                return
            seen.add(name)
            definitions = info.name2fixturedefs.get(name)
            if not definitions:
                return
            for needed in definitions[-1].argnames:
                visit(needed)
            level = str(definitions[-1].scope)
            if level in LEVELS:
                self._rank.setdefault(id(definitions[-1]), len(self._rank))
                found.append((name, definitions[-1], LEVELS.index(level)))

        for name in info.names_closure:
            visit(name)
        if not any(self._matters(definition) for _, definition, _ in found):
            return []
        return sorted(found, key=lambda entry: entry[2])

    def _matters(self, definition: Any) -> bool:
        known = self._relevant.get(id(definition))
        if known is None:
            known = self._relevant[id(definition)] = _matters(definition)
        return known

    def _parameter(
        self, name: str, definition: Any, info: Any, parameters: dict[str, int], varying: dict[str, int], level: int
    ) -> Optional[int]:
        """The index of its parameter, or -1 where it depends on another one's of the same level."""
        if name in parameters:
            varying[name] = level
            return int(parameters[name])
        if any(varying.get(needed) == level for needed in definition.argnames):
            varying[name] = level
            return -1
        return None

    # ---- from uses to scopes

    def _scope_of(self, item: pytest.Item, uses: list[Use], depths: Depths) -> Scope:
        scope: Optional[Scope] = None
        for level in range(len(LEVELS)):
            for (_, collector), groups in sorted(depths.get(level, {}).items(), key=lambda entry: len(entry[0][1].listchain())):
                for group in groups:
                    names = [(definition.argname, example) for definition, example in group]
                    scope = self._scope(scope, level, collector, id(group[0][0]), names)
            # In the order in which the suite first uses them, so that tests with some of them in common share their processes.
            for use in sorted(uses, key=lambda use: self._rank[id(use.definition)]):
                if use.level == level and use.parameter is not None:
                    key = (id(use.definition), use.parameter)
                    scope = self._scope(scope, level, use.collector, key, [(use.definition.argname, item)])
        assert scope is not None
        return scope

    def _scope(self, parent: Optional[Scope], level: int, collector: Any, what: Any, names: list[tuple[str, pytest.Item]]) -> Scope:
        key = (parent.number if parent else -1, level, id(collector), what)
        scope = self._known.get(key)
        if scope is None:
            scope = self._known[key] = Scope(len(self.all), parent, level, collector, names)
            self.all.append(scope)
        return scope


def _depths(uses: dict[pytest.Item, list[Use]], groups: dict[Any, list[list[Any]]]) -> dict[pytest.Item, Depths]:
    """For each test, by level and collector: the groups that are set up for it."""
    depths: dict[pytest.Item, Depths] = {}
    for item, found in uses.items():
        mine: Depths = {}
        for use in found:
            place = mine.setdefault(use.level, {})
            here = groups.get((use.level, id(use.collector)), [])
            last = max((i for i, group in enumerate(here) if use.parameter is None and _is_in(use, group)), default=-1)
            known = place.setdefault((id(use.collector), use.collector), [])
            if last >= len(known):
                place[id(use.collector), use.collector] = here[: last + 1]
        depths[item] = mine
    # What is set up below is set up once, so all tests below it need the same above it.
    for level in range(len(LEVELS) - 1, -1, -1):
        _share(
            {item: [id(u.definition) for u in found if u.level == level and u.parameter is not None] for item, found in uses.items()},
            depths,
            level + 1,
        )
        _share({item: list(mine.get(level, {})) for item, mine in depths.items()}, depths, level)
    return depths


def _share(places: dict[pytest.Item, list[Any]], depths: dict[pytest.Item, Depths], below: int) -> None:
    """Tests that have one of `places` in common get the same groups on all levels above `below`."""
    together: dict[Any, Depths] = {}
    for item, mine in places.items():
        for place in mine:
            _widen(together.setdefault(place, {}), depths[item], below)
    for item, mine in places.items():
        for place in mine:
            _widen(depths[item], together[place], below)


def _widen(mine: Depths, other: Depths, below: int) -> None:
    """Of the levels above `below`, the longer list of groups."""
    for level in range(below):
        for place, groups in other.get(level, {}).items():
            known = mine.setdefault(level, {}).setdefault(place, [])
            if len(groups) > len(known):
                mine[level][place] = groups


def _is_in(use: Use, group: list[Any]) -> bool:
    return any(definition is use.definition for definition, _ in group)


def _groups(uses: dict[pytest.Item, list[Use]]) -> dict[Any, list[list[Any]]]:
    """By level and collector: fixtures without parameters, each with a test that uses it, those of the same users together; most
    users first."""
    users: dict[Any, dict[int, list[Any]]] = {}
    signatures: dict[Any, int] = {}
    for item, found in uses.items():
        by_place: dict[Any, list[Any]] = {}
        for use in found:
            if use.parameter is None:
                by_place.setdefault((use.level, id(use.collector)), []).append(use.definition)
        for place, definitions in by_place.items():
            signature = (place, *map(id, definitions))
            signatures[signature] = signatures.get(signature, 0) + 1
            if signatures[signature] == 1:
                for definition in definitions:
                    users.setdefault(place, {}).setdefault(id(definition), [definition, item, []])[2].append(signature)
    result: dict[Any, list[list[Any]]] = {}
    for place, fixtures in users.items():
        groups: dict[Any, list[Any]] = {}
        for definition, example, used_by in fixtures.values():
            groups.setdefault(tuple(used_by), []).append((definition, example))
        ordered = sorted(groups.items(), key=lambda entry: -sum(signatures[signature] for signature in entry[0]))
        result[place] = [group for _, group in ordered]
    return result


def _matters(definition: Any) -> bool:
    function = definition.func
    if declaration_of(definition) is not None:
        return False  # It is set up in a process of its own; elsewhere it is a value.
    module = str(getattr(function, "__module__", "") or "")
    name = str(definition.argname)
    if module.startswith("_pytest.unittest"):
        return "setUpClass" in name and not _is_default_class_setup(function)
    if module.startswith(_CHEAP_MODULES):
        return _XUNIT in name
    return True


def _is_default_class_setup(function: Any) -> bool:
    """pytest makes a fixture of every TestCase's setUpClass, also of the one that does nothing."""
    import unittest

    cells = {name: cell.cell_contents for name, cell in zip(function.__code__.co_freevars, function.__closure__ or ())}
    default = {"setup": unittest.TestCase.setUpClass, "teardown": unittest.TestCase.tearDownClass}
    return all(getattr(cells.get(name), "__func__", None) is getattr(method, "__func__", None) for name, method in default.items())


def is_skipped(item: pytest.Item) -> bool:
    """True for a test whose fixtures will not be set up, so that it is no reason to set up a scope. (Conditions that are texts are
    evaluated in the test's process.)"""
    for mark in item.iter_markers():
        if mark.name == "skip":
            return True
        if mark.name == "skipif" and any(not isinstance(condition, str) and _truth(condition) for condition in mark.args[:1]):
            return True
        if mark.name == "xfail" and mark.kwargs.get("run") is False and not item.config.option.runxfail:
            return True
    return False


def _truth(condition: Any) -> bool:
    try:
        return bool(condition)
    except Exception:
        return False  # That is the test's error, and pytest's to report.


def _collector(item: pytest.Item, definition: Any, level: int) -> Any:
    """Whose fixture it is; None where the level does not exist above the test, so that it is the test's own."""
    if level == 0:
        return item.session
    if level == 1:
        return _package(item, definition)
    return item.getparent(pytest.Module if level == 2 else pytest.Class)


def _package(item: pytest.Item, definition: Any) -> Any:
    """As pytest's own get_scope_package, of all its versions."""
    base = str(definition.baseid)
    for parent in reversed(item.listchain()):
        if isinstance(parent, pytest.Package) and str(parent.nodeid) in (base, f"{base}/__init__.py"):
            return parent
    return item.session
