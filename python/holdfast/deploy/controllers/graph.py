"""A small operator for DynamoGraphDeployments: a ReplicaSet for each of its services, a Service for its frontend, its status, and
updates that roll: a ReplicaSet leaves pods of an older template alone, so this decides when they go.

What of the resource it reads: spec.envs, spec.services.NAME.{replicas, envs, envFromSecret, componentType,
resources.{limits, requests}.{gpu, cpu, memory}, extraPodSpec.*, livenessProbe, readinessProbe},
spec.updateStrategy.{type: RollingUpdate|OnDelete, rollingUpdate.maxUnavailable} (no surge: an old pod goes before its successor comes,
since it has the GPUs that the new one needs). Names and labels are those that upstream's operator gives.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from typing import Any, Optional

from holdfast.deploy.api import Api
from holdfast.deploy.errors import ApiError
from holdfast.deploy.informer import Informers
from holdfast.deploy.kinds import (
    GRAPH,
    POD,
    REPLICA_SET,
    SERVICE,
    Kind,
    Object,
    is_leaving,
    is_ready,
    labels_of,
    name_of,
    namespace_of,
    service_gpus,
)
from holdfast.deploy.platform import NAMES, PORTS

GRAPH_LABEL = "nvidia.com/dynamo-graph-deployment-name"
COMPONENT = "nvidia.com/dynamo-component"
COMPONENT_TYPE = "nvidia.com/dynamo-component-type"
SELECTOR = "nvidia.com/selector"
PORT, SYSTEM_PORT = 8000, 9090
# A hash of the template, on the ReplicaSet and its pods. A real API fills in what a template leaves out, so those cannot be compared.
MADE_OF = "holdfast.dev/made-of"


async def run(api: Api) -> None:
    """For good."""
    seen = Informers(api, (GRAPH, REPLICA_SET, SERVICE, POD))
    await seen.begin()
    bell = seen.bell()
    try:
        while True:
            bell.clear()
            for graph in seen[GRAPH].all():
                if not is_leaving(graph):
                    # Somebody else was quicker, or it is going: there will be another change.
                    with contextlib.suppress(ApiError):
                        await _reconcile_or_refuse(api, seen, graph)
            await bell.wait()
    finally:
        await seen.close()


async def _reconcile_or_refuse(api: Api, seen: Informers, graph: Object) -> None:
    try:
        await _reconcile(api, seen, graph)
    except ApiError as error:
        if error.status != 422:
            raise
        await _write_status(api, graph, "failed", error.message)
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        await _write_status(api, graph, "failed", f"the specification cannot be: {problem!r}")


async def _reconcile(api: Api, seen: Informers, graph: Object) -> None:
    namespace = namespace_of(graph)
    wanted = {f"{name_of(graph)}-{name.lower()}": (name, service) for name, service in graph["spec"]["services"].items()}
    environment = _platform(seen, namespace)
    made = {name: _replica_set(graph, name, service_name, service, environment) for name, (service_name, service) in wanted.items()}
    for name, (service_name, service) in wanted.items():
        await _apply(api, seen, REPLICA_SET, made[name])
        await _roll(api, seen, graph, made[name])
        if is_frontend(service_name, service):
            await _apply(api, seen, SERVICE, _service(graph, name))
    for thing in seen[REPLICA_SET].all():
        if _is_of(graph, thing) and name_of(thing) not in wanted:
            await api.delete(REPLICA_SET, namespace, name_of(thing))
    await _tell(api, seen, graph, made)


def is_frontend(name: str, service: Object) -> bool:
    return service.get("componentType") == "frontend" or name == "Frontend"


def _is_of(graph: Object, thing: Object) -> bool:
    return any(one["uid"] == graph["metadata"]["uid"] for one in thing["metadata"].get("ownerReferences", []))


async def _apply(api: Api, seen: Informers, kind: Kind, wanted: Object) -> None:
    """Makes it as it should be, where that is not so; what others have added stays."""
    old = seen[kind].find(namespace_of(wanted), name_of(wanted))
    if old is None:
        await api.create(kind, wanted)
    elif kind is REPLICA_SET and _differs(old, wanted):
        metadata = {**old["metadata"], "labels": wanted["metadata"]["labels"]}
        await api.replace(kind, {**old, "metadata": metadata, "spec": wanted["spec"]})


def _differs(old: Object, wanted: Object) -> bool:
    return labels_of(old).get(MADE_OF) != labels_of(wanted)[MADE_OF] or old["spec"].get("replicas") != wanted["spec"]["replicas"]


async def _roll(api: Api, seen: Informers, graph: Object, wanted: Object) -> None:
    """Deletes pods of older templates, as far as the strategy lets it."""
    strategy = graph["spec"].get("updateStrategy") or {}
    if strategy.get("type") == "OnDelete":
        return
    pods = _pods_of(seen, wanted)
    replicas = int(wanted["spec"]["replicas"])
    missing = _amount((strategy.get("rollingUpdate") or {}).get("maxUnavailable", "25%"), replicas)
    may_go = sum(is_ready(pod) for pod in pods) - (replicas - missing)
    for pod in sorted((pod for pod in pods if labels_of(pod).get(MADE_OF) != labels_of(wanted)[MADE_OF]), key=is_ready):
        # Those that are not ready do nothing anyway.
        if not is_ready(pod) or may_go > 0:
            may_go -= is_ready(pod)
            await api.delete(POD, namespace_of(pod), name_of(pod))


def _pods_of(seen: Informers, replica_set: Object) -> list[Object]:
    name, namespace = name_of(replica_set), namespace_of(replica_set)
    return [
        pod
        for pod in seen[POD].all()
        if labels_of(pod).get(SELECTOR) == name and namespace_of(pod) == namespace and not is_leaving(pod)
    ]


def _amount(value: Any, of: int) -> int:
    """At least one, or nothing would ever go on."""
    exact = of * float(value[:-1]) / 100 if isinstance(value, str) and value.endswith("%") else float(value)
    return max(1, math.floor(exact))


def _platform(seen: Informers, namespace: str) -> list[Object]:
    """Where NATS and etcd of that namespace are: by address, since not every cluster has names."""
    found = []
    for part, variable, scheme in (("nats", "NATS_SERVER", "nats"), ("etcd", "ETCD_ENDPOINTS", "http")):
        thing = seen[SERVICE].find(namespace, NAMES[part])
        if thing is not None and thing["spec"].get("clusterIP"):
            found.append({"name": variable, "value": f"{scheme}://{thing['spec']['clusterIP']}:{PORTS[part]}"})
    return found


def _owner(graph: Object) -> list[Object]:
    return [
        {"apiVersion": GRAPH.group, "kind": GRAPH.name, "name": name_of(graph), "uid": graph["metadata"]["uid"], "controller": True}
    ]


def _replica_set(graph: Object, name: str, service_name: str, service: Object, platform: list[Object]) -> Object:
    labels = {
        SELECTOR: name,
        GRAPH_LABEL: name_of(graph),
        COMPONENT: service_name,
        COMPONENT_TYPE: str(service.get("componentType", "worker")),
    }
    labels.update({key: value for key, value in labels_of(graph).items() if key.startswith("holdfast.dev/")})
    extra = {key: value for key, value in (service.get("extraPodSpec") or {}).items() if key != "mainContainer"}
    container = _container(graph, service_name, service, platform)
    template: Object = {
        "metadata": {"labels": labels},
        "spec": {"terminationGracePeriodSeconds": 10, **extra, "containers": [container]},
    }
    made_of = hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:12]
    labels = {**labels, MADE_OF: made_of}
    template["metadata"] = {"labels": labels}
    spec: Object = {"replicas": int(service.get("replicas", 1)), "selector": {"matchLabels": {SELECTOR: name}}, "template": template}
    metadata = {"name": name, "namespace": namespace_of(graph), "labels": labels, "ownerReferences": _owner(graph)}
    return {"metadata": metadata, "spec": spec}


def _container(graph: Object, service_name: str, service: Object, platform: list[Object]) -> Object:
    given = dict((service.get("extraPodSpec") or {}).get("mainContainer") or {})
    frontend = is_frontend(service_name, service)
    port = PORT if frontend else SYSTEM_PORT
    environment = [
        *platform,
        {"name": "DYN_NAMESPACE", "value": str(service.get("dynamoNamespace") or name_of(graph))},
        {"name": "DYN_COMPONENT", "value": service_name},
        {"name": "DYN_SYSTEM_PORT", "value": str(SYSTEM_PORT)},
        {"name": "DYN_HTTP_PORT", "value": str(PORT)},
        {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
    ]
    environment += [*(graph["spec"].get("envs") or []), *(service.get("envs") or []), *(given.pop("env", None) or [])]
    container: Object = {
        "name": "main",
        "ports": [{"containerPort": port}],
        "env": _last_wins(environment),
        "readinessProbe": service.get("readinessProbe")
        or {"httpGet": {"path": "/health", "port": port}, "periodSeconds": 1, "failureThreshold": 2},
        "livenessProbe": service.get("livenessProbe") or {"httpGet": {"path": "/live", "port": port}, "periodSeconds": 5},
    }
    if frontend:
        container["command"] = ["python3", "-m", "dynamo.frontend"]
    if resources := _resources(service):
        container["resources"] = resources
    if service.get("envFromSecret"):
        container["envFrom"] = [{"secretRef": {"name": service["envFromSecret"]}}]
    return {**container, **given}


def _resources(service: Object) -> Object:
    """A container's, of what a service asks for: `gpu` has another name there."""
    made: Object = {}
    for part, asked in (service.get("resources") or {}).items():
        if part in ("limits", "requests") and isinstance(asked, dict):
            found = {name: str(asked[name]) for name in ("cpu", "memory") if name in asked}
            gpus = service_gpus(service) if part == "limits" else 0
            made[part] = {**found, **({"nvidia.com/gpu": str(gpus)} if gpus else {})}
    return made


def _last_wins(environment: list[Object]) -> list[Object]:
    return list({entry["name"]: entry for entry in environment}.values())


def _service(graph: Object, name: str) -> Object:
    metadata = {
        "name": name,
        "namespace": namespace_of(graph),
        "labels": {GRAPH_LABEL: name_of(graph)},
        "ownerReferences": _owner(graph),
    }
    return {"metadata": metadata, "spec": {"selector": {SELECTOR: name}, "ports": [{"port": PORT, "targetPort": PORT}]}}


async def _tell(api: Api, seen: Informers, graph: Object, made: dict[str, Object]) -> None:
    """Ready when each service has all of its pods, of the present template, and they are ready."""
    missing = [why for one in made.values() if (why := _missing(seen, one)) is not None]
    await _write_status(api, graph, "pending" if missing else "successful", "; ".join(missing) or "All resources are ready")


async def _write_status(api: Api, graph: Object, state: str, message: str) -> None:
    good = state == "successful"
    ready = {
        "type": "Ready",
        "status": "True" if good else "False",
        "reason": "all_resources_are_ready" if good else "some_resources_are_not_ready",
        "message": message,
    }
    status = {"state": state, "observedGeneration": graph["metadata"]["generation"], "conditions": [ready]}
    if (graph.get("status") or {}) != status:
        await api.patch(GRAPH, namespace_of(graph), name_of(graph), {"status": status}, status=True)


def _missing(seen: Informers, wanted: Object) -> Optional[str]:
    """What a service has not yet, or None."""
    pods, replicas = _pods_of(seen, wanted), int(wanted["spec"]["replicas"])
    current = [pod for pod in pods if labels_of(pod).get(MADE_OF) == labels_of(wanted)[MADE_OF]]
    if len(current) != replicas or len(pods) != replicas:
        older = len(pods) - len(current)
        return f"{name_of(wanted)}: {len(current)} of {replicas} pods are of the present specification, {older} of an older one"
    ready = sum(is_ready(pod) for pod in current)
    return None if ready == replicas else f"{name_of(wanted)}: {ready} of {replicas} pods are ready"
