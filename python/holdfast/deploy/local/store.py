"""The objects of the local cluster, with the rules that Kubernetes' API has for them: versions, conflicts, deletion, watches.

Reference: https://kubernetes.io/docs/reference/using-api/api-concepts/
"""

from __future__ import annotations

import asyncio
import copy
import uuid
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Callable, Optional, Protocol

from holdfast.deploy.errors import ApiError
from holdfast.deploy.kinds import (
    EVENT,
    GRAPH,
    KINDS,
    NAMESPACE,
    POD,
    REPLICA_SET,
    STATEFUL_SET,
    Kind,
    Object,
    is_leaving,
    name_of,
    namespace_of,
)
from holdfast.deploy.times import now

_REMEMBERED = 20000  # Changes; who asks for older ones is told to list again (410).
# Kinds whose specifications have a number each.
_COUNTED = (POD, REPLICA_SET, STATEFUL_SET, GRAPH)
_OVER = ("Succeeded", "Failed")


def merged(target: Any, patch: Any) -> Any:
    """JSON merge patch, RFC 7386."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


@dataclass(frozen=True)
class Change:
    version: int
    kind: Kind
    type: str  # ADDED, MODIFIED, DELETED.
    thing: Object
    before: Optional[Object]


def event_of(about: Object, reason: str, message: str, *, source: str, warning: bool) -> Object:
    """A new one; its name is the API's to give."""
    return {
        "metadata": {"generateName": f"{name_of(about)}.", "namespace": namespace_of(about) or "default"},
        "involvedObject": {
            "kind": about["kind"],
            "name": name_of(about),
            "namespace": namespace_of(about),
            "uid": about["metadata"].get("uid", ""),
        },
        "reason": reason,
        "message": message,
        "type": "Warning" if warning else "Normal",
        "count": 1,
        "firstTimestamp": now(),
        "lastTimestamp": now(),
        "source": {"component": source},
    }


class Objects(Protocol):
    """What nodes and services need of the API: the local cluster's own store, or a mirror of a real one (mirror.py)."""

    def find(self, kind: Kind, namespace: str, name: str) -> Optional[Object]: ...
    def all(self, kind: Kind, namespace: str = "") -> Iterator[Object]: ...
    def create(self, kind: Kind, thing: Object) -> Any: ...
    def update(self, kind: Kind, thing: Object, *, status: bool = False) -> Any: ...
    def patch(self, kind: Kind, namespace: str, name: str, patch: Object, *, status: bool = False) -> Any: ...
    def remove(self, kind: Kind, thing: Object) -> Any: ...
    def event(self, about: Object, reason: str, message: str, *, source: str, warning: bool = False) -> None: ...


class Store:
    """Of one event loop. What it gives out is the caller's to change."""

    def __init__(self) -> None:
        self._things: dict[Kind, dict[tuple[str, str], Object]] = {kind: {} for kind in KINDS}
        self._version = 0
        self._changes: deque[Change] = deque(maxlen=_REMEMBERED)
        self._listeners: list[Callable[[Change], None]] = []

    @property
    def version(self) -> int:
        return self._version

    # ---- reading

    def get(self, kind: Kind, namespace: str, name: str) -> Object:
        """Raises ApiError (404)."""
        thing = self._things[kind].get((namespace if kind.namespaced else "", name))
        if thing is None:
            raise ApiError(404, "NotFound", f'{kind.plural} "{name}" not found')
        return copy.deepcopy(thing)

    def find(self, kind: Kind, namespace: str, name: str) -> Optional[Object]:
        try:
            return self.get(kind, namespace, name)
        except ApiError:
            return None

    def all(self, kind: Kind, namespace: str = "") -> Iterator[Object]:
        """In all namespaces, if none is named."""
        for (where, _), thing in sorted(self._things[kind].items()):
            if not namespace or where == namespace:
                yield copy.deepcopy(thing)

    def since(self, version: int) -> list[Change]:
        """Raises ApiError (410) where that is too long ago."""
        if self._changes and version + 1 < self._changes[0].version and version < self._version:
            raise ApiError(410, "Expired", f"too old resource version: {version} ({self._changes[0].version})")
        return [change for change in self._changes if change.version > version]

    def listen(self, listener: Callable[[Change], None]) -> Callable[[], None]:
        """Is told of each change, before it returns to who has made it. Returns how to end that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    # ---- writing

    def create(self, kind: Kind, thing: Object) -> Object:
        thing = copy.deepcopy(thing)
        metadata = thing.setdefault("metadata", {})
        if metadata.get("resourceVersion"):
            raise ApiError(500, "Unknown", "resourceVersion should not be set on objects to be created")
        if not metadata.get("name"):
            if not metadata.get("generateName"):
                raise ApiError(422, "Invalid", f"{kind.name}: metadata.name: Required value")
            metadata["name"] = metadata["generateName"] + uuid.uuid4().hex[:5]
        if kind.namespaced:
            self._check_namespace(kind, thing)
        else:
            metadata.pop("namespace", None)
        key = (namespace_of(thing), name_of(thing))
        if key in self._things[kind]:
            raise ApiError(409, "AlreadyExists", f'{kind.plural} "{key[1]}" already exists')
        metadata.update(uid=str(uuid.uuid4()), creationTimestamp=now(), **({"generation": 1} if kind in _COUNTED else {}))
        thing.update(apiVersion=kind.group, kind=kind.name)
        return self._put(kind, "ADDED", thing, None)

    def _check_namespace(self, kind: Kind, thing: Object) -> None:
        name = namespace_of(thing)
        namespace = self._things[NAMESPACE].get(("", name))
        if namespace is None:
            raise ApiError(404, "NotFound", f'namespaces "{name}" not found')
        if is_leaving(namespace):
            raise ApiError(403, "Forbidden", f"unable to create new content in namespace {name} because it is being terminated")

    def update(self, kind: Kind, thing: Object, *, status: bool = False) -> Object:
        """`status`: only that is taken, else everything else, where the kind keeps them apart. A resourceVersion in it must be the
        present one (409). An update that changes nothing is no change."""
        old = self.get(kind, namespace_of(thing), name_of(thing))
        version = thing["metadata"].get("resourceVersion")
        if version and version != old["metadata"]["resourceVersion"]:
            raise ApiError(
                409,
                "Conflict",
                f'{kind.plural} "{name_of(thing)}": the object has been modified; apply your changes to the latest version',
            )
        new = copy.deepcopy(thing)
        if kind.status:
            new = {**(old if status else new), "status": (new if status else old).get("status", {})}
        kept = (
            "uid",
            "creationTimestamp",
            "generation",
            "resourceVersion",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "namespace",
        )
        new["metadata"] = {**new["metadata"], **{key: old["metadata"][key] for key in kept if key in old["metadata"]}}
        if new == old:
            return new
        if kind in _COUNTED and new.get("spec") != old.get("spec"):
            new["metadata"]["generation"] += 1
        if is_leaving(new) and not new["metadata"].get("finalizers") and old["metadata"].get("finalizers"):
            return self.remove(kind, new)
        return self._put(kind, "MODIFIED", new, old)

    def patch(self, kind: Kind, namespace: str, name: str, patch: Object, *, status: bool = False) -> Object:
        return self.update(kind, merged(self.get(kind, namespace, name), patch), status=status)

    def delete(self, kind: Kind, namespace: str, name: str, grace: Optional[float] = None) -> Object:
        """Pods that run, namespaces, and what has finalizers is marked first, and removed by who has to do with it. `grace`:
        seconds."""
        thing = self.get(kind, namespace, name)
        if kind is POD:
            grace = thing["spec"].get("terminationGracePeriodSeconds", 30) if grace is None else grace
            runs = thing["spec"].get("nodeName") and thing.get("status", {}).get("phase") not in _OVER
            if not runs or grace == 0:
                return self.remove(kind, thing)
        elif kind is not NAMESPACE and not thing["metadata"].get("finalizers"):
            return self.remove(kind, thing)
        if is_leaving(thing):
            return thing
        before = copy.deepcopy(thing)
        thing["metadata"]["deletionTimestamp"] = now()
        if grace is not None:
            thing["metadata"]["deletionGracePeriodSeconds"] = grace
        if kind is NAMESPACE:
            thing["status"] = {"phase": "Terminating"}
        return self._put(kind, "MODIFIED", thing, before)

    def remove(self, kind: Kind, thing: Object) -> Object:
        """At once."""
        old = self._things[kind].pop((namespace_of(thing), name_of(thing)), None)
        return self._note(kind, "DELETED", copy.deepcopy(thing), old) if old is not None else thing

    def _put(self, kind: Kind, change: str, thing: Object, before: Optional[Object]) -> Object:
        self._things[kind][(namespace_of(thing), name_of(thing))] = thing
        return copy.deepcopy(self._note(kind, change, thing, before))

    def _note(self, kind: Kind, change: str, thing: Object, before: Optional[Object]) -> Object:
        self._version += 1
        thing["metadata"]["resourceVersion"] = str(self._version)
        noted = Change(self._version, kind, change, copy.deepcopy(thing), before)
        self._changes.append(noted)
        for listener in list(self._listeners):
            listener(noted)
        return thing

    # ---- events

    def event(self, about: Object, reason: str, message: str, *, source: str, warning: bool = False) -> None:
        """One object an occasion, counted where it is said again."""
        namespace = namespace_of(about) or "default"
        for old in self.all_of_events(namespace, about, reason):
            if old["message"] == message:
                old.update(count=old["count"] + 1, lastTimestamp=now())
                self.update(EVENT, old)
                return
        try:
            self.create(EVENT, event_of(about, reason, message, source=source, warning=warning))
        except ApiError:
            pass  # The namespace is going.

    def all_of_events(self, namespace: str, about: Object, reason: str) -> list[Object]:
        uid = about["metadata"].get("uid", "")
        return [one for one in self.all(EVENT, namespace) if one["involvedObject"]["uid"] == uid and one["reason"] == reason]


async def reconcile_always(store: Store, kinds: tuple[Kind, ...], reconcile: Callable[[], None]) -> None:
    """Once, and again after each change of such objects; several at once count as one."""
    changed = asyncio.Event()
    end = store.listen(lambda change: changed.set() if change.kind in kinds else None)
    try:
        while True:
            reconcile()
            await asyncio.sleep(0)  # wait() does not let others run where it is set already.
            await changed.wait()
            changed.clear()
    finally:
        end()
