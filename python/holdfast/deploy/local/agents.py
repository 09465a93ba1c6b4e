"""The fault service on each node of the local cluster, as a pod: what a DaemonSet does on a real one."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from holdfast.deploy.kinds import NAMESPACE, POD, SECRET, Object
from holdfast.deploy.local.kubelet import KERNEL_LOG
from holdfast.deploy.local.store import Store
from holdfast.faults.page import shim_path

SYSTEM = "fault-injection-system"
APP = "holdfast-faultd"
PORT = 8083
TOKEN_SECRET = "holdfast-faultd-token"
STATE_PATH = "/var/lib/holdfast-faultd"


def add_agents(store: Store, nodes: Mapping[str, Path], token: str) -> None:
    """`nodes`: where the file system of each begins."""
    store.create(NAMESPACE, {"metadata": {"name": SYSTEM}, "spec": {}})
    secret = {"metadata": {"name": TOKEN_SECRET, "namespace": SYSTEM}, "stringData": {"token": token}}
    store.create(SECRET, secret)
    for node, root in nodes.items():
        state = root / STATE_PATH.lstrip("/")
        state.mkdir(parents=True, mode=0o700)
        # Beside the page, so that one volume brings a pod both.
        shutil.copy(shim_path(), state / "libfaultshim.so")
        store.create(POD, agent(node))


def agent(node: str) -> Object:
    mounts = {"state": STATE_PATH, "log": "/var/log"}
    arguments = [
        "faultd",
        "--node",
        node,
        "--state",
        STATE_PATH,
        "--kernel-log",
        KERNEL_LOG,
        "--listen",
        f"$(POD_IP):{PORT}",
        "--token-file",
        "/run/token/token",
    ]
    volumes: list[Object] = [{"name": name, "hostPath": {"path": path, "type": "DirectoryOrCreate"}} for name, path in mounts.items()]
    volumes.append({"name": "token", "secret": {"secretName": TOKEN_SECRET}})
    container = {
        "name": "faultd",
        "image": "holdfast-agent",
        "command": ["holdfast"],
        "args": arguments,
        "securityContext": {"privileged": True},
        "env": [{"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
        "volumeMounts": [
            *({"name": name, "mountPath": path} for name, path in mounts.items()),
            {"name": "token", "mountPath": "/run/token"},
        ],
        "readinessProbe": {"httpGet": {"path": "/health", "port": PORT}, "periodSeconds": 5},
    }
    # Tolerates everything and is bound to its node from the start, as a DaemonSet's pods are.
    spec = {"nodeName": node, "containers": [container], "volumes": volumes, "tolerations": [{"operator": "Exists"}]}
    return {"metadata": {"name": f"{APP}-{node}", "namespace": SYSTEM, "labels": {"app": APP}}, "spec": spec}
