"""What the local cluster's API and a node's own have in common: refusals, and over WebSockets commands in pods and connections to
their ports.

Protocol: v4.channel.k8s.io, where the first byte of each message is its channel.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any, Optional, Union

from aiohttp import WSMsgType, web

from holdfast.deploy.errors import ApiError
from holdfast.deploy.kinds import Object
from holdfast.deploy.local.container import exit_code
from holdfast.deploy.local.kubelet import Nodes

_CHANNELS = "v4.channel.k8s.io"
_CHUNK = 65536


# What is no ApiError is an object or a query of another shape than the API has.
MALFORMED = (ApiError, ValueError, KeyError, TypeError, AttributeError)


def refusal(problem: Exception) -> web.Response:
    """One of these, as the API says it."""
    error = problem if isinstance(problem, ApiError) else ApiError(400, "BadRequest", f"malformed: {problem!r}")
    status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": error.message, "reason": error.reason}
    return web.json_response({**status, "code": error.status}, status=error.status)


@dataclass(frozen=True)
class Exec:
    command: list[str]


@dataclass(frozen=True)
class Forward:
    port: int


async def stream(
    request: web.Request, nodes: Nodes, pod: Object, container: Optional[str], what: Union[Exec, Forward]
) -> web.StreamResponse:
    """Raises ApiError before the handshake; what goes wrong afterwards is told in the channel for that, as a real kubelet does."""
    nodes.check_runs(pod, container)
    socket = web.WebSocketResponse(protocols=(_CHANNELS,))
    if not socket.can_prepare(request):
        raise ApiError(400, "BadRequest", "Upgrade request required")
    await socket.prepare(request)
    try:
        if isinstance(what, Exec):
            await _run_exec(socket, await nodes.execute(pod, container, what.command))
        else:
            await _run_forward(socket, what.port, *await nodes.connect(pod, what.port))
    except ApiError as error:
        if isinstance(what, Exec):
            await socket.send_bytes(b"\x03" + json.dumps({"status": "Failure", "message": error.message}).encode())
        else:
            await _greet(socket, what.port)
            await socket.send_bytes(b"\x01" + error.message.encode())
    await socket.close()
    return socket


async def _run_exec(socket: web.WebSocketResponse, process: asyncio.subprocess.Process) -> None:
    """Channels 1 and 2 are its output, 3 how it has ended."""

    async def pump(stream: Any, channel: int) -> None:
        while data := await stream.read(_CHUNK):
            await socket.send_bytes(bytes([channel]) + data)

    try:
        await asyncio.gather(pump(process.stdout, 1), pump(process.stderr, 2))
        code = exit_code(await process.wait())
    except (ConnectionResetError, asyncio.CancelledError):
        process.kill()
        raise
    status: dict[str, Any] = {"metadata": {}, "status": "Success"}
    if code != 0:
        causes = [{"reason": "ExitCode", "message": str(code)}]
        status = {
            "metadata": {},
            "status": "Failure",
            "reason": "NonZeroExitCode",
            "message": f"exit code {code}",
            "details": {"causes": causes},
        }
    await socket.send_bytes(b"\x03" + json.dumps(status).encode())


async def _greet(socket: web.WebSocketResponse, port: int) -> None:
    for channel in (0, 1):
        await socket.send_bytes(bytes([channel]) + port.to_bytes(2, "little"))


async def _run_forward(socket: web.WebSocketResponse, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Channel 0 is the data, 1 would be an error; each begins with the port, two bytes, low one first."""
    await _greet(socket, port)

    async def to_client() -> None:
        while data := await reader.read(_CHUNK):
            await socket.send_bytes(b"\x00" + data)

    pump = asyncio.ensure_future(to_client())
    pump.add_done_callback(lambda _: asyncio.ensure_future(socket.close()))
    try:
        async for message in socket:
            if message.type is WSMsgType.BINARY and message.data[:1] == b"\x00":
                writer.write(message.data[1:])
                await writer.drain()
    except ConnectionError:
        pass
    finally:
        pump.cancel()
        writer.close()
