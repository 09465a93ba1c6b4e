"""Scenarios: load on a deployment, faults that overlap, waits, healing, checks, and a report (docs/scenarios.md)."""

from __future__ import annotations

from holdfast.deploy.scenario import checks, conditions, faults, steps
from holdfast.deploy.scenario.context import Context, Injected
from holdfast.deploy.scenario.load import Load, Request
from holdfast.deploy.scenario.report import Report
from holdfast.deploy.scenario.runner import ScenarioFailed, run_scenario
from holdfast.deploy.scenario.scenario import Event, Hardware, Scenario

__all__ = [
    "Context",
    "Event",
    "Hardware",
    "Injected",
    "Load",
    "Report",
    "Request",
    "Scenario",
    "ScenarioFailed",
    "checks",
    "conditions",
    "faults",
    "run_scenario",
    "steps",
]
