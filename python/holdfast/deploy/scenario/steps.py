"""The steps of a scenario: what an event does."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Optional

from holdfast.deploy.errors import DeployError
from holdfast.deploy.scenario.conditions import Condition
from holdfast.deploy.scenario.context import UNKNOWN, Context, Happened, Injected
from holdfast.deploy.scenario.faults import Fault
from holdfast.deploy.scenario.load import Load, Running
from holdfast.deploy.scenario.reading import said

_UPGRADE = 600.0  # Seconds.


class Step(ABC):
    """What is wrong raises."""

    @abstractmethod
    async def run(self, context: Context, happened: Happened) -> None: ...

    def events(self) -> list[str]:
        """Those that it names."""
        return []

    def said(self) -> str:
        """What it does, in a line."""
        return said(self)

    def word(self) -> str:
        """For the name of an event that has none."""
        return type(self).__name__.lower()


@dataclass(frozen=True)
class Start(Step):
    """A load; it goes on when the event is over."""

    load: Load

    async def run(self, context: Context, happened: Happened) -> None:
        running = Running(happened.name, self.load, context)
        context.loads[happened.name] = running
        running.start()

    def said(self) -> str:
        return said(self.load)

    def word(self) -> str:
        return "load"


@dataclass(frozen=True)
class Stop(Step):
    """A load."""

    load: str

    async def run(self, context: Context, happened: Happened) -> None:
        if self.load not in context.loads:
            raise DeployError(f"the load {self.load} has not been started")
        await asyncio.to_thread(context.loads[self.load].stop)

    def events(self) -> list[str]:
        return [self.load]


@dataclass(frozen=True)
class Wait(Step):
    condition: Condition
    timeout: float = 60.0

    async def run(self, context: Context, happened: Happened) -> None:
        await self.condition.wait(context, self.timeout)

    def said(self) -> str:
        return f"wait for {said(self.condition)}"

    def word(self) -> str:
        return type(self.condition).__name__.lower()

    def events(self) -> list[str]:
        return self.condition.events()


@dataclass(frozen=True)
class Inject(Step):
    """A fault. `seconds`: it is healed after so many; else by a `Heal`, else at the scenario's end."""

    fault: Fault
    seconds: Optional[float] = None

    async def run(self, context: Context, happened: Happened) -> None:
        injected = context.faults[happened.name] = Injected(happened.name, self.fault, context.now())
        try:
            await self.fault.inject(context, injected)
        finally:
            context.note("fault injected", fault=happened.name, target=injected.target, outcome=injected.outcome)
            happened.evidence["target"] = injected.target

    def said(self) -> str:
        return f"fault {said(self.fault)}" + (f", for {self.seconds:g} s" if self.seconds is not None else "")

    def word(self) -> str:
        return type(self.fault).__name__.lower()


@dataclass(frozen=True)
class Heal(Step):
    fault: str

    async def run(self, context: Context, happened: Happened) -> None:
        if self.fault not in context.faults:
            raise DeployError(f"the fault {self.fault} has not been injected")
        await heal(context, context.faults[self.fault])

    def events(self) -> list[str]:
        return [self.fault]


async def heal(context: Context, injected: Injected) -> None:
    """Once; the second time does nothing, unless the first was cancelled. Raises what goes wrong."""
    if injected.ended is not None:
        return
    injected.ended = context.now()
    try:
        await injected.fault.heal(context, injected)
    except asyncio.CancelledError:
        injected.ended = None
        raise
    except Exception as problem:
        injected.found(UNKNOWN, problem=str(problem))
        raise
    finally:
        if injected.ended is not None:
            injected.outcome = injected.outcome or UNKNOWN
            context.note("fault over", fault=injected.name, outcome=injected.outcome, evidence=injected.evidence)


@dataclass(frozen=True)
class Upgrade(Step):
    """The pods of a service (of all, without one) are replaced by new ones of the same kind; where hardware is broken, all pods that
    the preparation for that has changed."""

    service: Optional[str] = None

    async def run(self, context: Context, happened: Happened) -> None:
        deployment = context.deployment
        before = {pod.uid for pods in deployment.get_pods(self.service).values() for pod in pods}
        if deployment.enable_hw_faults:  # Whose preparation lets pods be until they end by themselves.
            await deployment.edit(lambda graph: graph["spec"].update(updateStrategy={"type": "RollingUpdate"}))
        await deployment.trigger_rolling_upgrade(self.service)
        await deployment.wait_for_all_pods_ready(_UPGRADE)
        kept = [pod.name for pods in deployment.get_pods(self.service).values() for pod in pods if pod.uid in before]
        if kept:
            raise DeployError(f"the upgrade has not replaced {', '.join(kept)}")
        happened.evidence["replaced"] = len(before)
