"""Deployments on the local cluster, and on a real control plane with nodes of this machine: how long it takes until there is one, until
a deployment is ready, and for the ten phases.

    python bench/deploy.py [--runs N]        needs holdfast[deploy], etcd-server, nats-server; tools/kubernetes.sh for the second

No peer runs without a cluster; beside it stands what its parts take by themselves: starting etcd, NATS and the three processes of the
deployment (the floor). Prints medians in seconds and the ratio.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Optional

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "e2e"))

from control_plane import ControlPlane, missing

from holdfast.deploy.local import Local

EXAMPLE = Path(__file__).parents[1] / "examples" / "hw_faults"


def floor() -> float:
    """The programs of a deployment, started at once, until each has loaded what it needs."""
    worker = "import asyncio, aiohttp, nats; from cuda.bindings import driver"
    begun = time.perf_counter()
    started = [subprocess.Popen([sys.executable, "-c", worker]) for _ in range(3)]
    started += [
        subprocess.Popen(["etcd", "--version"], stdout=subprocess.DEVNULL),
        subprocess.Popen(["nats-server", "--version"], stdout=subprocess.DEVNULL),
    ]
    for process in started:
        process.wait()
    return time.perf_counter() - begun


async def deployment(folder: Path, cluster: Local, times: dict[str, list[float]], where: str) -> None:
    from holdfast.deploy import DeploymentSpec, ManagedDeployment

    begun = time.perf_counter()
    async with ManagedDeployment(folder, DeploymentSpec(EXAMPLE / "specs" / "vllm.yaml"), "bench", cluster=cluster):
        times[f"{where}: deployment ready"].append(time.perf_counter() - begun)
        begun = time.perf_counter()
    times[f"{where}: deployment removed"].append(time.perf_counter() - begun)


def ten_phases(*more: str, **environment: str) -> float:
    begun = time.perf_counter()
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        str(EXAMPLE / "test_hw_faults.py"),
        "--enable-hw-faults",
        *more,
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **environment})
    return time.perf_counter() - begun


def once(times: dict[str, list[float]], where: str, plane: Optional[ControlPlane]) -> None:
    from holdfast.deploy import local

    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, local.cluster(control_plane=plane.kubeconfig if plane else None) as cluster:
        times[f"{where}: nodes"].append(time.perf_counter() - begun)
        asyncio.run(deployment(Path(folder), cluster, times, where))
        taken = ten_phases("--hf-backend=kubernetes", KUBECONFIG=str(plane.kubeconfig)) if plane is not None else ten_phases()
        times[f"{where}: ten phases, with pytest"].append(taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    times: dict[str, list[float]] = collections.defaultdict(list)
    with contextlib.ExitStack() as stack:
        plane = None
        if missing():
            print(missing(), file=sys.stderr)
        else:
            begun = time.perf_counter()
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            plane = stack.enter_context(ControlPlane(folder).running())
            times["real: control plane"].append(time.perf_counter() - begun)
        for _ in range(runs):
            times["floor"].append(floor())
            once(times, "local", None)
            if plane is not None:
                once(times, "real", plane)
    for name, values in times.items():
        median = statistics.median(values)
        print(f"{name:<34} {median:7.2f} s   {median / statistics.median(times['floor']):5.1f} x the floor")


if __name__ == "__main__":
    main()
