"""What a ManagedDeployment would do to a cluster, and how each of it is undone; nothing is changed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from holdfast.deploy.agents import STATE_PATH, SYSTEM
from holdfast.deploy.api import Access, Api
from holdfast.deploy.controllers.graph import is_frontend
from holdfast.deploy.errors import NameTaken
from holdfast.deploy.kinds import GRAPH, NAMESPACE, STATEFUL_SET
from holdfast.deploy.platform import NAMES
from holdfast.deploy.spec import DeploymentSpec


@dataclass(frozen=True)
class Step:
    """`does` and `undo` in words."""

    does: str
    undo: str


@dataclass(frozen=True)
class There:
    """What of it is in the cluster already."""

    namespace: bool = False
    platform: tuple[str, ...] = ()

    @classmethod
    async def look(cls, access: Access, spec: DeploymentSpec, namespace: str) -> There:
        """Raises ApiError, Unreachable, NameTaken."""
        async with Api(access) as api:
            if await api.find(GRAPH, namespace, spec.name) is not None:
                raise NameTaken(f"there is a deployment {spec.name} in the namespace {namespace} already")
            platform = [part for part, name in NAMES.items() if await api.find(STATEFUL_SET, namespace, name) is not None]
            return cls(await api.find(NAMESPACE, "", namespace) is not None, tuple(platform))


def plan(spec: DeploymentSpec, namespace: str, there: There, *, hw_faults: bool, skip_service_restart: bool = False) -> list[Step]:
    steps = list(_deployment(spec, namespace, there, skip_service_restart))
    return steps + (list(_faults(spec)) if hw_faults else [])


def _deployment(spec: DeploymentSpec, namespace: str, there: There, skip_service_restart: bool) -> Iterator[Step]:
    within = None if there.namespace else "goes with the namespace"
    if not there.namespace:
        yield Step(f"create Namespace {namespace}", "delete it, wait until it is gone")
    for part, name in NAMES.items():
        if part not in there.platform:
            yield Step(f"create StatefulSet {namespace}/{name} and its Service", within or "delete both")
        elif not skip_service_restart:
            yield Step(
                f"restart StatefulSet {namespace}/{name}: no replicas, its claims deleted, as many replicas as before",
                "none: its store is empty",
            )
    yield Step(f"create DynamoGraphDeployment {namespace}/{spec.name}", "delete it, wait until its last pod is gone")
    for service in spec.services:
        gpus = f", {service.gpus} GPU(s) each" if service.gpus else ""
        also = " and a Service" if is_frontend(service.name, service.raw) else ""
        yield Step(f"  the operator creates {service.replicas} pod(s) for {service.name}{gpus}{also}: {service.image}", "go with it")


def _faults(spec: DeploymentSpec) -> Iterator[Step]:
    names = ", ".join(service.name for service in spec.services if service.gpus) or "none"
    yield Step(f"create ConfigMap {SYSTEM}/holdfast-run-...: what follows, before it is done", "delete it, last of all")
    patch = f"volume and mount {STATE_PATH}, LD_PRELOAD, HOLDFAST_FAULTS, affinity to the target node, updateStrategy"
    yield Step(f"patch {spec.name} ({names}): {patch}; their pods begin anew once", "as they were found, order included")
    yield Step("arm faults on the GPUs of the target node (its fault service)", "heal them by their ids; by owner after a kill")
    yield Step("write the driver's line of an XID, with a mark, to the target node's kernel log", "none: a line in a log stays there")
    yield Step(
        "  the quarantine cordons, labels and annotates the target node",
        "its event with our mark is taken off; uncordoned if it cordoned for that alone",
    )
    yield Step("  the drain evicts the node's pods", "none: they are elsewhere")


def table(steps: list[Step]) -> str:
    return "\n".join(f"{step.does}\n      undo: {step.undo}" for step in steps)
