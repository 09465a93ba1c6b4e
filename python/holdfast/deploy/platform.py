"""What deployments need besides themselves: NATS and etcd, by the names that Dynamo's platform has."""

from __future__ import annotations

from holdfast.deploy.change import change
from holdfast.deploy.connection import Connection
from holdfast.deploy.kinds import CLAIM, POD, SERVICE, STATEFUL_SET, Object, is_ready, labels_of, name_of, namespace_of
from holdfast.deploy.marks import is_made_by, marked

NAMES = {"nats": "dynamo-platform-nats", "etcd": "dynamo-platform-etcd"}
PORTS = {"nats": 4222, "etcd": 2379}
_IMAGES = {"nats": "nats:2.9", "etcd": "etcd:3.4"}
_COMPONENT = "app.kubernetes.io/component"


def _commands(part: str) -> list[str]:
    # Pods of the local cluster share this machine, so each listens on its own address.
    here = "$(POD_IP)"
    if part == "nats":
        return ["nats-server", "-a", here, "-p", str(PORTS[part])]
    client, peer = f"http://{here}:2379", f"http://{here}:2380"
    return [
        "etcd", "--data-dir", "/data/etcd", "--unsafe-no-fsync", "--listen-client-urls", client, "--advertise-client-urls", client,
        "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}", "--logger", "zap",
    ]  # fmt: skip


def _stateful_set(part: str, namespace: str) -> Object:
    labels = {_COMPONENT: part}
    container = {
        "name": part,
        "image": _IMAGES[part],
        "command": _commands(part),
        "ports": [{"containerPort": PORTS[part]}],
        "env": [{"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
        "readinessProbe": {"tcpSocket": {"port": PORTS[part]}, "periodSeconds": 2},
    }
    spec = {"containers": [container], "volumes": [{"name": "data", "emptyDir": {}}], "terminationGracePeriodSeconds": 5}
    return {
        "metadata": {"name": NAMES[part], "namespace": namespace, "labels": labels},
        "spec": {
            "replicas": 1,
            "serviceName": NAMES[part],
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


def _service(part: str, namespace: str) -> Object:
    metadata = {"name": NAMES[part], "namespace": namespace, "labels": {_COMPONENT: part}}
    return {
        "metadata": metadata,
        "spec": {"selector": {_COMPONENT: part}, "ports": [{"port": PORTS[part], "targetPort": PORTS[part]}]},
    }


class Platform:
    """Of one namespace. All methods run in the connection's thread."""

    def __init__(self, connection: Connection, namespace: str, run: str, by: str) -> None:
        self._connection, self._namespace, self._run, self._by = connection, namespace, run, by
        self.made: list[str] = []

    async def deploy(self, *, restart: bool) -> None:
        """What is not there is made, what is there is begun anew with empty stores, unless `restart` is false. Raises WaitFailed."""
        api = self._connection.api
        for part, name in NAMES.items():
            if await api.find(STATEFUL_SET, self._namespace, name) is None:
                self.made.append(part)
                await api.create(SERVICE, marked(_service(part, self._namespace), self._run, self._by))
                await api.create(STATEFUL_SET, marked(_stateful_set(part, self._namespace), self._run, self._by))
            elif restart:
                await self._restart(part)
        for part in NAMES:
            await self._connection.until(f"{NAMES[part]} to be ready", 60, lambda part=part: self._look(part, 1))  # type: ignore[misc]

    async def _restart(self, part: str) -> None:
        """With its claims of disks removed, so that nothing of before is left in it; as many as there were."""
        api, name = self._connection.api, NAMES[part]
        before = int((await api.get(STATEFUL_SET, self._namespace, name))["spec"].get("replicas", 1))

        async def replicas(number: int) -> None:
            def edit(thing: Object) -> None:
                thing["spec"]["replicas"] = number

            await change(api, STATEFUL_SET, self._namespace, name, edit)

        await replicas(0)
        try:
            await self._connection.until(f"{name} to end", 60, lambda: self._look(part, 0))
            for claim in (await api.list(CLAIM, self._namespace, labels=f"{_COMPONENT}={part}"))[0]:
                await api.delete(CLAIM, namespace_of(claim), name_of(claim))
        finally:
            await replicas(before)

    def _look(self, part: str, wanted: int) -> tuple[bool, str]:
        pods = [
            pod
            for pod in self._connection.seen[POD].all()
            if labels_of(pod).get(_COMPONENT) == part and namespace_of(pod) == self._namespace
        ]
        ready = sum(is_ready(pod) for pod in pods)
        return (not pods if wanted == 0 else ready >= wanted), f"{len(pods)} pods, {ready} of them ready"

    async def remove(self) -> None:
        """What deploy() has made, until its pods are gone: a namespace that still has pods goes seconds later. Raises WaitFailed."""
        api = self._connection.api
        for part in self.made:
            for kind in (STATEFUL_SET, SERVICE):
                there = await api.find(kind, self._namespace, NAMES[part])
                if there is not None and is_made_by(there, self._by):
                    await api.delete(kind, self._namespace, NAMES[part])
        for part in self.made:
            await self._connection.until(f"{NAMES[part]} to end", 60, lambda part=part: self._look(part, 0))  # type: ignore[misc]
