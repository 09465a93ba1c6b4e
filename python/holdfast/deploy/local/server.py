"""The local cluster's API: the part of Kubernetes' that deployments need, over the store. HTTP, on loopback, with a token."""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Awaitable
from typing import Callable, Optional

from aiohttp import web

from holdfast.deploy import selectors
from holdfast.deploy.errors import ApiError
from holdfast.deploy.kinds import KINDS, POD, Kind, Object
from holdfast.deploy.local.kubelet import Nodes
from holdfast.deploy.local.store import Change, Store, merged
from holdfast.deploy.local.streams import MALFORMED, Exec, Forward, refusal, stream
from holdfast.deploy.local.validate import check

_BY_PLACE = {(kind.group, kind.plural): kind for kind in KINDS}
_PATCHES = ("application/merge-patch+json",)
_WATCH = 300.0  # Seconds, where the request does not say.


class Place:
    """What a path means: a kind, and maybe a namespace, a name and a part of that object."""

    def __init__(self, path: str) -> None:
        parts = path.strip("/").split("/")
        size = 3 if parts[0] == "apis" else 2
        group, rest = "/".join(parts[1:size]), parts[size:]
        self.namespace = ""
        if rest[:1] == ["namespaces"] and len(rest) > 2 and (group, rest[2]) in _BY_PLACE:
            self.namespace, rest = rest[1], rest[2:]
        kind = _BY_PLACE.get((group, rest[0])) if rest else None
        if kind is None or len(rest) > 3 or parts[0] not in ("api", "apis"):
            raise ApiError(404, "NotFound", "the server could not find the requested resource")
        self.kind: Kind = kind
        self.name: Optional[str] = rest[1] if len(rest) > 1 else None
        self.sub: Optional[str] = rest[2] if len(rest) > 2 else None


class Server:
    """Give `app` to aiohttp."""

    def __init__(self, store: Store, nodes: Nodes, token: str) -> None:
        self._store = store
        self._nodes = nodes
        self._token = token
        self.app = web.Application(middlewares=[self._guard], client_max_size=16 << 20)
        self.app.router.add_get("/readyz", self._ready)
        self.app.router.add_get("/version", self._version)
        self.app.router.add_route("*", "/{path:.*}", self._handle)

    @web.middleware
    async def _guard(self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> web.StreamResponse:
        given = request.headers.get("Authorization", "")
        try:
            if not hmac.compare_digest(given.encode(), f"Bearer {self._token}".encode()):
                raise ApiError(401, "Unauthorized", "Unauthorized")
            return await handler(request)
        except MALFORMED as problem:
            return refusal(problem)

    async def _ready(self, request: web.Request) -> web.StreamResponse:
        return web.Response(text="ok")

    async def _version(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"major": "1", "minor": "34", "gitVersion": "v1.34.0-holdfast-local"})

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        place = Place(request.path)
        if place.kind is POD and place.sub in ("log", "exec", "portforward", "eviction"):
            return await self._pod_part(request, place)
        if place.sub not in (None, "status") or (place.sub and not place.kind.status):
            raise ApiError(404, "NotFound", f"{place.kind.plural} have no {place.sub}")
        if place.name is None and request.method == "GET":
            return await (self._watch if request.query.get("watch") in ("true", "1") else self._list)(request, place)
        return web.json_response(await self._one(request, place), status=201 if request.method == "POST" else 200)

    # ---- objects

    async def _one(self, request: web.Request, place: Place) -> Object:
        kind, name, status = place.kind, place.name, place.sub == "status"
        if request.method == "POST" and name is None:
            thing = await _body(request)
            if kind.namespaced:
                thing.setdefault("metadata", {})["namespace"] = place.namespace
            check(kind, thing)
            return self._store.create(kind, thing)
        if name is None:
            raise ApiError(405, "MethodNotAllowed", "that is for one object; name it")
        if request.method == "GET":
            return self._store.get(kind, place.namespace, name)
        if request.method == "PUT":
            thing = await _body(request)
            check(kind, thing)
            return self._store.update(kind, thing, status=status)
        if request.method == "PATCH":
            if request.content_type not in _PATCHES:
                raise ApiError(415, "UnsupportedMediaType", f"the local cluster takes {_PATCHES[0]}, not {request.content_type}")
            thing = merged(self._store.get(kind, place.namespace, name), await _body(request))
            check(kind, thing)
            return self._store.update(kind, thing, status=status)
        if request.method == "DELETE":
            told = await _body(request)
            grace = told.get("gracePeriodSeconds", request.query.get("gracePeriodSeconds"))
            wanted, uid = (told.get("preconditions") or {}).get("uid"), self._store.get(kind, place.namespace, name)["metadata"]["uid"]
            if wanted not in (None, uid):
                raise ApiError(409, "Conflict", f"the UID in the precondition ({wanted}) does not match the UID in record ({uid})")
            return self._store.delete(kind, place.namespace, name, None if grace is None else float(grace))
        raise ApiError(405, "MethodNotAllowed", f"{request.method} is not possible here")

    async def _list(self, request: web.Request, place: Place) -> web.StreamResponse:
        wanted = _wanted(request)
        items = [thing for thing in self._store.all(place.kind, place.namespace) if wanted(thing)]
        metadata = {"resourceVersion": str(self._store.version)}
        return web.json_response(
            {"kind": f"{place.kind.name}List", "apiVersion": place.kind.group, "metadata": metadata, "items": items}
        )

    async def _watch(self, request: web.Request, place: Place) -> web.StreamResponse:
        wanted = _wanted(request)
        waiting: asyncio.Queue[Change] = asyncio.Queue()
        for change in self._store.since(int(request.query.get("resourceVersion") or self._store.version)):
            waiting.put_nowait(change)
        end = self._store.listen(waiting.put_nowait)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        try:
            await response.prepare(request)
            deadline = asyncio.get_running_loop().time() + float(request.query.get("timeoutSeconds") or _WATCH)
            while (left := deadline - asyncio.get_running_loop().time()) > 0:
                try:
                    change = await asyncio.wait_for(waiting.get(), left)
                except asyncio.TimeoutError:
                    break
                if (line := _told(change, place, wanted)) is not None:
                    await response.write(line)
            await response.write_eof()
        except ConnectionResetError:
            pass  # Who watched has gone.
        finally:
            end()
        return response

    # ---- parts of pods

    async def _pod_part(self, request: web.Request, place: Place) -> web.StreamResponse:
        assert place.name is not None
        pod = self._store.get(POD, place.namespace, place.name)
        if place.sub == "eviction":
            return web.json_response(self._store.delete(POD, place.namespace, place.name), status=201)
        if place.sub == "log":
            text = self._nodes.log(pod, request.query.get("container"), previous=request.query.get("previous") == "true")
            return web.Response(body=text, content_type="text/plain")
        what = Exec(request.query.getall("command", [])) if place.sub == "exec" else Forward(int(request.query["ports"]))
        return await stream(request, self._nodes, pod, request.query.get("container"), what)


async def _body(request: web.Request) -> Object:
    data = await request.read()
    try:
        found = json.loads(data) if data else {}
    except ValueError as problem:
        raise ApiError(400, "BadRequest", f"the body is not JSON: {problem}") from None
    if not isinstance(found, dict):
        raise ApiError(400, "BadRequest", "the body is not an object")
    return found


def _wanted(request: web.Request) -> Callable[[Object], bool]:
    tests = []
    if text := request.query.get("labelSelector"):
        tests.append(selectors.by_labels(text))
    if text := request.query.get("fieldSelector"):
        tests.append(selectors.by_fields(text))
    return lambda thing: all(test(thing) for test in tests)


def _told(change: Change, place: Place, wanted: Callable[[Object], bool]) -> Optional[bytes]:
    """The line of a watch, or None where that is not for it. What a selector does not match any more is gone for who watches."""
    if change.kind is not place.kind or (place.namespace and change.thing["metadata"].get("namespace") != place.namespace):
        return None
    is_in, was_in = wanted(change.thing), change.before is not None and wanted(change.before)
    if not is_in and not was_in:
        return None
    kind = change.type if change.type == "DELETED" else "DELETED" if not is_in else "MODIFIED" if was_in else "ADDED"
    return json.dumps({"type": kind, "object": change.thing}).encode() + b"\n"
