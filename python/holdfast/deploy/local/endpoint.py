"""A node's own API, which a real control plane asks for logs, commands and ports of pods: the part of a kubelet's that is needed.

HTTPS; who asks must have a certificate of the cluster's authority that says it is the API server.
"""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, Callable

from aiohttp import web

from holdfast.deploy.errors import ApiError, DeployError
from holdfast.deploy.kinds import POD, Object
from holdfast.deploy.local.kubelet import Nodes
from holdfast.deploy.local.mirror import Mirror
from holdfast.deploy.local.streams import MALFORMED, Exec, Forward, refusal, stream

_CALLERS = ("kube-apiserver-kubelet-client", "apiserver-kubelet-client")
_OPENSSL = 30.0  # Seconds.


def certificate(folder: Path) -> tuple[Path, Path]:
    """A new one, signed by itself, and its key. Raises DeployError."""
    made, key = folder / "node.crt", folder / "node.key"
    words = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "365"]
    command = ["openssl", *words, "-subj", "/CN=holdfast-node", "-keyout", str(key), "-out", str(made)]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=_OPENSSL)
    except FileNotFoundError:
        raise DeployError("openssl is missing; nodes of a real control plane need a certificate") from None
    except (subprocess.SubprocessError, OSError) as problem:
        raise DeployError(f"openssl: {problem}") from None
    return made, key


def context_for(folder: Path, authority: bytes) -> ssl.SSLContext:
    """`authority`: the cluster's certificates, in DER. Raises DeployError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate(folder))
    context.load_verify_locations(cadata=authority)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


class Endpoint:
    """Give `app` to aiohttp."""

    def __init__(self, mirror: Mirror, nodes: Nodes) -> None:
        self._mirror, self._nodes = mirror, nodes
        self.app = web.Application(middlewares=[self._guard])
        self.app.router.add_get("/containerLogs/{namespace}/{pod}/{container}", self._log)
        for method in ("GET", "POST"):
            self.app.router.add_route(method, "/exec/{namespace}/{pod}/{container}", self._exec)
            self.app.router.add_route(method, "/portForward/{namespace}/{pod}", self._forward)

    @web.middleware
    async def _guard(self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> web.StreamResponse:
        try:
            if not _may_ask(request):
                raise ApiError(403, "Forbidden", "this node answers the API server alone")
            return await handler(request)
        except MALFORMED as problem:
            return refusal(problem)

    def _pod(self, request: web.Request) -> Object:
        found = self._mirror.find(POD, request.match_info["namespace"], request.match_info["pod"])
        if found is None:
            raise ApiError(404, "NotFound", f'pods "{request.match_info["pod"]}" not found')
        return found

    async def _log(self, request: web.Request) -> web.StreamResponse:
        previous = request.query.get("previous") == "true"
        text = self._nodes.log(self._pod(request), request.match_info["container"], previous=previous)
        return web.Response(body=text, content_type="text/plain")

    async def _exec(self, request: web.Request) -> web.StreamResponse:
        command = Exec(request.query.getall("command", []))
        return await stream(request, self._nodes, self._pod(request), request.match_info["container"], command)

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        return await stream(request, self._nodes, self._pod(request), None, Forward(int(request.query["port"])))

    async def listen(self, address: str, context: ssl.SSLContext) -> tuple[web.AppRunner, int]:
        """On a free port, which it returns."""
        runner = web.AppRunner(self.app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        await web.TCPSite(runner, address, 0, ssl_context=context).start()
        return runner, int(runner.addresses[0][1])


def _may_ask(request: web.Request) -> bool:
    peer: Any = request.transport.get_extra_info("peercert") if request.transport is not None else None
    said = {pair for part in (peer or {}).get("subject", ()) for pair in part}
    return ("organizationName", "system:masters") in said or any(("commonName", name) in said for name in _CALLERS)


async def closed(runners: list[web.AppRunner]) -> None:
    await asyncio.gather(*(runner.cleanup() for runner in runners))
