"""Pods and events in words, for errors and for the files that are collected."""

from __future__ import annotations

from collections.abc import Iterable

from holdfast.deploy.kinds import Object, condition, is_leaving, is_ready, name_of

_TEXT = 300


def state_of(pod: Object) -> str:
    """`x is Pending on node-1: main waits (ErrImageNeverPull: ...)`."""
    status = pod.get("status", {})
    parts = []
    for one in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        state = one.get("state") or {}
        if "waiting" in state and state["waiting"].get("reason") not in (None, "ContainerCreating", "PodInitializing"):
            parts.append(f"{one['name']} waits ({state['waiting']['reason']}: {str(state['waiting'].get('message', ''))[:_TEXT]})")
        last = state.get("terminated") or (one.get("lastState") or {}).get("terminated")
        if last and (last.get("exitCode") or one.get("restartCount")):
            why = f" ({last['reason']})" if last.get("reason") not in (None, "Error", "Completed") else ""
            again = one.get("restartCount", 0)
            parts.append(f"{one['name']} has ended with {last.get('exitCode')}{why} and been started again {again} times")
    unscheduled = condition(pod, "PodScheduled")
    if unscheduled.get("status") == "False":
        parts.append(str(unscheduled.get("message", ""))[:_TEXT])
    where = f" on {pod['spec']['nodeName']}" if pod["spec"].get("nodeName") else ""
    word = "leaving" if is_leaving(pod) else "ready" if is_ready(pod) else str(status.get("phase", "Pending")) + ", not ready"
    return f"{name_of(pod)} is {word}{where}" + (f": {'; '.join(parts)}" if parts else "")


def warnings(events: Iterable[Object], about: Iterable[Object]) -> str:
    """The warnings about these objects, each once."""
    uids = {thing["metadata"]["uid"] for thing in about}
    found = {
        event_text(event): None for event in events if event.get("type") != "Normal" and event["involvedObject"].get("uid") in uids
    }
    return "; ".join(found)


def event_text(event: Object) -> str:
    return f"{event.get('reason')} ({event['involvedObject'].get('name')}): {str(event.get('message', ''))[:_TEXT]}"
