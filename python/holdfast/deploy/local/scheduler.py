"""Which node a pod goes to: the first rules of Kubernetes' scheduler (selector, required affinity, taints, cordons, GPUs, room)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Optional

from holdfast.deploy.kinds import NODE, POD, Object, condition, gpus_of, labels_of, name_of
from holdfast.deploy.local.store import Store
from holdfast.deploy.times import now

_OVER = ("Succeeded", "Failed")
GPU = "nvidia.com/gpu"


def schedule(store: Store) -> None:
    """Binds what can be bound; what cannot says why, in its status and an event."""
    nodes = list(store.all(NODE))
    for pod in store.all(POD):
        if pod["spec"].get("nodeName") or pod.get("status", {}).get("phase") in _OVER or "deletionTimestamp" in pod["metadata"]:
            continue
        used = _used(store)
        problems = {name_of(node): problem_of(pod, node, used) for node in nodes}
        free = [node for node in nodes if problems[name_of(node)] is None]
        if not free:
            _say_why(store, pod, problems)
            continue
        # The emptiest, so that what is there twice survives a node.
        best = min(free, key=lambda node: (used[name_of(node), GPU], used[name_of(node), "pods"], name_of(node)))
        pod["spec"]["nodeName"] = name_of(best)
        store.update(POD, pod)
        store.event(pod, "Scheduled", f"Successfully assigned {name_of(pod)} to {name_of(best)}", source="default-scheduler")


def _used(store: Store) -> Counter[tuple[str, str]]:
    used: Counter[tuple[str, str]] = Counter()
    for pod in store.all(POD):
        if (node := pod["spec"].get("nodeName")) and pod.get("status", {}).get("phase") not in _OVER:
            used[node, GPU] += gpus_of(pod["spec"])
            used[node, "pods"] += 1
    return used


def problem_of(pod: Object, node: Object, used: Counter[tuple[str, str]]) -> Optional[str]:
    """Why this pod cannot go to this node, or None."""
    spec, room = pod["spec"], node["status"].get("allocatable", {})
    if condition(node, "Ready").get("status") != "True":
        return "node(s) were not ready"
    if node["spec"].get("unschedulable"):
        return "node(s) were unschedulable"
    if any(not _tolerated(taint, spec.get("tolerations") or []) for taint in node["spec"].get("taints") or []):
        return "node(s) had untolerated taint"
    if any(labels_of(node).get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()) or not _affine(spec, node):
        return "node(s) didn't match Pod's node affinity/selector"
    if gpus_of(spec) + used[name_of(node), GPU] > int(room.get(GPU, 0)):
        return f"Insufficient {GPU}"
    return "Too many pods" if used[name_of(node), "pods"] >= int(room.get("pods", 0)) else None


def _tolerated(taint: Object, tolerations: Iterable[Object]) -> bool:
    if taint.get("effect") not in ("NoSchedule", "NoExecute"):
        return True
    return any(
        one.get("key") in (None, taint["key"])
        and (one.get("operator") == "Exists" or one.get("value", "") == taint.get("value", ""))
        and one.get("effect") in (None, "", taint["effect"])
        for one in tolerations
    )


def _affine(spec: Object, node: Object) -> bool:
    wish = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get("requiredDuringSchedulingIgnoredDuringExecution")
    if not wish:
        return True
    return any(all(_matches(one, labels_of(node)) for one in term.get("matchExpressions", [])) for term in wish["nodeSelectorTerms"])


def _matches(expression: Object, labels: dict[str, str]) -> bool:
    has, values = expression["key"] in labels, expression.get("values", [])
    value = labels.get(expression["key"])
    return {"In": has and value in values, "NotIn": value not in values, "Exists": has, "DoesNotExist": not has}.get(
        expression["operator"], False
    )


def _say_why(store: Store, pod: Object, problems: dict[str, Optional[str]]) -> None:
    counts = Counter(problem for problem in problems.values() if problem)
    why = ", ".join(f"{count} {problem}" for problem, count in sorted(counts.items()))
    message = f"0/{len(problems)} nodes are available: {why or 'there are none'}."
    if condition(pod, "PodScheduled").get("message") == message:
        return
    unscheduled = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": message,
        "lastTransitionTime": now(),
    }
    pod["status"] = {"phase": "Pending", "conditions": [unscheduled]}
    store.update(POD, pod, status=True)
    store.event(pod, "FailedScheduling", message, source="default-scheduler", warning=True)
