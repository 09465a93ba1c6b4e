"""What must have been so, when a scenario is over. All of them are evaluated, whatever the others say."""

from __future__ import annotations

import asyncio
import math
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Optional

from holdfast.deploy.errors import ApiError, BadSpec
from holdfast.deploy.scenario.context import EFFECTIVE, Context
from holdfast.deploy.scenario.load import Request


@dataclass(frozen=True)
class Checked:
    """`what` was asked for, `seen` what there was."""

    what: str
    passed: bool
    seen: str


class Check(ABC):
    """While the deployment is still there, with nothing broken any more."""

    @abstractmethod
    async def evaluate(self, context: Context) -> Checked: ...

    def events(self) -> list[str]:
        """Those that it names."""
        return []


@dataclass(frozen=True)
class Faults(Check):
    """Every fault has struck, and shows it. `except`: these need not."""

    except_: tuple[str, ...] = ()

    async def evaluate(self, context: Context) -> Checked:
        outcomes = {name: injected.outcome for name, injected in context.faults.items()}
        wrong = [name for name, outcome in outcomes.items() if outcome != EFFECTIVE and name not in self.except_]
        seen = ", ".join(f"{name}: {outcome}" for name, outcome in outcomes.items()) or "no fault was injected"
        return Checked("every fault was effective", not wrong, seen)

    def events(self) -> list[str]:
        return list(self.except_)


@dataclass(frozen=True)
class _OfRequests(Check):
    """Of the requests that were begun after the event `after` was over, and had ended when the event `before` began (one that was under
    way then may have met that); of one load, or all."""

    at_least: Optional[float] = None
    at_most: Optional[float] = None
    after: Optional[str] = None
    before: Optional[str] = None
    load: Optional[str] = None

    def __post_init__(self) -> None:
        if self.at_least is None and self.at_most is None:
            raise BadSpec("needs at_least or at_most")

    def requests(self, context: Context) -> Optional[list[Request]]:
        """None where one of these events has not happened."""
        begin, end = -math.inf, math.inf
        if self.after is not None:
            begin_at = context.events[self.after].ended
            if begin_at is None:
                return None
            begin = begin_at
        if self.before is not None:
            end_at = context.events[self.before].begun
            if end_at is None:
                return None
            end = end_at
        return [one for one in list(context.requests) if begin <= one.at and one.ended <= end and self.load in (None, one.load)]

    async def evaluate(self, context: Context) -> Checked:
        window = f"{f' after {self.after}' if self.after else ''}{f' before {self.before}' if self.before else ''}"
        low = f"at least {self.at_least:g}" if self.at_least is not None else ""
        high = f"at most {self.at_most:g}" if self.at_most is not None else ""
        what = f"{self.name()}{window}: {' and '.join(part for part in (low, high) if part)}"
        requests = self.requests(context)
        if requests is None:
            return Checked(what, False, "an event that this is about has not happened")
        value = self.value(requests)
        if value is None:
            return Checked(what, False, "there was no request")
        good = (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)
        return Checked(what, good, f"{value:g} of {len(requests)} requests{self.more(requests)}")

    @abstractmethod
    def name(self) -> str: ...

    @abstractmethod
    def value(self, requests: list[Request]) -> Optional[float]: ...

    def more(self, requests: list[Request]) -> str:
        failed = [one.error for one in requests if not one.good]
        return f"; {len(failed)} failed, the last with: {failed[-1]}" if failed else ""

    def events(self) -> list[str]:
        return [name for name in (self.after, self.before, self.load) if name]


@dataclass(frozen=True)
class Requests(_OfRequests):
    """How many there were."""

    def name(self) -> str:
        return "requests"

    def value(self, requests: list[Request]) -> Optional[float]:
        return len(requests)


@dataclass(frozen=True)
class Errors(_OfRequests):
    """How many failed."""

    def name(self) -> str:
        return "failed requests"

    def value(self, requests: list[Request]) -> Optional[float]:
        return sum(not one.good for one in requests)


@dataclass(frozen=True)
class Success(_OfRequests):
    """The share of those that were served, from 0 to 1."""

    def name(self) -> str:
        return "share of served requests"

    def value(self, requests: list[Request]) -> Optional[float]:
        return sum(one.good for one in requests) / len(requests) if requests else None


@dataclass(frozen=True)
class Latency(_OfRequests):
    """Seconds within which `percent` % of the served requests were answered (nearest rank)."""

    percent: float = 99.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.percent <= 100:
            raise BadSpec(f"percent must be above 0 and at most 100, not {self.percent:g}")

    def name(self) -> str:
        return f"seconds for {self.percent:g} % of the served requests"

    def value(self, requests: list[Request]) -> Optional[float]:
        return percentile([one.seconds for one in requests if one.good], self.percent)

    def more(self, requests: list[Request]) -> str:
        return ""


def percentile(values: list[float], percent: float) -> Optional[float]:
    """By nearest rank: the smallest of the values that so many percent are not above. None of none."""
    return sorted(values)[math.ceil(len(values) * percent / 100) - 1] if values else None


@dataclass(frozen=True)
class Recovery(Check):
    """Seconds from a fault's injection to the first request after which none has failed any more, before the next fault."""

    of: str
    at_most: float

    async def evaluate(self, context: Context) -> Checked:
        what = f"recovery of {self.of}: at most {self.at_most:g} s"
        if self.of not in context.faults:
            return Checked(what, False, "it was not injected")
        begun = context.faults[self.of].begun
        later = [injected.begun for injected in context.faults.values() if injected.begun > begun]
        end = min(later, default=math.inf)
        requests = sorted((one for one in list(context.requests) if begun <= one.at and one.ended <= end), key=lambda one: one.at)
        last_bad = max((index for index, one in enumerate(requests) if not one.good), default=-1)
        if last_bad == -1:
            return Checked(what, True, f"none of {len(requests)} requests failed")
        if last_bad == len(requests) - 1:
            return Checked(what, False, f"the last request failed: {requests[-1].error}")
        seconds = requests[last_bad + 1].at - begun
        return Checked(what, seconds <= self.at_most, f"{seconds:.3g} s")

    def events(self) -> list[str]:
        return [self.of]


@dataclass(frozen=True)
class Restarts(Check):
    """Of the containers of a service's pods that are there now; of all services without one."""

    at_least: int = 0
    at_most: Optional[int] = None
    service: Optional[str] = None

    async def evaluate(self, context: Context) -> Checked:
        limit = "" if self.at_most is None else f", at most {self.at_most}"
        found = {pod.name: pod.restarts for pods in context.deployment.get_pods(self.service).values() for pod in pods}
        count = sum(found.values())
        good = count >= self.at_least and (self.at_most is None or count <= self.at_most)
        seen = ", ".join(f"{name}: {restarts}" for name, restarts in found.items())
        return Checked(f"restarts of {self.service or 'all pods'}: at least {self.at_least}{limit}", good, seen)


@dataclass(frozen=True)
class Logs(Check):
    """Of the pods of a service (of all, without one) that are there now, and of their containers before the last restart: one has a
    line that matches `has`, none has one that matches `lacks`."""

    service: Optional[str] = None
    has: Optional[str] = None
    lacks: Optional[str] = None

    def __post_init__(self) -> None:
        if self.has is None and self.lacks is None:
            raise BadSpec("needs has or lacks")
        for pattern in (self.has, self.lacks):
            try:
                re.compile(pattern or "")
            except re.error as problem:
                raise BadSpec(f"no regular expression: {pattern!r}: {problem}") from None

    async def evaluate(self, context: Context) -> Checked:
        lines = await asyncio.to_thread(self._lines, context)
        words, good, seen = [], True, [f"{len(lines)} lines"]
        if self.has is not None:
            words.append(f"has {self.has!r}")
            good = any(re.search(self.has, line) for line in lines)
        if self.lacks is not None:
            words.append(f"lacks {self.lacks!r}")
            found = [line for line in lines if re.search(self.lacks, line)]
            good = good and not found
            seen += found[:1]
        return Checked(f"the log of {self.service or 'all pods'} {' and '.join(words)}", good, ": ".join(seen)[:500])

    def _lines(self, context: Context) -> list[str]:
        lines: list[str] = []
        for pods in context.deployment.get_pods(self.service).values():
            for pod in pods:
                lines += pod.logs().splitlines()
                if pod.restarts:
                    try:
                        lines += pod.logs(previous=True).splitlines()
                    except ApiError:
                        pass  # It is kept no longer.
        return lines


@dataclass(frozen=True)
class Moved(Check):
    """No pod is on the broken node."""

    async def evaluate(self, context: Context) -> Checked:
        target = context.deployment.get_hw_fault_target_node()
        where = {pod.name: pod.node for pods in context.deployment.get_pods().values() for pod in pods}
        seen = ", ".join(f"{name} on {node}" for name, node in where.items())
        return Checked(f"no pod is on {target}", bool(where) and target not in where.values(), seen)


CHECKS: dict[str, type[Check]] = {
    "faults": Faults,
    "requests": Requests,
    "errors": Errors,
    "success": Success,
    "latency": Latency,
    "recovery": Recovery,
    "restarts": Restarts,
    "logs": Logs,
    "moved": Moved,
}
