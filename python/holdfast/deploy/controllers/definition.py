"""The definition of DynamoGraphDeployments for an API that has none: what is in one is the operator's to check, not the API's."""

from __future__ import annotations

from holdfast.deploy.kinds import GRAPH, Object


def definition() -> Object:
    group, version = GRAPH.group.split("/")
    free = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    schema = {"type": "object", "properties": {"spec": free, "status": free}}
    one = {
        "name": version,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "schema": {"openAPIV3Schema": schema},
    }
    names = {"plural": GRAPH.plural, "singular": GRAPH.name.lower(), "kind": GRAPH.name, "shortNames": ["dgd"]}
    spec = {"group": group, "scope": "Namespaced", "names": names, "versions": [one]}
    return {"metadata": {"name": f"{GRAPH.plural}.{group}"}, "spec": spec}
