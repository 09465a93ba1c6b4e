"""To read an object, change it and write it back, as often as somebody else gets in between."""

from __future__ import annotations

import uuid
from typing import Callable, Optional

from holdfast.deploy.api import Api
from holdfast.deploy.errors import ApiError
from holdfast.deploy.kinds import EVENT, Kind, Object, name_of, namespace_of

_TRIES = 10


async def change(
    api: Api, kind: Kind, namespace: str, name: str, edit: Callable[[Object], Optional[bool]], *, status: bool = False
) -> Object:
    """`edit` changes the object in place; where it returns False, nothing is written. Raises ApiError: also 409, after ten tries."""
    for attempt in range(_TRIES):
        thing = await api.get(kind, namespace, name)
        if edit(thing) is False:
            return thing
        try:
            return await api.replace(kind, thing, status=status)
        except ApiError as error:
            if error.status != 409 or attempt == _TRIES - 1:
                raise
    raise AssertionError("the last try has returned or raised")


def set_condition(thing: Object, new: Object) -> None:
    """In place of the one of its type, in the status."""
    status = thing.setdefault("status", {})
    status["conditions"] = [one for one in status.get("conditions") or [] if one["type"] != new["type"]] + [new]


async def tell(api: Api, about: Object, reason: str, message: str, *, source: str, at: str, warning: bool = False) -> None:
    """An event."""
    namespace = namespace_of(about) or "default"
    involved = {"kind": about["kind"], "name": name_of(about), "uid": about["metadata"].get("uid", "")}
    if namespace_of(about):
        involved["namespace"] = namespace
    thing = {
        "metadata": {"name": f"{name_of(about)}.{uuid.uuid4().hex[:16]}", "namespace": namespace},
        "involvedObject": involved,
        "reason": reason,
        "message": message,
        "type": "Warning" if warning else "Normal",
        "count": 1,
        "firstTimestamp": at,
        "lastTimestamp": at,
        "source": {"component": source},
    }
    await api.create(EVENT, thing)
