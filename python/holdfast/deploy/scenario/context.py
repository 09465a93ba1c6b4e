"""What the parts of a running scenario share: the deployment, the requests so far, the faults, the choices, the clock."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Optional, TypeVar

from holdfast.deploy.connection import Look
from holdfast.deploy.controllers.sentinel import STATE
from holdfast.deploy.errors import DeployError
from holdfast.deploy.kinds import NODE, is_leaving, is_ready, labels_of, name_of
from holdfast.deploy.managed import ManagedDeployment
from holdfast.deploy.pods import Pod

if TYPE_CHECKING:
    from holdfast.deploy.scenario.faults import Fault
    from holdfast.deploy.scenario.load import Request, Running

T = TypeVar("T")
EFFECTIVE, INEFFECTIVE, UNKNOWN = "effective", "ineffective", "unknown"


@dataclass
class Injected:
    """A fault that was injected. `outcome`: effective (it has struck, and the evidence says what), ineffective (it has not), unknown
    (that could not be found out)."""

    name: str
    fault: Fault
    begun: float
    target: str = ""
    ended: Optional[float] = None
    outcome: Optional[str] = None
    evidence: dict[str, Any] = field(default_factory=dict)
    # What healing it needs.
    things: list[Any] = field(default_factory=list)

    def found(self, outcome: str, **evidence: Any) -> None:
        """An outcome that is not effective stays."""
        if self.outcome in (None, EFFECTIVE):
            self.outcome = outcome
        self.evidence.update(evidence)


@dataclass
class Happened:
    """An event of the scenario. `begun` and `ended`: seconds since it began."""

    name: str
    what: str
    begun: Optional[float] = None
    ended: Optional[float] = None
    problem: str = ""
    evidence: dict[str, Any] = field(default_factory=dict)


class Context:
    """Of one run of a scenario."""

    def __init__(self, deployment: ManagedDeployment, seed: int, model: str) -> None:
        self.deployment, self.seed, self.model = deployment, seed, model
        self.requests: list[Request] = []
        self.loads: dict[str, Running] = {}
        self.faults: dict[str, Injected] = {}
        self.events: dict[str, Happened] = {}
        # {"at", "kind": node | pod, "name", "state"}: each when it has changed.
        self.states: list[dict[str, Any]] = []
        self._lock = threading.Lock()
        self._start = time.monotonic()

    def now(self) -> float:
        """Seconds since the scenario began."""
        return time.monotonic() - self._start

    # ---- requests

    def took(self, request: Request) -> None:
        """From any thread. They are in the order of their ends."""
        with self._lock:
            self.requests.append(request)
        self.ring()

    def ring(self) -> None:
        try:
            self.deployment.connection.ring()
        except (DeployError, RuntimeError):
            pass  # It is over.

    # ---- choices

    def random(self, event: str) -> random.Random:
        """For one event. Which other events there are, and when they come, does not change what is drawn."""
        return random.Random(f"{self.seed}:{event}")

    def choose_pods(self, event: str, service: Optional[str], count: int) -> list[Pod]:
        """So many that are ready; 0: all. Raises DeployError where there are fewer."""
        ready = [pod for pods in self.deployment.get_pods(service).values() for pod in pods if pod.ready]
        if not ready or len(ready) < count:
            raise DeployError(f"{event}: {count or 'a'} pod(s) of {service or 'the deployment'} wanted, {len(ready)} are ready")
        return self.sample(event, sorted(ready, key=lambda pod: (pod.node, pod.name)), count) if count else ready

    def sample(self, event: str, things: Sequence[T], count: int) -> list[T]:
        return self.random(event).sample(list(things), count)

    # ---- waits

    async def until(self, what: str, seconds: float, look: Look) -> float:
        """See Connection.until; `look` is asked again when objects of the cluster change, requests end or events are over."""
        connection = self.deployment.connection
        return await connection.run(connection.until(what, seconds, look))

    def note(self, what: str, **evidence: Any) -> None:
        self.deployment.timeline.note(what, **evidence)

    # ---- what the nodes and pods are

    async def observe(self) -> None:
        """Notes each change of a node's or pod's state, for good. In the connection's thread."""
        seen = self.deployment.connection.seen
        before: dict[tuple[str, str], str] = {}
        bell = seen.bell()
        try:
            while True:
                bell.clear()
                now: dict[tuple[str, str], str] = {}
                for node in seen[NODE].all():
                    parts = [labels_of(node).get(STATE, ""), "cordoned" if node["spec"].get("unschedulable") else ""]
                    now["node", name_of(node)] = ", ".join(part for part in parts if part) or "in use"
                for pod in self.deployment.graph.pods():
                    word = "leaving" if is_leaving(pod) else "ready" if is_ready(pod) else "not ready"
                    where = pod["spec"].get("nodeName")
                    now["pod", name_of(pod)] = f"{word} on {where}" if where else "not placed"
                for (kind, name), state in [*now.items(), *((key, "gone") for key in before if key not in now)]:
                    if before.get((kind, name)) != state:
                        self.states.append({"at": round(self.now(), 3), "kind": kind, "name": name, "state": state})
                before = now
                await bell.wait()
        except asyncio.CancelledError:
            return
        finally:
            seen.silence(bell)
