"""A node of the local cluster: pods that it hears of late."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from holdfast.deploy.kinds import NAMESPACE, POD
from holdfast.deploy.local.addresses import Addresses
from holdfast.deploy.local.groups import Group
from holdfast.deploy.local.kubelet import Node
from holdfast.deploy.local.store import Change, Store


def pod(store: Store, name: str) -> dict[str, Any]:
    spec = {"nodeName": "node-1", "containers": [{"name": "main", "image": "holdfast-standin"}]}
    return store.create(POD, {"metadata": {"name": name, "namespace": "default"}, "spec": spec})


def test_a_pod_that_was_to_go_before_its_node_has_heard_of_it_is_gone(tmp_path: Path) -> None:
    """Changes of a real API may come together: then nobody else would ever remove it."""
    store = Store()
    store.create(NAMESPACE, {"metadata": {"name": "default"}, "spec": {}})
    node = Node(store, "node-1", tmp_path, [], Addresses(), tmp_path, Group([]))
    pod(store, "a")
    leaving = store.delete(POD, "default", "a")
    assert leaving["metadata"]["deletionTimestamp"]
    node.on_pod(Change(0, POD, "MODIFIED", leaving, None))
    assert store.find(POD, "default", "a") is None
    # Another one of that name is not meant.
    second = pod(store, "a")
    node.on_pod(Change(0, POD, "DELETED", leaving, None))
    there = store.find(POD, "default", "a")
    assert there is not None and there["metadata"]["uid"] == second["metadata"]["uid"]
