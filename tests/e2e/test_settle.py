"""ManagedDeployment(settle=): what an earlier test has left on the nodes is waited for, and its owner is named."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from deployments import LIMIT, ask, do, spec, url_of, wait_for
from test_deploy_sweep import kill_at, sweep

from holdfast.deploy import ManagedDeployment, WaitFailed, managed
from holdfast.deploy.controllers.sentinel import STATE
from holdfast.deploy.kinds import NODE, labels_of
from holdfast.deploy.settle import settle


def settled(kube: Any, folder: Any, timeout: float, stable: float = 0.1) -> None:
    async def main() -> None:
        deployment = ManagedDeployment(folder / "logs", spec(), "ns", cluster=kube, settle=stable, settle_timeout=timeout)
        async with deployment:
            assert ask(url_of(deployment))[0] == 200

    asyncio.run(main())


def line(kube: Any, text: str) -> None:
    with (kube.folder / "node-2" / "root" / "var" / "log" / "kernel.log").open("a") as file:
        file.write(f"NVRM: Xid (PCI:0000:01:00): 79, GPU has fallen off the bus.{text}\n")
    wait_for(lambda: STATE in labels_of(do(kube, lambda api: api.get(NODE, "", "node-2"))))


def uncordon(kube: Any) -> None:
    do(kube, lambda api: api.patch(NODE, "", "node-2", {"spec": {"unschedulable": None}}))
    wait_for(lambda: STATE not in labels_of(do(kube, lambda api: api.get(NODE, "", "node-2"))))


def test_who_has_disturbed_it_is_named_until_it_is_swept(kube, tmp_path):
    kill_at(kube, tmp_path, "node cordoned", run="before")
    with pytest.raises(WaitFailed) as raised:
        settled(kube, tmp_path, 0.5)
    said = str(raised.value)
    assert (
        "for 0.1 s, in vain; last seen: node-" in said
        and ", cordoned by run before (swept/vllm-disagg, recorded in fault-injection-system/holdfast-run-before-" in said
    )
    assert said.endswith("`holdfast deploy sweep --run RUN` puts it back")
    sweep(kube, "--run", "before")
    settled(kube, tmp_path, LIMIT)


def test_what_goes_by_itself_is_waited_for(kube, tmp_path, monkeypatch):
    at_its_end = []

    async def watched(*arguments: Any) -> None:
        await settle(*arguments)
        at_its_end.append(STATE in labels_of(do(kube, lambda api: api.get(NODE, "", "node-2"))))

    monkeypatch.setattr(managed, "settle", watched)
    line(kube, " [holdfast gone 1234]")
    threading.Timer(0.5, lambda: uncordon(kube)).start()
    settled(kube, tmp_path, LIMIT)
    assert at_its_end == [False]


def test_what_arrives_late_begins_the_wait_anew(kube, tmp_path):
    """The window is not over when the fault of an earlier test lands."""
    threading.Timer(0.2, lambda: line(kube, " [holdfast late 1234]")).start()
    with pytest.raises(WaitFailed, match=r"node-2 is .*, cordoned by run late"):
        settled(kube, tmp_path, 3.5, stable=3.0)
    uncordon(kube)


def test_what_others_have_done_does_not_matter(kube, tmp_path):
    line(kube, "")
    try:
        settled(kube, tmp_path, 5)
    finally:
        uncordon(kube)
