"""The local cluster: the rules of Kubernetes' API, and pods that are real processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import aiohttp
import pytest
from control_plane import ControlPlane, missing

from holdfast.deploy import Access, Api, ApiError, DeployError, Unreachable, access_from, local
from holdfast.deploy.connection import Connection
from holdfast.deploy.kinds import (
    CONFIG_MAP,
    EVENT,
    NAMESPACE,
    NODE,
    POD,
    REPLICA_SET,
    SECRET,
    SERVICE,
    STATEFUL_SET,
    Object,
    condition,
    is_ready,
    name_of,
)  # fmt: skip
from holdfast.deploy.local import groups as groups_of_nodes
from holdfast.procs import is_running

LIMIT = 20.0
STANDIN = "holdfast-standin"


class Cluster:
    """A local one, a namespace in it, and waits without sleeps."""

    def __init__(self, access: Access, namespace: str) -> None:
        self.access, self.namespace = access, namespace
        self.connection = Connection(access, (NAMESPACE, NODE, POD, EVENT, SERVICE, REPLICA_SET, STATEFUL_SET), "")
        self.connection.begin()
        self.api = self.connection.api

    def call(self, work: Any) -> Any:
        return self.connection.call(work)

    def make(self, kind: Any, name: str, **more: Any) -> Object:
        return self.call(
            self.api.create(kind, {"metadata": {"name": name, "namespace": self.namespace, **more.pop("metadata", {})}, **more})
        )

    def pod(self, name: str, *command: str, **container: Any) -> Object:
        spec = container.pop("spec", {})
        one = {"name": "main", "image": STANDIN, "command": list(command), **container}
        return self.make(POD, name, spec={"terminationGracePeriodSeconds": 1, **spec, "containers": [one]})

    def now(self, kind: Any, name: str) -> Object:
        return self.connection.seen[kind].find(self.namespace if kind.namespaced else "", name) or {}

    def until(self, what: Callable[[], Any]) -> None:
        self.call(
            self.connection.until(
                "that", LIMIT, lambda: (bool(what()), str([pod.get("status") for pod in self.connection.seen[POD].all()])[-2000:])
            )
        )

    def poll(self, what: Callable[[], Any]) -> None:
        """For what has no watch: logs, files."""
        wait_for(what)

    def ready(self, name: str) -> Object:
        self.until(lambda: is_ready(self.now(POD, name) or {"metadata": {}}))
        return self.now(POD, name)

    def log(self, name: str, **more: Any) -> str:
        return str(self.call(self.api.log(self.namespace, name, **more)))


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Access]:
    """A real API, without a node."""
    if missing():
        pytest.skip(missing())
    with ControlPlane(tmp_path_factory.mktemp("control-plane")).running() as plane:
        yield access_from(plane.kubeconfig)


@pytest.fixture(scope="module")
def shared() -> Iterator[local.Local]:
    with local.cluster() as found:
        yield found


@contextlib.contextmanager
def namespace_in(access: Access, test: str) -> Iterator[Cluster]:
    made = Cluster(access, f"t{abs(hash(test)) % 10**8}")
    made.call(made.api.create(NAMESPACE, {"metadata": {"name": made.namespace}}))
    yield made
    made.call(made.api.delete(NAMESPACE, "", made.namespace))
    made.until(lambda: not made.now(NAMESPACE, made.namespace))
    made.connection.close()


@pytest.fixture
def cluster(shared: local.Local, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    with namespace_in(shared.access, request.node.name) as made:
        yield made


@pytest.fixture(params=["local", "real"])
def either(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """The local cluster, and a real control plane: what is said of the one is so of the other."""
    access = request.getfixturevalue("shared").access if request.param == "local" else request.getfixturevalue("real")
    with namespace_in(access, request.node.name) as made:
        yield made


def refused(cluster: Cluster, status: int, work: Any) -> str:
    with pytest.raises(ApiError) as raised:
        cluster.call(work)
    assert raised.value.status == status, raised.value
    return str(raised.value)


# ---- the API


def test_objects_are_made_once_changed_and_removed(either):
    made = either.make(CONFIG_MAP, "a", data={"k": "1"})
    assert made["metadata"]["uid"] and "generation" not in made["metadata"] and made["kind"] == "ConfigMap"
    assert "resourceVersion should not be set" in refused(either, 500, either.api.create(CONFIG_MAP, made))
    assert "already exists" in refused(
        either, 409, either.api.create(CONFIG_MAP, {"metadata": {"name": "a", "namespace": either.namespace}})
    )
    changed = either.call(either.api.patch(CONFIG_MAP, either.namespace, "a", {"data": {"k": None, "l": "2"}}))
    assert changed["data"] == {"l": "2"}
    # What was read before is too old to be written.
    assert "has been modified" in refused(either, 409, either.api.replace(CONFIG_MAP, {**made, "data": {}}))
    same = either.call(either.api.replace(CONFIG_MAP, changed))
    assert same["metadata"]["resourceVersion"] == changed["metadata"]["resourceVersion"]
    assert "the UID in the precondition (other) does not match" in refused(
        either, 409, either.api.delete(CONFIG_MAP, either.namespace, "a", uid="other")
    )
    assert either.call(either.api.delete(CONFIG_MAP, either.namespace, "a", uid=made["metadata"]["uid"]))
    assert not either.call(either.api.delete(CONFIG_MAP, either.namespace, "a"))
    assert 'configmaps "a" not found' in refused(either, 404, either.api.get(CONFIG_MAP, either.namespace, "a"))
    assert "namespaces" in refused(either, 404, either.api.create(CONFIG_MAP, {"metadata": {"name": "a", "namespace": "nowhere"}}))
    assert "Required value" in refused(either, 422, either.api.create(CONFIG_MAP, {"metadata": {"namespace": either.namespace}}))


@pytest.mark.parametrize(
    "kind, spec, words",
    [
        (POD, {"containers": [{"name": "m", "resources": {"limits": {"nvidia.com/gpu": "x"}}}]}, "invalid literal for int"),
        (POD, {}, "KeyError('containers')"),
        (POD, {"containers": [{"name": "m", "env": "x"}]}, "env of container m is no list of mappings"),
        (POD, {"containers": [{"name": "m"}], "volumes": [{}]}, "KeyError('name')"),
        (POD, {"containers": []}, "spec.containers is empty"),
        (POD, {"containers": [{"name": "m", "resources": {"limits": {"memory": "much"}}}]}, "'much' is no quantity"),
        (SERVICE, {"ports": []}, "spec.ports is empty"),
        (
            REPLICA_SET,
            {
                "selector": {"matchLabels": {"a": "b"}},
                "template": {"metadata": {"labels": {}}, "spec": {"containers": [{"name": "m"}]}},
            },
            "do not match it",
        ),
        (REPLICA_SET, {"replicas": -1}, "spec.replicas is negative"),
        (STATEFUL_SET, {"template": {}}, "KeyError('spec')"),
    ],
)
def test_what_nobody_could_run_is_not_taken(cluster, kind, spec, words):
    thing = {"metadata": {"name": "x", "namespace": cluster.namespace}, "spec": spec}
    assert words in refused(cluster, 422, cluster.api.create(kind, thing))
    assert cluster.call(cluster.api.list(NODE))[0], "the cluster goes on"


def test_status_and_the_rest_are_apart(either):
    mine = {"conditions": [{"type": "Mine", "status": "True"}]}
    one = {"containers": [{"name": "main", "image": STANDIN}]}
    either.make(
        REPLICA_SET,
        "r",
        spec={"replicas": 0, "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}}, "spec": one}},
        status={"replicas": 9},
    )
    either.until(lambda: either.now(REPLICA_SET, "r").get("status", {}).get("observedGeneration") == 1)
    either.call(either.api.patch(REPLICA_SET, either.namespace, "r", {"status": mine, "spec": {"minReadySeconds": 1}}))
    thing = either.call(either.api.get(REPLICA_SET, either.namespace, "r"))
    assert "conditions" not in thing["status"] and thing["spec"]["minReadySeconds"] == 1 and thing["metadata"]["generation"] == 2
    either.call(either.api.patch(REPLICA_SET, either.namespace, "r", {"status": mine, "spec": {"minReadySeconds": 2}}, status=True))
    thing = either.call(either.api.get(REPLICA_SET, either.namespace, "r"))
    assert (
        thing["status"]["conditions"][0]["type"] == "Mine"
        and thing["spec"]["minReadySeconds"] == 1
        and thing["metadata"]["generation"] == 2
    )


def test_watches_tell_what_selectors_want(either):
    _, since = either.call(either.api.list(CONFIG_MAP, either.namespace))
    either.make(CONFIG_MAP, "a", metadata={"labels": {"in": "1"}})
    either.make(CONFIG_MAP, "b")
    either.call(either.api.patch(CONFIG_MAP, either.namespace, "b", {"metadata": {"labels": {"in": "1"}}}))
    either.call(either.api.patch(CONFIG_MAP, either.namespace, "a", {"data": {"k": "1"}}))
    either.call(either.api.patch(CONFIG_MAP, either.namespace, "a", {"metadata": {"labels": None}}))
    either.call(either.api.delete(CONFIG_MAP, either.namespace, "b"))

    async def watch() -> list[tuple[str, str]]:
        found = []
        async for kind, thing in either.api.watch(CONFIG_MAP, either.namespace, since=since, labels="in=1", seconds=10):
            found.append((kind, name_of(thing)))
            if len(found) == 5:
                return found
        return found

    told = either.call(watch())
    assert told == [("ADDED", "a"), ("ADDED", "b"), ("MODIFIED", "a"), ("DELETED", "a"), ("DELETED", "b")]


def test_what_nobody_may_or_can(cluster):
    async def ask(path: str, token: str, **more: Any) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {token}", **more.pop("headers", {})}
        async with (
            aiohttp.ClientSession() as session,
            session.request(more.pop("method", "GET"), cluster.access.server + path, headers=headers, **more) as answer,
        ):
            return answer.status, await answer.json()

    async def all_of_it() -> None:
        token = str(cluster.access.token)
        assert (await ask("/api/v1/pods", ""))[0] == 401 and (await ask("/api/v1/pods", token[:-1] + "x"))[0] == 401
        assert (await ask("/api/v1/nothing", token))[0] == 404 and (await ask("/apis/apps/v1", token))[0] == 404
        assert (await ask("/api/v1/namespaces/default/pods", token, method="POST", data="{"))[0] == 400
        status, said = await ask(
            "/api/v1/namespaces/default", token, method="PATCH", data="[]", headers={"Content-Type": "application/json-patch+json"}
        )
        assert status == 415 and "merge-patch" in said["message"] and said["kind"] == "Status"
        assert (await ask("/api/v1/pods?watch=true&resourceVersion=x", token))[0] == 400
        assert (await ask("/version", token))[1]["major"] == "1"

    asyncio.run(all_of_it())


def test_an_owner_takes_what_it_owns_with_it(either):
    owner = either.make(CONFIG_MAP, "owner")
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"]}
    either.make(SERVICE, "owned", metadata={"ownerReferences": [reference]}, spec={"ports": [{"port": 7}]})
    either.until(lambda: either.now(SERVICE, "owned"))
    either.call(either.api.delete(CONFIG_MAP, either.namespace, "owner"))
    either.until(lambda: not either.now(SERVICE, "owned"))


# ---- where pods go


def test_gpus_cordons_taints_and_affinity_decide(cluster):
    gpus = {"resources": {"limits": {"nvidia.com/gpu": "2"}}}
    term = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["node-2"]}]}
    there = {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}}
    show = ("python3", "-c", "import os, time; print(os.environ['CUDA_VISIBLE_DEVICES'], flush=True); time.sleep(99)")
    cluster.pod("a", *show, **gpus, spec=there)
    assert cluster.ready("a")["spec"]["nodeName"] == "node-2"
    cluster.poll(lambda: cluster.log("a") == "0,1\n")
    # None left there.
    cluster.pod("b", *show, **gpus, spec=there)
    cluster.until(
        lambda: (
            "1 Insufficient nvidia.com/gpu, 1 node(s) didn't match"
            in condition(cluster.now(POD, "b"), "PodScheduled").get("message", "")
        )
    )
    cluster.until(
        lambda: any(
            e["reason"] == "FailedScheduling" for e in cluster.connection.seen[EVENT].all() if e["involvedObject"]["name"] == "b"
        )
    )
    cluster.call(cluster.api.delete(POD, cluster.namespace, "a"))
    assert cluster.ready("b")["spec"]["nodeName"] == "node-2"
    cluster.call(cluster.api.patch(NODE, "", "node-1", {"spec": {"unschedulable": True}}))
    taint = {"key": "broken", "value": "yes", "effect": "NoSchedule"}
    cluster.call(cluster.api.patch(NODE, "", "node-2", {"spec": {"taints": [taint]}}))
    try:
        cluster.pod("c", *show)
        words = "1 node(s) had untolerated taint, 1 node(s) were unschedulable"
        cluster.until(lambda: words in condition(cluster.now(POD, "c"), "PodScheduled").get("message", ""))
        cluster.pod("d", *show, spec={"tolerations": [{"key": "broken", "operator": "Exists"}]})
        assert cluster.ready("d")["spec"]["nodeName"] == "node-2"
        cluster.poll(lambda: cluster.log("d") == "\n")
    finally:
        cluster.call(cluster.api.patch(NODE, "", "node-1", {"spec": {"unschedulable": None}}))
        cluster.call(cluster.api.patch(NODE, "", "node-2", {"spec": {"taints": None}}))
    assert cluster.ready("c")["spec"]["nodeName"] == "node-1"


# ---- pods


def test_a_pod_has_its_environment_volumes_and_nothing_of_ours(cluster, monkeypatch):
    cluster.make(CONFIG_MAP, "conf", data={"file.txt": "from the map", "KEY": "7"})
    cluster.make(SECRET, "sec", stringData={"S": "secret"})
    script = "import os, pathlib; e = os.environ; print(sorted(e)); print(e['A'], e['B'], e['S'], e['ONE'], e['NODE'], pathlib.Path(e['P']).read_text(), pathlib.Path('{}').read_text(), flush=True)".format(
        "/conf/file.txt"
    )
    env = [
        {"name": "A", "value": "x"}, {"name": "B", "value": "$(A)-$(NOBODY)"}, {"name": "P", "value": "/conf/file.txt"},
        {"name": "ONE", "valueFrom": {"configMapKeyRef": {"name": "conf", "key": "KEY"}}}, {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
    ]  # fmt: skip
    cluster.pod(
        "p", "python3", "-c", script.replace("/conf/file.txt", "/conf/file.txt"), env=env, envFrom=[{"secretRef": {"name": "sec"}}],
        volumeMounts=[{"name": "v", "mountPath": "/conf"}], spec={"restartPolicy": "Never", "volumes": [{"name": "v", "configMap": {"name": "conf"}}]},
    )  # fmt: skip
    cluster.until(lambda: cluster.now(POD, "p").get("status", {}).get("phase") in ("Succeeded", "Failed"))
    names, values = cluster.log("p").splitlines()[:2]
    assert "PYTEST_CURRENT_TEST" not in names and "OLDPWD" not in names and "HOLDFAST_POD_UID" in names
    assert values.startswith("x x-$(NOBODY) secret 7 node-") and "from the map" in values


def test_it_is_begun_again_and_its_last_words_are_kept(cluster):
    cluster.pod("p", "sh", "-c", "echo run $$; exit 3")
    cluster.until(lambda: cluster.now(POD, "p").get("status", {}).get("containerStatuses", [{}])[0].get("restartCount", 0) >= 2)
    status = cluster.now(POD, "p")["status"]
    assert status["phase"] == "Running" and not is_ready(cluster.now(POD, "p"))
    cluster.until(
        lambda: cluster.now(POD, "p")["status"]["containerStatuses"][0]["state"].get("waiting", {}).get("reason") == "CrashLoopBackOff"
    )
    assert cluster.now(POD, "p")["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"] == 3
    assert cluster.log("p", previous=True).startswith("run ") and cluster.log("p", previous=True) != cluster.log("p")
    cluster.pod("q", "sh", "-c", "exit 3", spec={"restartPolicy": "Never"})
    cluster.until(lambda: cluster.now(POD, "q").get("status", {}).get("phase") == "Failed")
    assert "previous terminated container" in refused(cluster, 400, cluster.api.log(cluster.namespace, "q", previous=True))


def test_probes_decide_whether_it_is_ready_and_alive(cluster):
    server = "import http.server, os, socketserver\nclass H(http.server.BaseHTTPRequestHandler):\n def do_GET(self):\n  self.send_response(200 if os.path.exists(self.path[1:]) else 503); self.end_headers()\n def log_message(self, *a): pass\nhttp.server.HTTPServer((os.environ['HOLDFAST_LISTEN'], 8000), H).serve_forever()"
    probe = {"httpGet": {"path": "/well", "port": 8000}, "periodSeconds": 1, "failureThreshold": 1}
    cluster.pod(
        "p",
        "python3",
        "-c",
        server,
        readinessProbe=probe,
        livenessProbe={"httpGet": {"path": "/alive", "port": 8000}, "periodSeconds": 1, "failureThreshold": 2},
    )
    cluster.until(lambda: "running" in cluster.now(POD, "p").get("status", {}).get("containerStatuses", [{"state": {}}])[0]["state"])
    assert not is_ready(cluster.now(POD, "p"))

    def run(*command: str) -> tuple[int, str, str]:
        return cluster.call(cluster.api.execute(cluster.namespace, "p", command))

    assert run("touch", "well", "alive")[0] == 0
    cluster.ready("p")
    run("rm", "well")
    cluster.until(lambda: not is_ready(cluster.now(POD, "p")))
    run("touch", "well")
    cluster.ready("p")
    run("rm", "alive")
    cluster.until(lambda: cluster.now(POD, "p")["status"]["containerStatuses"][0]["restartCount"] == 1)
    assert any(e["reason"] == "Unhealthy" for e in cluster.connection.seen[EVENT].all())


def test_commands_and_ports_of_a_pod(cluster):
    echo = "import os, socketserver\nclass H(socketserver.StreamRequestHandler):\n def handle(self):\n  for line in self.rfile: self.wfile.write(line.upper())\nsocketserver.ThreadingTCPServer((os.environ['HOLDFAST_LISTEN'], 7), H).serve_forever()"
    cluster.pod(
        "p", "python3", "-c", echo, readinessProbe={"tcpSocket": {"port": 7}, "periodSeconds": 1}, env=[{"name": "X", "value": "y"}]
    )
    cluster.ready("p")
    assert cluster.call(cluster.api.execute(cluster.namespace, "p", ["sh", "-c", "echo $X; echo e >&2; exit 7"])) == (7, "y\n", "e\n")
    big = cluster.call(cluster.api.execute(cluster.namespace, "p", ["head", "-c", "3000000", "/dev/zero"]))
    assert big[0] == 0 and len(big[1]) == 3000000
    assert "No such file" in refused(cluster, 500, cluster.api.execute(cluster.namespace, "p", ["/nowhere/x"]))
    assert "did not end within" in refused(cluster, 504, cluster.api.execute(cluster.namespace, "p", ["sleep", "99"], timeout=0.2))

    async def speak() -> bytes:
        async def serve(reader: Any, writer: Any) -> None:
            await cluster.api.forward(cluster.namespace, "p", 7, reader, writer)

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"hello " * 20000 + b"\n")
        said = await reader.readexactly(120001)
        writer.close()
        server.close()
        return said

    assert cluster.call(speak()) == b"HELLO " * 20000 + b"\n"
    cluster.call(cluster.api.reach(cluster.namespace, "p", 7))
    assert "port 8 of pod p" in refused(cluster, 500, cluster.api.reach(cluster.namespace, "p", 8))
    cluster.pod("q", "false", spec={"restartPolicy": "Never"})
    cluster.until(lambda: cluster.now(POD, "q").get("status", {}).get("phase") == "Failed")
    assert "container main of pod q does not run" in refused(cluster, 400, cluster.api.execute(cluster.namespace, "q", ["true"]))
    assert 'pods "nobody" not found' in refused(cluster, 404, cluster.api.execute(cluster.namespace, "nobody", ["true"]))


def test_a_service_leads_to_pods_that_are_ready(cluster):
    say = "import os, socket\ns = socket.create_server((os.environ['HOLDFAST_LISTEN'], 7))\nwhile True:\n c, _ = s.accept(); c.sendall(os.environ['NAME'].encode()); c.close()"
    cluster.make(SERVICE, "s", spec={"selector": {"app": "s"}, "ports": [{"port": 70, "targetPort": 7}]})
    cluster.until(lambda: cluster.now(SERVICE, "s").get("spec", {}).get("clusterIP"))
    address = (cluster.now(SERVICE, "s")["spec"]["clusterIP"], 70)

    async def ask() -> bytes:
        try:
            reader, writer = await asyncio.open_connection(*address)
            found = await reader.read()
            writer.close()
            return found
        except ConnectionError:
            return b""

    assert cluster.call(ask()) == b""
    for name in ("a", "b"):
        one = {
            "name": "main",
            "image": STANDIN,
            "command": ["python3", "-c", say],
            "env": [{"name": "NAME", "value": name}],
            "readinessProbe": {"tcpSocket": {"port": 7}},
        }
        cluster.make(POD, name, metadata={"labels": {"app": "s"}}, spec={"containers": [one], "terminationGracePeriodSeconds": 1})
        cluster.ready(name)
    # One that runs and is not ready: nobody listens there.
    idle = {"name": "main", "image": STANDIN, "command": ["sleep", "99"], "readinessProbe": {"tcpSocket": {"port": 7}}}
    cluster.make(POD, "c", metadata={"labels": {"app": "s"}}, spec={"containers": [idle], "terminationGracePeriodSeconds": 1})
    cluster.until(lambda: cluster.now(POD, "c").get("status", {}).get("phase") == "Running")
    assert {cluster.call(ask()) for _ in range(6)} == {b"a", b"b"}
    cluster.call(cluster.api.delete(POD, cluster.namespace, "a"))
    cluster.until(lambda: not cluster.now(POD, "a"))
    assert {cluster.call(ask()) for _ in range(3)} == {b"b"}


@pytest.mark.parametrize(
    "container, spec, words",
    [
        ({"image": "no/such:1"}, {}, "ErrImageNeverPull"),
        ({"command": []}, {}, "no command specified"),
        ({"envFrom": [{"secretRef": {"name": "nobody"}}]}, {}, 'secret "nobody" not found'),
        ({"volumeMounts": [{"name": "v", "mountPath": "/x"}], "env": [{"name": "A", "value": "b"}]}, {}, "there is no volume v"),
        ({}, {"volumes": [{"name": "v", "nfs": {}}]}, "hostPath, emptyDir, configMap, secret"),
    ],
)
def test_what_cannot_run_says_why(cluster, container, spec, words):
    given = {"command": ["sleep", "9"], **container}
    cluster.pod("p", *given.pop("command"), **given, spec=spec)
    cluster.until(lambda: words in str(cluster.now(POD, "p").get("status")))
    cluster.until(
        lambda: any(
            e["type"] == "Warning" and e["reason"] == "Failed"
            for e in cluster.connection.seen[EVENT].all()
            if e["involvedObject"]["name"] == "p"
        )
    )
    assert cluster.now(POD, "p")["status"]["phase"] == "Pending"
    assert "container" in refused(cluster, 400, cluster.api.log(cluster.namespace, "p"))


def test_a_pod_that_waits_for_a_secret_starts_when_it_comes(cluster):
    cluster.pod("p", "sh", "-c", "echo $S; sleep 99", envFrom=[{"secretRef": {"name": "late"}}])
    cluster.until(lambda: "not found" in str(cluster.now(POD, "p").get("status")))
    cluster.make(SECRET, "late", data={"S": "aGVyZQ=="})
    cluster.ready("p")
    cluster.poll(lambda: cluster.log("p") == "here\n")


def test_nothing_that_a_pod_has_started_survives_it(cluster, tmp_path):
    escape = f"(trap '' TERM; setsid sh -c 'echo $$ > {tmp_path}/pid; exec sleep 99' &); trap '' TERM; while :; do sleep 1; done"
    cluster.pod("p", "sh", "-c", escape)
    cluster.ready("p")
    cluster.poll(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip())
    pid = int((tmp_path / "pid").read_text())
    assert is_running(pid)
    cluster.call(cluster.api.delete(POD, cluster.namespace, "p"))
    cluster.until(lambda: not cluster.now(POD, "p"))
    assert not is_running(pid)


def status_of(cluster: Cluster, name: str) -> Object:
    return (cluster.now(POD, name).get("status", {}).get("containerStatuses") or [{}])[0]


@pytest.fixture
def groups(cluster: Cluster) -> None:
    own = groups_of_nodes.Cluster()
    try:
        if not own.group.child("test").end() or not own.group.limit(1 << 30):
            pytest.skip("NOT RUN: no control groups with a limit for memory can be made here (cgroups(7)); root can, mostly")
    finally:
        own.close()


def test_who_takes_more_memory_than_its_limit_is_killed(cluster, groups):
    limits = {"resources": {"limits": {"memory": "64Mi"}}}
    for name, size in (("fat", 200 << 20), ("lean", 1 << 20)):
        code = f"print(len(bytearray(1) * {size}))"
        cluster.pod(name, "python3", "-c", code, **limits, spec={"restartPolicy": "Never"})
    cluster.pod("killed", "sh", "-c", "kill -9 $$", **limits, spec={"restartPolicy": "Never"})
    cluster.until(lambda: cluster.now(POD, "fat").get("status", {}).get("phase") == "Failed")
    ended = status_of(cluster, "fat")["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"], cluster.log("fat")) == (137, "OOMKilled", "")
    cluster.until(lambda: cluster.now(POD, "lean").get("status", {}).get("phase") == "Succeeded")
    cluster.until(lambda: cluster.now(POD, "killed").get("status", {}).get("phase") == "Failed")
    ended = status_of(cluster, "killed")["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (137, "Error"), "somebody else's kill is no want of memory"


def escaped(cluster: Cluster, folder: Path) -> int:
    """A process of the pod `p`, which has left its session and goes by nothing that it was given."""
    daemon = f"env -i PATH=$PATH setsid sh -c 'echo $$ > {folder}/pid; exec sleep 99' &"
    cluster.pod("p", "sh", "-c", f"{daemon} while [ ! -e {folder}/end ]; do sleep 0.05; done")
    cluster.poll(lambda: (folder / "pid").exists() and (folder / "pid").read_text().strip())
    pid = int((folder / "pid").read_text())
    assert is_running(pid)
    return pid


def test_what_has_cleared_its_environment_ends_with_its_pod(cluster, groups, tmp_path):
    pid = escaped(cluster, tmp_path)
    cluster.call(cluster.api.delete(POD, cluster.namespace, "p"))
    cluster.until(lambda: not cluster.now(POD, "p"))
    assert not is_running(pid)


def test_a_container_ends_with_its_first_process(cluster, groups, tmp_path):
    pid = escaped(cluster, tmp_path)
    (tmp_path / "end").touch()
    cluster.until(lambda: status_of(cluster, "p").get("restartCount", 0) >= 1)
    assert not is_running(pid)


def test_what_is_run_in_a_container_is_held_to_its_limit(cluster, groups):
    cluster.pod("p", "sleep", "99", resources={"limits": {"memory": "64Mi"}})
    cluster.ready("p")
    code, output, _ = cluster.call(
        cluster.api.execute(cluster.namespace, "p", ["python3", "-c", f"print(len(bytearray(1) * {200 << 20}))"])
    )
    assert (code, output) == (137, "")
    assert is_ready(cluster.now(POD, "p")) and status_of(cluster, "p")["restartCount"] == 0


def test_what_has_left_its_control_group_ends_with_its_pod(cluster, groups, tmp_path):
    root = next(path for path in ("/sys/fs/cgroup/unified", "/sys/fs/cgroup") if Path(path, "cgroup.procs").exists())
    daemon = f"setsid sh -c 'echo 0 > {root}/cgroup.procs; echo $$ > {tmp_path}/pid; exec sleep 99' &"
    cluster.pod("p", "sh", "-c", f"{daemon} exec sleep 99")
    cluster.poll(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip())
    pid = int((tmp_path / "pid").read_text())
    assert "hf-nodes-" not in Path(f"/proc/{pid}/cgroup").read_text().split("0::")[1]
    cluster.call(cluster.api.delete(POD, cluster.namespace, "p"))
    cluster.until(lambda: not cluster.now(POD, "p"))
    assert not is_running(pid)


def test_replica_sets_and_stateful_sets_keep_their_number(cluster):
    template = {
        "metadata": {"labels": {"app": "r"}},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [{"name": "m", "image": STANDIN, "command": ["sleep", "99"]}]},
    }
    cluster.make(REPLICA_SET, "r", spec={"replicas": 2, "selector": {"matchLabels": {"app": "r"}}, "template": template})
    cluster.until(lambda: cluster.now(REPLICA_SET, "r").get("status", {}).get("readyReplicas") == 2)

    def pods(prefix: str) -> list[Object]:
        mine = [pod for pod in cluster.connection.seen[POD].all() if pod["metadata"]["namespace"] == cluster.namespace]
        return [pod for pod in mine if name_of(pod).startswith(prefix)]

    first = name_of(pods("r-")[0])
    cluster.call(cluster.api.delete(POD, cluster.namespace, first))
    cluster.until(lambda: not cluster.now(POD, first) and len([p for p in pods("r-") if is_ready(p)]) == 2)
    cluster.call(cluster.api.patch(REPLICA_SET, cluster.namespace, "r", {"spec": {"replicas": 0}}))
    cluster.until(lambda: not pods("r-"))
    cluster.make(STATEFUL_SET, "s", spec={"replicas": 2, "selector": {"matchLabels": {"app": "r"}}, "template": template})
    cluster.until(lambda: cluster.now(STATEFUL_SET, "s").get("status", {}).get("readyReplicas") == 2)
    assert [name_of(pod) for pod in pods("s-")] == ["s-0", "s-1"]
    before = cluster.now(POD, "s-0")["metadata"]["uid"]
    cluster.call(cluster.api.delete(POD, cluster.namespace, "s-0"))
    cluster.until(
        lambda: is_ready(cluster.now(POD, "s-0") or {"metadata": {}}) and cluster.now(POD, "s-0")["metadata"]["uid"] != before
    )


# ---- the cluster itself


def processes_with(text: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            if text in (entry / "cmdline").read_bytes().decode(errors="replace") and is_running(int(entry.name)):
                found.append(int(entry.name))
    return found


def wait_for(what: Callable[[], Any]) -> None:
    deadline = time.monotonic() + LIMIT
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("end", ["leave", "kill the parent", "kill the cluster"])
def test_nothing_is_left_of_it(tmp_path, end):
    folder = tmp_path / "cluster"
    program = (
        "import sys, time\nfrom pathlib import Path\nfrom holdfast.deploy import local\n"
        f"with local.cluster(['none'], folder=Path({str(folder)!r})) as c:\n print(c.pid, flush=True)\n sys.stdin.readline()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    pid = int(process.stdout.readline())
    wait_for(lambda: len(processes_with(f"{folder}/")) >= 1)  # The agent.
    assert is_running(pid)
    if end == "leave":
        process.stdin.write("\n")
        process.stdin.flush()
    else:
        os.kill(process.pid if end == "kill the parent" else pid, signal.SIGKILL)
    wait_for(lambda: not is_running(pid) and not processes_with(f"{folder}/"))
    process.kill()
    process.communicate(timeout=LIMIT)


def test_the_next_cluster_ends_what_a_killed_one_has_left(cluster, groups, tmp_path):
    cluster.pod("of-one-that-lives", "sleep", "99")
    cluster.ready("of-one-that-lives")
    with local.cluster(["none"]) as killed:
        made = Cluster(killed.access, "default")
        pid = escaped(made, tmp_path)
        group = next(line[3:] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines() if line.startswith("0::"))
        made.connection.close()
        os.kill(killed.pid, signal.SIGKILL)
        wait_for(lambda: not is_running(killed.pid))
    assert is_running(pid), "nothing of it is known by its mark or by its parent"
    with local.cluster(["none"]):
        assert not is_running(pid)
    parts = [part for part in group.split("/") if part.startswith("hf-nodes-")]
    assert len(parts) == 1 and not list(Path("/sys/fs/cgroup").glob(f"**/{parts[0]}"))
    # One that lives has kept its own.
    lines = cluster.call(cluster.api.execute(cluster.namespace, "of-one-that-lives", ["cat", "/proc/self/cgroup"]))[1].splitlines()
    assert all("/hf-nodes-" in line for line in lines if line.startswith("0::") or ":memory:" in line), lines
    assert status_of(cluster, "of-one-that-lives")["restartCount"] == 0 and is_ready(cluster.now(POD, "of-one-that-lives"))


def test_two_beside_each_other(cluster):
    with local.cluster(["none"]) as other:
        assert other.access.server != cluster.access.server
        second = Cluster(other.access, "default")
        second.pod("only-there", "sleep", "9")
        second.ready("only-there")
        assert not cluster.connection.seen[POD].find("default", "only-there")
        assert [name_of(node) for node in second.connection.seen[NODE].all()] == ["node-1"]
        second.connection.close()


@pytest.mark.parametrize(
    "nodes, words",
    [(["lots"], "'lots' is not an amount of memory"), (["1x80GiB", "0x1GiB"], "that makes 0 GPUs"), (["no.toml"], "no.toml")],
)
def test_nodes_that_cannot_be(nodes, words):
    with pytest.raises(DeployError) as raised, local.cluster(nodes):
        pass
    assert words in str(raised.value) and "Traceback" not in str(raised.value) and "has ended with 4" in str(raised.value)


def test_where_no_cluster_is(tmp_path):
    with pytest.raises(DeployError, match="no local cluster has its files there"):
        local.found_in(tmp_path)

    async def ask(access: Access) -> None:
        async with Api(access, timeout=5) as api:
            await api.list(POD)

    with pytest.raises(Unreachable, match=r"no API of a cluster answers at http://127\.0\.0\.1:9"):
        asyncio.run(ask(Access("http://127.0.0.1:9", "x")))
