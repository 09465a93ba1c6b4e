"""Serves until SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import signal

from aiohttp import web

from holdfast.deploy.standin import place


async def until_told(app: web.Application, port: int) -> None:
    ending = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ending.set)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, place.listen_on(), port).start()
        print(f"{place.pod()} serves port {port}", flush=True)
        await ending.wait()
    finally:
        await runner.cleanup()
