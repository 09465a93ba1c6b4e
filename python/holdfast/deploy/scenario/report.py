"""The report of a scenario: JSON for programs, a page of HTML for people. It is written whatever has become of the scenario."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from holdfast.deploy.scenario import page
from holdfast.deploy.scenario.checks import Checked, percentile
from holdfast.deploy.scenario.context import Context, Happened, Injected
from holdfast.deploy.scenario.load import Request

_PARTS = 60  # Of the time, in the chart.


@dataclass
class Report:
    """`problems`: what kept it from going on as written; where there are none, and all checks have passed, it has passed."""

    name: str
    description: str
    seed: int
    namespace: str
    folder: Path
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)
    events: list[Happened] = field(default_factory=list)
    faults: list[Injected] = field(default_factory=list)
    checks: list[Checked] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    states: list[dict[str, Any]] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return not self.problems and all(check.passed for check in self.checks)

    def take(self, context: Context) -> None:
        self.seconds = context.now()
        self.events = list(context.events.values())
        self.faults = list(context.faults.values())
        self.requests = list(context.requests)
        self.states = list(context.states)

    def summary(self) -> str:
        """Lines for a terminal: what has failed, and where the report is."""
        lines = [f"{self.name}: {'passed' if self.passed else 'FAILED'} in {self.seconds:.1f} s (seed {self.seed})"]
        lines += [f"  problem: {problem}" for problem in self.problems]
        lines += [f"  fault {fault.name} on {fault.target or 'nothing'}: {fault.outcome}" for fault in self.faults]
        lines += [f"  {'ok' if check.passed else 'FAILED'}: {check.what} ({check.seen})" for check in self.checks]
        return "\n".join([*lines, f"  report: {self.folder / 'report.html'}"])

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "description": self.description,
            "seed": self.seed,
            "namespace": self.namespace,
            "passed": self.passed,
            "seconds": round(self.seconds, 3),
            "problems": self.problems,
            "events": [asdict(event) for event in self.events],
            "faults": [
                {
                    "name": fault.name,
                    "kind": type(fault.fault).__name__.lower(),
                    "target": fault.target,
                    "begun": fault.begun,
                    "ended": fault.ended,
                    "outcome": fault.outcome,
                    "evidence": fault.evidence,
                }
                for fault in self.faults
            ],
            "checks": [asdict(check) for check in self.checks],
            "requests": self._requests(),
            "states": self.states,
        }

    def _requests(self) -> dict[str, Any]:
        good = [one.seconds for one in self.requests if one.good]
        return {
            "count": len(self.requests),
            "served": len(good),
            "failed": len(self.requests) - len(good),
            "errors": dict(Counter(one.error for one in self.requests if not one.good).most_common(20)),
            "served_by": dict(Counter(name for one in self.requests for name in one.served_by).most_common()),
            "p50": percentile(good, 50),
            "p99": percentile(good, 99),
            "series": self.series(),
        }

    def series(self) -> list[dict[str, Any]]:
        """Of each part of the time: requests that were begun then, and how the served ones took."""
        width = self.part()
        found: list[dict[str, Any]] = []
        for number in range(math.ceil(self.seconds / width) if self.seconds else 0):
            inside = [one for one in self.requests if number * width <= one.at < (number + 1) * width]
            good = [one.seconds for one in inside if one.good]
            found.append(
                {
                    "at": round(number * width, 3),
                    "served": len(good),
                    "failed": len(inside) - len(good),
                    "p50": percentile(good, 50),
                    "p99": percentile(good, 99),
                }
            )
        return found

    def part(self) -> float:
        """Seconds: a round number of which so many make up the time."""
        wanted = max(self.seconds, 1e-3) / _PARTS
        return next(step for power in range(-2, 6) for step in (10.0**power, 2 * 10.0**power, 5 * 10.0**power) if step >= wanted)

    def write(self) -> None:
        """report.json, report.html and requests.jsonl, in the folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        found = json.dumps(self.as_json(), indent=1, default=str)
        (self.folder / "report.json").write_text(found + "\n")
        (self.folder / "report.html").write_text(page.of(json.loads(found)))
        lines = (json.dumps(asdict(request)) for request in self.requests)
        (self.folder / "requests.jsonl").write_text("".join(f"{line}\n" for line in lines))
