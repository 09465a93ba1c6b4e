"""What goes when something else has gone: objects whose owners are gone, and all that is in a namespace that is being removed."""

from __future__ import annotations

from holdfast.deploy.kinds import KINDS, NAMESPACE, Object, is_leaving, name_of, namespace_of
from holdfast.deploy.local.store import Store

_INSIDE = tuple(kind for kind in KINDS if kind.namespaced)


def collect(store: Store) -> None:
    for namespace in store.all(NAMESPACE):
        if is_leaving(namespace):
            _empty(store, namespace)
    alive = {thing["metadata"]["uid"] for kind in KINDS for thing in store.all(kind)}
    for kind in _INSIDE:
        for thing in store.all(kind):
            owners = thing["metadata"].get("ownerReferences")
            if owners and not is_leaving(thing) and not any(owner["uid"] in alive for owner in owners):
                store.delete(kind, namespace_of(thing), name_of(thing))


def _empty(store: Store, namespace: Object) -> None:
    left = 0
    for kind in _INSIDE:
        for thing in list(store.all(kind, name_of(namespace))):
            if not is_leaving(thing):
                store.delete(kind, namespace_of(thing), name_of(thing))
            left += store.find(kind, namespace_of(thing), name_of(thing)) is not None
    if not left:
        store.remove(NAMESPACE, namespace)
