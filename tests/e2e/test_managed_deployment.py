"""ManagedDeployment on the local cluster: real etcd, NATS and worker processes, and whatever happens nothing is left."""

from __future__ import annotations

import asyncio
import copy
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from deployments import LIMIT, SPECS, ask, do, spec, there, url_of, wait_for, worker

from holdfast.deploy import (
    ApiError,
    BadSpec,
    DeployError,
    DeploymentSpec,
    ManagedDeployment,
    NameTaken,
    NotEntered,
    WaitFailed,
    local,
)  # fmt: skip
from holdfast.deploy.api import Api
from holdfast.deploy.kinds import NAMESPACE, POD, SECRET, STATEFUL_SET, Kind
from holdfast.deploy.local import groups
from holdfast.procs import is_running


@pytest.fixture
def kept(kube: local.Local) -> Iterator[str]:
    """A namespace that no deployment has made."""
    do(kube, lambda api: api.create(NAMESPACE, {"metadata": {"name": "kept"}}))
    yield "kept"
    assert "kept" in there(kube, NAMESPACE) and not there(kube, STATEFUL_SET, "kept")
    do(kube, lambda api: api.delete(NAMESPACE, "", "kept"))
    wait_for(lambda: "kept" not in there(kube, NAMESPACE))


def deployment(kube: local.Local, folder: Path, made: DeploymentSpec | None = None, **more: Any) -> ManagedDeployment:
    return ManagedDeployment(folder / "logs", made or spec(), more.pop("namespace", "ns"), cluster=kube, **more)


def test_it_works_and_leaves_its_logs_and_nothing_else(kube, tmp_path):
    async def main() -> None:
        async with deployment(kube, tmp_path) as d:
            assert d.get_deployment_status()["state"] == "successful"
            pods = d.get_pods()
            assert [len(pods[name]) for name in ("Frontend", "VllmDecodeWorker", "VllmPrefillWorker")] == [1, 1, 1]
            assert all(pod.ready and pod.phase == "Running" and pod.node and not pod.restarts for one in pods.values() for pod in one)
            url = url_of(d)
            status, said = ask(url)
            assert status == 200 and said["choices"][0]["message"]["content"] and said["usage"]["completion_tokens"] == 2
            assert said["served_by"] == [worker(d, "VllmPrefillWorker").name, worker(d).name]
            assert ask(url)[1]["choices"] == said["choices"]  # The same prompt, the same answer.
            assert ask(url, model="nobody/x")[0] == 404 and ask(url, messages=7)[0] == 400
            with urllib.request.urlopen(f"{url}/v1/models", timeout=LIMIT) as answer:
                assert [one["id"] for one in json.load(answer)["data"]] == ["Qwen/Qwen3-0.6B"]
            assert {"dynamo-platform-nats-0", "dynamo-platform-etcd-0"} <= set(there(kube, POD, "ns"))
            assert d.get_service()["spec"]["clusterIP"] and "ns" in there(kube, NAMESPACE)
            assert (
                "decode worker" in worker(d).logs() and worker(d).exec(["sh", "-c", "echo $DYN_COMPONENT"])[1] == "VllmDecodeWorker\n"
            )
        with pytest.raises(NotEntered):
            d.get_pods()

    asyncio.run(main())
    logs = tmp_path / "logs"
    pod = next((logs / "VllmDecodeWorker").glob("*.yaml")).stem
    assert "decode worker" in (logs / "VllmDecodeWorker" / f"{pod}.log").read_text()
    assert "dynamo_component_requests_total" in (logs / "VllmDecodeWorker" / f"{pod}.metrics.log").read_text()
    assert f"{pod} is ready on node-" in (logs / "VllmDecodeWorker" / f"{pod}.status.log").read_text()
    assert (
        "Started" in (logs / "VllmDecodeWorker" / f"{pod}.events.log").read_text() and "Scheduled" in (logs / "events.log").read_text()
    )
    assert DeploymentSpec(logs / "deployment.yaml").name == "d"
    what = [json.loads(line)["what"] for line in (logs / "timeline.jsonl").read_text().splitlines()]
    assert what == ["platform ready", "deployment ready", "removed"]


def test_logs_are_there_when_the_test_has_failed_and_its_error_is_not_hidden(kube, tmp_path, monkeypatch):
    monkeypatch.setenv("DYN_TEST_OUTPUT_PATH", str(tmp_path / "out"))

    async def main() -> None:
        async with ManagedDeployment("here", spec(), "ns", cluster=kube):
            raise ValueError("of the test")

    with pytest.raises(ValueError, match="of the test"):
        asyncio.run(main())
    assert (
        list((tmp_path / "out" / "here" / "VllmDecodeWorker").glob("*.log"))
        and "of the test" in (tmp_path / "out/here/timeline.jsonl").read_text()
    )


def test_cancelled_it_is_removed_all_the_same(kube, tmp_path):
    async def main() -> None:
        entered = asyncio.Event()

        async def use() -> None:
            async with deployment(kube, tmp_path):
                entered.set()
                await asyncio.sleep(99)

        task = asyncio.ensure_future(use())
        await entered.wait()
        task.cancel()
        for _ in range(5):  # On its way out it is cancelled once more.
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


def test_cancelled_while_it_waits_to_be_ready(kube, tmp_path):
    made = spec()
    made.set_tensor_parallel(16)  # More than there are: never ready.

    async def main() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(deployment(kube, tmp_path, made).__aenter__(), 2)

    asyncio.run(main())


def killed(folder: Path, at: str, environment: dict[str, str]) -> None:
    """A test's process that is killed with SIGKILL at that point."""
    program = f"""
import asyncio, os, signal, sys
from holdfast.deploy import *
import holdfast.deploy.managed as managed
def die(*a): os.kill(os.getpid(), signal.SIGKILL)
async def main():
    at = {at!r}
    if at == "deploying": managed.Timeline.note = lambda self, what, **k: die() if what == "platform ready" else None
    spec = DeploymentSpec({str(SPECS / "vllm.yaml")!r})
    async with ManagedDeployment({str(folder / "logs")!r}, spec, "ns", enable_hw_faults=True) as d:
        await d.setup_cuda_passthrough(79)
        await d.toggle_cuda_faults(True)
        await d.inject_hw_fault()
        die()
asyncio.run(main())
"""
    process = subprocess.run([sys.executable, "-c", program], env={**os.environ, **environment}, timeout=60)
    assert process.returncode == -signal.SIGKILL


def marked_processes(mark: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal() and mark.encode() in (entry / "environ").read_bytes() and is_running(int(entry.name)):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


@pytest.mark.parametrize("at", ["deploying", "broken"])
def test_killed_with_a_cluster_of_its_own_nothing_runs_on(tmp_path, at):
    (tmp_path / "tmp").mkdir()
    # Its cluster's files are below that, and its processes run there.
    killed(tmp_path, at, {"TMPDIR": str(tmp_path / "tmp")})
    wait_for(lambda: not [pid for pid in marked_processes(str(tmp_path)) if pid != os.getpid()])


def test_two_at_once_do_not_see_each_other(kube, tmp_path):
    async def main() -> None:
        async with (
            deployment(kube, tmp_path / "a", namespace="ns-a") as a,
            deployment(kube, tmp_path / "b", namespace="ns-b") as b,
        ):
            assert not set(a.get_pod_names()) & set(b.get_pod_names())
            gpus = {
                (pod.node, pod.exec(["sh", "-c", "echo $CUDA_VISIBLE_DEVICES"])[1])
                for d in (a, b)
                for pod in (worker(d), worker(d, "VllmPrefillWorker"))
            }
            assert len(gpus) == 4
            for d in (a, b):
                assert set(ask(url_of(d))[1]["served_by"]) <= set(d.get_pod_names())

    asyncio.run(main())


def test_one_namespace_for_two_and_a_name_that_is_taken(kube, tmp_path):
    async def main() -> None:
        async with deployment(kube, tmp_path, spec(name="one")) as one:
            with pytest.raises(NameTaken, match="there is a deployment one in the namespace ns already"):
                await deployment(kube, tmp_path / "x", spec(name="one")).__aenter__()
            async with deployment(kube, tmp_path / "y", spec(name="two"), skip_service_restart=True) as two:
                assert ask(url_of(two))[0] == 200
            # Neither the namespace nor the platform were the second's.
            assert ask(url_of(one))[0] == 200 and one.get_deployment_status()["state"] == "successful"

    asyncio.run(main())


def test_one_object_may_be_used_again_but_not_twice_at_once(kube, tmp_path):
    made = spec()
    again = deployment(kube, tmp_path, made)
    before = copy.deepcopy(made.spec())

    async def main() -> None:
        for _ in range(2):
            async with again:
                with pytest.raises(DeployError, match="d has been entered already"):
                    await again.__aenter__()
                assert ask(url_of(again))[0] == 200

    asyncio.run(main())
    assert made.spec() == {**before, "metadata": {**before["metadata"], "namespace": "ns"}}, "no marks are on what is the test's"


@pytest.mark.parametrize("kind", ["namespaces", "statefulsets", "dynamographdeployments"])
def test_cancelled_while_something_is_being_made(kube, tmp_path, monkeypatch, kind):
    """The request has reached the cluster, and nobody has heard its answer."""
    create = Api.create

    async def unheard(self: Api, what: Kind, thing: Any) -> Any:
        made = await create(self, what, thing)
        if what.plural == kind:
            raise asyncio.CancelledError
        return made

    monkeypatch.setattr(Api, "create", unheard)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(deployment(kube, tmp_path).__aenter__())


def test_a_namespace_that_is_there_stays_and_its_platform_is_begun_anew_or_left(kube, kept, tmp_path):
    def nats() -> str:
        return str(do(kube, lambda api: api.get(POD, "kept", "dynamo-platform-nats-0"))["metadata"]["uid"])

    async def main() -> None:
        async with deployment(kube, tmp_path, spec(name="one"), namespace="kept"):
            before = nats()
            async with deployment(kube, tmp_path / "x", spec(name="two"), namespace="kept", skip_service_restart=True):
                assert nats() == before
            async with deployment(kube, tmp_path / "y", spec(name="two"), namespace="kept") as two:
                assert nats() != before
                assert ask(url_of(two))[0] == 200
            set_now = do(kube, lambda api: api.get(STATEFUL_SET, "kept", "dynamo-platform-nats"))
            assert set_now["spec"]["replicas"] == 1

    asyncio.run(main())


@pytest.mark.parametrize(
    "change, words",
    [
        (
            lambda s: s.set_image("nvcr.io/no/such:1"),
            ("ErrImageNeverPull", 'the image "nvcr.io/no/such:1" is not there', "it cannot come"),
        ),
        (lambda s: s.set_tensor_parallel(16), ("Insufficient nvidia.com/gpu", "FailedScheduling", "waited 3 s")),
        (lambda s: s["VllmDecodeWorker"].raw.update(envFromSecret="hf-token"), ('secret "hf-token" not found', "waited 3 s")),
        (lambda s: s["VllmDecodeWorker"].container.update(command=["false"]), ("main has ended with 1", "0 of 1 pods are ready")),
        (lambda s: s["VllmDecodeWorker"].container.update(env="x"), ("the operator has refused it",)),
        (
            lambda s: s["VllmDecodeWorker"].container.update(volumeMounts=["x"]),
            ("the operator has refused it", "is no list of mappings"),
        ),
        (lambda s: s.set_service_env_var("VllmDecodeWorker", "ETCD_ENDPOINTS", "http://127.0.0.1:9"), ("0 of 1 pods are ready",)),
    ],
)
def test_what_never_gets_ready_says_why_and_is_removed(kube, tmp_path, change, words):
    made = spec()
    change(made)
    with pytest.raises(WaitFailed) as raised:
        asyncio.run(deployment(kube, tmp_path, made, ready_timeout=3).__aenter__())
    assert all(word in str(raised.value) for word in ("waited", "d to be ready", *words)), raised.value
    assert isinstance(raised.value, TimeoutError) and "Traceback" not in str(raised.value)
    made_pods = words != ("the operator has refused it",)
    assert (tmp_path / "logs" / "events.log").exists() and bool(list((tmp_path / "logs").rglob("*.status.log"))) == made_pods


def test_a_service_without_the_memory_that_it_needs_says_so(kube, tmp_path):
    made = spec()
    made["VllmDecodeWorker"].raw["resources"]["limits"]["memory"] = "4Mi"
    probe = groups.Cluster()
    limited = probe.group.limit(1 << 30)
    probe.close()
    if not limited:  # Then the limit does not hold, and that is what must be said.
        check_said(kube, tmp_path, made)
        return
    with pytest.raises(WaitFailed, match=r"main has ended with 137 \(OOMKilled\)"):
        asyncio.run(deployment(kube, tmp_path, made, ready_timeout=3).__aenter__())


def check_said(kube, tmp_path, made) -> None:
    async def main() -> None:
        async with deployment(kube, tmp_path, made):
            pass

    asyncio.run(main())
    assert "NotLimited" in (tmp_path / "logs" / "events.log").read_text()


def test_a_secret_that_is_there_is_used(kube, kept, tmp_path):
    do(kube, lambda api: api.create(SECRET, {"metadata": {"name": "hf", "namespace": "kept"}, "data": {"HF_TOKEN": "dG9rZW4="}}))
    made = spec()
    made["VllmDecodeWorker"].raw["envFromSecret"] = "hf"

    async def main() -> None:
        async with deployment(kube, tmp_path, made, namespace="kept") as d:
            assert worker(d).exec(["sh", "-c", "echo $HF_TOKEN"])[1] == "token\n"

    asyncio.run(main())


def test_a_worker_that_is_killed_is_begun_again(kube, tmp_path):
    async def main() -> None:
        async with deployment(kube, tmp_path) as d:
            url, pod = url_of(d), worker(d)
            process = next(one for one in d.get_processes(pod) if "dynamo.vllm" in one.command)
            process.kill()
            process.wait(timeout=10)
            wait_for(lambda: ask(url)[0] >= 500)
            await d.wait_for_ready(timeout=LIMIT)
            wait_for(lambda: worker(d).restarts == 1 and ask(url)[0] == 200)
            assert worker(d).name == pod.name
            pod.refresh()
            assert pod.restarts == 1 and "decode worker" in pod.logs(previous=True)
            with pytest.raises(ApiError, match="no such process of this pod"):
                process.kill()
            # Nor is a process of others one of this pod's, whatever its number.
            process.pid = os.getpid()
            with pytest.raises(ApiError, match="no such process of this pod"):
                process.kill()

    asyncio.run(main())
    assert list((tmp_path / "logs" / "VllmDecodeWorker").glob("*.previous.log"))


def test_a_worker_that_stands_still_fails_requests_until_it_goes_on(kube, tmp_path):
    async def main() -> None:
        async with deployment(kube, tmp_path) as d:
            url = url_of(d)
            process = next(one for one in d.get_processes(worker(d, "VllmPrefillWorker")) if "dynamo.vllm" in one.command)
            process.kill("SIGSTOP")
            status, said = ask(url)
            assert status >= 503, said
            await d.wait_for_unready(timeout=LIMIT)
            process.kill(signal.SIGCONT)
            await d.wait_for_ready(timeout=LIMIT)
            wait_for(lambda: ask(url)[0] == 200)
            with pytest.raises(WaitFailed, match=f"process {process.pid} of pod"):
                process.wait(timeout=0.2)

    asyncio.run(main())


def test_a_pod_that_is_deleted_comes_back_as_another(kube, tmp_path):
    async def main() -> None:
        async with deployment(kube, tmp_path) as d:
            before = worker(d)
            before.delete()
            wait_for(lambda: before.name not in d.get_pod_names())
            await d.wait_for_all_pods_ready(timeout=LIMIT)
            assert worker(d).name != before.name and ask(url_of(d))[0] == 200
            with pytest.raises(ApiError, match="not found"):
                before.refresh()

    asyncio.run(main())


def test_a_rolling_upgrade_replaces_one_pod_after_the_other(kube, tmp_path):
    async def main() -> None:
        async with deployment(kube, tmp_path, spec(VllmDecodeWorker=2)) as d:
            before, others = set(d.get_pod_names("VllmDecodeWorker")), set(d.get_pod_names("Frontend"))
            await d.trigger_rolling_upgrade(["VllmDecodeWorker"])
            lowest, deadline = 2, time.monotonic() + LIMIT
            while not (
                set(d.get_pod_names("VllmDecodeWorker")).isdisjoint(before) and d.get_deployment_status().get("state") == "successful"
            ):
                lowest = min(lowest, sum(pod.ready for pod in d.get_pods("VllmDecodeWorker")["VllmDecodeWorker"]))
                assert time.monotonic() < deadline
                await asyncio.sleep(0.01)
            await d.wait_for_ready(timeout=LIMIT)
            after = d.get_pods("VllmDecodeWorker")["VllmDecodeWorker"]
            assert len(after) == 2 and lowest >= 1 and set(d.get_pod_names("Frontend")) == others
            assert all("TEST_ROLLING_UPDATE_TRIGGER" in pod.exec(["env"])[1] for pod in after)

    asyncio.run(main())


def test_names_and_ports_that_are_not_there(kube, tmp_path):
    async def main() -> None:
        async with deployment(kube, tmp_path) as d:
            with pytest.raises(BadSpec, match="there is no service 'Nobody'; there are Frontend"):
                d.get_pods("Nobody")
            with pytest.raises(DeployError, match="there is no node nowhere; there are node-1, node-2"):
                d.get_node("nowhere")
            with pytest.raises(DeployError, match="there is no Service d-vllmdecodeworker"):
                d.get_service("VllmDecodeWorker")
            with pytest.raises(ApiError, match=f"port 9 of pod {worker(d).name}"):
                d.port_forward(worker(d), 9, max_connection_attempts=2)
            with pytest.raises(NotEntered, match="enable_hw_faults=True"):
                await d.setup_cuda_passthrough()
            with pytest.raises(ApiError, match="has ended with 3: oh"):
                worker(d).exec(["sh", "-c", "echo oh >&2; exit 3"])
            with d.port_forward(worker(d), 9090) as forward, urllib.request.urlopen(f"{forward.url}/health", timeout=LIMIT) as answer:
                assert json.load(answer)["role"] == "decode"
            with pytest.raises(OSError):
                urllib.request.urlopen(f"{forward.url}/health", timeout=LIMIT)

    asyncio.run(main())


def test_a_cluster_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setenv("HOLDFAST_CLUSTER", str(tmp_path))
    with pytest.raises(DeployError, match="no local cluster has its files there"):
        asyncio.run(ManagedDeployment(tmp_path, spec(), "ns").__aenter__())


def test_the_cluster_of_the_environment_is_used(kube, tmp_path, monkeypatch):
    monkeypatch.setenv("HOLDFAST_CLUSTER", str(kube.folder))

    async def main() -> None:
        async with ManagedDeployment(tmp_path, spec(), "ns"):
            assert "ns" in there(kube, NAMESPACE)

    asyncio.run(main())


def test_a_cluster_that_dies_meanwhile_is_an_error_not_a_hang(tmp_path):
    async def main() -> None:
        with local.cluster() as own:
            async with deployment(own, tmp_path) as d:
                os.kill(own.pid, signal.SIGKILL)
                with pytest.raises(WaitFailed, match="what is seen may be old"):
                    await d.wait_for_unready(timeout=1)

    with pytest.raises(DeployError, match="could not be removed as it should"):
        asyncio.run(asyncio.wait_for(main(), 60))
