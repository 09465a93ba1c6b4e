"""Deployments on a real API server, scheduler and controller manager of Kubernetes, whose nodes are this machine's: pods are processes,
GPUs are simulated. The same tests, the same words, as on the local cluster."""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from control_plane import ControlPlane, missing
from deployments import EXAMPLE, LIMIT, SPECS, ask, check_ten_phases, do, spec, there, url_of, wait_for, worker
from kubernetes_asyncio.config import incluster_config

from holdfast.deploy import Api, ApiError, BadAccess, ManagedDeployment, NotLetIn, Unreachable, access_from, local
from holdfast.deploy.controllers.sentinel import CHECK
from holdfast.deploy.kinds import DEFINITION, GRAPH, NAMESPACE, NODE, POD, condition, labels_of
from holdfast.deploy.local import Local
from holdfast.deploy.scenario import run_scenario

OWN = {"default", "kube-system", "kube-public", "kube-node-lease"}


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    if missing():
        pytest.skip(missing())
    with ControlPlane(tmp_path_factory.mktemp("control-plane")).running() as found:
        yield found


@pytest.fixture(scope="module")
def joined(plane: ControlPlane) -> Iterator[Local]:
    with local.cluster(control_plane=plane.kubeconfig) as found:
        yield found


@pytest.fixture
def kube(joined: Local) -> Iterator[Local]:
    """Afterwards nothing of the test's is in it: neither things, nor marks on its nodes."""
    yield joined
    assert set(there(joined, NAMESPACE)) - OWN == {"fault-injection-system"}
    assert not there(joined, GRAPH) and len(there(joined, POD)) == 2
    for node in do(joined, lambda api: api.list(NODE))[0]:
        assert set(labels_of(node)) == {"kubernetes.io/hostname", "nvidia.com/gpu.present"}, node
        assert not node["spec"].get("unschedulable") and condition(node, CHECK).get("status") != "True", node


def holdfast(*words: str, **more: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "holdfast", "deploy", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=2 * LIMIT, **more)


def test_nodes_leave_as_they_came_and_an_api_without_them_says_what_is_missing(plane, tmp_path):
    """Before the module's nodes have joined."""

    def names() -> tuple[set[str], set[str], set[str]]:
        bare = Local(access_from(plane.kubeconfig), tmp_path, 0)
        return set(there(bare, NODE)), set(there(bare, DEFINITION)), set(there(bare, NAMESPACE)) - OWN

    assert names() == (set(), set(), set())
    with local.cluster(["none"], control_plane=plane.kubeconfig) as found:
        assert names() == ({"node-1"}, {"dynamographdeployments.nvidia.com"}, {"fault-injection-system"})
        assert found.access.server == plane.server
    wait_for(lambda: names() == (set(), set(), set()))

    async def main() -> None:
        async with ManagedDeployment(tmp_path / "logs", spec(), "ns", cluster=access_from(plane.kubeconfig)):
            raise AssertionError("entered")

    with pytest.raises(ApiError, match=r"it has no dynamographdeployments"):
        asyncio.run(main())


def test_it_works_and_leaves_nothing(kube, tmp_path):
    async def main() -> None:
        async with ManagedDeployment(tmp_path / "logs", spec(), "ns", cluster=kube) as d:
            status, said = ask(url_of(d))
            assert status == 200 and set(said["served_by"]) <= set(d.get_pod_names()), said
            pod = worker(d)
            assert pod.exec(["sh", "-c", "echo $HOSTNAME; exit 3"], check=False)[0] == 3
            assert any("dynamo.vllm" in process.command for process in pod.processes())
            before = pod.uid
            pod.processes()[0].kill()
            await d.wait_for_unready(LIMIT)
            await d.wait_for_all_pods_ready(LIMIT)
            assert worker(d).uid == before and worker(d).restarts == 1
            assert "exec" not in pod.logs(previous=True)
            await d.trigger_rolling_upgrade("VllmDecodeWorker")
            await d.wait_for_all_pods_ready(LIMIT)
            assert worker(d).uid != before and ask(url_of(d))[0] == 200

    asyncio.run(main())
    assert (tmp_path / "logs" / "events.log").read_text().count("Scheduled") >= 3


def test_the_ten_phases(kube, plane, suite):
    check_ten_phases(suite, plane.kubeconfig)
    events = do(kube, lambda api: api.list(NODE))[0]
    assert len(events) == 2


@pytest.mark.parametrize("name", ["gpu_lost", "overlap"])
def test_scenarios(kube, tmp_path, name):
    report = asyncio.run(run_scenario(EXAMPLE / "scenarios" / f"{name}.yaml", "ns", tmp_path / "logs", cluster=kube))
    assert report.passed and {fault.outcome for fault in report.faults} == {"effective"}


def test_what_a_killed_test_has_left_is_swept(kube, plane, suite):
    suite.write(
        test_it=f"""
import asyncio, os, signal
from holdfast.deploy import DeploymentSpec, ManagedDeployment
def test_dies():
    async def main():
        spec = DeploymentSpec({str(SPECS / "vllm.yaml")!r})
        async with ManagedDeployment("logs", spec, "dies", enable_hw_faults=True) as d:
            await d.setup_cuda_passthrough(79)
            await d.toggle_cuda_faults(True)
            await d.inject_hw_fault("xid", 79)
            await d.wait_for_node_cordon(timeout=30)
            os.kill(os.getpid(), signal.SIGKILL)
    asyncio.run(main())
"""
    )
    suite.env["KUBECONFIG"] = str(plane.kubeconfig)
    run = suite.run("--hf-backend=kubernetes")
    assert set(run.verdicts.values()) == {"crashed"}, run.output
    status = holdfast("status", "--kubeconfig", str(plane.kubeconfig))
    assert status.returncode == 0 and "cordoned" in status.stdout and "dies/vllm-disagg-frontend" in status.stdout, status
    swept = holdfast("sweep", "--kubeconfig", str(plane.kubeconfig), "--all")
    assert swept.returncode == 0, swept.stdout + swept.stderr
    wait_for(lambda: "dies" not in there(kube, NAMESPACE))


def test_who_is_not_let_in_is_told_why(kube, plane, tmp_path):
    """An unreachable API, one that forbids, a token that has expired, a kubeconfig that is none."""
    pki = plane.certificates
    pki.sign("nobody", "/CN=nobody")
    forbidden = holdfast("status", "--kubeconfig", str(pki.folder / "nobody.kubeconfig"))
    assert forbidden.returncode == 4 and 'User "nobody" cannot list resource "nodes"' in forbidden.stderr, forbidden
    with pytest.raises(NotLetIn, match=r"does not take the credentials of .*old.kubeconfig; have they expired"):
        do(Local(access_from(pki.kubeconfig("old", {"token": "expired"})), tmp_path, 0), lambda api: api.list(NODE))
    gone = json.loads((pki.folder / "admin.kubeconfig").read_text())
    gone["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    (tmp_path / "gone").write_text(json.dumps(gone))
    with pytest.raises(Unreachable, match=r"no API of a cluster answers at https://127.0.0.1:1"):
        do(Local(access_from(tmp_path / "gone"), tmp_path, 0), lambda api: api.list(NODE))
    gone["clusters"][0]["cluster"].pop("certificate-authority")
    gone["clusters"][0]["cluster"]["server"] = plane.server
    (tmp_path / "untrusted").write_text(json.dumps(gone))
    with pytest.raises(Unreachable, match=r"certificate verify failed"):
        do(Local(access_from(tmp_path / "untrusted"), tmp_path, 0), lambda api: api.list(NODE))

    async def forbidden_deployment() -> None:
        async with ManagedDeployment(tmp_path / "logs", spec(), "ns", cluster=access_from(pki.folder / "nobody.kubeconfig")):
            raise AssertionError("entered")

    with pytest.raises(ApiError, match=r"cannot list resource"):
        asyncio.run(forbidden_deployment())


def test_in_a_pod_its_service_account_is_used(plane, tmp_path, monkeypatch):
    """Upstream's defect 5: there a kubeconfig was wanted in a pod, too."""

    async def token(api: Api) -> str:
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 600}}
        return str(
            json.loads(await api.call("POST", "/api/v1/namespaces/default/serviceaccounts/default/token", body))["status"]["token"]
        )

    bare = Local(access_from(plane.kubeconfig), tmp_path, 0)
    (tmp_path / "token").write_text(do(bare, token))
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(plane.certificates.folder / "ca.crt"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    with pytest.raises(BadAccess, match="there is no kubeconfig"):
        access_from()
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", plane.server.rpartition(":")[2])
    access = access_from()
    assert access.server == plane.server and "service account" in access.source
    with pytest.raises(ApiError, match='User "system:serviceaccount:default:default" cannot list resource "nodes"'):
        do(Local(access, tmp_path, 0), lambda api: api.list(NODE))


def test_nodes_answer_the_api_server_alone(kube, plane):
    pki = plane.certificates
    pki.sign("somebody", "/CN=somebody")
    node = do(kube, lambda api: api.list(NODE))[0][0]
    address = next(one["address"] for one in node["status"]["addresses"] if one["type"] == "InternalIP")
    url = f"https://{address}:{node['status']['daemonEndpoints']['kubeletEndpoint']['Port']}/containerLogs/a/b/c"

    def ask_node(name: str) -> int:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if name:
            context.load_cert_chain(pki.folder / f"{name}.crt", pki.folder / f"{name}.key")
        try:
            with urllib.request.urlopen(url, timeout=LIMIT, context=context) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    assert ask_node("somebody") == 403 and ask_node("kubelet-client") == 404
    with pytest.raises(OSError, match=r"certificate required|EOF|reset|closed connection"):
        ask_node("")


def test_bad_access(tmp_path, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "nowhere"))
    with pytest.raises(BadAccess, match=r"there is no kubeconfig .*nowhere; give one by"):
        access_from()
    (tmp_path / "empty").write_text("")
    with pytest.raises(BadAccess, match="empty cannot be used"):
        access_from(tmp_path / "empty")
    (tmp_path / "text").write_text("no: [yaml")
    with pytest.raises(BadAccess, match="text cannot be used"):
        access_from(tmp_path / "text")
    assert "there is no kubeconfig" in holdfast("sweep", "--all", "--kubeconfig", str(tmp_path / "nowhere")).stderr
    assert "--context NAME is one of a kubeconfig's" in holdfast("status", "--folder", str(tmp_path), "--context", "x").stderr


def test_an_option_without_a_kubeconfig(suite):
    suite.write(test_it="def test(): pass")
    suite.env["KUBECONFIG"] = "/nowhere/config"
    run = suite.run("--hf-backend=kubernetes")
    assert run.code == 4 and "there is no kubeconfig /nowhere/config" in run.output and "Traceback" not in run.output
