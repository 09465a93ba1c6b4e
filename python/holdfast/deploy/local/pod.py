"""One pod on its node: volumes, init containers, containers, probes, its status, its end."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from typing import TYPE_CHECKING, Optional

from holdfast.deploy.errors import ApiError
from holdfast.deploy.kinds import POD, Object, is_leaving, memory_of, name_of, namespace_of
from holdfast.deploy.local import container as containers
from holdfast.deploy.local import images, probe
from holdfast.deploy.local.container import MARK, Container
from holdfast.deploy.local.environment import CannotRun, Volumes, command_of, program, variables
from holdfast.deploy.local.groups import Group
from holdfast.deploy.times import now

if TYPE_CHECKING:
    from holdfast.deploy.local.kubelet import Node

LISTEN = "HOLDFAST_LISTEN"  # Pods share the loopback device, so a program must know which address is its own.
_AGAIN = 1.0  # Seconds to the next try to make what could not be made.
# What the operator's images run if nobody says.
_USUAL = {"nats": ["nats-server"], "etcd": ["etcd"], "holdfast-agent": ["holdfast", "faultd"]}


class Pod:
    """`run()` until it is over or gone."""

    def __init__(self, node: Node, thing: Object, address: str, devices: list[int]) -> None:
        self._node = node
        self._thing = thing
        self.address, self.devices = address, devices
        self.uid = str(thing["metadata"]["uid"])
        self.folder = node.folder / "pods" / self.uid
        self._group = node.group.child(self.uid)
        self._init: list[Container] = []
        self._main: list[Container] = []
        self._problem: Optional[CannotRun] = None
        self._started = now()
        self._task: Optional[asyncio.Task[None]] = None

    def begin(self) -> None:
        self._task = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        policy = self._thing["spec"].get("restartPolicy", "Always")
        while True:
            try:
                self._make()
                break
            except CannotRun as problem:
                self._problem = problem
                self._node.store.event(self._thing, "Failed", str(problem), source="kubelet", warning=True)
                self._publish()
                await asyncio.sleep(_AGAIN)
        self._problem = None
        for one in self._init:
            await one.run(again="OnFailure" if policy == "Always" else policy)
        self._node.store.event(
            self._thing, "Started", f"Started container(s) {', '.join(c.name for c in self._main)}", source="kubelet"
        )
        pairs = list(zip(self._main, self._thing["spec"]["containers"]))
        probes = [asyncio.ensure_future(probing(*pair)) for pair in pairs for probing in (self._probe_readiness, self._probe_life)]
        try:
            await asyncio.gather(*(one.run(again=policy) for one in self._main))
        finally:
            for task in probes:
                task.cancel()

    def _make(self) -> None:
        """Raises CannotRun."""
        spec = self._thing["spec"]
        volumes = Volumes(self._node.store, self._thing, self._node.root, self.folder)
        self._init = [self._container(volumes, one) for one in spec.get("initContainers") or []]
        self._main = [self._container(volumes, one) for one in spec["containers"]]

    def _container(self, volumes: Volumes, spec: Object) -> Container:
        image = str(spec.get("image", ""))
        if problem := images.problem_of(image):
            raise CannotRun("ErrImageNeverPull", problem)
        # What is made of the pod's own address must be there before its status is.
        described = {**self._thing, "status": {**self._thing.get("status", {}), "podIP": self.address, "hostIP": self.address}}
        base = {
            **images.environment(image, self._node.programs),
            **self._node.devices(self.devices),
            MARK: self.uid,
            LISTEN: self.address,
        }
        values = variables(self._node.store, described, spec, base)
        values = {name: volumes.translate(spec, value) for name, value in values.items()}
        command = [volumes.translate(spec, word) for word in command_of(spec, _USUAL.get(images.name_in(image), []), values)]
        self.folder.mkdir(parents=True, exist_ok=True)
        logs = self._node.folder / "logs" / self.uid / spec["name"]
        group = self._limited(spec)
        return Container(spec["name"], image, program(command, values), values, logs, self.folder, group, self._publish)

    def _limited(self, spec: Object) -> Group:
        """The group of that container."""
        group = self._group.child(spec["name"])
        memory = memory_of(spec)
        if memory is not None and not group.limit(memory):
            message = f"limits.memory of container {spec['name']} does not hold: control groups for memory cannot be made here"
            self._node.store.event(self._thing, "NotLimited", message, source="kubelet", warning=True)
        return group

    async def _probe_readiness(self, one: Container, spec: Object) -> None:
        """For as long as the pod lasts. Without a probe it is ready when it runs."""
        ready = spec.get("readinessProbe")
        misses = 0
        while True:
            running = "running" in one.state
            problem = await probe.ask(self._node.session, ready, self.address) if ready and running else None
            well = running and problem is None
            misses = 0 if well else misses + 1
            if well != one.ready and (well or not running or misses >= int((ready or {}).get("failureThreshold", 3))):
                one.ready = well
                one.was_ready = one.was_ready or well
                self._publish()
            await asyncio.sleep(probe.pause(ready or {"periodSeconds": 1}, passed_before=well))

    async def _probe_life(self, one: Container, spec: Object) -> None:
        """Kills what has been ready and does not answer any more, so that it is begun again."""
        alive = spec.get("livenessProbe")
        misses = 0
        while alive:
            await asyncio.sleep(probe.pause(alive, passed_before=True))
            problem = await probe.ask(self._node.session, alive, self.address) if one.was_ready and one.process is not None else None
            misses = misses + 1 if problem else 0
            if misses >= int(alive.get("failureThreshold", 3)) and one.process is not None:
                self._node.store.event(self._thing, "Unhealthy", f"Liveness probe failed: {problem}", source="kubelet", warning=True)
                one.process.kill()
                misses = 0

    async def end(self, grace: float) -> None:
        """Everything that it has started is gone afterwards."""
        with contextlib.suppress(ApiError):
            self._node.store.event(
                self._thing, "Killing", f"Stopping container(s) {', '.join(c.name for c in self._main)}", source="kubelet"
            )
        await asyncio.gather(*(one.stop(grace) for one in (*self._init, *self._main)))
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await asyncio.to_thread(self._group.end)
        await asyncio.to_thread(containers.kill_marked, self.uid)
        self._group.remove()
        await asyncio.to_thread(shutil.rmtree, self.folder, True)

    def container(self, name: Optional[str]) -> Container:
        """The first one, if none is named. Raises ApiError."""
        for one in (*self._main, *self._init):
            if name in (None, "", one.name):
                return one
        raise ApiError(400, "BadRequest", f"container {name or ''} is not there" + (f": {self._problem}" if self._problem else ""))

    # ---- its status

    def _publish(self) -> None:
        thing = self._node.store.find(POD, namespace_of(self._thing), name_of(self._thing))
        if thing is None or thing["metadata"]["uid"] != self.uid:
            return
        main = [one.status() for one in self._main] or self._waiting()
        ready = bool(self._main) and all(one.ready for one in self._main)
        old = {one["type"]: one for one in thing.get("status", {}).get("conditions") or []}
        state = {
            "PodScheduled": True,
            "Initialized": bool(self._main),
            "ContainersReady": ready,
            "Ready": ready and not is_leaving(thing),
        }
        thing["status"] = {
            "phase": self._phase(), "podIP": self.address, "hostIP": self._node.address, "startTime": self._started,
            "conditions": [_condition(old.get(name, {}), name, value) for name, value in state.items()], "containerStatuses": main,
            "initContainerStatuses": [one.status() for one in self._init],
        }  # fmt: skip
        self._node.store.update(POD, thing, status=True)

    def _phase(self) -> str:
        ended = [one.state["terminated"]["exitCode"] for one in self._main if "terminated" in one.state]
        if self._main and len(ended) == len(self._main) and self._thing["spec"].get("restartPolicy", "Always") != "Always":
            return "Succeeded" if not any(ended) else "Failed"
        return "Running" if any("running" in one.state or one.restarts or one.last for one in self._main) else "Pending"

    def _waiting(self) -> list[Object]:
        reason = {"reason": self._problem.reason, "message": str(self._problem)} if self._problem else {"reason": "ContainerCreating"}
        return [
            {
                "name": one["name"],
                "image": one.get("image", ""),
                "ready": False,
                "restartCount": 0,
                "state": {"waiting": reason},
                "lastState": {},
            }
            for one in self._thing["spec"]["containers"]
        ]


def _condition(old: Object, name: str, value: bool) -> Object:
    status = "True" if value else "False"
    since = old.get("lastTransitionTime", now()) if old.get("status") == status else now()
    return {"type": name, "status": status, "lastTransitionTime": since}
