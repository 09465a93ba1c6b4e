"""Who is there: keys in etcd that live as long as their lease. Over etcd's JSON gateway,
https://etcd.io/docs/v3.4/dev-guide/api_grpc_gateway/ (all numbers and bytes are strings there)."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any, Optional

import aiohttp

from holdfast.deploy.standin import place

_TTL = 2  # Seconds that a worker is still listed after its end.
_TIMEOUT = aiohttp.ClientTimeout(total=3)


def _text(value: str) -> str:
    return base64.b64encode(value.encode()).decode()


class Registry:
    """Of one process. Use it as `async with`."""

    def __init__(self) -> None:
        self._base = place.required("ETCD_ENDPOINTS").split(",")[0].rstrip("/")
        self._prefix = f"/instances/{place.namespace()}/"
        self._session: Optional[aiohttp.ClientSession] = None
        self._lease: Optional[str] = None
        self._task: Optional[asyncio.Task[None]] = None

    async def __aenter__(self) -> Registry:
        self._session = aiohttp.ClientSession(timeout=_TIMEOUT)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
        assert self._session is not None
        if self._lease is not None:
            try:
                await self._call("lease/revoke", ID=self._lease)
            except (aiohttp.ClientError, asyncio.TimeoutError, OSError):
                pass  # It will run out.
        await self._session.close()

    async def _call(self, what: str, **body: Any) -> dict[str, Any]:
        assert self._session is not None
        async with self._session.post(f"{self._base}/v3/{what}", data=json.dumps(body)) as answer:
            found: dict[str, Any] = await answer.json(content_type=None)
            if answer.status >= 400:
                raise aiohttp.ClientError(f"etcd: {found}")
            return found

    async def announce(self, entry: dict[str, Any]) -> None:
        """And keep it there, also when etcd was begun anew meanwhile."""
        await self._put(entry)
        self._task = asyncio.ensure_future(self._keep(entry))

    async def _put(self, entry: dict[str, Any]) -> None:
        self._lease = str((await self._call("lease/grant", TTL=_TTL))["ID"])
        await self._call("kv/put", key=_text(self._prefix + entry["pod"]), value=_text(json.dumps(entry)), lease=self._lease)

    async def _keep(self, entry: dict[str, Any]) -> None:
        while True:
            await asyncio.sleep(_TTL / 4)
            try:
                kept = await self._call("lease/keepalive", ID=self._lease)
                if int(kept.get("result", {}).get("TTL", 0)) <= 0:
                    await self._put(entry)
            except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as problem:
                print(f"etcd does not answer: {problem}", flush=True)

    async def present(self) -> list[dict[str, Any]]:
        end = self._prefix[:-1] + chr(ord(self._prefix[-1]) + 1)
        found = await self._call("kv/range", key=_text(self._prefix), range_end=_text(end))
        return [json.loads(base64.b64decode(pair["value"])) for pair in found.get("kvs", [])]
