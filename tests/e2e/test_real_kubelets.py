"""Deployments on two real kubelets with real containers, whose images are made here: what is installed for them, the ten phases,
scenarios, and what only real nodes have: a node that dies, pods that are cut off."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from deployments import EXAMPLE, LIMIT, ask, check_ten_phases, do, spec, there, url_of, wait_for, worker
from kubelets import Kubelets, missing

from holdfast.deploy import DeployError, ManagedDeployment, access_from
from holdfast.deploy.archive import IMAGES, Image, write
from holdfast.deploy.controllers.sentinel import CHECK
from holdfast.deploy.hardware import fault_service
from holdfast.deploy.kinds import DEFINITION, GRAPH, NAMESPACE, NODE, POD, condition, is_ready, labels_of, name_of
from holdfast.deploy.local import Local
from holdfast.deploy.scenario import Event, Scenario, conditions, faults, run_scenario, steps
from holdfast.faults import ServiceError

OWN = {"default", "kube-system", "kube-public", "kube-node-lease"}
RUNTIMES = ("vllm-runtime", "sglang-runtime", "tensorrtllm-runtime")


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubelets]:
    if missing():
        pytest.skip(f"NOT RUN: {missing()}")
    folder = tmp_path_factory.mktemp("kubelets")
    pause = Image("docker.io/library/holdfast-pause:local", ("sleep", "infinity"))
    runtimes = (Image(f"nvcr.io/nvidia/ai-dynamo/{name}:0.7.0") for name in RUNTIMES)
    write(folder / "images.tar", (*IMAGES, pause, *runtimes))
    with Kubelets(folder).running([folder / "images.tar"]) as found:
        yield found


def deploy(machines: Kubelets, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "holdfast", "deploy", *words, "--kubeconfig", str(machines.kubeconfig)]
    return subprocess.run(command, capture_output=True, text=True, timeout=4 * LIMIT)


@pytest.fixture(scope="module")
def installed(machines: Kubelets) -> Local:
    done = deploy(machines, "install", "--gpus", "2x80GiB")
    assert done.returncode == 0, done
    cluster = Local(access_from(machines.kubeconfig), machines.folder, 0)
    wait_for(lambda: [one["status"]["allocatable"].get("nvidia.com/gpu") for one in nodes_of(cluster)] == ["2", "2"])
    return cluster


@pytest.fixture
def kube(installed: Local) -> Iterator[Local]:
    """Afterwards nothing of the test's is in it: neither things, nor marks on its nodes."""
    before = {name_of(node): set(labels_of(node)) for node in nodes_of(installed)}
    yield installed
    wait_for(lambda: set(there(installed, NAMESPACE)) - OWN == {"fault-injection-system"})
    assert not there(installed, GRAPH)
    for node in nodes_of(installed):
        assert set(labels_of(node)) == before[name_of(node)], node
        assert not node["spec"].get("unschedulable") and condition(node, CHECK).get("status") != "True", node


def nodes_of(cluster: Local) -> list[Any]:
    return list(do(cluster, lambda api: api.list(NODE))[0])


def test_what_is_installed_is_taken_away(machines):
    """Before the module's own installation."""
    bare = Local(access_from(machines.kubeconfig), machines.folder, 0)

    def names() -> tuple[set[str], set[str]]:
        return set(there(bare, DEFINITION)), set(there(bare, NAMESPACE)) - OWN

    assert names() == (set(), set())
    first = deploy(machines, "install")
    assert first.returncode == 0 and "DaemonSet holdfast-faultd: made" in first.stdout, first
    again = deploy(machines, "install")
    assert again.returncode == 0 and "DaemonSet holdfast-faultd: was there" in again.stdout and "made" not in again.stdout, again
    pods = do(bare, lambda api: api.list(POD, "fault-injection-system"))[0]
    assert len(pods) == 3 and all(is_ready(pod) for pod in pods)
    gone = deploy(machines, "uninstall")
    assert gone.returncode == 0 and "DaemonSet holdfast-faultd: removed" in gone.stdout, gone
    wait_for(lambda: names() == (set(), set()))
    missing_image = deploy(machines, "install", "--image", "nowhere.invalid/agent:1", "--seconds", "10")
    assert missing_image.returncode == 4 and "nowhere.invalid/agent:1" in missing_image.stderr, missing_image
    assert "Traceback" not in missing_image.stderr
    assert deploy(machines, "uninstall").returncode == 0
    wait_for(lambda: names() == (set(), set()))


def test_it_works_and_each_pod_has_its_gpu(kube, machines, tmp_path):
    async def main() -> None:
        async with ManagedDeployment(tmp_path / "logs", spec(), "ns", cluster=kube) as d:
            status, said = ask(url_of(d))
            assert status == 200 and set(said["served_by"]) <= set(d.get_pod_names()), said
            refused = await asyncio.to_thread(deploy, machines, "uninstall")
            assert refused.returncode == 4 and "there are deployments still (ns/" in refused.stderr, refused
            pods = [d.get_pods(name)[name][0] for name in ("VllmDecodeWorker", "VllmPrefillWorker")]
            devices = {(pod.node, pod.exec(["sh", "-c", "echo $CUDA_VISIBLE_DEVICES"])[1].strip()) for pod in pods}
            assert len(devices) == 2, devices
            assert all(pod.container_id.startswith("containerd://") for pod in pods)

    asyncio.run(main())


def test_the_ten_phases(kube, machines, suite):
    check_ten_phases(suite, machines.kubeconfig)


@pytest.mark.parametrize("name", ["gpu_lost", "overlap"])
def test_scenarios(kube, tmp_path, name):
    report = asyncio.run(run_scenario(EXAMPLE / "scenarios" / f"{name}.yaml", "ns", tmp_path / "logs", cluster=kube))
    assert report.passed and {fault.outcome for fault in report.faults} == {"effective"}


def scenario(fault: faults.Fault, *wanted: Event) -> Scenario:
    return Scenario(
        "one fault", spec(), [Event(steps.Inject(fault), "it"), *wanted, Event(steps.Heal("it")), Event(steps.Wait(conditions.Ready()))]
    )


@pytest.mark.parametrize(
    ("fault", "evidence"),
    [
        (faults.Kill("VllmDecodeWorker"), "ended"),
        (faults.Stall("VllmDecodeWorker"), "stopped"),
        (faults.Partition("VllmDecodeWorker"), "down"),
    ],
    ids=["killed", "stopped", "partitioned"],
)
def test_a_worker_is_struck_by_its_node(kube, tmp_path, fault, evidence):
    """Process 1 of a container hears neither SIGKILL nor SIGSTOP from inside."""
    wait = Event(steps.Wait(conditions.Unready()))
    report = asyncio.run(run_scenario(scenario(fault, wait), "ns", tmp_path / "logs", cluster=kube))
    assert report.passed and [fault.outcome for fault in report.faults] == ["effective"]
    assert evidence in str(report.faults[0].evidence), report.faults


def test_a_process_is_known_by_its_number_in_the_container(kube, tmp_path):
    async def main() -> None:
        async with ManagedDeployment(tmp_path / "logs", spec(), "ns", cluster=kube) as d:
            pod = worker(d)
            pid = int(pod.exec(["sh", "-c", "sleep 600 >/dev/null 2>&1 & echo $!"])[1])

            def state(number: int) -> str:
                return pod.exec(["sed", "s/.*) //; s/ .*//", f"/proc/{number}/stat"])[1].strip()

            with fault_service(d.connection, pod.node) as service:
                fault = service.inject("process", container=pod.container_id, pid=pid, action="stop")
                assert state(pid) == "T" and state(1) != "T" and service.verify(fault)["verified"]
                service.recover(fault)
                assert state(pid) != "T"
                with pytest.raises(ServiceError, match="no process 99999 in the container"):
                    service.inject("process", container=pod.container_id, pid=99999, action="stop")

    asyncio.run(main())


def cordon(cluster: Local, node: str, on: bool) -> None:
    do(cluster, lambda api: api.patch(NODE, "", node, {"spec": {"unschedulable": on or None}}))


def test_an_image_that_is_not_there(kube, tmp_path):
    wrong = spec()
    wrong.set_image("nowhere.invalid/standin:1", "VllmDecodeWorker")

    async def main() -> None:
        async with ManagedDeployment(tmp_path / "logs", wrong, "ns", cluster=kube, ready_timeout=10):
            raise AssertionError("entered")

    with pytest.raises(DeployError, match=r"ErrImagePull|ImagePullBackOff"):
        asyncio.run(main())


def test_a_node_dies(kube, machines, tmp_path):
    """Its pods come back on the other one, and when it lives again nothing of them is left there."""
    # Last: the kubelet that is begun here is this test's, and ends with it where holdfast's workers run these tests.
    here, there_ = machines.names

    async def main() -> None:
        # NATS and etcd are StatefulSets, which Kubernetes does not begin anew elsewhere while nobody knows whether they still run.
        cordon(kube, there_, True)
        async with ManagedDeployment(tmp_path / "logs", spec(), "ns", cluster=kube) as d:
            cordon(kube, there_, False)
            cordon(kube, here, True)
            worker(d).delete()
            await d.wait_for_unready(LIMIT)
            await d.wait_for_all_pods_ready(LIMIT)
            cordon(kube, here, False)
            assert worker(d).node == there_
            machines.kill_kubelet(there_)
            try:
                await d.wait_for_pods_on_healthy_nodes(exclude_node=there_, timeout=3 * LIMIT)
                assert {pod.node for pods in d.get_pods().values() for pod in pods} == {here}
                assert ask(url_of(d))[0] == 200
            finally:
                machines.begin_kubelet(there_)
            await asyncio.to_thread(wait_for, lambda: all(condition(one, "Ready").get("status") == "True" for one in nodes_of(kube)))

    asyncio.run(main())
