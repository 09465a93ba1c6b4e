"""Runs a scenario: deploys, does what is written, heals, checks, and always writes the report."""

from __future__ import annotations

import asyncio
import os
import secrets
from pathlib import Path
from typing import Any, Callable, Optional, Union

from holdfast.deploy.controllers.graph import COMPONENT
from holdfast.deploy.errors import DeployError
from holdfast.deploy.kinds import POD, labels_of, service_gpus
from holdfast.deploy.managed import OUTPUT, ManagedDeployment
from holdfast.deploy.scenario.checks import Check, Checked
from holdfast.deploy.scenario.conditions import Over
from holdfast.deploy.scenario.context import Context, Happened
from holdfast.deploy.scenario.reading import said
from holdfast.deploy.scenario.report import Report
from holdfast.deploy.scenario.scenario import Event, Scenario
from holdfast.deploy.scenario.steps import Inject, heal

_SEEDS = 1 << 32


class ScenarioFailed(AssertionError):
    """Checks that have failed, or events that could not be; `report` has them."""

    def __init__(self, report: Report) -> None:
        super().__init__(report.summary())
        self.report = report


async def run_scenario(
    scenario: Union[Scenario, str, os.PathLike[str]],
    namespace: str,
    log_dir: Union[str, os.PathLike[str]],
    *,
    seed: Optional[int] = None,
    told: Callable[[str], Any] = lambda line: None,
    **more: Any,
) -> Report:
    """`more`: of ManagedDeployment (`cluster`, `settle`, ...). The report is in `log_dir`, beside the logs: report.html, report.json,
    requests.jsonl. Without a seed, also in the scenario, one is drawn. `told` gets a line for each event.

    Raises ScenarioFailed where checks or events have failed; BadSpec, before anything is made; DeployError where the deployment does
    not come or go. Nothing is left in any case.
    """
    written = scenario if isinstance(scenario, Scenario) else Scenario.read(scenario)
    spec = written.spec()
    chosen = next(one for one in (seed, written.seed, secrets.randbelow(_SEEDS)) if one is not None)
    folder = Path(os.environ.get(OUTPUT, "")) / log_dir
    report = Report(written.name, written.description, chosen, namespace, folder)
    deployment = ManagedDeployment(
        log_dir,
        spec,
        namespace,
        enable_hw_faults=written.breaks_hardware,
        hw_fault_config={"service_names": list(written.hardware.services)} if written.hardware.services else None,
        **more,
    )
    try:
        async with deployment:
            run = _Run(written, deployment, chosen, report, told)
            await run.prepare()
            await run.all()
    except BaseException as problem:
        report.problems.append(f"{type(problem).__name__}: {problem}")
        raise
    finally:
        report.write()
    if not report.passed:
        raise ScenarioFailed(report)
    return report


class _Run:
    def __init__(
        self, scenario: Scenario, deployment: ManagedDeployment, seed: int, report: Report, told: Callable[[str], Any]
    ) -> None:
        self.scenario, self.deployment, self.seed, self.report, self.told = scenario, deployment, seed, report, told
        self._healing: list[asyncio.Future[None]] = []

    async def prepare(self) -> None:
        """The shim into the pods, on the node that is to break; then they are free to go elsewhere."""
        if self.scenario.breaks_hardware:
            node = self.scenario.hardware.node or self._any_node()
            await self.deployment.setup_cuda_passthrough(target_node=node)
            await self.deployment.wait_for_all_pods_ready()
            await self.deployment.remove_node_affinity(delete_pods=False)
            self.told(f"node to break: {node}")

    def _any_node(self) -> str:
        """One on which there are pods that the faults are for."""
        services = self.deployment.graph.find()["spec"]["services"]
        names = self.scenario.hardware.services or [name for name, one in services.items() if service_gpus(one)]
        pods = [pod for pod in self.deployment.connection.seen[POD].all() if labels_of(pod).get(COMPONENT) in names]
        nodes = sorted({str(pod["spec"]["nodeName"]) for pod in pods if pod["spec"].get("nodeName")})
        if not nodes:
            raise DeployError("no pod that faults of hardware could be for is on a node: no service of the deployment has GPUs")
        return Context(self.deployment, self.seed, "").sample("hardware", nodes, 1)[0]

    async def all(self) -> None:
        models = [service.model for service in self.deployment.deployment_spec.services if service.model]
        context = Context(self.deployment, self.seed, models[0] if models else "")
        context.events.update({event.name: Happened(event.name, event.step.said()) for event in self.scenario.events})
        observing = self.deployment.connection.submit(context.observe())
        try:
            await self._events(context)
            await self._quiet(context)
            for check in self.scenario.checks:
                self.report.checks.append(await _evaluate(check, context))
        finally:
            # Also where this is cancelled: what stands still would hold up the removal.
            await asyncio.shield(self._quiet(context))
            observing.cancel()

    async def _quiet(self, context: Context) -> None:
        """Nothing is broken, and nobody asks. The report has what has happened until then."""
        await self._heal(context)
        for running in context.loads.values():
            await asyncio.to_thread(running.stop)
        self.report.take(context)

    async def _events(self, context: Context) -> None:
        """Those without a trigger one after the other, the others beside them. The first that fails ends the sequence."""
        beside = [asyncio.ensure_future(self._beside(event, context)) for event in self.scenario.events if event.has_trigger]
        try:
            for event in self.scenario.events:
                if not event.has_trigger and not await self._one(event, context):
                    return
            await asyncio.gather(*beside)
            await asyncio.gather(*self._healing)
        finally:
            for task in (others := [*beside, *self._healing]):
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

    async def _beside(self, event: Event, context: Context) -> None:
        await self._one(event, context, trigger=True)

    async def _one(self, event: Event, context: Context, trigger: bool = False) -> bool:
        """Whether it went well."""
        happened = context.events[event.name]
        try:
            if trigger:
                await _come(event, context)
            happened.begun = context.now()
            self.told(f"{happened.begun:7.2f} s  {event.name}: {happened.what}")
            await event.step.run(context, happened)
            happened.ended = context.now()
            if isinstance(event.step, Inject) and event.step.seconds is not None:
                self._healing.append(asyncio.ensure_future(self._heal_after(event, event.step.seconds, context)))
        except Exception as problem:  # Also what somebody's own step may raise: the others, and the checks, must go on.
            happened.ended = context.now()
            self._failed(event, problem, context)
            return False
        finally:
            context.ring()
        return True

    async def _heal_after(self, event: Event, seconds: float, context: Context) -> None:
        await asyncio.sleep(seconds)
        try:
            await heal(context, context.faults[event.name])
        except Exception as problem:
            self._failed(event, problem, context)
        finally:
            context.ring()

    def _failed(self, event: Event, problem: Exception, context: Context) -> None:
        context.events[event.name].problem = text = str(problem) or repr(problem)
        self.report.problems.append(f"event {event.name}: {text}")
        self.told(f"{context.now():7.2f} s  {event.name}: FAILED: {text}")
        context.note("event failed", event=event.name, problem=text)

    async def _heal(self, context: Context) -> None:
        """What nobody has healed; the last first."""
        for injected in reversed(list(context.faults.values())):
            try:
                await heal(context, injected)
            except Exception as problem:
                self.report.problems.append(f"fault {injected.name} could not be healed: {problem}")


async def _come(event: Event, context: Context) -> None:
    """Its trigger. Raises WaitFailed."""
    if event.at is not None:
        await asyncio.sleep(event.at - context.now())
    elif event.when is not None:
        await event.when.wait(context, event.limit)
    elif event.after is not None:
        await Over(event.after).wait(context, event.limit)


async def _evaluate(check: Check, context: Context) -> Checked:
    try:
        return await check.evaluate(context)
    except Exception as problem:  # Also an assert of somebody's own check.
        return Checked(said(check), False, str(problem) or repr(problem))
