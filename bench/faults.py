"""What the fault shim costs where nothing is armed, and how quickly a fault is there. On the simulated driver, in one run.

    python bench/faults.py        # after ./test or ./demo, with their build folder; HOLDFAST_ENGINE names another one's engine
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
os.environ.setdefault("HOLDFAST_ENGINE", str(ROOT / "build" / "plain" / "holdfast"))
sys.path.insert(0, str(ROOT / "python"))

from holdfast import faults, simgpu  # noqa: E402
from holdfast.faults import Fault, Lab  # noqa: E402

PROGRAM = str(Path(os.environ["HOLDFAST_ENGINE"]).parent / "simgpu_calls")
NAMES = ("cuDeviceGetCount", "cuCtxGetDevice")


def calls(environment: dict[str, str]) -> list[float]:
    """Nanoseconds a call, of two functions."""
    out = subprocess.run([PROGRAM], env=environment, capture_output=True, text=True, check=True).stdout
    return [float(number) for number in re.findall(r"([\d.]+) ns", out)]


def cost(sim: simgpu.Simgpu, lab: Lab) -> None:
    without, with_shim = [], []
    for _ in range(7):
        without.append(calls(sim.environment()))
        with_shim.append(calls(lab.environment(sim.environment())))
    lab.arm(Fault("error", code=2, functions="ipc"))
    armed = calls(lab.environment(sim.environment()))
    print("| call | without, ns | with the shim, nothing armed | more | another function's fault armed |\n|---|---|---|---|---|")
    for i, name in enumerate(NAMES):
        bare, through = (statistics.median(row[i] for row in rows) for rows in (without, with_shim))
        print(f"| {name} | {bare:.1f} | {through:.1f} | **{through - bare:.1f}** | {armed[i]:.1f} |")


def latency(sim: simgpu.Simgpu, lab: Lab) -> None:
    victim = subprocess.Popen([PROGRAM, "spin"], env=lab.environment(sim.environment()))
    took = []
    try:
        while lab.seen("cuCtxGetDevice") == 0:
            time.sleep(0.01)
        for _ in range(200):
            fault = lab.prepare(Fault("error", code=2, functions="cuCtxGetDevice"))
            begin = time.monotonic_ns()
            fault.on()
            took.append((fault.wait(10).first.at_ns - begin) / 1000)
            fault.heal()
    finally:
        victim.kill()
        victim.wait()
    took.sort()
    print(f"\nFrom the switch to the first failing call: median {statistics.median(took):.1f} us, 99 % {took[197]:.1f} us (to reach: 1,000)")


def switches(lab: Lab) -> None:
    fault = lab.prepare(Fault("error", code=2, functions="alloc"))
    begin = time.perf_counter()
    for _ in range(100_000):
        fault.on()
        fault.off()
    print(f"\nSwitches: {200_000 / (time.perf_counter() - begin):,.0f} a second from Python (to reach: 10,000)")


def main() -> None:
    with simgpu.running(simgpu.parse("1x8GiB")) as sim, faults.lab() as lab:
        cost(sim, lab)
        latency(sim, lab)
        switches(lab)


if __name__ == "__main__":
    main()
