"""The fault service on each node, as a pod of its own: where it is, what it is called, what it is made of.

On a real cluster a DaemonSet makes such pods; the local one has them from its start.
"""

from __future__ import annotations

from holdfast.deploy.kinds import Object

SYSTEM = "fault-injection-system"
APP = "holdfast-faultd"
PORT = 8083
TOKEN_SECRET = "holdfast-faultd-token"
STATE_PATH = "/var/lib/holdfast-faultd"
KERNEL_LOG = "/var/log/kernel.log"


def agent(node: str) -> Object:
    """Bound to its node from the start, as a DaemonSet's pods are."""
    metadata = {"name": f"{APP}-{node}", "namespace": SYSTEM, "labels": {"app": APP}}
    return {"metadata": metadata, "spec": {**_spec(), "nodeName": node}}


def daemon_set() -> Object:
    template = {"metadata": {"labels": {"app": APP}}, "spec": _spec()}
    return {"metadata": {"name": APP, "namespace": SYSTEM}, "spec": {"selector": {"matchLabels": {"app": APP}}, "template": template}}


def _spec() -> Object:
    mounts = {"state": STATE_PATH, "log": "/var/log"}
    arguments = [
        "faultd",
        "--node",
        "$(NODE_NAME)",
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
        "env": [
            {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        ],
        "volumeMounts": [
            *({"name": name, "mountPath": path} for name, path in mounts.items()),
            {"name": "token", "mountPath": "/run/token"},
        ],
        "readinessProbe": {"httpGet": {"path": "/health", "port": PORT}, "periodSeconds": 5},
    }
    return {"containers": [container], "volumes": volumes, "tolerations": [{"operator": "Exists"}]}
