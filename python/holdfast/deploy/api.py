"""The API of a cluster: objects, watches, logs, commands and ports of pods, over HTTP and WebSockets as Kubernetes has them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Callable, Optional, Union

import aiohttp

from holdfast.deploy.errors import ApiError, NotLetIn, Unreachable
from holdfast.deploy.kinds import POD, Kind, Object

_MERGE = "application/merge-patch+json"
_CHANNELS = "v4.channel.k8s.io"
_PAUSE = 1.0  # Seconds.
_LINE = 64 << 20  # Bytes of one object in a watch, at most.
_CHUNK = 65536
_REFUSED = 0.2  # Seconds; a kubelet says that nobody listens after it has said that it is connected.


@dataclass
class Access:
    """Where the API is. `token` may be a function, for tokens that are renewed."""

    server: str
    token: Union[str, Callable[[], Awaitable[str]], None] = None
    context: Optional[ssl.SSLContext] = None
    # Where this is from, for errors.
    source: str = ""


class Api:
    """Use it as `async with`. Raises ApiError and Unreachable; each request has a deadline of `timeout` seconds."""

    def __init__(self, access: Access, *, timeout: float = 30.0) -> None:
        self.access = access
        self.timeout = timeout
        self._session: Optional[aiohttp.ClientSession] = None

    async def __aenter__(self) -> Api:
        connector = aiohttp.TCPConnector(ssl=self.access.context or True, limit=0)
        self._session = aiohttp.ClientSession(connector=connector, read_bufsize=_LINE)
        return self

    async def __aexit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def _headers(self, content: str = "application/json") -> dict[str, str]:
        token = self.access.token
        if callable(token):
            token = await token()
        return {"Content-Type": content, "Accept": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}

    # ---- requests

    async def call(
        self,
        method: str,
        path: str,
        body: Optional[Object] = None,
        *,
        query: Union[Mapping[str, str], Sequence[tuple[str, str]], None] = None,
        content: str = "application/json",
    ) -> bytes:
        data = None if body is None else json.dumps(body)
        deadline = asyncio.get_running_loop().time() + self.timeout
        while True:
            status, said, pause = await self._once(method, path, data, query, content)
            # It has too much to do, or has just learned of a kind: nothing was done, and it says when to ask again.
            if status != 429 or asyncio.get_running_loop().time() + pause > deadline:
                break
            await asyncio.sleep(pause)
        if status >= 400:
            raise self._error(status, said)
        return said

    async def _once(
        self,
        method: str,
        path: str,
        data: Optional[str],
        query: Union[Mapping[str, str], Sequence[tuple[str, str]], None],
        content: str,
    ) -> tuple[int, bytes, float]:
        """Status, body, and seconds after which it may be asked again."""
        assert self._session is not None
        wait = aiohttp.ClientTimeout(total=self.timeout)
        try:
            headers = await self._headers(content)
            async with self._session.request(
                method, self.access.server + path, params=query, data=data, headers=headers, timeout=wait
            ) as answer:
                pause = answer.headers.get("Retry-After", "")
                return answer.status, await answer.read(), float(pause) if pause.isdecimal() else _PAUSE
        except (aiohttp.ClientError, OSError, asyncio.TimeoutError) as problem:
            raise self._unreachable(problem) from None

    def _error(self, status: int, said: bytes) -> ApiError:
        error = _error(status, said)
        if status != 401:
            return error
        whose = f" of {self.access.source}" if self.access.source else ""
        return NotLetIn(
            status, error.reason, f"{error.message}: {self.access.server} does not take the credentials{whose}; have they expired?"
        )

    def _unreachable(self, problem: BaseException) -> Unreachable:
        why = str(problem) or (
            f"no answer within {self.timeout:g} s" if isinstance(problem, asyncio.TimeoutError) else type(problem).__name__
        )
        return Unreachable(f"no API of a cluster answers at {self.access.server}: {why}")

    async def _object(self, method: str, path: str, body: Optional[Object] = None, **more: Any) -> Object:
        found: Object = json.loads(await self.call(method, path, body, **more))
        return found

    async def get(self, kind: Kind, namespace: str, name: str) -> Object:
        return await self._object("GET", kind.path(namespace, name))

    async def find(self, kind: Kind, namespace: str, name: str) -> Optional[Object]:
        try:
            return await self.get(kind, namespace, name)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def list(self, kind: Kind, namespace: str = "", *, labels: str = "", fields: str = "") -> tuple[list[Object], str]:
        """The objects and the version of the list, for watch()."""
        try:
            found = await self._object("GET", kind.path(namespace), query=_query(labels, fields))
        except ApiError as error:
            if error.status != 404:
                raise
            what = f"it has no {kind.plural} ({kind.group}); is what they need installed there?"
            raise ApiError(404, error.reason, f"{error.message}: {what}") from None
        items = [{"apiVersion": kind.group, "kind": kind.name, **item} for item in found["items"]]
        return items, str(found["metadata"]["resourceVersion"])

    async def create(self, kind: Kind, thing: Object) -> Object:
        namespace = thing["metadata"].get("namespace", "")
        return await self._object("POST", kind.path(namespace), {"apiVersion": kind.group, "kind": kind.name, **thing})

    async def replace(self, kind: Kind, thing: Object, *, status: bool = False) -> Object:
        """Conflicts (409) if it has been changed since it was read."""
        metadata = thing["metadata"]
        path = kind.path(metadata.get("namespace", ""), metadata["name"], "status" if status else None)
        return await self._object("PUT", path, thing)

    async def patch(self, kind: Kind, namespace: str, name: str, patch: Object, *, status: bool = False) -> Object:
        """A merge patch (RFC 7386)."""
        return await self._object("PATCH", kind.path(namespace, name, "status" if status else None), patch, content=_MERGE)

    async def delete(self, kind: Kind, namespace: str, name: str, *, grace: Optional[float] = None, uid: str = "") -> bool:
        """False where there was none. Whether it is gone already, a watch tells. With `uid`: that one alone, 409 for another of its
        name."""
        body: Object = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
        if grace is not None:
            body["gracePeriodSeconds"] = int(grace)
        if uid:
            body["preconditions"] = {"uid": uid}
        try:
            await self.call("DELETE", kind.path(namespace, name), body)
        except ApiError as error:
            if error.status != 404:
                raise
            return False
        return True

    async def evict(self, namespace: str, pod: str) -> None:
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": namespace}}
        await self.call("POST", POD.path(namespace, pod, "eviction"), body)

    async def watch(
        self, kind: Kind, namespace: str = "", *, since: str, labels: str = "", fields: str = "", seconds: float = 240.0
    ) -> AsyncIterator[tuple[str, Object]]:
        """What happens to them after that version, until the server ends it. Raises ApiError (410) where that was too long ago."""
        assert self._session is not None
        query = {
            **_query(labels, fields),
            "watch": "true",
            "resourceVersion": since,
            "timeoutSeconds": str(int(seconds)),
            "allowWatchBookmarks": "true",
        }
        wait = aiohttp.ClientTimeout(total=seconds + self.timeout, sock_connect=self.timeout)
        try:
            headers = await self._headers()
            async with self._session.get(
                self.access.server + kind.path(namespace), params=query, headers=headers, timeout=wait
            ) as answer:
                if answer.status >= 400:
                    raise self._error(answer.status, await answer.read())
                async for line in answer.content:
                    said = json.loads(line)
                    if said["type"] == "ERROR":
                        raise self._error(int(said["object"].get("code", 500)), json.dumps(said["object"]).encode())
                    yield said["type"], said["object"]
        except (aiohttp.ClientError, OSError, asyncio.TimeoutError) as problem:
            raise self._unreachable(problem) from None

    # ---- pods

    async def log(self, namespace: str, pod: str, *, container: str = "", previous: bool = False) -> str:
        query = {"container": container} if container else {}
        said = await self.call("GET", POD.path(namespace, pod, "log"), query={**query, **({"previous": "true"} if previous else {})})
        return said.decode(errors="replace")

    async def execute(
        self, namespace: str, pod: str, command: Sequence[str], *, container: str = "", timeout: float = 30.0
    ) -> tuple[int, str, str]:
        """Exit code, output, errors."""
        query = [("command", word) for word in command] + [("stdout", "true"), ("stderr", "true")]
        query += [("container", container)] if container else []
        parts: dict[int, bytearray] = {1: bytearray(), 2: bytearray(), 3: bytearray()}

        async def read() -> None:
            async with await self._socket(POD.path(namespace, pod, "exec"), query) as socket:
                async for message in socket:
                    if message.type is aiohttp.WSMsgType.BINARY and message.data:
                        parts.get(message.data[0], bytearray()).extend(message.data[1:])

        try:
            await asyncio.wait_for(read(), timeout)
        except asyncio.TimeoutError:
            raise ApiError(504, "Timeout", f"{' '.join(command)} in pod {pod} did not end within {timeout:g} s") from None
        status = json.loads(parts[3] or b'{"status": "Failure", "message": "the connection was lost"}')
        causes = (status.get("details") or {}).get("causes", [])
        code = (
            0 if status["status"] == "Success" else next((int(one["message"]) for one in causes if one.get("reason") == "ExitCode"), -1)
        )
        if code < 0:
            raise ApiError(500, "InternalError", f"{' '.join(command)} in pod {pod}: {status.get('message')}")
        return code, parts[1].decode(errors="replace"), parts[2].decode(errors="replace")

    async def _socket(self, path: str, query: Sequence[tuple[str, str]]) -> Any:
        assert self._session is not None
        headers = await self._headers()
        del headers["Content-Type"]
        headers["Accept"] = "*/*"  # A kubelet has no JSON to give here, and refuses who wants some.
        try:
            return await self._session.ws_connect(
                self.access.server + path, params=query, protocols=(_CHANNELS,), headers=headers, max_msg_size=0
            )
        except aiohttp.WSServerHandshakeError as problem:
            refusal = problem
        except (aiohttp.ClientError, OSError) as problem:
            raise self._unreachable(problem) from None
        # A handshake that fails does not bring the reason along; the same request without one does, if it is refused still.
        try:
            await self.call("GET", path, query=query)
        except ApiError as error:
            if "pgrade" not in error.message:
                raise
        raise ApiError(refusal.status, "Handshake", f"{path}: {refusal.message}")

    async def reach(self, namespace: str, pod: str, port: int) -> None:
        """Raises ApiError where nobody listens on that port of the pod."""
        async with await self._socket(POD.path(namespace, pod, "portforward"), [("ports", str(port))]) as socket:
            greeted: set[int] = set()
            with contextlib.suppress(asyncio.TimeoutError):
                while True:
                    message = await asyncio.wait_for(socket.receive(), _REFUSED)
                    if message.type is not aiohttp.WSMsgType.BINARY:
                        return
                    channel = message.data[0]
                    if channel == 1 and channel in greeted and len(message.data) > 1:
                        raise ApiError(
                            500, "InternalError", f"port {port} of pod {pod}: {message.data[1:].decode(errors='replace').strip()}"
                        )
                    greeted.add(channel)

    async def forward(self, namespace: str, pod: str, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection to a port of a pod, until one side ends it."""
        async with await self._socket(POD.path(namespace, pod, "portforward"), [("ports", str(port))]) as socket:
            pump = asyncio.ensure_future(_to_pod(reader, socket))
            greeted: set[int] = set()
            try:
                async for message in socket:
                    if message.type is not aiohttp.WSMsgType.BINARY or not message.data:
                        continue
                    channel, data = message.data[0], message.data[1:]
                    if channel not in greeted:  # Each channel begins with its port.
                        greeted.add(channel)
                        data = data[2:]
                    if channel == 0 and data:
                        writer.write(data)
                        await writer.drain()
                    elif channel == 1 and data:
                        break
            except ConnectionError:
                pass
            finally:
                pump.cancel()
                writer.close()


async def _to_pod(reader: asyncio.StreamReader, socket: aiohttp.ClientWebSocketResponse) -> None:
    while data := await reader.read(_CHUNK):
        await socket.send_bytes(b"\x00" + data)
    await socket.close()


def _query(labels: str, fields: str) -> dict[str, str]:
    return {**({"labelSelector": labels} if labels else {}), **({"fieldSelector": fields} if fields else {})}


def _error(status: int, said: bytes) -> ApiError:
    try:
        found = json.loads(said)
        return ApiError(status, str(found.get("reason") or "Unknown"), str(found.get("message") or found))
    except (ValueError, AttributeError):
        return ApiError(status, "Unknown", said[:500].decode(errors="replace"))
