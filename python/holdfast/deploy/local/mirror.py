"""A real API as nodes want to see it: objects as they are now, without waiting, and changes that are sent one after the other."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import logging
from collections.abc import Awaitable, Iterator
from typing import Any, Callable, Optional

from holdfast.deploy.api import Api
from holdfast.deploy.errors import ApiError, Unreachable
from holdfast.deploy.informer import Informers
from holdfast.deploy.kinds import CONFIG_MAP, EVENT, POD, SECRET, SERVICE, Kind, Object, name_of, namespace_of
from holdfast.deploy.local.store import Change, event_of

_KINDS = (POD, SERVICE, CONFIG_MAP, SECRET)
_AGAIN = 0.5  # Seconds after which a change that has not reached the API is sent again.
_LOG = logging.getLogger("holdfast.deploy")


class Mirror:
    """`begin()`, then `send()` and `follow()` for good. A pod's status is its node's to say, so what was last said of it holds, also
    while it is on its way."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self.seen = Informers(api, _KINDS)
        self._waiting: asyncio.Queue[tuple[str, Callable[[], Awaitable[Any]]]] = asyncio.Queue()
        self._status: dict[str, Object] = {}
        self._unsent: set[str] = set()

    async def begin(self) -> None:
        await self.seen.begin()

    async def close(self) -> None:
        await self.seen.close()

    # ---- reading

    def find(self, kind: Kind, namespace: str, name: str) -> Optional[Object]:
        found = self.seen[kind].find(namespace if kind.namespaced else "", name)
        return self._with_status(found) if found is not None else None

    def all(self, kind: Kind, namespace: str = "") -> Iterator[Object]:
        for found in self.seen[kind].all():
            if not namespace or namespace_of(found) == namespace:
                yield self._with_status(found)

    def _with_status(self, thing: Object) -> Object:
        thing = copy.deepcopy(thing)
        said = self._status.get(thing["metadata"]["uid"])
        if said is not None:
            thing["status"] = copy.deepcopy(said)
        return thing

    # ---- writing

    def create(self, kind: Kind, thing: Object) -> None:
        self._add(f"{kind.name} {name_of(thing)}", lambda: self._api.create(kind, thing))

    def patch(self, kind: Kind, namespace: str, name: str, patch: Object, *, status: bool = False) -> None:
        self._add(f"{kind.name} {name}", lambda: self._api.patch(kind, namespace, name, patch, status=status))

    def update(self, kind: Kind, thing: Object, *, status: bool = False) -> None:
        """Only the status of pods is a node's to write."""
        assert kind is POD
        assert status
        uid = str(thing["metadata"]["uid"])
        self._status[uid] = thing["status"]
        if uid not in self._unsent:
            self._unsent.add(uid)
            self._add(f"status of {name_of(thing)}", lambda: self._send_status(thing, uid))

    async def _send_status(self, thing: Object, uid: str) -> None:
        self._unsent.discard(uid)
        # With its uid: a pod of the same name that has come meanwhile must not get it.
        patch = {"metadata": {"uid": uid}, "status": self._status[uid]}
        await self._api.patch(POD, namespace_of(thing), name_of(thing), patch, status=True)

    def remove(self, kind: Kind, thing: Object) -> None:
        uid = str(thing["metadata"]["uid"])
        self._add(f"end of {name_of(thing)}", lambda: self._api.delete(kind, namespace_of(thing), name_of(thing), grace=0, uid=uid))

    def event(self, about: Object, reason: str, message: str, *, source: str, warning: bool = False) -> None:
        thing = event_of(about, reason, message, source=source, warning=warning)
        self._add(f"event {reason}", lambda: self._api.create(EVENT, thing))

    def _add(self, what: str, send: Callable[[], Awaitable[Any]]) -> None:
        self._waiting.put_nowait((what, send))

    async def send(self) -> None:
        """What nobody wants any more is dropped; where the API cannot be reached, it is sent again."""
        while True:
            what, send = await self._waiting.get()
            while True:
                try:
                    await send()
                    break
                except ApiError as error:
                    # Somebody has written to it in between, once too often. (Another object of its name is no reason to try again.)
                    if error.status == 409 and "UID" not in error.message and "already exists" not in error.message:
                        await asyncio.sleep(_AGAIN)
                        continue
                    if error.status not in (404, 409) and "is being terminated" not in error.message:
                        _LOG.warning("%s: %s", what, error)
                    break
                except Unreachable as problem:
                    _LOG.warning("%s: %s", what, problem)
                    await asyncio.sleep(_AGAIN)
            self._waiting.task_done()

    async def sent(self) -> None:
        """Until nothing waits any more."""
        await self._waiting.join()

    # ---- changes

    async def follow(self, told: Callable[[Change], None]) -> None:
        """Tells of pods that are there, have changed, and have gone."""
        before: dict[str, Object] = {}
        bell = self.seen.bell()
        with contextlib.ExitStack() as stack:
            stack.callback(self.seen.silence, bell)
            while True:
                bell.clear()
                now = {str(pod["metadata"]["uid"]): pod for pod in self.seen[POD].all()}
                for uid in [uid for uid in before if uid not in now]:
                    self._status.pop(uid, None)
                    told(Change(0, POD, "DELETED", before[uid], None))
                for uid, pod in now.items():
                    if before.get(uid) is not pod:
                        told(Change(0, POD, "MODIFIED", pod, before.get(uid)))
                before = now
                await bell.wait()
