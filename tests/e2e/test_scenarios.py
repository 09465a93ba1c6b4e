"""Scenarios on the local cluster: events, triggers, faults with their outcomes, checks, and a report whatever happens."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import wait_until
from deployments import EXAMPLE, LIMIT, put_example, spec, wait_for

from holdfast.deploy import DeployError, NameTaken, local
from holdfast.deploy.scenario import (
    Context,
    Event,
    Hardware,
    Injected,
    Load,
    Scenario,
    ScenarioFailed,
    checks,
    conditions,
    faults,
    run_scenario,
    steps,
)  # fmt: skip

DECODE, PREFILL = "VllmDecodeWorker", "VllmPrefillWorker"
USERS = Event(steps.Start(Load(clients=2, rate=50, timeout=5)), "users")


def wait(condition: conditions.Condition, **more: Any) -> Event:
    return Event(steps.Wait(condition, LIMIT), **more)


def fault(what: faults.Fault, name: str = "", seconds: float | None = None, **more: Any) -> Event:
    return Event(steps.Inject(what, seconds), name, **more)


def run(kube: local.Local, folder: Path, events: list[Event], *given: checks.Check, **more: Any) -> dict[str, Any]:
    """report.json, also of one that has failed."""
    seed, made = more.pop("seed", 1), more.pop("spec", None) or spec()
    try:
        asyncio.run(run_scenario(Scenario("s", made, events, given, **more), "ns", folder / "logs", seed=seed, cluster=kube))
    except ScenarioFailed as problem:
        failed = problem
    else:
        failed = None
    found = report(folder)
    assert found["passed"] == (failed is None) and (failed is None or str(folder / "logs" / "report.html") in str(failed))
    return found


def report(folder: Path) -> dict[str, Any]:
    assert "</html>" in (folder / "logs" / "report.html").read_text()
    found: dict[str, Any] = json.loads((folder / "logs" / "report.json").read_text())
    return found


def outcomes(found: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one["outcome"] for one in found["faults"]}


def times(found: dict[str, Any], name: str) -> tuple[float, float]:
    event = next(one for one in found["events"] if one["name"] == name)
    return event["begun"], event["ended"]


def test_the_examples(suite):
    put_example(suite)
    done = suite.run("test_scenarios.py", "--enable-hw-faults", "--namespace=scenarios")
    assert done.code == 0 and set(done.verdicts.values()) == {"passed"} and len(done.verdicts) == 2, done.output
    assert not any(done.notes.values()), done.notes


def test_triggers_by_time_condition_and_event_go_on_beside_the_sequence(kube, tmp_path):
    found = run(
        kube,
        tmp_path,
        [
            USERS,
            wait(conditions.Seconds(0.2), name="timed", at=0.6),
            wait(conditions.Seconds(0.1), name="by-requests", when=conditions.Requests(5)),
            wait(conditions.Seconds(0.1), name="behind", after="timed"),
            wait(conditions.Seconds(0.1), name="first"),
            wait(conditions.Seconds(0.1), name="second"),
            wait(conditions.Over("behind"), name="last"),
        ],
    )
    assert found["passed"], found
    assert times(found, "first")[1] <= times(found, "second")[0] < times(found, "timed")[0]
    assert times(found, "timed")[0] >= 0.6 and times(found, "behind")[0] >= times(found, "timed")[1]
    assert times(found, "last")[1] >= times(found, "behind")[1]
    sixth = sorted(
        (json.loads(line) for line in (tmp_path / "logs" / "requests.jsonl").read_text().splitlines()), key=lambda one: one["at"]
    )
    assert times(found, "by-requests")[0] >= sixth[4]["at"]


def test_faults_overlap_and_heal_by_themselves_or_at_the_end(kube, tmp_path):
    found = run(
        kube,
        tmp_path,
        [
            USERS,
            fault(faults.Stall(DECODE), "short", 0.5),
            fault(faults.Stall(PREFILL), "long"),
            wait(conditions.Seconds(1)),
        ],
        checks.Requests(at_least=1),
    )
    assert outcomes(found) == {"short": "effective", "long": "effective"}
    short, long = found["faults"]
    assert short["begun"] < long["begun"] < short["ended"] < long["ended"]
    assert short["ended"] - short["begun"] >= 0.5
    assert set(long["evidence"]["stopped"].values()) == {"T"} and "T" not in long["evidence"]["went_on"].values()


@pytest.mark.parametrize("what", [faults.Kill(DECODE), faults.Delete("Frontend", grace=0)], ids=["kill", "delete"])
def test_what_dies_comes_back_and_the_load_sees_both(kube, tmp_path, what):
    found = run(
        kube,
        tmp_path,
        [
            USERS,
            wait(conditions.Successes(5)),
            fault(what, "gone"),
            wait(conditions.Errors(1)),
            wait(conditions.Ready()),
            wait(conditions.Successes(5)),
        ],
        checks.Success(at_least=1, before="gone"),
        checks.Errors(at_least=1, after="successes-1"),
        checks.Recovery("gone", LIMIT),
        checks.Restarts(at_least=int(isinstance(what, faults.Kill))),
        checks.Logs(lacks="Traceback"),
    )
    assert found["passed"] and outcomes(found) == {"gone": "effective"}, found
    assert found["requests"]["failed"] and sum(found["requests"]["errors"].values()) == found["requests"]["failed"]
    # The nodes, and each pod from its place to its end.
    assert {one["name"] for one in found["states"] if one["kind"] == "node"} == {"node-1", "node-2"}
    assert any("not ready" in one["state"] for one in found["states"] if one["kind"] == "pod")


def test_a_fault_that_has_not_struck_fails_it_and_says_so(kube, tmp_path):
    """No load: no call of CUDA meets the first. Nothing dies of the second."""
    found = run(kube, tmp_path, [fault(faults.Cuda(), "unmet"), fault(faults.Kill(DECODE, signal="SIGWINCH", seconds=0.2), "harmless")])
    assert not found["passed"] and outcomes(found) == {"unmet": "ineffective", "harmless": "ineffective"}
    assert "no call of any process has met them" in found["faults"][0]["evidence"]["problem"]
    assert [check["passed"] for check in found["checks"]] == [False]


def test_a_fault_that_need_not_strike(kube, tmp_path):
    found = run(kube, tmp_path, [fault(faults.Cuda(), "unmet")], checks.Faults(("unmet",)))
    assert found["passed"] and outcomes(found) == {"unmet": "ineffective"}


def test_other_faults_of_the_node_and_services_chosen_by_hand(kube, tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    there: list[list[str]] = []

    @dataclass(frozen=True)
    class Look(steps.Step):
        wanted: int

        async def run(self, context: Context, happened: Any) -> None:
            # A process of the fault service has been told to fill it, and is at it.
            await asyncio.to_thread(wait_until, lambda: sum(path.stat().st_size for path in folder.iterdir()) == self.wanted)
            there.append([path.name for path in folder.iterdir()])

    full = fault(faults.Node("disk", {"folder": str(folder), "bytes": 4096}), "full")
    found = run(
        kube, tmp_path, [full, Event(Look(4096)), Event(steps.Heal("full")), Event(Look(0))], hardware=Hardware((PREFILL,), "node-2")
    )
    assert found["passed"] and outcomes(found) == {"full": "effective"}, found
    assert found["faults"][0]["target"] == "node-2" and len(there[0]) == 1 and there[1] == []


def test_all_checks_are_evaluated_and_ones_own_may_raise_what_they_like(kube, tmp_path):
    class Own(checks.Check):
        async def evaluate(self, context: Context) -> checks.Checked:
            raise AssertionError("the sky is green")

    class Odd(checks.Check):
        async def evaluate(self, context: Context) -> checks.Checked:
            raise KeyError("odd")

    events = [USERS, wait(conditions.Requests(3)), Event(steps.Stop("users")), wait(conditions.Finished("users"))]
    found = run(kube, tmp_path, events, Own(), checks.Requests(at_least=10_000), Odd(), checks.Success(at_least=1))
    assert [(one["what"], one["passed"]) for one in found["checks"]] == [
        ("every fault was effective", True),
        ("own", False),
        ("requests: at least 10000", False),
        ("odd", False),
        ("share of served requests: at least 1", True),
    ]
    assert "the sky is green" in found["checks"][1]["seen"] and not found["passed"] and not found["problems"]


def test_an_event_that_fails_ends_the_sequence_and_nothing_else(kube, tmp_path):
    class Broken(faults.Fault):
        async def inject(self, context: Context, injected: Injected) -> None:
            raise ValueError("cannot be done")

    found = run(
        kube,
        tmp_path,
        [
            USERS,
            fault(faults.Stall(PREFILL), "held"),
            fault(Broken(), "broken"),
            wait(conditions.Seconds(0), name="never"),
        ],
        checks.Requests(at_least=0),
        checks.Errors(at_most=0, after="never"),
    )
    assert found["problems"] == ["event broken: cannot be done"] and times(found, "never") == (None, None)
    assert outcomes(found) == {"held": "effective", "broken": "unknown"}
    assert [one["passed"] for one in found["checks"]] == [False, True, False]
    assert found["checks"][2]["seen"] == "an event that this is about has not happened"


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (Event(steps.Wait(conditions.Errors(1), 0.3)), "waited 0.3 s for 1 failed requests, in vain; last seen: "),
        (Event(steps.Wait(conditions.Cordoned(), 0.3)), "need ManagedDeployment(..., enable_hw_faults=True)"),
        (fault(faults.Delete(DECODE, pods=3)), "3 pod(s) of VllmDecodeWorker wanted, 1 are ready"),
        (fault(faults.Kill(DECODE, process="nobody")), "has no process like 'nobody'; it has "),
    ],
    ids=["errors", "cordoned", "pods", "process"],
)
def test_what_fails_says_what_there_was(kube, tmp_path, event, said):
    found = run(kube, tmp_path, [USERS, event], checks.Faults((event.name,)) if event.name else checks.Requests(at_least=0))
    assert len(found["problems"]) == 1 and said in found["problems"][0], found["problems"]


def test_without_load_there_is_nothing_to_wait_for(kube, tmp_path):
    found = run(kube, tmp_path, [wait(conditions.Requests(1))])
    assert "no load runs" in found["problems"][0]


def test_a_deployment_that_does_not_come_has_a_report_too(kube, tmp_path):
    made = spec()
    made.set_image("nvcr.io/no/such:1")
    with pytest.raises(DeployError, match="ErrImageNeverPull"):
        run(kube, tmp_path, [wait(conditions.Seconds(0))], spec=made)
    found = report(tmp_path)
    assert not found["passed"] and "ErrImageNeverPull" in found["problems"][0] and found["events"] == []


def test_one_that_is_cancelled_ends_its_load_and_leaves_its_report(kube, tmp_path):
    told: list[str] = []

    async def main() -> None:
        events = [USERS, fault(faults.Stall(DECODE), "held"), wait(conditions.Seconds(LIMIT), name="long")]
        task = asyncio.ensure_future(
            run_scenario(Scenario("s", spec(), events), "ns", tmp_path / "logs", cluster=kube, told=told.append)
        )
        await asyncio.to_thread(wait_for, lambda: any("long" in line for line in told))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    found = report(tmp_path)
    assert "CancelledError" in found["problems"][0] and [one["name"] for one in found["faults"]] == ["held"]


def test_the_same_seed_draws_the_same(kube, tmp_path):
    targets = [
        run(kube, tmp_path / str(number), [fault(faults.Xid(94), "x")], checks.Faults(("x",)), seed=seed)["faults"][0]["target"]
        for number, seed in enumerate([5, 5])
    ]
    assert targets[0] == targets[1] and targets[0].startswith("GPU ")


def test_an_upgrade_replaces_pods_also_where_hardware_is_broken(kube, tmp_path):
    found = run(
        kube,
        tmp_path,
        [
            USERS,
            fault(faults.Cuda(), "cuda"),
            wait(conditions.Errors(1)),
            Event(steps.Heal("cuda")),
            Event(steps.Upgrade(DECODE), "up"),
        ],
    )
    assert found["passed"], found
    assert next(one for one in found["events"] if one["name"] == "up")["evidence"] == {"replaced": 1}


def test_a_name_that_is_taken(kube, tmp_path):
    class Second(steps.Step):
        async def run(self, context: Context, happened: Any) -> None:
            with pytest.raises(NameTaken):
                await run_scenario(Scenario("t", spec(), [wait(conditions.Seconds(0))]), "ns", tmp_path / "second", cluster=kube)

    assert run(kube, tmp_path, [Event(Second())])["passed"]
    assert "NameTaken" in (tmp_path / "second" / "report.json").read_text()


# ---- the command


def holdfast(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "holdfast", "deploy", "scenario", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=2 * LIMIT, cwd=cwd)


def file(folder: Path, name: str, **more: Any) -> str:
    given = {
        "name": name,
        "deployment": str(EXAMPLE / "specs" / "vllm.yaml"),
        "events": [{"load": {"requests": 3}}, {"wait": {"finished": "load-1"}}],
    }
    (folder / f"{name}.yaml").write_text(yaml.safe_dump({**given, **more}))
    return f"{name}.yaml"


def test_the_command_runs_them_one_after_the_other(tmp_path):
    good = file(tmp_path, "good", checks=[{"success": {"at_least": 1}}])
    bad = file(tmp_path, "bad", checks=[{"errors": {"at_least": 1}}])
    done = holdfast(bad, good, "--seed=4", cwd=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "bad: FAILED" in done.stdout and "good: passed" in done.stdout and "(seed 4)" in done.stdout
    reports = {name: json.loads((tmp_path / "holdfast-scenarios" / name / "report.json").read_text()) for name in ("good", "bad")}
    assert reports["good"]["passed"] and not reports["bad"]["passed"] and reports["good"]["requests"]["served"] == 3


def test_the_command_reads_all_of_them_before_it_begins(tmp_path):
    good, wrong = file(tmp_path, "good"), file(tmp_path, "wrong", events=[{"wiat": 1}])
    done = holdfast(good, wrong, cwd=tmp_path)
    assert done.returncode == 4 and "'wiat' is not known; did you mean 'wait'?" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "holdfast-scenarios").exists()
    shown = holdfast(good, "--check", cwd=tmp_path)
    assert shown.returncode == 0 and "load-1: load requests=3" in shown.stdout and not (tmp_path / "holdfast-scenarios").exists()
    twice = tmp_path / "more"
    twice.mkdir()
    assert "two files have the name good" in holdfast(good, str(twice / file(twice, "good")), cwd=tmp_path).stderr


def test_pods_that_share_this_machines_network_cannot_be_cut_off(kube, tmp_path):
    found = run(kube, tmp_path, [fault(faults.Partition("VllmDecodeWorker"), "cut")])
    assert outcomes(found) == {"cut": "unknown"}
    assert "pods are processes of this machine and share its network" in json.dumps(found)
