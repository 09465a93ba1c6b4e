"""The kinds of objects that deployments consist of, and where the API has them."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any, Optional

from holdfast.deploy.quantity import whole

# An object as the API has it.
Object = dict[str, Any]


@dataclass(frozen=True)
class Kind:
    """`group`: with the version, as in apiVersion. `status`: whether that is a resource of its own, which other changes do not
    touch."""

    group: str
    name: str
    plural: str
    namespaced: bool = True
    status: bool = False

    def path(self, namespace: Optional[str] = None, name: Optional[str] = None, sub: Optional[str] = None) -> str:
        parts = ["/apis" if "/" in self.group else "/api", self.group]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        parts += [part for part in (self.plural, name, sub) if part]
        return "/".join(parts)


NAMESPACE = Kind("v1", "Namespace", "namespaces", namespaced=False, status=True)
NODE = Kind("v1", "Node", "nodes", namespaced=False, status=True)
POD = Kind("v1", "Pod", "pods", status=True)
SERVICE = Kind("v1", "Service", "services")
CONFIG_MAP = Kind("v1", "ConfigMap", "configmaps")
SECRET = Kind("v1", "Secret", "secrets")
EVENT = Kind("v1", "Event", "events")
CLAIM = Kind("v1", "PersistentVolumeClaim", "persistentvolumeclaims")
LEASE = Kind("coordination.k8s.io/v1", "Lease", "leases")
DEFINITION = Kind("apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions", namespaced=False, status=True)
DAEMON_SET = Kind("apps/v1", "DaemonSet", "daemonsets", status=True)
DEPLOYMENT = Kind("apps/v1", "Deployment", "deployments", status=True)
SERVICE_ACCOUNT = Kind("v1", "ServiceAccount", "serviceaccounts")
CLUSTER_ROLE = Kind("rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles", namespaced=False)
CLUSTER_ROLE_BINDING = Kind("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "clusterrolebindings", namespaced=False)
REPLICA_SET = Kind("apps/v1", "ReplicaSet", "replicasets", status=True)
STATEFUL_SET = Kind("apps/v1", "StatefulSet", "statefulsets", status=True)
GRAPH = Kind("nvidia.com/v1alpha1", "DynamoGraphDeployment", "dynamographdeployments", status=True)

# What the local cluster's own API has.
KINDS = (NAMESPACE, NODE, POD, SERVICE, CONFIG_MAP, SECRET, EVENT, CLAIM, REPLICA_SET, STATEFUL_SET, GRAPH)


def name_of(thing: Object) -> str:
    return str(thing["metadata"]["name"])


def namespace_of(thing: Object) -> str:
    return str(thing["metadata"].get("namespace", ""))


def labels_of(thing: Object) -> dict[str, str]:
    found: dict[str, str] = thing["metadata"].get("labels") or {}
    return found


def is_leaving(thing: Object) -> bool:
    return "deletionTimestamp" in thing["metadata"]


def condition(thing: Object, name: str) -> Object:
    """Of the status; empty where there is none. What has just been made may have null in the place of any."""
    found: Object = next((one for one in (thing.get("status") or {}).get("conditions") or [] if one["type"] == name), {})
    return found


def is_ready(pod: Object) -> bool:
    return condition(pod, "Ready").get("status") == "True" and not is_leaving(pod)


def service_gpus(service: Object) -> int:
    """What a service of a DynamoGraphDeployment asks for. Raises ValueError, AttributeError where that is no number."""
    return int(((service.get("resources") or {}).get("limits") or {}).get("gpu", 0))


def gpus_of(spec: Object) -> int:
    """What the containers of a pod ask for."""
    return sum(int((one.get("resources") or {}).get("limits", {}).get("nvidia.com/gpu", 0)) for one in spec.get("containers", []))


def memory_of(container: Object) -> Optional[int]:
    """Bytes that it may have; None for as many as there are. Raises ValueError where that is no quantity."""
    limit = ((container.get("resources") or {}).get("limits") or {}).get("memory")
    return None if limit is None else whole(limit)


def decoded(secret: Object) -> dict[str, str]:
    """What a Secret holds, as text."""
    return {**{key: base64.b64decode(value).decode() for key, value in secret.get("data", {}).items()}, **secret.get("stringData", {})}
