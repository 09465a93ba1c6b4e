"""`holdfast deploy`: a local cluster that stays, for several tests."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from deployments import LIMIT, SPECS, wait_for

from holdfast.deploy import DeploymentSpec, ManagedDeployment, local


def holdfast(*words: str, **more: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "holdfast", "deploy", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, **more)  # type: ignore[call-overload]


@pytest.fixture
def standing(tmp_path):
    folder = tmp_path / "cluster"
    process = subprocess.Popen(
        [sys.executable, "-m", "holdfast", "deploy", "cluster", "--folder", str(folder), "1x80GiB", "1x80GiB", "none"]
    )
    wait_for(lambda: (folder / "access.json").exists())
    assert (folder / "access.json").stat().st_mode & 0o777 == 0o600 and folder.stat().st_mode & 0o077 == 0  # The token is in it.
    yield folder
    process.send_signal(signal.SIGINT)
    assert process.wait(LIMIT) == 0
    assert not (folder / "access.json").exists()
    ended = holdfast("status", "--folder", str(folder))
    assert ended.returncode == 4 and "no local cluster has its files there" in ended.stderr


def test_it_stays_while_tests_come_and_go(standing, suite):
    suite.write(
        test_uses=f"""
import asyncio
from holdfast.deploy import DeploymentSpec, ManagedDeployment
def test_it(tmp_path):
    async def main():
        async with ManagedDeployment(tmp_path, DeploymentSpec({str(SPECS / "vllm.yaml")!r}), "mine") as deployment:
            assert {{pod.node for pods in deployment.get_pods().values() for pod in pods}} == {{"node-1", "node-2", "node-3"}}
    asyncio.run(main())
"""
    )
    suite.env["HOLDFAST_CLUSTER"] = str(standing)
    for _ in range(2):
        run = suite.run()
        assert run.short() == {"test_it": "passed"} and not any(run.notes.values()), run.output
    said = holdfast("status", "--folder", str(standing)).stdout
    assert said.splitlines()[:3] == ["node-1: 1 GPUs", "node-2: 1 GPUs", "node-3: 0 GPUs"] and "mine/" not in said
    assert said.count("holdfast-faultd-node-") == 3
    again = holdfast("cluster", "--folder", str(standing))
    assert again.returncode == 4 and "a local cluster has its files there already" in again.stderr


def test_a_plan_says_what_would_be_done_and_undone(standing):
    spec = str(SPECS / "vllm.yaml")
    lines = holdfast("plan", spec, "--namespace=mine", "--hw-faults").stdout.splitlines()
    does = [line.strip() for line in lines[::2]]
    assert all(line.startswith("      undo: ") for line in lines[1::2])
    assert does[0] == "create Namespace mine" and does[3] == "create DynamoGraphDeployment mine/vllm-disagg"
    assert "the operator creates 1 pod(s) for VllmDecodeWorker, 1 GPU(s) each: nvcr.io/nvidia/ai-dynamo/vllm-runtime:0.7.0" in does
    assert any(one.startswith("patch vllm-disagg (VllmDecodeWorker, VllmPrefillWorker)") for one in does)
    assert len(holdfast("plan", spec).stdout.splitlines()) == len(lines) - 12
    there = f"--folder={standing}"
    assert holdfast("plan", spec, "--namespace=default", there).stdout.startswith("create StatefulSet default/dynamo-platform-nats")

    async def main() -> None:
        async with ManagedDeployment(standing / "logs", DeploymentSpec(spec), "default", cluster=local.found_in(standing)):
            taken = holdfast("plan", spec, "--namespace=default", there)
            assert taken.returncode == 4 and "there is a deployment vllm-disagg in the namespace default already" in taken.stderr
            other = standing / "other.yaml"
            other.write_text(Path(spec).read_text().replace("name: vllm-disagg", "name: other"))
            assert holdfast("plan", str(other), "--namespace=default", there).stdout.startswith(
                "restart StatefulSet default/dynamo-platform-nats"
            )
            skipped = holdfast("plan", str(other), "--namespace=default", there, "--skip-service-restart")
            assert skipped.stdout.startswith("create DynamoGraphDeployment default/other")

    asyncio.run(main())


@pytest.mark.parametrize(
    "words, said",
    [
        ((), "the following arguments are required"),
        (("cluster",), "--folder"),
        (("cluster", "--folder", "{tmp}", "lots"), "'lots' is not an amount of memory"),
        (("cluster", "--folder", "{tmp}", "--drain", "never"), "invalid choice: 'never'"),
        (("cluster", "--folder", "/dev/null/x"), "Not a directory"),
        (("status", "--folder", "{tmp}"), "no local cluster has its files there"),
        (("plan", "/nowhere.yaml"), "No such file"),
        (("sweep", "--folder", "{tmp}"), "no local cluster has its files there"),
        (("sweep", "--folder", "{tmp}", "--all", "--run", "x"), "not allowed with"),
        (("nothing",), "invalid choice: 'nothing'"),
    ],
)
def test_words_that_are_wrong(tmp_path, words, said):
    run = holdfast(*(word.format(tmp=tmp_path) for word in words))
    assert run.returncode == 4 and said in run.stderr and "Traceback" not in run.stderr, run.stderr


def test_without_the_packages_it_says_which(tmp_path):
    (tmp_path / "aiohttp.py").write_text("raise ImportError('no', name='aiohttp')")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    for words in (("cluster", "--folder", "x"), ("status", "--folder", "x")):
        run = holdfast(*words, env=environment)
        assert run.returncode == 4 and "holdfast.deploy needs aiohttp: pip install 'holdfast[deploy]'" in run.stderr, run.stderr
    # Nobody else is kept from anything.
    assert subprocess.run([sys.executable, "-m", "pytest", "--version"], env=environment, cwd=tmp_path, timeout=LIMIT).returncode == 0
    assert not Path("x").exists()
