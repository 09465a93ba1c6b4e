"""Hardware faults of deployments: each does what it says, is matched to what came of it, and is put back as it was found.

Named after upstream's defects where that had one (shared facts, dynamo.md J3; its number is in the test's first line).
"""

from __future__ import annotations

import asyncio
import copy
import json
from pathlib import Path
from typing import Any

import pytest
from deployments import LIMIT, ask, do, put_example, spec, url_of, wait_for, worker

from holdfast.deploy import DeployError, ManagedDeployment, NotEntered, WaitFailed, local
from holdfast.deploy.controllers import sentinel
from holdfast.deploy.kinds import GRAPH, NODE, condition, labels_of
from holdfast.faults import BadFault, FaultNotSeen


def faulty(kube: local.Local, folder: Path, made: Any = None, **config: Any) -> ManagedDeployment:
    return ManagedDeployment(folder / "logs", made or spec(), "ns", cluster=kube, enable_hw_faults=True, hw_fault_config=config or None)


def node(kube: local.Local, name: str) -> dict[str, Any]:
    return do(kube, lambda api: api.get(NODE, "", name))


def graph(kube: local.Local) -> dict[str, Any]:
    return do(kube, lambda api: api.get(GRAPH, "ns", "d"))


async def broken(d: ManagedDeployment, xid: int = 79) -> str:
    await d.setup_cuda_passthrough(xid)
    await d.toggle_cuda_faults(True)
    return await d.inject_hw_fault("xid", xid)


@pytest.mark.parametrize("backend", ["vllm", "sglang", "trtllm"])
def test_the_ten_phases(suite, backend):
    """6: the services of all three are patched, not those of two names alone."""
    put_example(suite)
    run = suite.run("test_hw_faults.py", "--enable-hw-faults", f"--hw-fault-backend={backend}", "--namespace=phases")
    assert run.code == 0 and set(run.verdicts.values()) == {"passed"}, run.output
    assert not any(run.notes.values()), run.notes


def test_what_is_broken_is_proved_and_given_back(kube, tmp_path):
    """1, 2: what was injected is recovered. 7, 8: nothing stays in the specification. 14: proof is counted calls and a marked line."""
    before = spec()

    async def main() -> None:
        async with faulty(kube, tmp_path) as d:
            fault = await broken(d)
            target = d.get_hw_fault_target_node()
            assert all(worker(d, name).node == target for name in ("VllmDecodeWorker", "VllmPrefillWorker"))
            assert "libfaultshim.so" in worker(d).exec(["sh", "-c", "echo $LD_PRELOAD"])[1]
            status, said = ask(url_of(d))
            assert status == 500 and "CUDA_ERROR_NO_DEVICE" in said["error"]["message"]
            event = await d.wait_for_node_cordon(timeout=LIMIT)
            line = (await d.hw_fault_manager.verify(fault))["evidence"]["kernel_log"]["line"]
            assert (
                event["message"] == line
                and "[holdfast " in line
                and event["nodeName"] == target
                and event["recommendedAction"] == "RESTART_BM"
            )
            there = node(kube, target)
            assert labels_of(there)["k8saas.nvidia.com/cordon-by"] == "NVSentinel" and d.is_node_cordoned()
            assert condition(there, "SysLogsXIDError")["status"] == "True"
            assert json.loads(there["metadata"]["annotations"]["quarantineHealthEvent"]) == [event]
            await d.cleanup_cuda_spec_without_restart()
            now = copy.deepcopy(graph(kube)["spec"])
            assert now.pop("updateStrategy") == {"type": "OnDelete"} and now == before.spec()["spec"]
            await d.toggle_cuda_faults(False)
            assert await d.wait_for_pods_on_healthy_nodes(target, timeout=LIMIT)
            assert labels_of(node(kube, target))[sentinel.STATE] in ("draining", "drain-succeeded")
            assert "LD_PRELOAD" not in worker(d).exec(["env"])[1] and ask(url_of(d))[0] == 200
            wait_for(lambda: labels_of(node(kube, target))[sentinel.STATE] == "drain-succeeded")

    asyncio.run(main())
    entries = [json.loads(line) for line in (tmp_path / "logs" / "timeline.jsonl").read_text().splitlines()]
    what = [entry["what"] for entry in entries]
    # 16: calls fail before the line is written, and the order is on record.
    assert (
        what.index("CUDA faults on")
        < what.index("XID injected")
        < what.index("node cordoned")
        < what.index("CUDA faults off")
        < what.index("node given back")
    )
    off = next(entry for entry in entries if entry["what"] == "CUDA faults off")
    assert sum(one["evidence"]["struck"] for one in off["evidence"]) > 0


def test_left_broken_everything_is_put_back(kube, tmp_path):
    """J2: order of the clean-up, in one go, with the passthrough and the faults still there."""

    async def main() -> None:
        async with faulty(kube, tmp_path) as d:
            await broken(d)
            ask(url_of(d))
            await d.wait_for_node_cordon(timeout=LIMIT)
            raise KeyError("of the test")

    with pytest.raises(KeyError):
        asyncio.run(main())


def test_pods_that_crash_again_and_again_are_evicted_too(kube, tmp_path):
    """17: with the faults on all the time, nothing on the broken node is ever ready."""

    async def main() -> None:
        async with faulty(kube, tmp_path) as d:
            await broken(d)
            target = d.get_hw_fault_target_node()
            ask(url_of(d))
            old = set(d.get_pod_names("VllmPrefillWorker"))
            wait_for(lambda: any(pod.restarts and not pod.ready for pod in d.get_pods()["VllmPrefillWorker"]))
            await d.cleanup_cuda_spec_without_restart()
            await d.wait_for_pods_on_healthy_nodes(target, timeout=LIMIT)
            assert old.isdisjoint(d.get_pod_names("VllmPrefillWorker")) and ask(url_of(d))[0] == 200

    asyncio.run(main())


def test_a_node_that_somebody_else_has_cordoned_stays_so(kube, tmp_path):
    """J2: not what is found is undone, but what was done."""

    def cordon(value: Any) -> None:
        do(kube, lambda api: api.patch(NODE, "", "node-2", {"spec": {"unschedulable": value}}))

    async def main() -> None:
        async with faulty(kube, tmp_path) as d:
            await d.hw_fault_manager.inject_xid_fault(79, node="node-2")
            with pytest.raises(WaitFailed, match=r"node-1 to be cordoned for our fault: nothing was injected on node-1"):
                await d.wait_for_node_cordon("node-1", timeout=1)
            event = await d.wait_for_node_cordon("node-2", timeout=LIMIT)
            assert event["errorCode"] == ["79"]

    cordon(True)
    try:
        asyncio.run(main())
        after = node(kube, "node-2")
        assert (
            after["spec"] == {"unschedulable": True}
            and sentinel.STATE not in labels_of(after)
            and not after["metadata"].get("annotations")
        )
    finally:
        cordon(None)


def test_a_real_fault_beside_ours_keeps_the_node_in_quarantine(kube, tmp_path):
    log = kube.folder / "node-2" / "root" / "var" / "log" / "kernel.log"

    async def main() -> None:
        async with faulty(kube, tmp_path) as d:
            await d.hw_fault_manager.inject_xid_fault(79, node="node-2")
            await d.wait_for_node_cordon("node-2", timeout=LIMIT)
            with log.open("a") as file:
                file.write("NVRM: Xid (PCI:0000:02:00): 48, DBE (Double Bit Error) ECC Error\n")
            wait_for(lambda: "Double Bit" in node(kube, "node-2")["metadata"]["annotations"]["quarantineHealthEvent"])

    asyncio.run(main())
    after = node(kube, "node-2")
    events = json.loads(after["metadata"]["annotations"]["quarantineHealthEvent"])
    assert after["spec"]["unschedulable"] and condition(after, sentinel.CHECK)["status"] == "True"
    assert [event["errorCode"] for event in events] == [["48"]]
    # An operator brings it back: the quarantine takes its marks off by itself.
    do(kube, lambda api: api.patch(NODE, "", "node-2", {"spec": {"unschedulable": None}}))
    wait_for(
        lambda: (
            sentinel.STATE not in labels_of(node(kube, "node-2"))
            and condition(node(kube, "node-2"), sentinel.CHECK)["status"] == "False"
        )
    )


def test_where_no_cordon_can_come_nobody_waits(kube, tmp_path):
    async def main() -> None:
        async with faulty(kube, tmp_path, target_node="node-1") as d:
            await d.inject_hw_fault("xid", 94)
            with pytest.raises(WaitFailed, match="the remedy is to start the program again, so no node is cordoned for it"):
                await d.wait_for_node_cordon(timeout=99)
            assert not d.is_node_cordoned("node-1")

    asyncio.run(main())


def test_a_cordon_for_others_is_not_ours(kube, tmp_path):
    """14: a node that is cordoned by anyone is no proof."""

    def node_1(label: Any, unschedulable: Any) -> None:
        patch = {"metadata": {"labels": {sentinel.UNMANAGED: label}}, "spec": {"unschedulable": unschedulable}}
        do(kube, lambda api: api.patch(NODE, "", "node-1", patch))

    async def main() -> None:
        async with faulty(kube, tmp_path, target_node="node-1") as d:
            await d.inject_hw_fault("xid", 79)
            with pytest.raises(WaitFailed, match="node-1 is cordoned, but not for our faults"):
                await d.wait_for_node_cordon(timeout=0.5)
        # Where nobody quarantines it is the node's condition alone that there is to be taken back.
        assert condition(node(kube, "node-1"), sentinel.CHECK)["status"] == "False"

    node_1("false", True)
    try:
        asyncio.run(main())
        assert node(kube, "node-1")["spec"] == {"unschedulable": True}
    finally:
        node_1(None, None)


def test_faults_that_nobody_has_met_are_an_error(kube, tmp_path):
    """A fault without effect: a test that goes on has tested nothing."""

    async def main() -> None:
        async with faulty(kube, tmp_path) as d:
            with pytest.raises(NotEntered, match=r"needs setup_cuda_passthrough\(\) before it"):
                await d.toggle_cuda_faults(True)
            await d.setup_cuda_passthrough(79)
            await d.toggle_cuda_faults(True)
            with pytest.raises(FaultNotSeen, match="no call of any process has met them"):
                await d.toggle_cuda_faults(False)
            with pytest.raises(DeployError, match="the passthrough is set up already"):
                await d.setup_cuda_passthrough(79)

    asyncio.run(main())


def test_faults_go_on_and_off_without_a_new_start(kube, tmp_path):
    """4: enable_hw_faults without a configuration is enough. 9: what a fault lasts is what it was given."""

    async def main() -> None:
        async with faulty(kube, tmp_path) as d:
            await d.setup_cuda_passthrough()
            names, url = set(d.get_pod_names()), url_of(d)
            for _ in range(2):
                await d.toggle_cuda_faults(True)
                assert ask(url)[0] >= 500
                await d.toggle_cuda_faults(False)
                wait_for(lambda: ask(url)[0] == 200)
            assert set(d.get_pod_names()) == names
            client = d.hw_fault_manager.client()
            fault = await asyncio.to_thread(lambda: client.inject("gpu", fault_type="throttle", gpu_id=0, duration=0.1))
            wait_for(lambda: fault not in [one["fault_id"] for one in client.faults(active_only=True)])

    asyncio.run(main())


def test_what_is_in_the_way_of_the_passthrough_is_kept(kube, tmp_path):
    """7, 8: a pod that preloads something already, and twice the same is once."""
    made = spec()
    container = made["VllmDecodeWorker"].container
    container["env"] = [{"name": "LD_PRELOAD", "value": "libc.so.6"}, {"name": "MINE", "value": "1"}]
    container["volumeMounts"] = [{"name": "v", "mountPath": "/v"}]
    made["VllmDecodeWorker"].pod_spec["volumes"] = [{"name": "v", "emptyDir": {}}]
    made.spec()["spec"]["updateStrategy"] = {"rollingUpdate": {"maxUnavailable": 1}}
    before = copy.deepcopy(made.spec()["spec"])

    async def main() -> None:
        async with faulty(kube, tmp_path, made) as d:
            await d.setup_cuda_passthrough(79, target_node="node-1")
            env = worker(d).exec(["env"])[1]
            assert "MINE=1" in env and "libfaultshim.so:libc.so.6\n" in env and worker(d).node == "node-1"
            await d.remove_node_affinity(delete_pods=False)
            assert "affinity" not in graph(kube)["spec"]["services"]["VllmDecodeWorker"]["extraPodSpec"]
            await d.hw_fault_manager.cleanup()
            assert graph(kube)["spec"] == before

    asyncio.run(main())


@pytest.mark.parametrize(
    "config, words",
    [
        ({"service_names": ["Nobody"]}, "service_names: the deployment has no 'Nobody'; it has Frontend"),
        ({"target_node": "nowhere"}, "the node nowhere has no fault service; these have: node-1, node-2"),
        ({"enabled": False}, "hardware faults are not enabled"),
        ({"xid_type": 12345}, "xid"),
    ],
)
def test_configurations_that_cannot_be(kube, tmp_path, config, words):
    async def main() -> None:
        async with faulty(kube, tmp_path, **config) as d:
            await d.setup_cuda_passthrough()

    with pytest.raises(Exception, match=words) as raised:
        asyncio.run(main())
    assert type(raised.value).__module__.startswith("holdfast.")


def test_a_key_that_is_none(kube, tmp_path):
    with pytest.raises(BadFault, match="hw_fault_config has no 'xid'; it has enabled, xid_type"):
        faulty(kube, tmp_path, xid=79)
    with pytest.raises(DeployError, match="fault_type 'heat': only xid"):

        async def main() -> None:
            async with faulty(kube, tmp_path, target_node="node-1") as d:
                await d.inject_hw_fault("heat")

        asyncio.run(main())


def test_a_gpu_is_the_nodes_whatever_a_pod_calls_it(kube, tmp_path):
    """The second of the node's GPUs is the first one that its pod sees."""

    async def main() -> None:
        async with faulty(kube, tmp_path) as d:
            await d.setup_cuda_passthrough(79)
            url = url_of(d)
            pod = next(
                pod
                for pods in d.get_pods().values()
                for pod in pods
                if pod.exec(["sh", "-c", "echo $CUDA_VISIBLE_DEVICES"])[1] == "1\n"
            )
            fault = await d.inject_hw_fault("xid", 79, gpu_id=1)
            status, said = ask(url)
            assert status == 500 and said["error"]["message"].startswith(pod.name)
            evidence = (await d.hw_fault_manager.verify(fault))["evidence"]
            assert evidence["struck"] and "PCI:0000:02:00" in evidence["kernel_log"]["line"]
            with pytest.raises(Exception, match="there is no GPU 2; they are 0 to 1"):
                await d.inject_hw_fault("xid", 79, gpu_id=2)

    asyncio.run(main())


# ---- the options


def test_suites_that_have_the_options_themselves_keep_them(suite):
    """As the document of Dynamo's framework tells everybody to write them."""
    suite.file(
        "conftest.py",
        """
import pytest
def pytest_addoption(parser):
    parser.addoption("--enable-hw-faults", action="store_true", default=False)
    parser.addoption("--namespace", default="theirs")
@pytest.fixture
def namespace(request): return "fixture:" + request.config.getoption("--namespace")
""",
    )
    suite.write(
        test_theirs="""
def test_it(namespace, hw_fault_backend, skip_service_restart, hw_fault_config):
    assert (namespace, hw_fault_backend, skip_service_restart) == ("fixture:theirs", "sglang", True)
    assert hw_fault_config == {"enabled": True, "xid_type": 79, "target_node": None}
"""
    )
    arguments = ("--enable-hw-faults", "--hw-fault-backend=sglang", "--skip-service-restart")
    assert suite.plain(*arguments).code == 0
    run = suite.run(*arguments)
    assert run.short() == {"test_it": "passed"}, run.output


def test_without_the_option_they_are_skipped(suite):
    suite.write(
        test_skips="""
def test_it(hw_fault_config): raise AssertionError
def test_namespace(namespace): assert namespace == "fault-tolerance"
"""
    )
    assert suite.run().short() == {"test_it": "skipped", "test_namespace": "passed"}
    bad = suite.run("--hw-fault-backend=nobody")
    assert bad.code == 4 and "--hw-fault-backend: invalid choice: 'nobody'" in bad.output


def test_the_fixture_of_a_cluster(suite):
    suite.write(
        test_mine="""
import asyncio, time
from holdfast.deploy import Api, WaitFailed
from holdfast.deploy.kinds import NODE
def test_it(local_cluster):
    async def main():
        async with Api(local_cluster.access) as api:
            return [node["metadata"]["name"] for node in (await api.list(NODE))[0]]
    assert asyncio.run(main()) == ["node-1", "node-2"]
"""
    )
    run = suite.run()
    assert run.short() == {"test_it": "passed"} and not any(run.notes.values()), run.output
