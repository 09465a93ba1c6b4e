"""How a node was found, whose quarantine it is in, and how it is given back."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from holdfast.deploy.change import change
from holdfast.deploy.connection import Connection
from holdfast.deploy.controllers import sentinel
from holdfast.deploy.kinds import NODE, Object, condition, labels_of


def health_events(node: Object) -> list[Object]:
    """Of the node's quarantine; what is no list of events is none."""
    try:
        found = json.loads((node["metadata"].get("annotations") or {}).get(sentinel.EVENTS, "[]"))
    except ValueError:
        return []
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def cordons_for(node: Object, marks: Iterable[str]) -> list[Object]:
    """The health events that carry one of these marks."""
    wanted = list(marks)
    return [event for event in health_events(node) if any(f"[{mark}]" in str(event.get("message", "")) for mark in wanted)]


@dataclass(frozen=True)
class Found:
    """A node before anything was done to it."""

    unschedulable: bool
    quarantined: bool
    unhealthy: bool

    @classmethod
    def of(cls, node: Object) -> Found:
        unhealthy = condition(node, sentinel.CHECK).get("status") == "True"
        return cls(bool(node["spec"].get("unschedulable")), sentinel.STATE in labels_of(node), unhealthy)

    async def give_back(self, connection: Connection, name: str, marks: Collection[str], seconds: float) -> None:
        """After faults with these marks: waits until the quarantine has them (they may be on their way still), takes them away, and
        uncordons where the quarantine cordoned for them alone. Raises WaitFailed."""
        nodes = connection.seen[NODE]

        def arrived() -> tuple[bool, str]:
            node = nodes.find("", name)
            present = cordons_for(node, marks) if node is not None else []
            # One event may be counted once for several lines, but there is no fault without one.
            return node is None or len(present) >= len(marks), f"{len(present)} of {len(marks)} health events"

        await connection.until(f"what was injected on {name} to have reached its quarantine", seconds, arrived)

        def edit(node: Object) -> None:
            mine = cordons_for(node, marks)
            others = [event for event in health_events(node) if event not in mine]
            annotations = node["metadata"].setdefault("annotations", {})
            cordoned_by_it = annotations.get(sentinel.IS_CORDONED) == "True"
            if others or self.quarantined:
                # Somebody else's fault keeps the node where it is.
                annotations[sentinel.EVENTS] = json.dumps(others)
                return
            sentinel.clear(node)
            if cordoned_by_it and not self.unschedulable:
                node["spec"].pop("unschedulable", None)

        await change(connection.api, NODE, "", name, edit)
        if not self.unhealthy:
            await change(connection.api, NODE, "", name, sentinel.make_healthy, status=True)

        def back() -> tuple[bool, str]:
            node = nodes.find("", name)
            return node is None or Found.of(node) == self or bool(health_events(node)), f"{Found.of(node)}, was {self}" if node else ""

        await connection.until(f"{name} to be as it was found", seconds, back)
