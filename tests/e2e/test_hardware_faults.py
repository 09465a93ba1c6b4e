"""HWFaultManager and the client of the fault service, on this machine: real processes, the real service, simulated GPUs."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast import faults, simgpu
from holdfast.faults import FaultNotSeen, HWFaultConfig, HWFaultManager

HERE = Path(__file__).parent
WORKER = """
import sys
from cuda_basics import *
context()
for line in sys.stdin:
    print(int(driver.cuMemAlloc(64)[0]), flush=True)
"""


class Worker:
    """A process of a deployment: answers each request with the code of an allocation."""

    def __init__(self, environment: dict[str, str]) -> None:
        path = f"{HERE / 'gpu'}:{os.environ.get('PYTHONPATH', '')}"
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER],
            env={**environment, "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self) -> str:
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def stop(self) -> None:
        self.process.stdin.close()
        self.process.wait(20)
        self.process.stdout.close()


@pytest.fixture
def sim(monkeypatch) -> Iterator[simgpu.Simgpu]:
    """This process's children, the service among them, see two simulated GPUs."""
    with simgpu.running(simgpu.parse("2x80GiB")) as made:
        environment = made.environment()
        for name in ("LD_LIBRARY_PATH", simgpu.STATE):
            monkeypatch.setenv(name, environment[name])
        yield made


def manager(**config: Any) -> HWFaultManager:
    return HWFaultManager(namespace="test", deployment_name="mine", config=HWFaultConfig(**config))


def test_the_life_of_a_fault_as_the_seed_tells_it(sim):
    async def scenario() -> None:
        hardware = manager(xid_type=79)
        await hardware.setup()
        await hardware.setup_cuda_passthrough(xid_type=79)
        worker = Worker(hardware.environment())
        try:
            assert worker.ask() == "0" and not hardware.is_node_cordoned()
            await hardware.toggle_cuda_faults(enable=True)
            await hardware.toggle_cuda_faults(enable=True)  # It is on.
            assert worker.ask() == "100" and not hardware.is_node_cordoned()
            fault = await hardware.inject_xid_fault(xid_type=79)
            assert fault.startswith("gpu_xid_79-")
            await asyncio.to_thread(hardware.wait_for_node_cordon, timeout=20)
            assert hardware.node.cordoned_by == [("0000:01:00", 79)]
            await hardware.toggle_cuda_faults(enable=False)
            await hardware.toggle_cuda_faults(enable=False)
        finally:
            await hardware.cleanup()
            worker.stop()
        await hardware.cleanup()

    asyncio.run(scenario())


def test_after_the_fault_new_workers_work_and_the_broken_one_does_not(sim):
    async def scenario() -> None:
        hardware = manager(xid_type=48)
        await hardware.setup()
        await hardware.setup_cuda_passthrough()
        broken = Worker(hardware.environment())
        broken.ask()
        await hardware.toggle_cuda_faults(True)
        assert broken.ask() == "214"
        await hardware.toggle_cuda_faults(False)
        fresh = Worker(hardware.environment())
        assert (fresh.ask(), broken.ask()) == ("0", "214")
        for worker in (fresh, broken):
            worker.stop()
        await hardware.cleanup()

    asyncio.run(scenario())


def test_faults_that_nobody_met_are_an_error(sim):
    async def scenario() -> None:
        hardware = manager()
        await hardware.setup()
        await hardware.setup_cuda_passthrough()
        await hardware.toggle_cuda_faults(True)
        try:
            with pytest.raises(FaultNotSeen, match="no call of any process has met them"):
                await hardware.toggle_cuda_faults(False)
        finally:
            await hardware.cleanup()

    asyncio.run(scenario())


def test_a_fault_that_is_no_reason_to_cordon_is_not_waited_for(sim):
    async def scenario() -> None:
        hardware = manager()
        await hardware.setup()
        try:
            with pytest.raises(faults.NotCordoned, match=r"was not cordoned within 0\.05 s; injected: nothing"):
                hardware.wait_for_node_cordon(timeout=0.05)
            fault = await hardware.inject_xid_fault(94)
            begin = time.monotonic()
            with pytest.raises(faults.NotCordoned, match=f"{fault}: the remedy is to start the program again"):
                hardware.wait_for_node_cordon(timeout=600)
            assert time.monotonic() - begin < 60
            await hardware.inject_xid_fault(119)
            hardware.wait_for_node_cordon(timeout=20)
            hardware.uncordon_node()
            assert not hardware.is_node_cordoned()
        finally:
            await hardware.cleanup()

    asyncio.run(scenario())


def test_what_comes_too_early_or_is_not_wanted_is_said(sim):
    async def scenario() -> None:
        hardware = manager()
        with pytest.raises(faults.NotSetUp, match=r"setup\(\) comes first"):
            await hardware.inject_xid_fault(79)
        with pytest.raises(faults.NotSetUp, match=r"setup\(\) comes first"):
            hardware.is_node_cordoned()
        hardware.set_target_node("here")
        await hardware.setup()
        try:
            assert (await hardware.check_api_health())["node"] == "here"
            with pytest.raises(faults.NotSetUp, match="needs setup_cuda_passthrough"):
                await hardware.toggle_cuda_faults(True)
            with pytest.raises(faults.NotSetUp, match="comes before setup"):
                hardware.set_target_node("there")
            with pytest.raises(faults.BadFault, match="is on here, not on there"):
                await hardware.setup_cuda_passthrough(target_node="there")
            with pytest.raises(faults.BadFault, match="there is no node there here, only here"):
                hardware.is_node_cordoned("there")
            with pytest.raises(faults.ServiceError, match="7 can't be imitated") as refused:
                await hardware.setup_cuda_passthrough(xid_type=7)
            assert refused.value.status == 400
            with pytest.raises(faults.ServiceError, match="there is no GPU 5; they are 0 to 1"):
                await hardware.inject_xid_fault(gpu_id=5)
        finally:
            await hardware.cleanup()
        off = HWFaultManager("test", "mine", HWFaultConfig.from_dict(None))
        await off.setup()
        with pytest.raises(faults.NotSetUp, match="are not enabled"):
            await off.toggle_cuda_faults(True)
        await off.cleanup()
        away = manager(api_url="http://127.0.0.1:9", api_token="x")
        with pytest.raises(faults.ServiceUnreachable, match=r"no fault service answers at http://127\.0\.0\.1:9"):
            await away.setup()

    asyncio.run(scenario())


def test_a_configuration_is_checked():
    assert HWFaultConfig.from_dict({}).enabled and HWFaultConfig.from_dict({"xid_type": 48}).xid_type == 48
    assert HWFaultConfig.from_dict({"service_names": ["a"]}).service_names == ("a",)
    with pytest.raises(faults.BadFault, match="hw_fault_config has no 'xid'; it has enabled, xid_type"):
        HWFaultConfig.from_dict({"xid": 3})
    with pytest.raises(faults.BadFault, match="in_cluster"):
        HWFaultManager("test", "mine", in_cluster=True)
    with pytest.raises(faults.FaultError, match="is no address of a fault service"):
        faults.FaultClient("localhost")


def test_a_service_of_ones_own_puts_back_what_it_did_even_if_it_is_killed():
    victim = subprocess.Popen(["sleep", "600"])
    try:
        with faults.service(node="here") as service:
            assert service.health()["node"] == "here"
            fault = service.inject("process", pid=victim.pid, action="stop")
            assert [entry["fault_id"] for entry in service.faults(active_only=True)] == [fault]
            deadline = time.monotonic() + 20
            while not service.verify(fault)["verified"]:
                assert time.monotonic() < deadline
            pid = next(
                int(p) for p in Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split() if int(p) != victim.pid
            )
            os.kill(pid, signal.SIGKILL)
        assert Path(f"/proc/{victim.pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"
    finally:
        victim.kill()
        victim.wait()


def test_a_client_of_a_service_elsewhere(sim, monkeypatch):
    with faults.service() as service:
        monkeypatch.setenv("FAULT_INJECTION_API", service.url)
        monkeypatch.setenv("HOLDFAST_FAULTD_TOKEN", service.token)
        client = faults.FaultClient()
        fault = client.inject("gpu", fault_type="memory_pressure", severity="high", armed_only=True)
        client.trigger(fault)
        worker = Worker(client.environment())
        assert worker.ask() == "2"
        assert client.recover(fault)["verified"] is True
        assert worker.ask() == "0"
        worker.stop()
        monkeypatch.setenv("HOLDFAST_FAULTD_TOKEN", "wrong")
        with pytest.raises(faults.ServiceError, match="a token is needed"):
            faults.FaultClient().faults()
