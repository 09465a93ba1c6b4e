"""Deployments on the local cluster: how long it takes until there is one, until a deployment is ready, and for the ten phases.

    python bench/deploy.py [--runs N]        needs holdfast[deploy], etcd-server, nats-server

No peer runs without a cluster; beside it stands what its parts take by themselves: starting etcd, NATS and the three processes of the
deployment (the floor). Prints medians in seconds and the ratio.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

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


async def deployment(folder: Path, times: dict[str, list[float]]) -> None:
    from holdfast.deploy import DeploymentSpec, ManagedDeployment, local

    begun = time.perf_counter()
    with local.cluster() as cluster:
        times["cluster"].append(time.perf_counter() - begun)
        begun = time.perf_counter()
        async with ManagedDeployment(folder, DeploymentSpec(EXAMPLE / "specs" / "vllm.yaml"), "bench", cluster=cluster):
            times["deployment ready"].append(time.perf_counter() - begun)
            begun = time.perf_counter()
        times["deployment removed"].append(time.perf_counter() - begun)


def ten_phases() -> float:
    begun = time.perf_counter()
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(EXAMPLE), "--enable-hw-faults"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    names = ("floor", "cluster", "deployment ready", "deployment removed", "ten phases, with pytest")
    times: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(runs):
        times["floor"].append(floor())
        with tempfile.TemporaryDirectory() as folder:
            asyncio.run(deployment(Path(folder), times))
        times["ten phases, with pytest"].append(ten_phases())
    for name, values in times.items():
        median = statistics.median(values)
        print(f"{name:<24} {median:7.2f} s   {median / statistics.median(times['floor']):5.1f} x the floor")


if __name__ == "__main__":
    main()
