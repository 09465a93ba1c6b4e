"""Faults of scenarios. Each is injected, and shows that it has struck: effective, ineffective or unknown, with the evidence.

One's own is a class with `inject` and `heal`; it is dataclass, so that scenario files could name its fields.
"""

from __future__ import annotations

import asyncio
import re
import signal
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, Optional, Union

from holdfast.deploy.errors import ApiError, BadSpec, DeployError, WaitFailed
from holdfast.deploy.hardware import fault_service
from holdfast.deploy.kinds import POD
from holdfast.deploy.pods import Pod, PodProcess
from holdfast.deploy.scenario.context import EFFECTIVE, INEFFECTIVE, UNKNOWN, Context, Injected
from holdfast.faults import FaultNotSeen

_AGAIN = 0.05  # Seconds; processes in a pod have no watch.


class Fault(ABC):
    """What is wrong raises; what was seen goes to `injected.found()`. heal() is called once, at the latest when the scenario ends."""

    # Whether it needs the nodes' fault services, and the shim in the pods.
    of_hardware = False

    @abstractmethod
    async def inject(self, context: Context, injected: Injected) -> None: ...

    async def heal(self, context: Context, injected: Injected) -> None:  # noqa: B027  (what has died is not healed)
        """Puts back what is still changed."""


@dataclass(frozen=True)
class Xid(Fault):
    """The driver's line about a GPU of the broken node, and what programs see of it."""

    number: int = 79
    gpu: Union[int, str] = "any"
    of_hardware = True

    def __post_init__(self) -> None:
        if isinstance(self.gpu, str) and self.gpu != "any":
            raise BadSpec(f"gpu must be a number or `any`, not {self.gpu!r}")

    async def inject(self, context: Context, injected: Injected) -> None:
        hardware = context.deployment.hw_fault_manager
        count = int((await asyncio.to_thread(hardware.client().health))["gpu_count"])
        gpu = context.sample(injected.name, range(count), 1)[0] if isinstance(self.gpu, str) else self.gpu
        injected.target = f"GPU {gpu} of {hardware.target_node}"
        injected.things.append(await hardware.inject_xid_fault(self.number, gpu))

    async def heal(self, context: Context, injected: Injected) -> None:
        await _verify_and_recover(context, injected)


@dataclass(frozen=True)
class Cuda(Fault):
    """Calls of CUDA fail on all GPUs of the broken node."""

    of_hardware = True

    async def inject(self, context: Context, injected: Injected) -> None:
        injected.target = context.deployment.get_hw_fault_target_node()
        await context.deployment.toggle_cuda_faults(enable=True)

    async def heal(self, context: Context, injected: Injected) -> None:
        try:
            await context.deployment.toggle_cuda_faults(enable=False)
        except FaultNotSeen as problem:
            injected.found(INEFFECTIVE, problem=str(problem))
        else:
            injected.found(EFFECTIVE, calls="some have failed")


@dataclass(frozen=True)
class Node(Fault):
    """Any other fault of the broken node's fault service (docs/faultd.md): `kind` as in its address, `body` what it is told."""

    kind: str
    body: dict[str, Any] = field(default_factory=dict)
    of_hardware = True

    async def inject(self, context: Context, injected: Injected) -> None:
        hardware = context.deployment.hw_fault_manager
        injected.target = hardware.target_node
        injected.things.append(await hardware.inject(self.kind, **self.body))

    async def heal(self, context: Context, injected: Injected) -> None:
        await _verify_and_recover(context, injected)


async def _verify_and_recover(context: Context, injected: Injected) -> None:
    hardware = context.deployment.hw_fault_manager
    for fault in injected.things:
        said = await hardware.verify(fault)
        injected.found(EFFECTIVE if said.get("verified") else INEFFECTIVE, **{fault: said.get("evidence")})
        await hardware.recover(fault)


@dataclass(frozen=True)
class _OfPods(Fault):
    """`pods`: how many, drawn by the seed; `all`. Without `service`: of any."""

    service: Optional[str] = None
    pods: Union[int, str] = 1

    def __post_init__(self) -> None:
        wrong = self.pods != "all" if isinstance(self.pods, str) else self.pods < 1
        if wrong:
            raise BadSpec(f"pods must be a number from 1, or `all`, not {self.pods!r}")

    def choose(self, context: Context, injected: Injected) -> list[Pod]:
        chosen = context.choose_pods(injected.name, self.service, 0 if isinstance(self.pods, str) else self.pods)
        injected.target = ", ".join(pod.name for pod in chosen)
        return chosen


@dataclass(frozen=True)
class Delete(_OfPods):
    """Pods are deleted; `grace`: seconds, else their own. `seconds`: until they must have gone."""

    grace: Optional[float] = None
    seconds: float = 60.0

    async def inject(self, context: Context, injected: Injected) -> None:
        chosen = self.choose(context, injected)
        uids = {pod.uid for pod in chosen}
        for pod in chosen:
            await asyncio.to_thread(pod.delete, self.grace)

        def look() -> tuple[bool, str]:
            left = [pod for pod in context.deployment.connection.seen[POD].all() if pod["metadata"]["uid"] in uids]
            return not left, f"{len(left)} are there"

        await context.until(f"{injected.target} to be gone", self.seconds, look)
        injected.found(EFFECTIVE, gone=sorted(pod.name for pod in chosen))


@dataclass(frozen=True)
class _OfProcesses(_OfPods):
    """`process`: a pattern that its command must match (all processes of the pod that do); else the pod's first."""

    process: Optional[str] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            re.compile(self.process or "")
        except re.error as problem:
            raise BadSpec(f"process is no regular expression: {self.process!r}: {problem}") from None

    def processes(self, context: Context, injected: Injected) -> list[PodProcess]:
        """Blocks. Raises DeployError where a pod has none."""
        chosen = []
        for pod in self.choose(context, injected):
            found = sorted(pod.processes(), key=lambda process: process.pid)
            fitting = [process for process in found if re.search(self.process, process.command)] if self.process else found[:1]
            if not fitting:
                has = "; ".join(process.command for process in found) or "none"
                raise DeployError(f"{injected.name}: {pod.name} has no process like {self.process!r}; it has {has}")
            chosen += fitting
        injected.target = ", ".join(f"{process.pid} of {process.pod.name} ({process.command})" for process in chosen)
        return chosen


@dataclass(frozen=True)
class Kill(_OfProcesses):
    """Processes get a signal that must end them within so many seconds."""

    signal: str = "SIGKILL"
    seconds: float = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.signal not in signal.Signals.__members__:
            raise BadSpec(f"there is no signal {self.signal!r}")

    async def inject(self, context: Context, injected: Injected) -> None:
        chosen = await asyncio.to_thread(self.processes, context, injected)
        for process in chosen:
            if _hears(process, self.signal):
                await asyncio.to_thread(process.kill, self.signal)
            else:
                await asyncio.to_thread(_of_node, context, process.pod, "process", pid=process.pid, action="kill")
        for process in chosen:
            try:
                await asyncio.to_thread(process.wait, self.seconds)
            except WaitFailed as problem:
                injected.found(INEFFECTIVE, problem=str(problem))
            else:
                injected.found(EFFECTIVE, ended=[f"{one.pid} of {one.pod.name}" for one in chosen])


@dataclass(frozen=True)
class Stall(_OfProcesses):
    """Processes are stopped (SIGSTOP), and go on when it is healed."""

    seconds: float = 5.0

    async def inject(self, context: Context, injected: Injected) -> None:
        chosen = await asyncio.to_thread(self.processes, context, injected)
        for process in chosen:
            if _hears(process, "SIGSTOP"):
                await asyncio.to_thread(process.kill, signal.SIGSTOP)
                injected.things.append((process, ""))
            else:
                fault = await asyncio.to_thread(_of_node, context, process.pod, "process", pid=process.pid, action="stop")
                injected.things.append((process, fault))
        for process, _ in injected.things:
            state = await self._becomes(process, lambda state: state == "T")
            injected.found(EFFECTIVE if state == "T" else INEFFECTIVE, stopped={process.pid: state or "gone"})

    async def heal(self, context: Context, injected: Injected) -> None:
        for process, fault in injected.things:
            try:
                if fault:
                    await asyncio.to_thread(_recover, context, process.pod.node, fault)
                else:
                    await asyncio.to_thread(process.kill, signal.SIGCONT)
            except ApiError as problem:
                # Its probes may have ended it: then nothing is stopped any more.
                if await asyncio.to_thread(process.running):
                    raise
                injected.found(EFFECTIVE, went_on=f"it has ended meanwhile ({problem})")
                continue
            state = await self._becomes(process, lambda state: state != "T")
            injected.found(EFFECTIVE if state != "T" else UNKNOWN, went_on={process.pid: state or "gone"})

    async def _becomes(self, process: PodProcess, wanted: Any) -> str:
        """Its state, when it is the wanted one, or at the end of the time."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.seconds
        while True:
            try:
                state = await asyncio.to_thread(process.state)
            except ApiError:  # As its container ends, for a moment nobody can be asked.
                if loop.time() >= deadline:
                    raise
            else:
                if wanted(state) or loop.time() >= deadline:
                    return state
            await asyncio.sleep(_AGAIN)


@dataclass(frozen=True)
class Partition(_OfPods):
    """Pods are cut off from everybody, their node included. Real containers only: pods of the local cluster share this machine's
    network."""

    async def inject(self, context: Context, injected: Injected) -> None:
        for pod in await asyncio.to_thread(self.choose, context, injected):
            fault = await asyncio.to_thread(_of_node, context, pod, "network", partition=True)
            injected.things.append((pod.node, fault))

    async def heal(self, context: Context, injected: Injected) -> None:
        for node, fault in injected.things:
            said = await asyncio.to_thread(_recover, context, node, fault)
            injected.found(EFFECTIVE if said.get("verified") else INEFFECTIVE, **{fault: said.get("evidence")})


def _hears(process: PodProcess, name: str) -> bool:
    """Process 1 of a container hears neither of these from inside: the kernel keeps the first of a name space from them."""
    return process.pid != 1 or name not in ("SIGKILL", "SIGSTOP")


def _of_node(context: Context, pod: Pod, kind: str, **body: Any) -> str:
    """A fault of a pod's container, by the fault service of its node, for which it is one of the machine's processes. Blocks."""
    pod.refresh()
    if not pod.container_id:
        raise DeployError(
            f"{pod.name} has no container that its node's fault service could find: it does not run, or is one of the local cluster, "
            "whose pods are processes of this machine and share its network"
        )
    with fault_service(context.deployment.connection, pod.node) as service:
        owner = f"{pod.namespace}/{context.deployment.name}"
        return str(service.inject(kind, container=pod.container_id, owner=owner, **body))


def _recover(context: Context, node: str, fault: str) -> dict[str, Any]:
    """What it was, with the evidence of its end. Blocks."""
    with fault_service(context.deployment.connection, node) as service:
        return service.recover(fault)


FAULTS: dict[str, type[Fault]] = {
    "xid": Xid,
    "cuda": Cuda,
    "node": Node,
    "delete": Delete,
    "kill": Kill,
    "stall": Stall,
    "partition": Partition,
}
