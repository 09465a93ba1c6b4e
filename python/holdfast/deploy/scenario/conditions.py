"""What a scenario waits for. Each has a name, a deadline, and says what it has last seen."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Optional

from holdfast.deploy.connection import Hopeless
from holdfast.deploy.errors import BadSpec
from holdfast.deploy.scenario.context import Context
from holdfast.deploy.scenario.load import Request


class Condition(ABC):
    @abstractmethod
    async def wait(self, context: Context, timeout: float) -> None:
        """Raises WaitFailed."""

    def events(self) -> list[str]:
        """Those that it names."""
        return []


@dataclass(frozen=True)
class Seconds(Condition):
    """So many have passed."""

    seconds: float

    async def wait(self, context: Context, timeout: float) -> None:
        await asyncio.sleep(self.seconds)


@dataclass(frozen=True)
class _OfRequests(Condition):
    count: int
    load: Optional[str] = None

    def __post_init__(self) -> None:
        if self.count < 1:
            raise BadSpec(f"must be at least 1, not {self.count}")

    async def wait(self, context: Context, timeout: float) -> None:
        begun = context.now()

        def look() -> tuple[bool, str]:
            requests = list(context.requests)
            mine = [one for one in requests if one.at >= begun and self.load in (None, one.load)]
            came = self.has_come(mine)
            if not came and not any(load.running and self.load in (None, name) for name, load in context.loads.items()):
                raise Hopeless(f"{self.load or 'no load'} {'does not run' if self.load else 'runs'}; {self.seen(mine)}")
            return came, self.seen(mine)

        await context.until(self.what(), timeout, look)

    @abstractmethod
    def what(self) -> str: ...

    @abstractmethod
    def has_come(self, requests: list[Request]) -> bool: ...

    def seen(self, requests: list[Request]) -> str:
        failed = [one for one in requests if not one.good]
        return f"{len(requests)} requests, {len(failed)} failed" + (f", the last with {failed[-1].error}" if failed else "")

    def events(self) -> list[str]:
        return [self.load] if self.load else []


@dataclass(frozen=True)
class Requests(_OfRequests):
    """So many have ended since."""

    def what(self) -> str:
        return f"{self.count} requests"

    def has_come(self, requests: list[Request]) -> bool:
        return len(requests) >= self.count


@dataclass(frozen=True)
class Errors(_OfRequests):
    """So many have failed since."""

    def what(self) -> str:
        return f"{self.count} failed requests"

    def has_come(self, requests: list[Request]) -> bool:
        return sum(not one.good for one in requests) >= self.count


@dataclass(frozen=True)
class Successes(_OfRequests):
    """The last so many that were begun since were all served."""

    def what(self) -> str:
        return f"{self.count} served requests, one after the other"

    def has_come(self, requests: list[Request]) -> bool:
        return len(requests) >= self.count and all(one.good for one in requests[-self.count :])


@dataclass(frozen=True)
class Finished(Condition):
    """A load has ended, by itself or because it was stopped."""

    load: str

    async def wait(self, context: Context, timeout: float) -> None:
        def look() -> tuple[bool, str]:
            if self.load not in context.loads:
                return False, "it has not been started"
            return not context.loads[self.load].running, f"it runs, {len(context.requests)} requests so far"

        await context.until(f"the load {self.load} to be over", timeout, look)

    def events(self) -> list[str]:
        return [self.load]


@dataclass(frozen=True)
class Ready(Condition):
    """The deployment is, with all its pods."""

    async def wait(self, context: Context, timeout: float) -> None:
        await context.deployment.wait_for_all_pods_ready(timeout)


@dataclass(frozen=True)
class Unready(Condition):
    """The deployment is not ready."""

    async def wait(self, context: Context, timeout: float) -> None:
        await context.deployment.wait_for_unready(timeout)


@dataclass(frozen=True)
class Cordoned(Condition):
    """The broken node is, for a fault of this scenario."""

    async def wait(self, context: Context, timeout: float) -> None:
        event = await context.deployment.wait_for_node_cordon(timeout=timeout)
        context.note("cordoned", event=event)


@dataclass(frozen=True)
class Moved(Condition):
    """All pods are ready on other nodes than the broken one."""

    async def wait(self, context: Context, timeout: float) -> None:
        target = context.deployment.get_hw_fault_target_node()
        await context.deployment.wait_for_pods_on_healthy_nodes(target, timeout)


@dataclass(frozen=True)
class Over(Condition):
    """Another event is over."""

    event: str

    async def wait(self, context: Context, timeout: float) -> None:
        other = context.events[self.event]

        def look() -> tuple[bool, str]:
            if other.problem:
                raise Hopeless(f"that has failed: {other.problem}")
            return other.ended is not None, "it goes on" if other.begun is not None else "it has not begun"

        await context.until(f"the event {self.event} to be over", timeout, look)

    def events(self) -> list[str]:
        return [self.event]


CONDITIONS: dict[str, type[Condition]] = {
    "seconds": Seconds,
    "requests": Requests,
    "errors": Errors,
    "successes": Successes,
    "finished": Finished,
    "ready": Ready,
    "unready": Unready,
    "cordoned": Cordoned,
    "moved": Moved,
    "over": Over,
}
