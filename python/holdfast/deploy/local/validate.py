"""What the API refuses to take: objects that a controller or a node could only stumble over later."""

from __future__ import annotations

from holdfast.deploy.errors import ApiError
from holdfast.deploy.kinds import POD, REPLICA_SET, SERVICE, STATEFUL_SET, Kind, Object, gpus_of, memory_of


def check(kind: Kind, thing: Object) -> None:
    """Raises ApiError (422)."""
    try:
        if kind in (REPLICA_SET, STATEFUL_SET):
            if int(thing["spec"].get("replicas", 1)) < 0:
                raise ValueError("spec.replicas is negative")
            _pod(thing["spec"]["template"]["spec"])
            labels = thing["spec"]["template"]["metadata"]["labels"]
            wanted = thing["spec"]["selector"]["matchLabels"]
            if not wanted or not wanted.items() <= labels.items():
                raise ValueError("spec.selector is empty, or the template's labels do not match it")
        elif kind is SERVICE:
            if not thing["spec"]["ports"]:
                raise ValueError("spec.ports is empty")
        elif kind is POD:
            _pod(thing["spec"])
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        name = (thing.get("metadata") or {}).get("name", "")
        raise ApiError(422, "Invalid", f'{kind.name} "{name}" is invalid: {problem!r}') from None


def _pod(spec: Object) -> None:
    gpus_of(spec)
    if not spec["containers"]:
        raise ValueError("spec.containers is empty")
    int(spec.get("terminationGracePeriodSeconds", 30))
    for one in [*spec["containers"], *(spec.get("initContainers") or [])]:
        if not isinstance(one["name"], str):
            raise ValueError("a container has no name")
        for key in ("env", "envFrom", "volumeMounts"):
            if not all(isinstance(entry, dict) for entry in one.get(key) or []):
                raise ValueError(f"{key} of container {one['name']} is no list of mappings")
        if not all(isinstance(entry["name"], str) for entry in one.get("env") or []):
            raise ValueError(f"a variable of container {one['name']} has no name")
        memory_of(one)
    for volume in spec.get("volumes") or []:
        if not isinstance(volume["name"], str):
            raise ValueError("a volume has no name")
