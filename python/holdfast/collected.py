"""The one collection, as the controller shows it: reports, deselections, warnings and the tree of --co."""

from __future__ import annotations

from typing import Any, Optional

import pytest

from holdfast import garbage, wire
from holdfast.present import Item
from holdfast.relay import publish_warning, report_from


class Node:
    """Stands for a collected node in --co's tree, and for an item in hooks that only want its id."""

    def __init__(self, nodeid: str, shown: str, doc: Optional[str]) -> None:
        self.nodeid = nodeid
        self.name = nodeid.rpartition("::")[2]
        self._shown = shown
        # The terminal shows the docstring of `obj`.
        self.obj = type("obj", (), {"__doc__": doc}) if doc else None
        self.chain: list[Node] = []

    @property
    def id(self) -> Any:
        """pytest 9.2's NodeId."""
        return _node_id(self.nodeid)

    def listchain(self) -> list[Node]:
        return [Node("", "", None), *self.chain]

    def __str__(self) -> str:
        return self._shown


def _node_id(nodeid: str) -> Any:
    from _pytest import nodes

    kind: Any = getattr(nodes, "NodeId", None)
    if kind is None:
        try:
            from _pytest.nodeid import NodeId as kind
        except ImportError:
            return nodeid
    return kind.parse(nodeid)


class Collected:
    def __init__(self, config: pytest.Config, session: pytest.Session) -> None:
        self.config = config
        self.session = session
        self.items: list[Item] = []
        self._frames: list[wire.Frame] = []

    def take(self, frame: wire.Frame) -> None:
        """Keeps a frame until the collection is complete: a module that kills the zygote makes it begin again."""
        if frame["t"] == "restart":
            self._frames.clear()
            self.items.clear()
        elif frame["t"] == "items":
            for entry in frame["items"]:
                location = (entry["path"], entry["line"], entry["domain"])
                self.items.append(Item(len(self.items), entry["id"], location))
            garbage.begin_growth(len(self.items))
            if self.config.option.collectonly:
                self._frames.append(frame)
        else:
            self._frames.append(frame)

    def publish(self, ready: wire.Frame, reporter: Optional[Any]) -> None:
        garbage.end_growth(collect=False)
        deselected = 0
        nodes: list[Node] = []
        for frame in self._frames:
            kind = frame["t"]
            if kind == "collectreport":
                self._publish_report(frame)
            elif kind == "deselected":
                deselected += int(frame["count"])
            elif kind == "warning":
                publish_warning(self.config, frame)
            elif kind == "items":
                nodes += _tree(frame["items"])
        if deselected:
            self.config.hook.pytest_deselected(items=[Node("", "", None) for _ in range(deselected)])
        self.session.testscollected = len(self.items)
        self.session.items = []
        self._tell_cache_plugins()
        if reporter is not None:
            self._show(reporter, len(self.items) + deselected, ready["lines"], nodes)

    def _publish_report(self, frame: wire.Frame) -> None:
        if frame["passed"]:
            children: list[Any] = [Node(nodeid, nodeid, None) for nodeid in frame["children"]]
            if not children:
                return  # As xdist: passed collections are of no interest, except to the cache.
            report = pytest.CollectReport(frame["id"], "passed", None, children)
            # Only for the cache plugin: the terminal would count its children as collected items.
            plugin: Any = self.config.pluginmanager.get_plugin("lfplugin")
            if plugin is not None:
                plugin.pytest_collectreport(report)
            return
        report = report_from(self.config, frame)
        report.result = []
        self.config.hook.pytest_collectreport(report=report)

    def _tell_cache_plugins(self) -> None:
        """--nf and --sw remember what was collected; they learn it from a hook that runs where the items are."""
        newest: Any = self.config.pluginmanager.get_plugin("nfplugin")
        known = getattr(newest, "cached_nodeids", None)
        if isinstance(known, set):
            known.update(
                _node_id(item.nodeid) if known and not isinstance(next(iter(known)), str) else item.nodeid for item in self.items
            )
        stepwise: Any = self.config.pluginmanager.get_plugin("stepwiseplugin")
        info = getattr(stepwise, "cached_info", None)
        if info is not None and hasattr(info, "last_test_count"):
            info.last_test_count = len(self.items)

    def _show(self, reporter: Any, total: int, lines: list[str], nodes: list[Node]) -> None:
        reporter._numcollected = total
        if reporter.isatty or reporter.verbosity >= 0:
            reporter.report_collect(True)
        for line in lines:
            reporter.write_line(line)
        if self.config.option.collectonly and nodes:
            if self.config.option.verbose > -1:
                reporter._tw.line("")
            reporter._printcollecteditems(nodes)


def _tree(entries: list[wire.Frame]) -> list[Node]:
    known: dict[tuple[str, str], Node] = {}
    items = []
    for entry in entries:
        chain = []
        for nodeid, shown, doc in entry["chain"]:
            # The terminal compares chains by identity of their nodes.
            chain.append(known.setdefault((nodeid, shown), Node(nodeid, shown, doc)))
        items.append(chain[-1])
        chain[-1].chain = chain
    return items
