"""ReplicaSets and StatefulSets of the local cluster: as many pods as they say."""

from __future__ import annotations

import hashlib
import json
from typing import Optional

from holdfast.deploy.errors import ApiError
from holdfast.deploy.kinds import POD, REPLICA_SET, STATEFUL_SET, Kind, Object, is_leaving, is_ready, labels_of, name_of, namespace_of
from holdfast.deploy.local.store import Store

_HASH = "controller-revision-hash"


def reconcile(store: Store) -> None:
    for thing in store.all(REPLICA_SET):
        if not is_leaving(thing):
            _replica_set(store, thing)
    for thing in store.all(STATEFUL_SET):
        if not is_leaving(thing):
            _stateful_set(store, thing)


def _owned(store: Store, owner: Object) -> list[Object]:
    uid = owner["metadata"]["uid"]
    found = store.all(POD, namespace_of(owner))
    return [pod for pod in found if any(one["uid"] == uid for one in pod["metadata"].get("ownerReferences", []))]


def _hash_of(template: Object) -> str:
    return hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:10]


def _make(store: Store, owner: Object, kind: Kind, name: dict[str, str], labels: dict[str, str]) -> None:
    template = owner["spec"]["template"]
    reference = {
        "apiVersion": kind.group,
        "kind": kind.name,
        "name": name_of(owner),
        "uid": owner["metadata"]["uid"],
        "controller": True,
    }
    metadata = {
        **name, "namespace": namespace_of(owner), "labels": {**labels_of(template), **labels},
        "annotations": template["metadata"].get("annotations", {}), "ownerReferences": [reference],
    }  # fmt: skip
    try:
        store.create(POD, {"metadata": metadata, "spec": template["spec"]})
    except ApiError as error:
        if error.status not in (403, 404, 409):  # The namespace is going, or the old one of that name is.
            raise


def _replica_set(store: Store, thing: Object) -> None:
    """As many as it says, made of the template that it has now; older ones stay until somebody deletes them.
    https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/"""
    wanted = int(thing["spec"].get("replicas", 1))
    pods = [
        pod for pod in _owned(store, thing) if not is_leaving(pod) and pod.get("status", {}).get("phase") not in ("Failed", "Succeeded")
    ]
    for pod in sorted(pods, key=lambda pod: (is_ready(pod), pod["metadata"]["creationTimestamp"]))[: max(0, len(pods) - wanted)]:
        store.delete(POD, namespace_of(pod), name_of(pod))
    for _ in range(wanted - len(pods)):
        _make(store, thing, REPLICA_SET, {"generateName": f"{name_of(thing)}-"}, {})
    _tell(store, REPLICA_SET, thing)


def _stateful_set(store: Store, thing: Object) -> None:
    wanted = int(thing["spec"].get("replicas", 1))
    mark = _hash_of(thing["spec"]["template"])
    pods = {name_of(pod): pod for pod in _owned(store, thing)}
    names = [f"{name_of(thing)}-{number}" for number in range(wanted)]
    for name, pod in pods.items():
        if (name not in names or labels_of(pod).get(_HASH) != mark) and not is_leaving(pod):
            store.delete(POD, namespace_of(pod), name)
    for name in names:
        before: Optional[Object] = pods.get(name)
        if before is None:
            _make(store, thing, STATEFUL_SET, {"name": name}, {_HASH: mark})
            break  # One after the other.
        if not is_ready(before):
            break
    _tell(store, STATEFUL_SET, thing)


def _tell(store: Store, kind: Kind, thing: Object) -> None:
    pods = [pod for pod in _owned(store, thing) if not is_leaving(pod)]
    ready = sum(is_ready(pod) for pod in pods)
    counts = {
        "replicas": len(pods),
        "readyReplicas": ready,
        "availableReplicas": ready,
        "observedGeneration": thing["metadata"]["generation"],
    }
    if store.find(kind, namespace_of(thing), name_of(thing)) is not None:
        store.patch(kind, namespace_of(thing), name_of(thing), {"status": counts}, status=True)
