"""Scenarios as they are written down: in Python, or in YAML (docs/scenarios.md)."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional, Union

import yaml

from holdfast.deploy.errors import BadSpec
from holdfast.deploy.scenario.checks import CHECKS, Check, Faults
from holdfast.deploy.scenario.conditions import CONDITIONS, Condition
from holdfast.deploy.scenario.faults import FAULTS, Fault
from holdfast.deploy.scenario.load import Load
from holdfast.deploy.scenario.reading import build, choose, only_key, said
from holdfast.deploy.scenario.steps import Heal, Inject, Start, Step, Stop, Upgrade, Wait
from holdfast.deploy.spec import DeploymentSpec

_STEPS = ("load", "stop", "wait", "fault", "heal", "upgrade")
_TRIGGERS = ("name", "at", "when", "after", "timeout", "for")
# Seconds.
_LIMIT = 60.0
_LONG = 3600.0


@dataclass(frozen=True)
class Event:
    """One follows the other, unless it has a trigger: `at` so many seconds after the scenario's begin, `when` something has come
    (within `timeout` seconds, else 60), or `after` another event (else within an hour). Those with a trigger go on beside the rest."""

    step: Step
    name: str = ""
    at: Optional[float] = None
    when: Optional[Condition] = None
    after: Optional[str] = None
    timeout: Optional[float] = None

    def __post_init__(self) -> None:
        if sum(trigger is not None for trigger in (self.at, self.when, self.after)) > 1:
            raise BadSpec(f"event {self.name}: one of at, when and after is enough")
        if self.at is not None and self.at < 0:
            raise BadSpec(f"event {self.name}: at must not be negative")

    @property
    def has_trigger(self) -> bool:
        return self.at is not None or self.when is not None or self.after is not None

    @property
    def limit(self) -> float:
        """Seconds for the trigger."""
        return self.timeout if self.timeout is not None else _LONG if self.after is not None else _LIMIT

    def trigger(self) -> str:
        """In words."""
        if self.at is not None:
            return f", {self.at:g} s after the begin"
        if self.when is not None:
            return f", when there is {said(self.when)} (within {self.limit:g} s)"
        return f", after {self.after} (within {self.limit:g} s)" if self.after is not None else ""


@dataclass(frozen=True)
class Hardware:
    """Where faults of hardware are: on one node, on which the pods of these services (else all with GPUs) are gathered, with the shim
    in them. Without `node` one of those that have such pods, drawn by the seed."""

    services: tuple[str, ...] = ()
    node: Optional[str] = None


@dataclass
class Scenario:
    """`deployment`: a specification, or the file of one. That every fault was effective is always checked, unless one of the checks is
    Faults. Raises BadSpec for what cannot be."""

    name: str
    deployment: Union[DeploymentSpec, str, os.PathLike[str]]
    events: Sequence[Event]
    checks: Sequence[Check] = ()
    description: str = ""
    model: Optional[str] = None
    replicas: Mapping[str, int] = field(default_factory=dict)
    hardware: Hardware = field(default_factory=Hardware)
    seed: Optional[int] = None

    def __post_init__(self) -> None:
        if not self.events:
            raise BadSpec(f"scenario {self.name}: it has no events")
        self.events = _named(self.events)
        if not any(isinstance(check, Faults) for check in self.checks):
            self.checks = [Faults(), *self.checks]
        self._check_names()

    @property
    def breaks_hardware(self) -> bool:
        return any(isinstance(event.step, Inject) and event.step.fault.of_hardware for event in self.events)

    def spec(self) -> DeploymentSpec:
        """A new one. Raises BadSpec, also for a service that an event or a check names and that is not there."""
        made = DeploymentSpec(self.deployment.spec() if isinstance(self.deployment, DeploymentSpec) else self.deployment)
        if self.model:
            made.set_model(self.model)
        for service, replicas in self.replicas.items():
            made.set_service_replicas(service, replicas)
        for event in self.events:
            part = event.step.fault if isinstance(event.step, Inject) else event.step
            if getattr(part, "service", None):
                made.get_service(part.service)  # type: ignore[union-attr]
        for check in self.checks:
            if getattr(check, "service", None):
                made.get_service(check.service)  # type: ignore[attr-defined]
        for service in self.hardware.services:
            made.get_service(service)
        return made

    def table(self) -> str:
        """What would happen, a line for each event and check."""
        lines = [f"  {event.name}: {event.step.said()}{event.trigger()}" for event in self.events]
        return "\n".join([*lines, *(f"  check {said(check)}" for check in self.checks)])

    def _check_names(self) -> None:
        steps = {event.name: event.step for event in self.events}
        for event in self.events:
            named = [*event.step.events(), *([event.after] if event.after else []), *(event.when.events() if event.when else [])]
            for name in named:
                choose(name, steps, f"scenario {self.name}: event {event.name}")
            if event.name in named:
                raise BadSpec(f"scenario {self.name}: event {event.name} waits for itself")
            wanted = {Stop: Start, Heal: Inject}.get(type(event.step))
            if wanted is not None and not isinstance(steps[event.step.events()[0]], wanted):
                kind = "load" if wanted is Start else "fault"
                raise BadSpec(f"scenario {self.name}: event {event.name}: {event.step.events()[0]} is no {kind}")
        for check in self.checks:
            for name in check.events():
                choose(name, steps, f"scenario {self.name}: check {type(check).__name__.lower()}")

    @classmethod
    def read(cls, path: Union[str, os.PathLike[str]]) -> Scenario:
        """Of a YAML file; paths in it are beside it. Raises BadSpec."""
        file = Path(path)
        try:
            given = yaml.safe_load(file.read_text())
        except OSError as problem:
            raise BadSpec(f"{file}: cannot be read: {problem.strerror}") from None
        except (yaml.YAMLError, UnicodeDecodeError) as problem:
            raise BadSpec(f"{file}: no YAML: {problem}") from None
        return cls.of(given, str(file), file.parent)

    @classmethod
    def of(cls, given: Any, where: str, folder: Path) -> Scenario:
        """Of the mapping in such a file. Raises BadSpec."""
        if not isinstance(given, Mapping):
            raise BadSpec(f"{where}: a scenario is a mapping with name, deployment, events and checks")
        made = build(_Written, given, where)
        events = [_event(one, f"{where}: event {number}") for number, one in enumerate(made.events, 1)]
        checks = [_check(one, f"{where}: check {number}") for number, one in enumerate(made.checks, 1)]
        try:
            scenario = cls(
                made.name,
                folder / made.deployment,
                events,
                checks,
                made.description,
                made.model,
                made.replicas,
                build(Hardware, made.hardware, f"{where}: hardware"),
                made.seed,
            )
            scenario.spec()
        except BadSpec as problem:
            raise BadSpec(str(problem) if str(problem).startswith(where) else f"{where}: {problem}") from None
        return scenario


@dataclass(frozen=True)
class _Written:
    """The keys of a scenario file."""

    name: str
    deployment: str
    events: list[Any]
    checks: list[Any] = field(default_factory=list)
    description: str = ""
    model: Optional[str] = None
    replicas: dict[str, Any] = field(default_factory=dict)
    hardware: dict[str, Any] = field(default_factory=dict)
    seed: Optional[int] = None


def _named(events: Sequence[Event]) -> list[Event]:
    """Those without a name get that of what they do, with a number. Raises BadSpec for a name that two have."""
    made, used = [], {event.name for event in events if event.name}
    for event in events:
        if not event.name:
            name = next(name for number in range(1, len(events) + 2) if (name := f"{event.step.word()}-{number}") not in used)
            event = dataclasses.replace(event, name=name)
            used.add(name)
        elif sum(one.name == event.name for one in events) > 1:
            raise BadSpec(f"two events have the name {event.name}")
        made.append(event)
    return made


def _event(given: Any, where: str) -> Event:
    if not isinstance(given, Mapping):
        raise BadSpec(f"{where}: an event is a mapping with one of {', '.join(_STEPS)}, not {given!r}")
    for key in given:
        choose(key, (*_STEPS, *_TRIGGERS), where)
    found = [key for key in _STEPS if key in given]
    if len(found) != 1:
        raise BadSpec(f"{where}: an event has one of {', '.join(_STEPS)}; this one has {' and '.join(found) or 'none'}")
    rest = {key: value for key, value in given.items() if key not in _STEPS}
    how = build(_How, rest, where)
    when = _condition(how.when, f"{where}: when") if how.when is not None else None
    step = _step(found[0], given[found[0]], how, f"{where}: {found[0]}")
    try:
        return Event(step, how.name, how.at, when, how.after, how.timeout)
    except BadSpec as problem:
        raise BadSpec(f"{where}: {problem}") from None


@dataclass(frozen=True)
class _How:
    """What an event may have beside its step."""

    name: str = ""
    at: Optional[float] = None
    when: Union[str, dict[str, Any], None] = None
    after: Optional[str] = None
    timeout: Optional[float] = None
    for_: Optional[float] = None


def _step(kind: str, given: Any, how: _How, where: str) -> Step:
    if how.for_ is not None and kind != "fault":
        raise BadSpec(f"{where}: `for` is for faults (a load has `seconds`)")
    if kind == "load":
        return Start(build(Load, given, where))
    if kind == "wait":
        return Wait(_condition(given, where), how.timeout if how.timeout is not None else _LIMIT)
    if kind == "fault":
        return Inject(_fault(given, where), how.for_)
    others: dict[str, type[Step]] = {"stop": Stop, "heal": Heal, "upgrade": Upgrade}
    return build(others[kind], given, where)


def _condition(given: Any, where: str) -> Condition:
    word, value = only_key(given, where, f"one of {', '.join(sorted(CONDITIONS))}")
    return build(CONDITIONS[choose(word, CONDITIONS, where)], value, f"{where}: {word}")


def _fault(given: Any, where: str) -> Fault:
    word, value = only_key(given, where, f"one of {', '.join(sorted(FAULTS))}")
    return build(FAULTS[choose(word, FAULTS, where)], value, f"{where}: {word}")


def _check(given: Any, where: str) -> Check:
    word, value = only_key(given, where, f"one of {', '.join(sorted(CHECKS))}")
    return build(CHECKS[choose(word, CHECKS, where)], value, f"{where}: {word}")
