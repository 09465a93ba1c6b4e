"""A worker: takes requests from NATS and does them on its GPUs. A call of CUDA that fails ends it, as it ends real engines."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Optional

import nats
from aiohttp import web

from holdfast.deploy.standin import place
from holdfast.deploy.standin.gpu import CudaError, Engine
from holdfast.deploy.standin.registry import Registry
from holdfast.deploy.standin.running import until_told


class Worker:
    def __init__(self, options: argparse.Namespace) -> None:
        self.role = "prefill" if options.is_prefill_worker or options.disaggregation_mode == "prefill" else "decode"
        self.model = options.model or options.model_path or "unknown"
        self.devices = options.tensor_parallel_size
        self.requests = 0
        # One thread, as engines have one for their device.
        self._thread = ThreadPoolExecutor(1)
        self._engine: Optional[Engine] = None
        self.app = web.Application()
        self.app.add_routes([web.get("/health", self._health), web.get("/live", self._health), web.get("/metrics", self._metrics)])

    async def load(self) -> None:
        """Raises CudaError."""
        self._engine = await asyncio.get_running_loop().run_in_executor(self._thread, Engine, self.devices)
        print(
            f"{self.role} worker for {self.model} on {self.devices} GPU(s) of {os.environ.get('CUDA_VISIBLE_DEVICES', 'all')}",
            flush=True,
        )

    async def _health(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "ready", "role": self.role, "model": self.model})

    async def _metrics(self, request: web.Request) -> web.Response:
        return web.Response(text=f'dynamo_component_requests_total{{role="{self.role}"}} {self.requests}\n')

    async def serve(self, message: Any) -> None:
        assert self._engine is not None
        try:
            asked = json.loads(message.data)
            prompt = str(asked.get("cache") or asked["prompt"]).encode()
            tokens = 1 if self.role == "prefill" else int(asked["tokens"])
        except (ValueError, KeyError, TypeError) as problem:
            await message.respond(json.dumps({"error": f"not a request: {problem!r}"}).encode())
            return
        self.requests += 1
        try:
            result = (await asyncio.get_running_loop().run_in_executor(self._thread, self._engine.generate, prompt, tokens)).hex()
        except CudaError as problem:
            print(f"engine dead: {problem}", file=sys.stderr, flush=True)
            await message.respond(json.dumps({"error": str(problem)}).encode())
            await message._client.flush()
            os._exit(1)
        await message.respond(json.dumps({"cache": result} if self.role == "prefill" else {"text": result}).encode())


async def _main(options: argparse.Namespace) -> None:
    worker = Worker(options)
    try:
        await worker.load()
    except CudaError as problem:
        sys.exit(f"the engine cannot begin: {problem}")
    async with Registry() as registry:
        bus = await nats.connect(place.required("NATS_SERVER"), max_reconnect_attempts=-1, connect_timeout=5)
        subject = f"dynamo.{place.namespace()}.{place.pod()}"
        await bus.subscribe(subject, cb=worker.serve)
        await bus.flush()
        await registry.announce({"pod": place.pod(), "role": worker.role, "model": worker.model, "subject": subject})
        await until_told(worker.app, int(os.environ.get("DYN_SYSTEM_PORT", "9090")))
        await bus.drain()


def main() -> None:
    parser = argparse.ArgumentParser(prog=sys.argv[0], allow_abbrev=False)
    parser.add_argument("--model")
    parser.add_argument("--model-path")
    parser.add_argument("--is-prefill-worker", action="store_true")
    parser.add_argument("--disaggregation-mode", choices=("prefill", "decode", "agg"), default="agg")
    parser.add_argument("--tensor-parallel-size", "--tp", "--tp-size", type=int, default=1)
    # Engines have hundreds of options; a stand-in minds those that it can imitate.
    options, _ = parser.parse_known_args()
    asyncio.run(_main(options))
