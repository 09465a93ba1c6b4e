"""The frontend: requests in OpenAI's form go to a prefill worker, if there are any, and then to a decode worker."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import time
import uuid
from collections import Counter
from typing import Any

import aiohttp
import nats
import nats.errors
from aiohttp import web

from holdfast.deploy.standin import place
from holdfast.deploy.standin.registry import Registry
from holdfast.deploy.standin.running import until_told

_ANSWER = 5.0  # Seconds that a worker may take.


class Failed(Exception):
    """`status` is HTTP's."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Frontend:
    def __init__(self, registry: Registry, bus: Any) -> None:
        self._registry, self._bus = registry, bus
        self._turns = itertools.count()
        self._counts: Counter[str] = Counter()
        self.app = web.Application()
        self.app.add_routes(
            [
                web.get("/health", self._health),
                web.get("/live", self._live),
                web.get("/v1/models", self._models),
                web.get("/metrics", self._metrics),
                web.post("/v1/chat/completions", self._chat),
                web.post("/v1/completions", self._chat),
            ]
        )

    async def _live(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "live"})

    async def _health(self, request: web.Request) -> web.Response:
        instances = await self._registry.present()
        return web.json_response({"status": "healthy", "instances": instances}, status=200 if self._bus.is_connected else 503)

    async def _models(self, request: web.Request) -> web.Response:
        models = sorted({one["model"] for one in await self._registry.present() if one["role"] != "prefill"})
        return web.json_response(
            {"object": "list", "data": [{"id": model, "object": "model", "owned_by": "holdfast"} for model in models]}
        )

    async def _metrics(self, request: web.Request) -> web.Response:
        lines = [f'dynamo_frontend_requests_total{{status="{status}"}} {count}\n' for status, count in sorted(self._counts.items())]
        return web.Response(text="".join(lines))

    async def _chat(self, request: web.Request) -> web.Response:
        begun = time.monotonic()
        try:
            body = await request.json()
            answer = await self._answer(body)
            status = 200
        except (ValueError, KeyError, TypeError, AttributeError) as problem:
            status, answer = 400, {"error": {"message": f"not a request for a completion: {problem!r}", "code": 400}}
        except Failed as failed:
            status, answer = failed.status, {"error": {"message": str(failed), "code": failed.status}}
            print(f"request failed after {time.monotonic() - begun:.3f} s: {failed}", flush=True)
        self._counts[str(status)] += 1
        return web.json_response(answer, status=status)

    async def _answer(self, body: dict[str, Any]) -> dict[str, Any]:
        prompt = body["prompt"] if "prompt" in body else "\n".join(message["content"] for message in body["messages"])
        try:
            present = await self._registry.present()
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as problem:
            raise Failed(503, f"etcd does not answer: {problem}") from None
        model = str(body["model"])
        mine = [one for one in present if one["model"] == model]
        if present and not mine:
            raise Failed(404, f"the model {model!r} is not here, only {sorted({one['model'] for one in present})}")
        prefill = [one for one in mine if one["role"] == "prefill"]
        told: dict[str, Any] = {"prompt": prompt, "tokens": int(body.get("max_tokens", 16))}
        workers: list[str] = []
        if prefill:
            told["cache"] = (await self._ask(prefill, told, workers))["cache"]
        answer = await self._ask([one for one in mine if one["role"] != "prefill"], told, workers)
        message = {"role": "assistant", "content": answer["text"]}
        usage = {
            "prompt_tokens": len(prompt.split()),
            "completion_tokens": told["tokens"],
            "total_tokens": len(prompt.split()) + told["tokens"],
        }
        return {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": model,
            "usage": usage,
            "choices": [{"index": 0, "message": message, "text": answer["text"], "finish_reason": "stop"}],
            "served_by": workers,
        }

    async def _ask(self, workers: list[dict[str, Any]], told: dict[str, Any], served: list[str]) -> dict[str, Any]:
        if not workers:
            raise Failed(503, "no worker is there for it")
        worker = workers[next(self._turns) % len(workers)]
        try:
            answer = json.loads((await self._bus.request(worker["subject"], json.dumps(told).encode(), timeout=_ANSWER)).data)
        except nats.errors.NoRespondersError:
            raise Failed(503, f"{worker['pod']} has gone") from None
        except (nats.errors.Error, asyncio.TimeoutError) as problem:
            raise Failed(504, f"{worker['pod']} does not answer: {problem or 'timeout'}") from None
        if "error" in answer:
            raise Failed(500, f"{worker['pod']}: {answer['error']}")
        served.append(worker["pod"])
        return dict(answer)


async def _main() -> None:
    async with Registry() as registry:
        bus = await nats.connect(place.required("NATS_SERVER"), max_reconnect_attempts=-1, connect_timeout=5)
        await until_told(Frontend(registry, bus).app, int(os.environ.get("DYN_HTTP_PORT", "8000")))
        await bus.close()


def main() -> None:
    asyncio.run(_main())
