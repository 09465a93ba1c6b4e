"""`holdfast deploy sweep`: whenever a test is killed, the cluster is afterwards as it was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from deployments import SPECS, do, there
from test_deploy_command import holdfast

from holdfast.deploy.kinds import CONFIG_MAP, GRAPH, NAMESPACE, NODE, STATEFUL_SET

# What ManagedDeployment notes in its timeline, in order: the test is killed as it does so.
PHASES = (
    "platform ready", "deployment ready", "hardware faults ready", "passthrough ready", "CUDA faults on", "XID injected", "node cordoned",
    "specification restored", "CUDA faults off", "pods on healthy nodes",
)  # fmt: skip
PROGRAM = """
import asyncio, json, os, signal, sys, urllib.request
from holdfast.deploy import *
from holdfast.deploy import managed
phase, logs, namespace, spec = sys.argv[1:]
def note(self, what, **evidence):
    if what == phase:
        os.kill(os.getpid(), signal.SIGKILL)
managed.Timeline.note = note
async def main():
    async with ManagedDeployment(logs, DeploymentSpec(spec), namespace, enable_hw_faults=True) as d:
        await d.setup_cuda_passthrough(79)
        url = d.port_forward(d.get_pods()["Frontend"][0], 8000).url
        await d.toggle_cuda_faults(True)
        await d.inject_hw_fault()
        await d.wait_for_node_cordon(timeout=30)
        await d.cleanup_cuda_spec_without_restart()
        body = json.dumps({"model": "Qwen/Qwen3-0.6B", "prompt": "x"}).encode()
        try: urllib.request.urlopen(urllib.request.Request(url + "/v1/completions", body), timeout=10)
        except OSError: pass
        await d.toggle_cuda_faults(False)
        await d.wait_for_pods_on_healthy_nodes(d.get_hw_fault_target_node(), 60)
asyncio.run(main())
"""


def kill_at(kube: Any, folder: Path, phase: str, run: str = "killed", namespace: str = "swept") -> None:
    environment = {**os.environ, "HOLDFAST_CLUSTER": str(kube.folder), "HOLDFAST_RUN": run}
    command = [sys.executable, "-c", PROGRAM, phase, str(folder), namespace, str(SPECS / "vllm.yaml")]
    assert subprocess.run(command, env=environment, timeout=60).returncode == -signal.SIGKILL


def sweep(kube: Any, *words: str) -> str:
    run = holdfast("sweep", "--folder", str(kube.folder), *words)
    assert run.returncode == 0 and not run.stderr, run.stderr
    return run.stdout


@pytest.fixture
def nothing_is_left(kube):
    yield
    assert there(kube, CONFIG_MAP) == [] and there(kube, NAMESPACE) == ["default", "fault-injection-system", "kube-system"]


@pytest.mark.parametrize("phase", PHASES)
def test_killed_at_any_phase(kube, nothing_is_left, tmp_path, phase):
    kill_at(kube, tmp_path, phase)
    assert there(kube, NAMESPACE, "") != ["default", "fault-injection-system", "kube-system"]
    # What goes on, or is not that old, stays as it is.
    assert sweep(kube) == "" and sweep(kube, "--run", "another") == "" and "swept" in there(kube, NAMESPACE)
    said = sweep(kube, "--run", "killed")
    assert "Namespace swept is removed" in said and "StatefulSet swept/dynamo-platform-etcd is removed" in said
    assert ("vllm-disagg is removed" in said) == (phase != "platform ready")
    injected = PHASES.index(phase) >= PHASES.index("XID injected")
    assert ("is as it was found" in said) == injected and (" is healed" in said) == (
        PHASES.index(phase) >= PHASES.index("CUDA faults on")
    )
    assert sweep(kube, "--run", "killed") == ""


def test_a_namespace_of_others_stays_and_only_the_run_that_is_meant_goes(kube, nothing_is_left, tmp_path):
    do(kube, lambda api: api.create(NAMESPACE, {"metadata": {"name": "kept"}}))
    kill_at(kube, tmp_path / "a", "deployment ready", "a", "kept")
    kill_at(kube, tmp_path / "b", "deployment ready", "b", "b")
    sweep(kube, "--run", "a")
    assert there(kube, GRAPH, "kept") == there(kube, STATEFUL_SET, "kept") == [] and there(kube, GRAPH) == ["vllm-disagg"]
    assert "Namespace b is removed" in sweep(kube, "--all") and "kept" in there(kube, NAMESPACE)
    do(kube, lambda api: api.delete(NAMESPACE, "", "kept"))


def test_what_is_over_is_swept_without_being_named(kube, nothing_is_left, tmp_path):
    kill_at(kube, tmp_path, "platform ready")
    for kind, namespace, name in ((NAMESPACE, "", "swept"), (STATEFUL_SET, "swept", "dynamo-platform-etcd")):
        patch = {"metadata": {"annotations": {"holdfast.dev/expires": "2026-01-01T00:00:00Z"}}}
        do(kube, lambda api, at=(kind, namespace, name), patch=patch: api.patch(*at, patch))
    said = sweep(kube)
    assert "Namespace swept is removed" in said and "dynamo-platform-nats" not in said  # That went with its namespace.


def test_what_cannot_be_put_back_is_said_and_the_rest_is_done(kube, nothing_is_left, tmp_path):
    kill_at(kube, tmp_path, "node cordoned")
    name = there(kube, CONFIG_MAP)[0]
    before = do(kube, lambda api: api.get(CONFIG_MAP, "fault-injection-system", name))["data"]["nodes"]
    do(kube, lambda api: api.patch(CONFIG_MAP, "fault-injection-system", name, {"data": {"nodes": "{"}}))
    run = holdfast("sweep", "--folder", str(kube.folder), "--all")
    assert (
        run.returncode == 1
        and f"record {name}" in run.stderr
        and "Traceback" not in run.stderr
        and "Namespace swept is removed" in run.stdout
    )
    assert any(node["spec"].get("unschedulable") for node in do(kube, lambda api: api.list(NODE))[0])
    do(kube, lambda api: api.patch(CONFIG_MAP, "fault-injection-system", name, {"data": {"nodes": before}}))
    assert "is as it was found" in sweep(kube, "--all")


def test_a_record_of_a_fault_that_was_never_injected(kube, nothing_is_left, tmp_path):
    """Killed between what is written down and what is done."""
    program = PROGRAM.replace(
        "managed.Timeline.note = note",
        "from holdfast.faults import FaultClient\nFaultClient.inject = lambda self, kind, **b: os.kill(os.getpid(), 9) if 'xid-' in kind else 'x-0'\nFaultClient.recover = lambda self, f: {}",
    )
    environment = {**os.environ, "HOLDFAST_CLUSTER": str(kube.folder), "HOLDFAST_RUN": "never"}
    command = [sys.executable, "-c", program, "", str(tmp_path), "swept", str(SPECS / "vllm.yaml")]
    assert subprocess.run(command, env=environment, timeout=60).returncode == -signal.SIGKILL
    assert "is as it was found" in sweep(kube, "--run", "never")
