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
    return [event for event in health_events(node) if _carries(event, wanted)]


def _carries(said: Object, marks: Iterable[str]) -> bool:
    """Whether a health event's, or a condition's, message has one of these marks."""
    return any(f"[{mark}]" in str(said.get("message", "")) for mark in marks)


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
            if node is None:
                return True, ""
            present = cordons_for(node, marks)
            # Where nobody quarantines, the health event is the node's condition alone.
            told = labels_of(node).get(sentinel.UNMANAGED) == "false" and _carries(condition(node, sentinel.CHECK), marks)
            return told or len(present) >= len(marks), f"{len(present)} of {len(marks)} health events"

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

        changed = await change(connection.api, NODE, "", name, edit)
        if not self.unhealthy and not health_events(changed):
            await change(connection.api, NODE, "", name, sentinel.make_healthy, status=True)

        def back() -> tuple[bool, str]:
            node = nodes.find("", name)
            return node is None or Found.of(node) == self or bool(health_events(node)), f"{Found.of(node)}, was {self}" if node else ""

        await connection.until(f"{name} to be as it was found", seconds, back)
