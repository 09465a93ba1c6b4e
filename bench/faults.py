"""What the fault shim costs where nothing is armed, and how quickly a fault is there. On the simulated driver, in one run.

python bench/faults.py        # after ./test or ./demo, with their build folder; HOLDFAST_ENGINE names another one's engine
"""

from __future__ import annotations

import http.client
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
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
    print(
        f"\nFrom the switch to the first failing call: median {statistics.median(took):.1f} us, 99 % {took[197]:.1f} us (to reach: 1,000)"
    )


def switches(lab: Lab) -> None:
    fault = lab.prepare(Fault("error", code=2, functions="alloc"))
    begin = time.perf_counter()
    for _ in range(100_000):
        fault.on()
        fault.off()
    print(f"\nSwitches: {200_000 / (time.perf_counter() - begin):,.0f} a second from Python (to reach: 10,000)")


def service() -> None:
    """Requests a second over one connection, and over eight at a time."""
    with tempfile.TemporaryDirectory() as folder:
        command = [os.environ["HOLDFAST_ENGINE"], "faultd", "--state", folder, "--listen", "127.0.0.1:0", "--kernel-log", "none"]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        victim = subprocess.Popen(["sleep", "600"])
        try:
            port = int(re.search(r":(\d+), token", server.stdout.readline()).group(1))
            token = (Path(folder) / "token").read_text().strip()
            cycle = json.dumps({"pid": victim.pid, "action": "stop"})

            def ask(seconds: float, counts: list[int], cycles: bool) -> None:
                connection = http.client.HTTPConnection("127.0.0.1", port)
                headers, count, end = {"Authorization": f"Bearer {token}"}, 0, time.monotonic() + seconds
                while time.monotonic() < end:
                    if cycles:
                        connection.request("POST", "/api/v1/faults/process/inject", cycle, headers)
                        fault = json.loads(connection.getresponse().read())["fault_id"]
                        connection.request("DELETE", f"/api/v1/faults/{fault}", headers=headers)
                    else:
                        connection.request("GET", "/api/v1/faults?active_only=true", headers=headers)
                    connection.getresponse().read()
                    count += 1
                counts.append(count)

            print()
            for what, threads, cycles in (("one client", 1, False), ("eight clients", 8, False), ("inject and recover", 1, True)):
                counts: list[int] = []
                workers = [threading.Thread(target=ask, args=(2.0, counts, cycles)) for _ in range(threads)]
                for worker in workers:
                    worker.start()
                for worker in workers:
                    worker.join()
                print(f"faultd, {what}: {sum(counts) / 2:,.0f} a second")
        finally:
            for process in (server, victim):
                process.kill()
                process.wait()


def main() -> None:
    with simgpu.running(simgpu.parse("1x8GiB")) as sim, faults.lab() as lab:
        cost(sim, lab)
        latency(sim, lab)
        switches(lab)
    service()


if __name__ == "__main__":
    main()
