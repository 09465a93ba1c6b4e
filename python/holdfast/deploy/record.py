"""What a run is about to change, written down in the cluster before it does so: who comes after a kill can put it back.

Objects that a run makes carry its name (marks.py), so for those nothing need be written. What is changed on things of others is in a
ConfigMap, one a deployment: nodes with how they were found and the marks of our faults. Faults are known to the fault services, by
owner.
"""

from __future__ import annotations

import dataclasses
import json
import secrets

from holdfast.deploy.agents import SYSTEM
from holdfast.deploy.api import Api
from holdfast.deploy.kinds import CONFIG_MAP, Object
from holdfast.deploy.marks import marked
from holdfast.deploy.quarantine import Found

_NODES = "nodes"
OWNER = "owner"


class Record:
    """Of one deployment; in the connection's thread. `owner` is that of its faults."""

    def __init__(self, api: Api, run: str, owner: str) -> None:
        self._api, self._run, self.owner = api, run, owner
        # Its own, also where an earlier test of the same run was killed and has left one.
        self._id = secrets.token_hex(4)
        self.name = f"holdfast-run-{run}-{self._id}"
        self._nodes: dict[str, tuple[Found, list[str]]] = {}
        self._written = False

    async def begin(self) -> None:
        """Before the first fault."""
        thing: Object = {"metadata": {"name": self.name, "namespace": SYSTEM}, "data": {OWNER: self.owner, _NODES: "{}"}}
        await self._api.create(CONFIG_MAP, marked(thing, self._run, self._id))
        self._written = True

    async def node(self, name: str, found: Found, mark: str) -> None:
        """Before a fault with this mark on that node."""
        self._nodes.setdefault(name, (found, []))[1].append(mark)
        text = json.dumps({node: {"found": dataclasses.asdict(was), "marks": marks} for node, (was, marks) in self._nodes.items()})
        await self._api.patch(CONFIG_MAP, SYSTEM, self.name, {"data": {_NODES: text}})

    async def end(self) -> None:
        """When everything is as it was."""
        if self._written:
            await self._api.delete(CONFIG_MAP, SYSTEM, self.name)
            self._written = False


def nodes_in(thing: Object) -> dict[str, tuple[Found, list[str]]]:
    """Of such a ConfigMap. Raises ValueError, KeyError or TypeError where it is none of ours."""
    found = json.loads(thing["data"][_NODES])
    return {name: (Found(**entry["found"]), [str(mark) for mark in entry["marks"]]) for name, entry in found.items()}
