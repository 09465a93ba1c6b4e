"""What a cluster has at the moment, kept up to date by watches: https://kubernetes.io/docs/reference/using-api/api-concepts/"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Callable, Optional

from holdfast.deploy.api import Api
from holdfast.deploy.errors import ApiError, Unreachable
from holdfast.deploy.kinds import Kind, Object, name_of, namespace_of

_AGAIN = 0.2  # Seconds to the next try where the API does not answer.


class Informer:
    """Objects of one kind. `changed` is called after each change; `problem` says why it may be out of date."""

    def __init__(self, api: Api, kind: Kind, namespace: str = "", *, changed: Callable[[], None]) -> None:
        self.kind = kind
        self.problem: Optional[str] = None
        self._api, self._namespace, self._changed = api, namespace, changed
        self._things: dict[tuple[str, str], Object] = {}

    def all(self) -> list[Object]:
        # A copy first: this may be asked from another thread than the one that watches.
        return [thing for _, thing in sorted(self._things.copy().items(), key=lambda item: item[0])]

    def find(self, namespace: str, name: str) -> Optional[Object]:
        return self._things.get((namespace, name))

    async def begin(self) -> str:
        """Lists them. Raises ApiError, Unreachable."""
        found, version = await self._api.list(self.kind, self._namespace)
        self._things = {(namespace_of(thing), name_of(thing)): thing for thing in found}
        self._changed()
        return version

    async def run(self, version: str) -> None:
        """Follows them, for good."""
        while True:
            try:
                async for kind, thing in self._api.watch(self.kind, self._namespace, since=version):
                    version = thing["metadata"]["resourceVersion"]
                    if kind != "BOOKMARK":
                        self._take(kind, thing)
                    self.problem = None
            except ApiError as error:
                self._has(None if error.status == 410 else str(error))
                version = await self._begin_again(version)
            except Unreachable as problem:
                self._has(str(problem))
                version = await self._begin_again(version)

    async def _begin_again(self, version: str) -> str:
        await asyncio.sleep(_AGAIN)
        try:
            return await self.begin()
        except (ApiError, Unreachable) as problem:
            self._has(str(problem))
            return version

    def _has(self, problem: Optional[str]) -> None:
        if problem != self.problem:
            self.problem = problem
            self._changed()

    def _take(self, kind: str, thing: Object) -> None:
        key = (namespace_of(thing), name_of(thing))
        if kind == "DELETED":
            self._things.pop(key, None)
        else:
            self._things[key] = thing
        self._changed()


class Informers:
    """Several at once, and bells that ring after each change of any of them."""

    def __init__(self, api: Api, kinds: Sequence[Kind], namespace: str = "") -> None:
        self.api = api
        self._bells: list[asyncio.Event] = []
        self._informers = {kind: Informer(api, kind, namespace if kind.namespaced else "", changed=self.ring) for kind in kinds}
        self._tasks: list[asyncio.Task[None]] = []

    def __getitem__(self, kind: Kind) -> Informer:
        return self._informers[kind]

    @property
    def problem(self) -> Optional[str]:
        return next((one.problem for one in self._informers.values() if one.problem), None)

    def bell(self) -> asyncio.Event:
        """A new one. Clear it, look, wait: no change in between is lost."""
        made = asyncio.Event()
        self._bells.append(made)
        return made

    def silence(self, bell: asyncio.Event) -> None:
        self._bells.remove(bell)

    def ring(self) -> None:
        """Something that a wait looks at has changed."""
        for bell in self._bells:
            bell.set()

    async def begin(self) -> None:
        versions = await asyncio.gather(*(one.begin() for one in self._informers.values()))
        self._tasks = [asyncio.ensure_future(one.run(version)) for one, version in zip(self._informers.values(), versions)]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
