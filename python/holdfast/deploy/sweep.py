"""Puts a cluster back after tests that were killed: faults first, then nodes, deployments, their platform, their namespaces."""

from __future__ import annotations

import json
from typing import Callable, Optional

from holdfast.deploy.agents import PORT
from holdfast.deploy.api import Access
from holdfast.deploy.connection import Connection
from holdfast.deploy.controllers.graph import GRAPH_LABEL
from holdfast.deploy.errors import DeployError
from holdfast.deploy.hardware import agents_in
from holdfast.deploy.kinds import (
    CONFIG_MAP,
    GRAPH,
    NAMESPACE,
    NODE,
    POD,
    SERVICE,
    STATEFUL_SET,
    Kind,
    Object,
    labels_of,
    name_of,
    namespace_of,
)
from holdfast.deploy.marks import RUN, is_over
from holdfast.deploy.pods import PortForward
from holdfast.deploy.record import OWNER, nodes_in
from holdfast.faults import FaultClient, FaultError

_GONE = 120.0  # Seconds.
_BACK = 30.0
# In this order: what is in a namespace goes with it, but says so.
_MADE: tuple[Kind, ...] = (GRAPH, STATEFUL_SET, SERVICE, NAMESPACE)
Tell = Callable[[str], None]


class Choice:
    """Which runs. Neither: those whose time is over."""

    def __init__(self, *, run: Optional[str] = None, everything: bool = False) -> None:
        self._run, self._everything = run, everything

    def takes(self, thing: Object) -> bool:
        run = labels_of(thing).get(RUN)
        if run is None:
            return False
        return self._everything or run == self._run or (self._run is None and is_over(thing))


def sweep(access: Access, choice: Choice, tell: Tell) -> list[str]:
    """Blocks. Returns what could not be put back, in words; the rest is done all the same. Raises ApiError and Unreachable at the
    start."""
    connection = Connection(access, (NAMESPACE, NODE, POD, GRAPH, STATEFUL_SET, SERVICE, CONFIG_MAP), "")
    connection.begin()
    try:
        return _Sweep(connection, choice, tell).run()
    finally:
        connection.close()


class _Sweep:
    def __init__(self, connection: Connection, choice: Choice, tell: Tell) -> None:
        self._connection, self._choice, self._tell = connection, choice, tell
        self._problems: list[str] = []

    def run(self) -> list[str]:
        for record in self._chosen(CONFIG_MAP):
            self._try(f"record {name_of(record)}", lambda record=record: self._undo(record))  # type: ignore[misc]
        for kind in _MADE:
            for thing in self._chosen(kind):
                self._try(f"{kind.name} {name_of(thing)}", lambda kind=kind, thing=thing: self._remove(kind, thing))  # type: ignore[misc]
        return self._problems

    def _chosen(self, kind: Kind) -> list[Object]:
        return [thing for thing in self._connection.seen[kind].all() if self._choice.takes(thing)]

    def _try(self, what: str, work: Callable[[], None]) -> None:
        try:
            work()
        except (DeployError, FaultError, OSError, ValueError, KeyError, TypeError) as problem:
            self._problems.append(f"{what}: {problem}")

    def _undo(self, record: Object) -> None:
        owner, nodes = str(record["data"][OWNER]), nodes_in(record)
        known = self._heal(owner)
        for name, (found, marks) in nodes.items():
            if self._connection.seen[NODE].find("", name) is not None:
                # It may have been killed between writing this and the fault, whose line nobody then waits for.
                written = [mark for mark in marks if mark in known]
                self._connection.call(found.give_back(self._connection, name, written, _BACK))
                self._tell(f"node {name} is as it was found")
        self._connection.call(self._connection.api.delete(CONFIG_MAP, namespace_of(record), name_of(record)))

    def _heal(self, owner: str) -> str:
        """By the fault services of all nodes: which of them have faults of that owner they know best. Returns all that they say of
        them, the driver's lines included."""
        said = []
        agents, token = self._connection.call(agents_in(self._connection))
        for node, agent in agents.items():
            with PortForward(self._connection, namespace_of(agent), name_of(agent), PORT) as forward:
                client = FaultClient(forward.url, token)
                for fault in client.faults():
                    if fault.get("owner") == owner:
                        # What has ended already only says once more how.
                        said.append(json.dumps(client.recover(str(fault["fault_id"]))))
                        if fault.get("status") == "active":
                            self._tell(f"fault {fault['fault_id']} on {node} is healed")
        return "\n".join(said)

    def _remove(self, kind: Kind, thing: Object) -> None:
        api, seen = self._connection.api, self._connection.seen
        where, name = namespace_of(thing), name_of(thing)
        if not self._connection.call(api.delete(kind, where, name)):
            return

        def gone() -> tuple[bool, str]:
            there = seen[kind].find(where, name)
            mine = [pod for pod in seen[POD].all() if namespace_of(pod) == where and labels_of(pod).get(GRAPH_LABEL) == name]
            pods = mine if kind is GRAPH else []
            left = there is not None and there["metadata"]["uid"] == thing["metadata"]["uid"]
            return not left and not pods, f"{len(pods)} pods" if pods else "it is there still"

        self._connection.call(self._connection.until(f"{kind.name} {name} to be gone", _GONE, gone))
        self._tell(f"{kind.name} {where + '/' if where else ''}{name} is removed")
