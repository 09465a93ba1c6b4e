"""Services of the local cluster: an address each, whose ports lead to the pods that it selects and that are ready."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable
from typing import Callable, Optional

from holdfast.deploy.kinds import POD, SERVICE, Object, is_ready, labels_of, name_of, namespace_of
from holdfast.deploy.local.addresses import Addresses
from holdfast.deploy.local.store import Objects

_CHUNK = 65536
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
_CONNECT = 5.0  # Seconds.


class Services:
    """`reconcile()` gives new ones an address and listens there, and ends those that are gone."""

    def __init__(self, store: Objects, addresses: Addresses) -> None:
        self._store, self._addresses = store, addresses
        self._open: dict[str, tuple[str, list[asyncio.Task[asyncio.base_events.Server]]]] = {}
        self._turns = itertools.count()

    def reconcile(self) -> None:
        present = {thing["metadata"]["uid"]: thing for thing in self._store.all(SERVICE)}
        for uid in [uid for uid in self._open if uid not in present]:
            self._end(uid)
        for uid, thing in present.items():
            if uid not in self._open and thing["spec"].get("clusterIP") != "None":
                self._begin(uid, thing)

    def _begin(self, uid: str, thing: Object) -> None:
        given = str(thing["spec"].get("clusterIP") or "")
        address = given or self._addresses.take_for_service()
        listening = [
            asyncio.ensure_future(asyncio.start_server(self._server(thing, port), address, int(port["port"])))
            for port in thing["spec"].get("ports", [])
        ]
        self._open[uid] = (address, listening)
        if not given:
            thing["spec"]["clusterIP"] = address
            self._store.update(SERVICE, thing)

    def _end(self, uid: str) -> None:
        address, listening = self._open.pop(uid)
        for task in listening:
            task.add_done_callback(lambda done: None if done.cancelled() or done.exception() else done.result().close())
        self._addresses.give_back(address)

    def _server(self, thing: Object, port: Object) -> Serve:
        target = int(port.get("targetPort") or port["port"])

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            pod = self._pick(thing)
            if pod is None:
                writer.transport.abort()  # As if nobody listened.
                return
            try:
                there = await asyncio.wait_for(asyncio.open_connection(pod["status"]["podIP"], target), _CONNECT)
            except (OSError, asyncio.TimeoutError):
                writer.transport.abort()
                return
            await asyncio.gather(_pump(reader, there[1]), _pump(there[0], writer))

        return serve

    def _pick(self, thing: Object) -> Optional[Object]:
        selector = thing["spec"].get("selector") or {}
        ready = [
            pod
            for pod in self._store.all(POD, namespace_of(thing))
            if selector and selector.items() <= labels_of(pod).items() and is_ready(pod)
        ]
        ready.sort(key=name_of)
        return ready[next(self._turns) % len(ready)] if ready else None

    async def close(self) -> None:
        for uid in list(self._open):
            self._end(uid)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()
