"""A GPU of a deployment falls off the bus: the deployment must fail, be moved away from that node, and work again.

    pytest examples/hw_faults --enable-hw-faults [--hw-fault-backend=vllm|sglang|trtllm] [--namespace=NAME]

Ten phases, the ones of Dynamo's test of the same name, on a cluster of this machine: seconds, no GPU, nothing left behind.
"""

import asyncio
import json
import urllib.error
import urllib.request
from pathlib import Path

from holdfast.deploy import DeploymentSpec, ManagedDeployment

SPECS = Path(__file__).parent / "specs"
MODEL = "Qwen/Qwen3-0.6B"
REQUESTS = 5


def ask(url):
    """One request for a completion: HTTP's status, and which pods have served it."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Where do clouds come from?"}], "max_tokens": 8}
    request = urllib.request.Request(f"{url}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.load(answer)["served_by"]
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)["error"]["message"]


def frontend(deployment):
    return deployment.port_forward(deployment.get_pods("Frontend")["Frontend"][0], 8000).url


def test_gpu_xid79_nvsentinel_eviction(tmp_path, hw_fault_config, namespace, hw_fault_backend, skip_service_restart):
    asyncio.run(_ten_phases(tmp_path / "logs", hw_fault_config, namespace, hw_fault_backend, skip_service_restart))


async def _ten_phases(log_dir, hw_fault_config, namespace, backend, skip_service_restart):
    spec = DeploymentSpec(SPECS / f"{backend}.yaml")
    spec.name = f"{backend}-faults"
    spec.set_model(MODEL)

    # 1. Deploy: the namespace, NATS and etcd, the deployment; ready when this returns.
    async with ManagedDeployment(
        log_dir, spec, namespace, skip_service_restart=skip_service_restart, enable_hw_faults=True, hw_fault_config=hw_fault_config
    ) as deployment:
        # 2. The shim goes into the workers, which begin anew once, all on one node.
        await deployment.setup_cuda_passthrough(xid_type=79)
        await deployment.wait_for_all_pods_ready(timeout=300)
        target = deployment.get_hw_fault_target_node()

        # 3. Baseline.
        before = [ask(frontend(deployment)) for _ in range(REQUESTS)]
        assert [status for status, _ in before] == [200] * REQUESTS, before

        # 4. The fault: calls of CUDA fail, and the driver says why.
        await deployment.toggle_cuda_faults(enable=True)
        fault = await deployment.inject_hw_fault(fault_type="xid", xid_type=79)

        # 5. It has an effect: requests fail, and the shim has counted the calls that it has struck.
        during = [ask(frontend(deployment)) for _ in range(REQUESTS)]
        assert all(status >= 500 for status, _ in during), during
        assert (await deployment.hw_fault_manager.verify(fault))["evidence"]["kernel_log"]["line"]

        # 6. The node is taken out of use, for our fault and no other.
        event = await deployment.wait_for_node_cordon(target, timeout=30)
        assert event["errorCode"] == ["79"] and deployment.is_node_cordoned(target)

        # 7. The specification is what it was, and calls pass again. Raises if none has ever met the fault.
        await deployment.cleanup_cuda_spec_without_restart()
        await deployment.toggle_cuda_faults(enable=False)

        # 8 and 9. The broken node is drained, and the pods are ready on others.
        await deployment.wait_for_pods_on_healthy_nodes(exclude_node=target, timeout=180)
        nodes = {pod.node for pods in deployment.get_pods().values() for pod in pods}
        assert target not in nodes

        # 10. It works again.
        after = [ask(frontend(deployment)) for _ in range(REQUESTS)]
        assert [status for status, _ in after] == [200] * REQUESTS, after
    # The node is in use again, the namespace is gone, and the logs are in log_dir.
