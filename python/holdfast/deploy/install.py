"""What a cluster needs for deployments that are to be broken, put there and taken away again (`holdfast deploy install`, `uninstall`):
a fault service on each node, and where the cluster has none of its own, a quarantine, an operator, and simulated GPUs.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

from holdfast.deploy.agents import APP, KERNEL_LOG, PORT, STATE_PATH, SYSTEM, TOKEN_SECRET
from holdfast.deploy.api import Access, Api
from holdfast.deploy.apply import made, until, until_gone
from holdfast.deploy.controllers.definition import definition
from holdfast.deploy.controllers.sentinel import Drain
from holdfast.deploy.describe import state_of
from holdfast.deploy.errors import ApiError, DeployError, WaitFailed
from holdfast.deploy.inside.prepare import environment as gpu_environment
from holdfast.deploy.kinds import (
    CLUSTER_ROLE,
    CLUSTER_ROLE_BINDING,
    DAEMON_SET,
    DEFINITION,
    DEPLOYMENT,
    GRAPH,
    NAMESPACE,
    POD,
    SECRET,
    SERVICE_ACCOUNT,
    Kind,
    Object,
    condition,
    is_ready,
    labels_of,
    name_of,
)  # fmt: skip

GPU_PATH = "/var/lib/holdfast-simgpu"
OPERATOR = "holdfast-operator"
ACCOUNT = "holdfast"
_OURS = {"app.kubernetes.io/managed-by": "holdfast"}
_RULES = [
    {"apiGroups": [""], "resources": ["nodes", "nodes/status"], "verbs": ["get", "list", "watch", "update", "patch"]},
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch", "delete"]},
    {"apiGroups": [""], "resources": ["pods/eviction", "events"], "verbs": ["create"]},
    {"apiGroups": [""], "resources": ["services"], "verbs": ["get", "list", "watch", "create", "delete"]},
    {"apiGroups": ["apps"], "resources": ["replicasets"], "verbs": ["get", "list", "watch", "create", "update", "delete"]},
    {"apiGroups": ["nvidia.com"], "resources": ["dynamographdeployments"], "verbs": ["get", "list", "watch"]},
    {"apiGroups": ["nvidia.com"], "resources": ["dynamographdeployments/status"], "verbs": ["patch"]},
]


@dataclass(frozen=True)
class Choice:
    """`gpus`: simulated ones for each node, as simgpu has them. `quarantine`, `operator`: ours; without them the cluster's own are
    meant, and the driver's lines go to the kernel's log itself, where monitors look for them."""

    image: str
    gpus: str = ""
    quarantine: bool = True
    operator: bool = True
    drain: Drain = field(default_factory=Drain)

    @property
    def kernel_log(self) -> str:
        return KERNEL_LOG if self.quarantine else "kmsg"


def things(choice: Choice) -> list[tuple[Kind, Object]]:
    """In the order in which they are made."""
    account = {"kind": SERVICE_ACCOUNT.name, "name": ACCOUNT, "namespace": SYSTEM}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": CLUSTER_ROLE.name, "name": f"{APP}-node"}
    found: list[tuple[Kind, Object]] = [
        (NAMESPACE, {"metadata": {"name": SYSTEM}}),
        (SERVICE_ACCOUNT, {"metadata": {"name": ACCOUNT, "namespace": SYSTEM}}),
        (CLUSTER_ROLE, {"metadata": {"name": role["name"]}, "rules": _RULES}),
        (CLUSTER_ROLE_BINDING, {"metadata": {"name": role["name"]}, "roleRef": role, "subjects": [account]}),
        (SECRET, {"metadata": {"name": TOKEN_SECRET, "namespace": SYSTEM}, "stringData": {"token": secrets.token_hex(16)}}),
        (DAEMON_SET, _daemon_set(choice)),
    ]
    if choice.operator:
        found[:0] = [(DEFINITION, definition())]
        found.append((DEPLOYMENT, _operator(choice)))
    for _, thing in found:
        thing["metadata"]["labels"] = {**labels_of(thing), **_OURS}
    return found


def _operator(choice: Choice) -> Object:
    labels = {"app": OPERATOR}
    container = _program(choice, "operator")
    spec = {"serviceAccountName": ACCOUNT, "containers": [container], "terminationGracePeriodSeconds": 5}
    template = {"metadata": {"labels": labels}, "spec": spec}
    return {
        "metadata": {"name": OPERATOR, "namespace": SYSTEM},
        "spec": {"replicas": 1, "strategy": {"type": "Recreate"}, "selector": {"matchLabels": labels}, "template": template},
    }


def _program(choice: Choice, action: str, *words: str) -> Object:
    command = ["python3", "-m", "holdfast.deploy.inside", action, *words]
    return {"name": action, "image": choice.image, "imagePullPolicy": "IfNotPresent", "command": command}


def _daemon_set(choice: Choice) -> Object:
    labels = {"app": APP}
    preparing = _program(choice, "prepare", "--state", STATE_PATH, "--gpu-folder", GPU_PATH, "--gpus", choice.gpus or "none")
    preparing["volumeMounts"] = [_mount("state"), _mount("gpus")]
    containers = [_faultd(choice)]
    if choice.gpus:
        plugin = _program(choice, "gpus", "--gpu-folder", GPU_PATH)
        containers.append({**plugin, "securityContext": {"privileged": True}, "volumeMounts": [_mount("gpus"), _mount("plugins")]})
    if choice.quarantine:
        words = ("--node", "$(NODE_NAME)", "--kernel-log", KERNEL_LOG, "--drain", choice.drain.mode)
        watching = _program(choice, "quarantine", *words, "--drain-seconds", str(choice.drain.seconds))
        containers.append({**watching, "env": [_NODE_NAME], "volumeMounts": [_mount("log")]})
    spec: Object = {
        "serviceAccountName": ACCOUNT,
        # Faults of processes are for those of the node.
        "hostPID": True,
        "tolerations": [{"operator": "Exists"}],
        "terminationGracePeriodSeconds": 5,
        "initContainers": [preparing],
        "containers": containers,
        "volumes": [
            *({"name": name, "hostPath": {"path": path, "type": "DirectoryOrCreate"}} for name, path in _PATHS.items()),
            {"name": "token", "secret": {"secretName": TOKEN_SECRET}},
        ],
    }
    template = {"metadata": {"labels": labels}, "spec": spec}
    return {"metadata": {"name": APP, "namespace": SYSTEM}, "spec": {"selector": {"matchLabels": labels}, "template": template}}


_PATHS = {"state": STATE_PATH, "log": "/var/log", "gpus": GPU_PATH, "plugins": "/var/lib/kubelet/device-plugins"}
_NODE_NAME = {"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}


def _mount(name: str) -> Object:
    return {"name": name, "mountPath": _PATHS[name]}


def _faultd(choice: Choice) -> Object:
    """It listens on the pod's loopback alone: who uses it comes through the API server, by a forwarded port."""
    words = ["--node", "$(NODE_NAME)", "--state", STATE_PATH, "--kernel-log", choice.kernel_log, "--listen", f"127.0.0.1:{PORT}"]
    asking = f"import urllib.request as u; u.urlopen('http://127.0.0.1:{PORT}/health', timeout=3)"
    environment = [_NODE_NAME]
    mounts = [_mount("state"), _mount("log"), {"name": "token", "mountPath": "/run/token"}]
    if choice.gpus:
        environment += [{"name": name, "value": value} for name, value in gpu_environment(Path(GPU_PATH)).items()]
        mounts.append(_mount("gpus"))
    return {
        "name": "faultd",
        "image": choice.image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["holdfast", "faultd", *words, "--token-file", "/run/token/token"],
        "securityContext": {"privileged": True},
        "env": environment,
        "volumeMounts": mounts,
        "readinessProbe": {"exec": {"command": ["python3", "-c", asking]}, "timeoutSeconds": 5, "periodSeconds": 5},
    }


# ---- to put it there, and to take it away


async def install(access: Access, choice: Choice, told: Callable[[str], None], *, seconds: float = 120.0) -> None:
    """What is there already stays as it is, and is said. Raises DeployError; what was made until then stays, for a look at it:
    uninstall() takes it away."""
    async with Api(access) as api:
        for kind, thing in things(choice):
            new = await made(api, kind, thing)
            told(f"{kind.name} {name_of(thing)}: {'made' if new else 'was there'}")
            if kind is DEFINITION:
                await until(api, kind, "", name_of(thing), lambda one: condition(one, "Established").get("status") == "True")
        try:
            await until(api, DAEMON_SET, SYSTEM, APP, _is_everywhere, seconds)
            if choice.operator:
                await until(api, DEPLOYMENT, SYSTEM, OPERATOR, lambda one: one.get("status", {}).get("readyReplicas", 0) >= 1, seconds)
        except WaitFailed as problem:
            pods = [pod for pod in (await api.list(POD, SYSTEM))[0] if not is_ready(pod)]
            raise WaitFailed(problem.what, seconds, "; ".join(map(state_of, pods)) or problem.last) from None


def _is_everywhere(daemon_set: Object) -> bool:
    status = daemon_set.get("status", {})
    wanted = int(status.get("desiredNumberScheduled", 0))
    current = status.get("observedGeneration") == daemon_set["metadata"].get("generation")
    return current and wanted > 0 and int(status.get("numberReady", 0)) >= wanted


async def uninstall(access: Access, told: Callable[[str], None], *, seconds: float = 120.0) -> None:
    """What install() has made, and waits until it is gone. Refuses, before anything is done, where deployments are there that its
    operator has the pods of. Raises DeployError."""
    async with Api(access) as api:
        await _check_no_deployments(api)
        choice = Choice(image="")
        for kind, thing in reversed(things(choice)):
            namespace = thing["metadata"].get("namespace", "")
            there = await api.find(kind, namespace, name_of(thing))
            if there is None:
                continue
            if any(labels_of(there).get(key) != value for key, value in _OURS.items()):
                told(f"{kind.name} {name_of(thing)}: not ours, so it stays")
                continue
            await api.delete(kind, namespace, name_of(thing))
            await until_gone(api, kind, namespace, name_of(thing), seconds)
            told(f"{kind.name} {name_of(thing)}: removed")


async def _check_no_deployments(api: Api) -> None:
    try:
        graphs, _ = await api.list(GRAPH)
    except ApiError as error:
        if error.status == 404:
            return
        raise
    if graphs:
        names = ", ".join(f"{one['metadata']['namespace']}/{name_of(one)}" for one in graphs)
        raise DeployError(f"there are deployments still ({names}); remove them first, or with `holdfast deploy sweep`")
