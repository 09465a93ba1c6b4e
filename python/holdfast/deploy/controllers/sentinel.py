"""A stand-in for NVSentinel: reads the driver's lines of each node, takes a broken node out of use, drains it, and says so on the node
as NVSentinel does (its labels, annotations, conditions and events).

What it does not do: remediation. A node comes back when somebody uncordons it; then what was written on it goes.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from holdfast.deploy.api import Api
from holdfast.deploy.change import change, set_condition, tell
from holdfast.deploy.errors import ApiError
from holdfast.deploy.informer import Informers
from holdfast.deploy.kinds import NODE, POD, Object, condition, is_leaving, labels_of, name_of, namespace_of
from holdfast.deploy.times import now, seconds_since
from holdfast.faults.hardware import is_fatal
from holdfast.faults.kernel_lines import XID, NewLines
from holdfast.faults.page import xid_table

STATE = "dgxc.nvidia.com/nvsentinel-state"
PREFIX = "k8saas.nvidia.com/"
UNMANAGED = PREFIX + "ManagedByNVSentinel"
EVENTS = "quarantineHealthEvent"
IS_CORDONED = "quarantineHealthEventIsCordoned"
CHECK = "SysLogsXIDError"
SYSTEM = re.compile(r"kube-.*|default|fault-injection-system|nvsentinel")

_LINE = re.compile(XID + " .*")
_LOOK = 0.05  # Seconds; a file has no watch.
_ACTIONS = {"none": "NONE", "restart_app": "NONE", "reset_gpu": "COMPONENT_RESET", "restart_machine": "RESTART_BM"}


@dataclass(frozen=True)
class Drain:
    """`mode`: Immediate (evict at once), AllowCompletion (wait until pods have ended by themselves), DeleteAfterTimeout (delete them
    `seconds` after the health event)."""

    mode: str = "DeleteAfterTimeout"
    seconds: float = 3.0


def action_for(xid: int) -> str:
    entry = next((entry for entry in xid_table() if entry["xid"] == xid), None)
    return _ACTIONS.get(entry["remedy"], "CONTACT_SUPPORT") if entry else "CONTACT_SUPPORT"


def health_event(node: str, line: str) -> Optional[Object]:
    """Of a line of the kernel's log, or None."""
    found = _LINE.search(line)
    if found is None:
        return None
    return {
        "version": 1,
        "agent": "syslog-health-monitor",
        "componentClass": "GPU",
        "checkName": CHECK,
        "isFatal": is_fatal(int(found[2])),
        "isHealthy": False,
        "message": found[0],
        "recommendedAction": action_for(int(found[2])),
        "errorCode": [found[2]],
        "entitiesImpacted": [{"entityType": "PCI", "entityValue": found[1]}],
        "generatedTimestamp": now(),
        "nodeName": node,
    }


async def run(api: Api, logs: Mapping[str, Path], drain: Drain) -> None:
    """For good. `logs`: the kernel's log of each node; other nodes are left alone."""
    await asyncio.gather(*(_monitor(api, node, log) for node, log in logs.items()), _drain(api, set(logs), drain))


# ---- the monitor and the quarantine


async def _monitor(api: Api, node: str, log: Path) -> None:
    lines = NewLines(log)
    while True:
        await asyncio.sleep(_LOOK)
        for line in lines.read():
            if (event := health_event(node, line)) is not None:
                with contextlib.suppress(ApiError):  # The node has gone.
                    await _take(api, event)


async def _take(api: Api, event: Object) -> None:
    node = await api.get(NODE, "", event["nodeName"])
    if not event["isFatal"]:
        await tell(api, node, f"{CHECK}IsNotHealthy", event["message"], source="nvsentinel", at=now(), warning=True)
        return
    unhealthy = {
        "type": CHECK,
        "status": "True",
        "reason": f"{CHECK}IsNotHealthy",
        "message": event["message"],
        "lastTransitionTime": now(),
    }
    await change(api, NODE, "", name_of(node), lambda thing: set_condition(thing, unhealthy), status=True)
    if labels_of(node).get(UNMANAGED) != "false":
        await change(api, NODE, "", name_of(node), lambda thing: _quarantine(thing, event))


def _quarantine(node: Object, event: Object) -> None:
    annotations = node["metadata"].setdefault("annotations", {})
    labels = node["metadata"].setdefault("labels", {})
    events = [*json.loads(annotations.get(EVENTS, "[]")), event]
    annotations[EVENTS] = json.dumps(events)
    if not node["spec"].get("unschedulable"):
        node["spec"]["unschedulable"] = True
        annotations[IS_CORDONED] = "True"
        stamp = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H-%M-%SZ")
        labels.update(
            {PREFIX + "cordon-by": "NVSentinel", PREFIX + "cordon-reason": "Syslog-XID-fatal", PREFIX + "cordon-timestamp": stamp}
        )
    labels.setdefault(STATE, "quarantined")


# ---- the drainer, and the way back


async def _drain(api: Api, mine: set[str], drain: Drain) -> None:
    seen = Informers(api, (NODE, POD))
    await seen.begin()
    bell = seen.bell()
    try:
        while True:
            bell.clear()
            nodes = [node for node in seen[NODE].all() if name_of(node) in mine]
            waits = [wait for node in nodes if (wait := await _look_at(api, seen, node, drain)) is not None]
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(bell.wait(), min(waits, default=None) if waits else None)
    finally:
        await seen.close()


async def _look_at(api: Api, seen: Informers, node: Object, drain: Drain) -> Optional[float]:
    """Seconds until something is due there, or None."""
    state = labels_of(node).get(STATE)
    if state is None:
        return None
    annotations = node["metadata"].get("annotations") or {}
    if not node["spec"].get("unschedulable"):
        await _back(api, node)
        return None
    if state not in ("quarantined", "draining"):
        return None
    pods = [pod for pod in seen[POD].all() if pod["spec"].get("nodeName") == name_of(node) and _is_users(pod)]
    if not pods:
        await _state(api, node, "drain-succeeded")
        return None
    if state == "quarantined":
        await _state(api, node, "draining")
        message = f"{drain.mode}: {', '.join(f'{namespace_of(pod)}/{name_of(pod)}' for pod in pods)}"
        await tell(api, node, "AwaitingPodCompletion", message, source="nvsentinel-node-drainer", at=now())
    age = _age(json.loads(annotations.get(EVENTS, "[]")))
    due = {"Immediate": 0.0, "DeleteAfterTimeout": drain.seconds}.get(drain.mode)
    if due is None:
        return None
    if age < due:
        return due - age
    # All of them, also those that are not ready: what is broken worst is what has to go.
    for pod in pods:
        if not is_leaving(pod):
            with contextlib.suppress(ApiError):  # It has gone, or a budget forbids it for now.
                await api.evict(namespace_of(pod), name_of(pod))
    return 1.0


def _is_users(pod: Object) -> bool:
    owners = pod["metadata"].get("ownerReferences") or []
    over = pod.get("status", {}).get("phase") in ("Succeeded", "Failed")
    return not over and not SYSTEM.fullmatch(namespace_of(pod)) and not any(owner["kind"] == "DaemonSet" for owner in owners)


def _age(events: list[Object]) -> float:
    return seconds_since(events[0]["generatedTimestamp"]) if events else 0.0


async def _state(api: Api, node: Object, state: str) -> None:
    def edit(thing: Object) -> Optional[bool]:
        if STATE not in labels_of(thing) or labels_of(thing)[STATE] == state:
            return False
        thing["metadata"]["labels"][STATE] = state
        return None

    await change(api, NODE, "", name_of(node), edit)


async def _back(api: Api, node: Object) -> None:
    """Somebody has uncordoned it, so the fault is over."""

    def edit(thing: Object) -> Optional[bool]:
        if thing["spec"].get("unschedulable"):
            return False
        clear(thing)
        return None

    await change(api, NODE, "", name_of(node), edit)
    await change(api, NODE, "", name_of(node), make_healthy, status=True)


def make_healthy(node: Object) -> Optional[bool]:
    if condition(node, CHECK).get("status") != "True":
        return False
    set_condition(node, {"type": CHECK, "status": "False", "reason": f"{CHECK}IsHealthy", "message": "", "lastTransitionTime": now()})
    return None


def clear(node: Object) -> None:
    """Takes what a quarantine has written off a node."""
    for key in [key for key in labels_of(node) if key == STATE or key.startswith(PREFIX + "cordon-")]:
        del node["metadata"]["labels"][key]
    for key in (EVENTS, IS_CORDONED):
        (node["metadata"].get("annotations") or {}).pop(key, None)
