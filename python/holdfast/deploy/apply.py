"""To make things in a cluster that may be there already, and to wait for what they become."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable
from typing import Callable, Optional, TypeVar

from holdfast.deploy.api import Api
from holdfast.deploy.errors import ApiError, Unreachable, WaitFailed
from holdfast.deploy.kinds import Kind, Object, is_leaving, name_of, namespace_of

READY = 60.0  # Seconds.
_AGAIN = 0.1
T = TypeVar("T", Object, Optional[Object])


async def made(api: Api, kind: Kind, thing: Object) -> bool:
    """False where it was there. One that goes, because who had it has just left, is waited for. Raises ApiError, WaitFailed."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + READY
    while True:
        try:
            await api.create(kind, thing)
            return True
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise
        there = await api.find(kind, namespace_of(thing), name_of(thing))
        if there is not None and not is_leaving(there):
            return False
        if loop.time() > deadline:
            raise WaitFailed(f"{kind.name} {name_of(thing)}, which is being removed, to be gone", READY, "it is there still")
        await asyncio.sleep(_AGAIN)


async def remove(api: Api, kind: Kind, thing: Object) -> None:
    """As far as that goes."""
    with contextlib.suppress(ApiError, Unreachable):
        await api.delete(kind, namespace_of(thing), name_of(thing))


async def until(api: Api, kind: Kind, namespace: str, name: str, wanted: Callable[[Object], bool], seconds: float = READY) -> None:
    """Raises ApiError, WaitFailed. These few are asked for, not watched: the API has no watch for a definition that is on its way."""
    await _asked(lambda: api.get(kind, namespace, name), wanted, f"{kind.name} {name} to be ready", seconds)


async def until_gone(api: Api, kind: Kind, namespace: str, name: str, seconds: float = READY) -> None:
    """Raises ApiError, WaitFailed."""
    await _asked(lambda: api.find(kind, namespace, name), lambda found: found is None, f"{kind.name} {name} to be gone", seconds)


async def _asked(ask: Callable[[], Awaitable[T]], wanted: Callable[[T], bool], what: str, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not wanted(found := await ask()):
        if loop.time() > deadline:
            raise WaitFailed(what, seconds, json.dumps((found or {}).get("status", {}))[:500])
        await asyncio.sleep(_AGAIN)
