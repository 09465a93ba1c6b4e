"""The DynamoGraphDeployment of a ManagedDeployment: as the cluster has it, its pods, and changes of it."""

from __future__ import annotations

from typing import Any, Callable

from holdfast.deploy.change import change
from holdfast.deploy.connection import Connection
from holdfast.deploy.controllers.graph import GRAPH_LABEL
from holdfast.deploy.kinds import GRAPH, POD, Object, labels_of


class Resource:
    """`generation` is that of the specification which was written last; what is said of an older one does not count."""

    def __init__(self, connection: Connection, namespace: str, name: str) -> None:
        self.namespace, self.name = namespace, name
        self.generation = 0
        self._connection = connection

    def find(self) -> Object:
        """Empty where it is not there."""
        return self._connection.seen[GRAPH].find(self.namespace, self.name) or {}

    def status(self) -> Object:
        found: Object = self.find().get("status") or {}
        return found

    def pods(self) -> list[Object]:
        """Those that leave included."""
        return [pod for pod in self._connection.seen[POD].all() if labels_of(pod).get(GRAPH_LABEL) == self.name]

    def is_current(self) -> bool:
        """Whether the status is about the specification that it has now."""
        return int(self.status().get("observedGeneration", 0)) >= self.generation

    def written(self, thing: Object) -> None:
        """As the API has answered."""
        self.generation = int(thing["metadata"]["generation"])

    async def edit(self, edit: Callable[[Object], Any]) -> None:
        """From any event loop. Raises ApiError."""
        api = self._connection.api
        self.written(await self._connection.run(change(api, GRAPH, self.namespace, self.name, edit)))
