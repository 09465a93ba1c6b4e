"""Probes of containers: does it answer?"""

from __future__ import annotations

import asyncio
from typing import Optional

import aiohttp

from holdfast.deploy.kinds import Object

# Before the first success it is looked more often than the probe asks for, so that a pod is ready when it is.
_EAGER = 0.1


async def ask(session: aiohttp.ClientSession, probe: Object, address: str) -> Optional[str]:
    """None if it is well, else what was wrong."""
    wait = aiohttp.ClientTimeout(total=float(probe.get("timeoutSeconds", 1)))
    try:
        if "httpGet" in probe:
            url = f"http://{address}:{int(probe['httpGet']['port'])}{probe['httpGet'].get('path', '/')}"
            async with session.get(url, timeout=wait) as answer:
                return None if answer.status < 400 else f"HTTP probe failed with statuscode: {answer.status}"
        _, writer = await asyncio.wait_for(asyncio.open_connection(address, int(probe["tcpSocket"]["port"])), wait.total)
        writer.close()
        return None
    except (OSError, aiohttp.ClientError, asyncio.TimeoutError) as problem:
        return str(problem) or type(problem).__name__


def pause(probe: Object, *, passed_before: bool) -> float:
    """Seconds to the next look."""
    period = float(probe.get("periodSeconds", 10))
    return period if passed_before else min(_EAGER, period)
