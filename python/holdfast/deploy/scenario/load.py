"""Load on a deployment's frontend: clients that ask all the time, and what came of each request."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Optional

import aiohttp

from holdfast.deploy.errors import BadSpec, DeployError
from holdfast.deploy.pods import Pod, PortForward

if TYPE_CHECKING:
    from holdfast.deploy.scenario.context import Context

_PATH = "/v1/chat/completions"
_END = 30.0  # Seconds beyond a request's own.
_ERROR = 200  # Characters.


@dataclass(frozen=True)
class Request:
    """`at`: when it was begun, in seconds since the scenario began; `seconds`: how long it took; `error`: empty where it was served."""

    load: str
    at: float
    seconds: float
    status: int
    error: str = ""
    served_by: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        return not self.error

    @property
    def ended(self) -> float:
        return self.at + self.seconds


@dataclass(frozen=True)
class Load:
    """`clients` ask one after the other, together at most `rate` times a second, each on a connection of its own. Ends after so many
    requests or seconds, where they are given, else when it is stopped. A request may take `timeout` seconds."""

    clients: int = 2
    rate: float = 20.0
    requests: Optional[int] = None
    seconds: Optional[float] = None
    timeout: float = 10.0
    max_tokens: int = 4
    prompt: str = "Where do clouds come from?"
    model: Optional[str] = None
    path: str = _PATH

    def __post_init__(self) -> None:
        for name in ("clients", "rate", "timeout", "max_tokens"):
            if getattr(self, name) <= 0:
                raise BadSpec(f"{name} must be more than 0, not {getattr(self, name)}")


@dataclass
class Running:
    """A load that runs, in a thread of its own: what a test does meanwhile does not slow it down. start(), stop()."""

    name: str
    load: Load
    context: Context
    begun: float = 0.0
    _forwards: dict[str, PortForward] = field(default_factory=dict)
    _count: int = 0
    _next: float = 0.0
    _over: bool = False

    def __post_init__(self) -> None:
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name=f"load-{self.name}", daemon=True)
        deployment = self.context.deployment
        self._model = self.load.model or self.context.model
        self._port = deployment.deployment_spec.port

    def start(self) -> None:
        self.begun = self.context.now()
        self._next = time.monotonic()
        self._thread.start()

    @property
    def running(self) -> bool:
        return self._thread.ident is not None and not self._over

    def stop(self) -> None:
        """Requests that are under way are ended and count as neither served nor failed. Raises DeployError where it does not end."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(self.load.timeout + _END)
        if self._thread.is_alive():
            raise DeployError(f"the load {self.name} does not end")

    async def _run(self) -> None:
        clients = [asyncio.ensure_future(self._client(number)) for number in range(self.load.clients)]
        over: asyncio.Future[Any] = asyncio.ensure_future(asyncio.wait(clients))
        stopping: asyncio.Future[Any] = asyncio.ensure_future(asyncio.to_thread(self._stopping.wait))
        try:
            await asyncio.wait([stopping, over], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._stopping.set()
            for client in clients:
                client.cancel()
            await over
            await stopping
            for forward in self._forwards.values():
                with contextlib.suppress(Exception):  # The connection may be gone.
                    await asyncio.to_thread(forward.stop)
            self._over = True
            self.context.ring()

    async def _client(self, number: int) -> None:
        # A connection that is kept would outlive what is to cut it.
        connector = aiohttp.TCPConnector(force_close=True)
        async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=self.load.timeout)) as session:
            while await self._turn():
                number += 1
                begun = self.context.now()
                status, error, served_by = await self._ask(session, number)
                request = Request(self.name, begun, self.context.now() - begun, status, error, served_by)
                self.context.took(request)

    async def _turn(self) -> bool:
        """Waits for it. False at the end."""
        load = self.load
        if load.requests is not None and self._count >= load.requests:
            return False
        self._count += 1
        # What was missed while all clients waited is not made up for.
        self._next = max(self._next + 1 / load.rate, time.monotonic())
        await asyncio.sleep(self._next - time.monotonic())
        return load.seconds is None or self.context.now() - self.begun < load.seconds

    async def _ask(self, session: aiohttp.ClientSession, number: int) -> tuple[int, str, tuple[str, ...]]:
        """HTTP's status (0 where there was none), the error, the pods that have served it."""
        body = {"model": self._model, "messages": [{"role": "user", "content": self.load.prompt}], "max_tokens": self.load.max_tokens}
        try:
            url = await self._url(number)
            async with session.post(url + self.load.path, json=body) as answer:
                said = await answer.json(content_type=None)
                if answer.status >= 400:
                    return answer.status, _error_in(said), ()
                return answer.status, "", _served_by(said)
        except asyncio.TimeoutError:
            return 0, f"no answer within {self.load.timeout:g} s", ()
        except (aiohttp.ClientError, OSError, ValueError, DeployError) as problem:
            return 0, f"{type(problem).__name__}: {problem}"[:_ERROR], ()

    async def _url(self, number: int) -> str:
        """Of a frontend that is ready. Raises DeployError."""
        frontend = self.context.deployment.frontend_service_name
        pods = [pod for pod in self.context.deployment.get_pods(frontend)[frontend] if pod.ready]
        if not pods:
            raise DeployError("no frontend is ready")
        pod = pods[number % len(pods)]
        if pod.uid not in self._forwards:
            self._forwards[pod.uid] = await asyncio.to_thread(self._forward, pod)
        return self._forwards[pod.uid].url

    def _forward(self, pod: Pod) -> PortForward:
        return PortForward(self.context.deployment.connection, pod.namespace, pod.name, self._port)


def _error_in(said: Any) -> str:
    """OpenAI's form of an error, else all of it."""
    found = said.get("error", said) if isinstance(said, dict) else said
    return str(found.get("message", found) if isinstance(found, dict) else found)[:_ERROR]


def _served_by(said: Any) -> tuple[str, ...]:
    """Whom the answer names, where it does."""
    found = said.get("served_by") if isinstance(said, dict) else None
    return tuple(str(one) for one in (found.values() if isinstance(found, dict) else found if isinstance(found, list) else ()))
