"""Scenario files that are read, and those that cannot be: what is wrong, where, and what would be right."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import yaml

from holdfast.deploy import BadSpec
from holdfast.deploy.scenario import Context, Event, Injected, Load, Request, Scenario, checks, conditions, faults, steps
from holdfast.deploy.scenario.checks import percentile
from holdfast.deploy.scenario.context import Happened
from holdfast.deploy.scenario.report import Report

EXAMPLES = Path(__file__).parents[2] / "examples" / "hw_faults"
SPEC = str(EXAMPLES / "specs" / "vllm.yaml")


def scenario(**more: Any) -> dict[str, Any]:
    return {"name": "s", "deployment": SPEC, "events": [{"wait": {"seconds": 1}}], **more}


def read(tmp_path: Path, given: Any) -> Scenario:
    file = tmp_path / "s.yaml"
    file.write_text(given if isinstance(given, str) else yaml.safe_dump(given, sort_keys=False))
    return Scenario.read(file)


@pytest.mark.parametrize("file", sorted((EXAMPLES / "scenarios").glob("*.yaml")), ids=lambda file: file.stem)
def test_the_examples_can_be_read(file: Path) -> None:
    made = Scenario.read(file)
    assert made.events and made.checks and made.table()


def test_all_that_a_file_may_say(tmp_path: Path) -> None:
    made = read(
        tmp_path,
        scenario(
            description="all of it",
            model="m",
            seed=3,
            replicas={"VllmDecodeWorker": 2},
            hardware={"services": ["VllmDecodeWorker"], "node": "node-1"},
            events=[
                {"load": {"clients": 3, "rate": 7, "requests": 10, "seconds": 2.5}, "name": "users"},
                {"load": None, "at": 1},
                {"wait": "ready", "timeout": 5},
                {"wait": {"errors": {"count": 2, "load": "users"}}},
                {"wait": {"successes": 4}},
                {"fault": "cuda", "for": 2},
                {"fault": {"xid": 79}, "name": "x", "when": {"requests": 5}},
                {"fault": {"kill": {"service": "Frontend", "signal": "SIGTERM", "pods": "all"}}, "after": "x"},
                {"heal": "x"},
                {"stop": "users"},
                {"upgrade": "Frontend"},
                {"upgrade": None},
            ],
            checks=[{"faults": {"except": "x"}}, {"success": 0.5}, "moved", {"logs": {"service": "Frontend", "lacks": "E"}}],
        ),
    )
    names = [event.name for event in made.events]
    assert names == [
        "users",
        "load-1",
        "ready-1",
        "errors-1",
        "successes-1",
        "cuda-1",
        "x",
        "kill-1",
        "heal-1",
        "stop-1",
        "upgrade-1",
        "upgrade-2",
    ]
    by_name = {event.name: event for event in made.events}
    assert by_name["users"].step == steps.Start(Load(clients=3, rate=7, requests=10, seconds=2.5))
    assert by_name["load-1"].at == 1 and by_name["load-1"].step == steps.Start(Load())
    assert by_name["ready-1"].step == steps.Wait(conditions.Ready(), 5)
    assert by_name["errors-1"].step == steps.Wait(conditions.Errors(2, "users"))
    assert by_name["cuda-1"].step == steps.Inject(faults.Cuda(), 2)
    assert by_name["x"].step == steps.Inject(faults.Xid(79)) and by_name["x"].when == conditions.Requests(5)
    assert by_name["kill-1"].step == steps.Inject(faults.Kill("Frontend", "all", None, "SIGTERM")) and by_name["kill-1"].after == "x"
    assert list(made.checks) == [checks.Faults(("x",)), checks.Success(0.5), checks.Moved(), checks.Logs("Frontend", None, "E")]
    assert made.breaks_hardware and made.seed == 3 and made.hardware.services == ("VllmDecodeWorker",)
    spec = made.spec()
    assert spec["VllmDecodeWorker"].replicas == 2 and spec["VllmDecodeWorker"].model == "m"


def test_that_every_fault_was_effective_is_always_checked(tmp_path: Path) -> None:
    assert list(read(tmp_path, scenario()).checks) == [checks.Faults()]
    assert not read(tmp_path, scenario()).breaks_hardware


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("- a", "a scenario is a mapping"),
        ("a: [", "no YAML"),
        ({"name": "s"}, "needs deployment"),
        (scenario(events=[]), "it has no events"),
        (scenario(event=[]), "'event' is not known; did you mean 'events'?"),
        (scenario(deployment="gone.yaml"), "gone.yaml"),
        (scenario(seed="x"), "seed: must be a whole number, not 'x'"),
        (scenario(seed=True), "seed: must be"),
        (scenario(replicas={"Decode": 2}), "Decode"),
        (scenario(hardware={"services": ["Nobody"]}), "Nobody"),
        (scenario(hardware={"services": [1]}), "hardware: services: must be a list of names"),
        (scenario(events=["wait"]), "event 1: an event is a mapping"),
        (scenario(events=[{"name": "a"}]), "event 1: an event has one of load, stop, wait, fault, heal, upgrade; this one has none"),
        (scenario(events=[{"wait": "ready", "heal": "x"}]), "this one has wait and heal"),
        (scenario(events=[{"wiat": "ready"}]), "event 1: 'wiat' is not known; did you mean 'wait'?"),
        (scenario(events=[{"wait": "redy"}]), "event 1: wait: 'redy' is not known; did you mean 'ready'?"),
        (scenario(events=[{"wait": {"ready": 1}}]), "event 1: wait: ready: takes no value, not 1"),
        (scenario(events=[{"wait": {"requests": 0}}]), "event 1: wait: requests: must be at least 1, not 0"),
        (scenario(events=[{"wait": {"requests": "many"}}]), "requests: count: must be a whole number, not 'many'"),
        (scenario(events=[{"wait": "requests"}]), "requests: needs count"),
        (scenario(events=[{"wait": {"requests": 1, "errors": 1}}]), "event 1: wait: must be one of"),
        (scenario(events=[{"wait": {"over": "x"}}]), "event over-1: 'x' is not known"),
        (scenario(events=[{"wait": "ready", "for": 1}]), "`for` is for faults"),
        (scenario(events=[{"wait": "ready", "at": -1}]), "at must not be negative"),
        (scenario(events=[{"wait": "ready", "at": 1, "when": "ready"}]), "one of at, when and after is enough"),
        (scenario(events=[{"wait": "ready", "name": "a", "after": "a"}]), "event a waits for itself"),
        (scenario(events=[{"wait": "ready", "name": "a"}, {"wait": "ready", "name": "a"}]), "two events have the name a"),
        (scenario(events=[{"wait": "ready", "name": "a"}, {"heal": "a"}]), "event heal-1: a is no fault"),
        (scenario(events=[{"wait": "ready", "name": "a"}, {"stop": "a"}]), "event stop-1: a is no load"),
        (scenario(events=[{"fault": "quake"}]), "event 1: fault: 'quake' is not known; there are cuda, delete, kill, node, partition, stall, xid"),
        (scenario(events=[{"fault": {"kill": {"signal": "SIGNOT"}}}]), "there is no signal 'SIGNOT'"),
        (scenario(events=[{"fault": {"kill": {"pods": 0}}}]), "pods must be a number from 1, or `all`, not 0"),
        (scenario(events=[{"fault": {"kill": {"process": "("}}}]), "process is no regular expression"),
        (scenario(events=[{"fault": {"kill": {"service": "Nobody"}}}]), "Nobody"),
        (scenario(events=[{"fault": {"xid": {"gpu": "every"}}}]), "gpu must be a number or `any`"),
        (scenario(events=[{"load": {"clients": 0}}]), "event 1: load: clients must be more than 0, not 0"),
        (scenario(checks=["all"]), "check 1: 'all' is not known"),
        (scenario(checks=["success"]), "check 1: success: needs at_least or at_most"),
        (scenario(checks=[{"success": {"at_least": 1, "after": "x"}}]), "check success: 'x' is not known"),
        (scenario(checks=[{"latency": {"at_most": 1, "percent": 0}}]), "percent must be above 0"),
        (scenario(checks=["logs"]), "needs has or lacks"),
        (scenario(checks=[{"logs": {"has": "("}}]), "no regular expression: '('"),
    ],
    ids=lambda value: str(value)[:50] if isinstance(value, str) else "",
)  # fmt: skip
def test_what_cannot_be_is_said_with_its_place(tmp_path: Path, wrong: Any, said: str) -> None:
    with pytest.raises(BadSpec) as problem:
        read(tmp_path, wrong)
    assert said in str(problem.value) and str(tmp_path / "s.yaml") in str(problem.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadSpec, match="cannot be read: No such file"):
        Scenario.read(tmp_path / "gone.yaml")


def test_what_is_drawn_depends_on_the_seed_and_the_event_alone() -> None:
    def drawn(seed: int, event: str) -> list[int]:
        return Context(None, seed, "").sample(event, range(1000), 3)  # type: ignore[arg-type]

    assert drawn(1, "a") == drawn(1, "a") and drawn(1, "a") != drawn(2, "a") and drawn(1, "a") != drawn(1, "b")


def test_percentiles_are_of_the_nearest_rank() -> None:
    assert [percentile([3.0, 1.0, 2.0], percent) for percent in (1, 34, 50, 67, 100)] == [1.0, 2.0, 2.0, 3.0, 3.0]
    assert percentile([], 50) is None


def test_the_page_shows_what_there_is_and_escapes_it(tmp_path: Path) -> None:
    report = Report("<b>", "<i>&", 1, "ns", tmp_path / "r", seconds=2.0, problems=["<script>"])
    report.requests = [Request("l", 0.1, 0.01, 200), Request("l", 1.5, 0.2, 0, "<bad>")]
    report.states = [
        {"at": 0.0, "kind": "node", "name": "<n>", "state": "in use"},
        {"at": 1.0, "kind": "node", "name": "<n>", "state": "cordoned"},
    ]
    report.write()
    page = (tmp_path / "r" / "report.html").read_text()
    assert "<script" not in page and "<b>" not in page and "<bad>" not in page and "<n>" not in page
    assert "&lt;bad&gt;" in page and "&lt;n&gt;: cordoned" in page and "failed" in page
    assert sum(part["served"] for part in report.series()) == 1 and sum(part["failed"] for part in report.series()) == 1


def test_a_scenario_in_python() -> None:
    made = Scenario("s", SPEC, [Event(steps.Wait(conditions.Seconds(1))), Event(steps.Inject(faults.Delete()), after="seconds-1")])
    assert [event.name for event in made.events] == ["seconds-1", "delete-1"] and made.spec().name == "vllm-disagg"


def context_with(*requests: Request) -> Context:
    made = Context(None, 1, "")  # type: ignore[arg-type]
    made.requests = list(requests)
    made.events = {"a": Happened("a", "", 1.0, 2.0), "b": Happened("b", "", 4.0, 5.0), "never": Happened("never", "")}
    return made


def evaluated(check: checks.Check, context: Context) -> tuple[bool, str]:
    found = asyncio.run(check.evaluate(context))
    return found.passed, found.seen


def test_what_was_under_way_when_an_event_began_is_not_of_before_it() -> None:
    context = context_with(
        Request("l", 0.5, 0.1, 200),
        Request("l", 0.9, 0.3, 500, "struck"),
        Request("m", 2.5, 0.1, 200),
        Request("l", 3.9, 0.2, 0, "struck"),
    )
    assert evaluated(checks.Success(at_least=1, before="a"), context) == (True, "1 of 1 requests")
    assert evaluated(checks.Requests(at_least=1, at_most=1, after="a", before="b"), context) == (True, "1 of 1 requests")
    assert evaluated(checks.Errors(at_most=1, load="l"), context)[0] is False
    assert evaluated(checks.Requests(at_least=0, after="never"), context) == (False, "an event that this is about has not happened")
    assert evaluated(checks.Latency(at_most=0.1, percent=100), context) == (True, "0.1 of 4 requests")
    assert evaluated(checks.Success(at_least=0.5, after="b"), context) == (False, "there was no request")


def test_recovery_counts_to_the_first_request_after_which_none_failed() -> None:
    context = context_with(
        *(Request("l", at, 0.1, 200, error) for at, error in ((1.0, ""), (2.0, "x"), (3.0, ""), (4.0, "x"), (5.0, "")))
    )
    context.faults = {"f": Injected("f", faults.Cuda(), 1.5)}
    assert evaluated(checks.Recovery("f", 3.5), context) == (True, "3.5 s")
    assert evaluated(checks.Recovery("f", 3.4), context) == (False, "3.5 s")
    context.faults["g"] = Injected("g", faults.Cuda(), 3.5)
    assert evaluated(checks.Recovery("f", 1.5), context) == (True, "1.5 s")
    context.requests.pop()
    assert evaluated(checks.Recovery("g", 9.0), context) == (False, "the last request failed: x")
    assert evaluated(checks.Recovery("h", 9.0), context) == (False, "it was not injected")


def test_healing_that_was_cancelled_is_done_again_and_what_is_done_is_not() -> None:
    done: list[str] = []

    class Slow(faults.Fault):
        async def inject(self, context: Context, injected: Injected) -> None:
            done.append("injected")

        async def heal(self, context: Context, injected: Injected) -> None:
            done.append("begun")
            if len(done) == 1:
                await asyncio.sleep(60)
            injected.found("effective")

    async def main() -> None:
        context, injected = context_with(), Injected("f", Slow(), 0.0)
        context.note = lambda what, **evidence: done.append(what)  # type: ignore[method-assign]
        first = asyncio.ensure_future(steps.heal(context, injected))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert injected.ended is None and injected.outcome is None
        for _ in range(2):
            await steps.heal(context, injected)
        assert injected.outcome == "effective" and done == ["begun", "begun", "fault over"]

    asyncio.run(main())
