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

EXAMPLE = Path(__file__).parents[2] / "examples" / "hw_faults"
SPECS = EXAMPLE / "specs"
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


def put_example(suite: Any) -> None:
    """examples/hw_faults, as a suite."""
    for path in EXAMPLE.rglob("*"):
        if path.suffix in (".py", ".yaml"):
            suite.file(str(path.relative_to(EXAMPLE)), path.read_text())


def check_ten_phases(suite: Any, kubeconfig: Path) -> None:
    """They pass on that cluster, and nothing is said of the test."""
    put_example(suite)
    suite.env["KUBECONFIG"] = str(kubeconfig)
    run = suite.run("test_hw_faults.py", "--enable-hw-faults", "--hf-backend=kubernetes", "--namespace=phases")
    assert run.code == 0 and set(run.verdicts.values()) == {"passed"} and len(run.verdicts) == 1, run.output
    assert not any(run.notes.values()), run.notes
