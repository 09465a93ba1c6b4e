"""Deployments for tests: what they are made of, requests to them, and a look at the cluster beside them."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable

from holdfast.deploy import Api, DeploymentSpec, ManagedDeployment, Pod, local
from holdfast.deploy.kinds import Kind, name_of

SPECS = Path(__file__).parents[2] / "examples" / "hw_faults" / "specs"
LIMIT = 30.0


def spec(**more: Any) -> DeploymentSpec:
    made = DeploymentSpec(SPECS / "vllm.yaml")
    made.name = more.pop("name", "d")
    made.set_dynamo_namespace(made.name)  # Otherwise two in one namespace would share their workers.
    for service, replicas in more.items():
        made.set_service_replicas(service, replicas)
    return made


def ask(url: str, model: str = "Qwen/Qwen3-0.6B", **body: Any) -> tuple[int, Any]:
    data = {"model": model, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 2, **body}
    request = urllib.request.Request(f"{url}/v1/chat/completions", json.dumps(data).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=LIMIT) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def url_of(deployment: ManagedDeployment) -> str:
    return deployment.port_forward(deployment.get_pods("Frontend")["Frontend"][0], 8000).url


def worker(deployment: ManagedDeployment, service: str = "VllmDecodeWorker") -> Pod:
    return deployment.get_pods(service)[service][0]


def wait_for(what: Callable[[], Any], seconds: float = LIMIT) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def do(cluster: local.Local, work: Callable[[Api], Any]) -> Any:
    """In a thread: a test's own loop may be running here."""

    async def run() -> Any:
        async with Api(cluster.access) as api:
            return await work(api)

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(run())).result(LIMIT)


def there(cluster: local.Local, kind: Kind, namespace: str = "") -> list[str]:
    return [name_of(thing) for thing in do(cluster, lambda api: api.list(kind, namespace))[0]]
