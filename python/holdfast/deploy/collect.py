"""What a deployment leaves for its readers: logs, metrics, events and manifests of its pods, in files."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Callable

import aiohttp
import yaml

from holdfast.deploy.connection import Connection
from holdfast.deploy.describe import event_text, state_of
from holdfast.deploy.errors import ApiError, DeployError
from holdfast.deploy.kinds import EVENT, Object, name_of, namespace_of

_METRICS = 5.0  # Seconds.


class Collector:
    """In the connection's thread. What cannot be had is logged, and says so in its file: the rest must come all the same."""

    def __init__(self, connection: Connection, folder: Path, logger: logging.Logger) -> None:
        self._connection, self._folder, self._logger = connection, folder, logger

    async def pod(self, service: str, pod: Object, port: int, suffix: str = "") -> None:
        """<service>/<pod>{.yaml,.status.log,.log,.previous.log,.metrics.log,.events.log}"""
        base = self._folder / service
        base.mkdir(parents=True, exist_ok=True)
        name = f"{name_of(pod)}{suffix}"
        (base / f"{name}.yaml").write_text(yaml.safe_dump(pod, sort_keys=False))
        status = json.dumps(pod.get("status", {}), indent=1)
        (base / f"{name}.status.log").write_text(f"{state_of(pod)}\n{status}\n")
        api = self._connection.api
        await self._write(base / f"{name}.log", lambda: api.log(namespace_of(pod), name_of(pod)))
        if any(one.get("restartCount") for one in pod.get("status", {}).get("containerStatuses") or []):
            await self._write(base / f"{name}.previous.log", lambda: api.log(namespace_of(pod), name_of(pod), previous=True))
        if state_of(pod).startswith(f"{name_of(pod)} is ready"):
            await self._write(base / f"{name}.metrics.log", lambda: self._metrics(pod, port))
        await self._write(base / f"{name}.events.log", lambda: self._events(pod))

    async def _write(self, path: Path, get: Callable[[], object]) -> None:
        try:
            text = str(await get())  # type: ignore[misc]
        except (DeployError, OSError, asyncio.TimeoutError, aiohttp.ClientError) as problem:
            text = f"not collected: {problem}\n"
            self._logger.warning("%s: %s", path.name, text.strip())
        path.write_text(text)

    async def _events(self, pod: Object) -> str:
        uid = pod["metadata"]["uid"]
        found = [event for event in self._connection.seen[EVENT].all() if event["involvedObject"].get("uid") == uid]
        lines = [f"{event.get('lastTimestamp')} {event.get('type')} {event_text(event)}" for event in found]
        for event in found:
            if event.get("type") != "Normal":
                self._logger.warning("%s", event_text(event))
        return "".join(f"{line}\n" for line in sorted(lines))

    async def _metrics(self, pod: Object, port: int) -> str:
        """Through a port forward, since nobody says that this machine reaches pods."""
        done = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await self._connection.api.forward(namespace_of(pod), name_of(pod), port, reader, writer)
            except ApiError:
                writer.transport.abort()
            finally:
                done.set()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        try:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/metrics"
            async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_METRICS)) as session, session.get(url) as answer:
                return await answer.text()
        finally:
            server.close()

    async def events(self) -> None:
        """All of the namespace, in order."""
        found = sorted(self._connection.seen[EVENT].all(), key=lambda event: str(event.get("lastTimestamp")))
        self._folder.mkdir(parents=True, exist_ok=True)
        text = "".join(f"{event.get('lastTimestamp')} {event.get('type')} {event_text(event)}\n" for event in found)
        (self._folder / "events.log").write_text(text)
