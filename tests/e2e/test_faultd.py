"""`holdfast faultd` and `holdfast sweep`: the real service on a port of its own, real processes, the simulated driver."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import re
import resource
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable, Optional

import pytest

from holdfast import simgpu
from holdfast.engine_path import find_engine
from holdfast.faults.page import shim_path

HERE = Path(__file__).parent
OPENAPI = json.loads((HERE.parents[1] / "protocol" / "faultd.openapi.json").read_text())
FAULTS = "/api/v1/faults"


class Service:
    """A running service. `call()` talks to it."""

    def __init__(self, folder: Path, *options: str, env: Optional[dict[str, str]] = None, **more: Any) -> None:
        self.folder = folder
        self.kernel = folder.parent / "kernel.log"
        command = [find_engine(), "faultd", "--state", str(folder), "--listen", "127.0.0.1:0", "--node", "here", *options]
        if "--kernel-log" not in options:
            command += ["--kernel-log", str(self.kernel)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, **more)
        self.lines: list[str] = []
        line = ""
        while not line.startswith("holdfast faultd: http"):
            line = self.process.stdout.readline()
            assert line, (self.process.wait(20), self.process.stderr.read())
            self.lines.append(line)
        self.port = int(re.search(r":(\d+), token", line).group(1))
        self.token = (folder / "token").read_text().strip() if (folder / "token").exists() else ""

    def call(self, method: str, path: str, body: Any = None, *, token: Optional[str] = None, timeout: float = 20) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            headers = {"Authorization": f"Bearer {self.token if token is None else token}"}
            data = body if isinstance(body, (bytes, str)) or body is None else json.dumps(body)
            connection.request(method, path, data, headers)
            answer = connection.getresponse()
            text = answer.read().decode()
            return answer.status, json.loads(text) if answer.headers["Content-Type"] == "application/json" else text
        finally:
            connection.close()

    def inject(self, kind: str, **body: Any) -> str:
        status, answer = self.call("POST", f"{FAULTS}/{kind}", body)
        assert status == 200 and answer["status"] == "active", answer
        return str(answer["fault_id"])

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(20)
        self.process.stdout.close()
        self.process.stderr.close()


@pytest.fixture
def start(tmp_path) -> Iterator[Callable[..., Service]]:
    with contextlib.ExitStack() as stack:

        def begin(*options: str, **more: Any) -> Service:
            service = Service(tmp_path / "state", *options, **more)
            stack.callback(service.stop)
            return service

        yield begin


@pytest.fixture
def service(start) -> Service:
    return start()


@pytest.fixture
def victim() -> Iterator[subprocess.Popen[bytes]]:
    """A process that counts: its CPU time grows while it is not stopped."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    yield process
    process.kill()
    process.wait()


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def goes_on(pid: int) -> bool:
    """A busy process is in R, and for moments in D: each page of a program that it touches first may have to be read from the disk."""
    return state(pid) in {"R", "D"}


def wait_for(condition: Callable[[], Any], limit: float = 20) -> Any:
    deadline = time.monotonic() + limit
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.005)
    return found


def sweep(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([find_engine(), "sweep", "--state", str(folder)], capture_output=True, text=True, timeout=60, check=False)


# GPUs.

CLIENT = "from cuda_basics import *\ncontext()\nprint(int(driver.cuMemAlloc(64)[0]), int(driver.cuCtxSynchronize()[0]))"


@pytest.fixture
def gpus(start) -> Iterator[tuple[Service, Callable[[], str]]]:
    """A service that sees two simulated GPUs, and a client that meets its faults."""
    with simgpu.running(simgpu.parse("2x80GiB")) as sim:
        service = start(env=sim.environment())
        status, answer = service.call("GET", "/api/v1/page")
        assert status == 200
        path = f"{HERE / 'gpu'}:{os.environ.get('PYTHONPATH', '')}"
        env = {**sim.environment(), **answer["environment"], "LD_PRELOAD": shim_path(), "PYTHONPATH": path}

        def client(code: str = CLIENT) -> str:
            done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60, check=False)
            return (done.stdout + done.stderr.strip().rpartition("\n")[2]).strip()

        yield service, client


def test_a_gpu_is_the_machines_whatever_a_process_calls_it(gpus):
    service, client = gpus
    second = "import os; os.environ['CUDA_VISIBLE_DEVICES'] = '1'\n" + CLIENT
    fault = service.inject("gpu/inject/xid-79", gpu_id=1, functions="alloc", mark="run 7, mine")
    assert client() == "0 0" and client(second) == "100 100"
    assert service.kernel.read_text() == "NVRM: Xid (PCI:0000:02:00): 79, GPU has fallen off the bus. [run 7, mine]\n"
    assert service.call("GET", f"{FAULTS}/{fault}")[1]["target"] == "here/gpu1"
    service.call("DELETE", f"{FAULTS}/{fault}")
    assert client(second) == "0 0"
    for mark in ("two\nlines", "x" * 101, "ü"):
        status, said = service.call("POST", f"{FAULTS}/gpu/inject/xid-79", {"gpu_id": 1, "mark": mark})
        assert status == 400 and "mark: up to 100 printable ASCII characters, in one line" in said["detail"], said
    assert service.kernel.read_text().count("\n") == 1


def test_an_xid_reaches_programs_and_the_kernels_log_and_ends(gpus):
    service, client = gpus
    assert client() == "0 0"
    fault = service.inject("gpu/inject/xid-48", functions="alloc", owner="me", gpu_id=0)
    assert client() == "214 214"
    assert service.kernel.read_text() == "NVRM: Xid (PCI:0000:01:00): 48, DBE (Double Bit Error) ECC Error\n"
    status, said = service.call("POST", f"{FAULTS}/{fault}/verify")
    assert (status, said["verified"], said["evidence"]["struck"]) == (200, True, 2)
    assert said["evidence"]["first"]["function"] == "cuMemAlloc" and said["evidence"]["kernel_log"]["where"] == str(service.kernel)
    status, shown = service.call("GET", f"{FAULTS}/{fault}")
    assert (shown["fault_type"], shown["target"], shown["owner"], shown["status"]) == ("gpu_xid_48", "here/gpu0", "me", "active")
    assert re.fullmatch(r"gpu_xid_48-[0-9a-f]{8}", fault)
    status, shown = service.call("POST", f"{FAULTS}/{fault}/recover")
    assert status == 200 and shown["status"] == "recovered" and shown["verified"] and shown["recovered_at"]
    assert client() == "0 0"
    # Again: it is the same answer.
    assert service.call("DELETE", f"{FAULTS}/{fault}")[1]["status"] == "recovered"


def test_a_fault_that_nothing_met_says_so(gpus):
    service, _ = gpus
    fault = service.inject("gpu/inject", fault_type="hang")
    status, said = service.call("POST", f"{FAULTS}/{fault}/verify")
    assert (status, said["verified"]) == (200, False)
    assert service.call("DELETE", f"{FAULTS}/{fault}")[1]["verified"] is False


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"fault_type": "memory_pressure", "severity": "high"}, "2 0"),
        ({"fault_type": "error", "code": 700, "functions": "cuCtxSynchronize"}, "0 700"),
        ({"fault_type": "xid_error", "parameters": {"xid_type": 31, "functions": "alloc"}}, "700 700"),
        ({"fault_type": "compute_overload", "severity": "low"}, "0 0"),
        ({"fault_type": "overheat", "functions": "alloc", "seconds": 0.01}, "0 0"),
        ({"fault_type": "memory_pressure", "gpu_id": 1, "severity": "high"}, "0 0"),
    ],
)
def test_kinds_of_faults_of_gpus(gpus, body, expected):
    service, client = gpus
    service.inject("gpu/inject", **body)
    assert client() == expected


def test_faults_at_the_same_time_and_contradictions(gpus):
    service, client = gpus
    service.inject("gpu/inject/xid-79", gpu_id=1)
    slow = service.inject("gpu/inject", fault_type="throttle", functions="alloc")
    oom = service.inject("gpu/inject", fault_type="memory_pressure", severity="high")
    assert client() == "2 0"
    assert service.call("POST", f"{FAULTS}/{slow}/verify")[1]["verified"]
    assert service.call("POST", f"{FAULTS}/gpu/inject/xid-119", {"gpu_id": 1})[0] == 400
    status, answer = service.call("GET", f"{FAULTS}?active_only=true")
    assert (status, answer["count"]) == (200, 3)
    service.call("DELETE", f"{FAULTS}/{oom}")
    assert client() == "0 0"
    assert service.call("GET", f"{FAULTS}?active_only=true")[1]["count"] == 2
    assert service.call("GET", FAULTS)[1]["count"] == 3


def test_a_gpu_that_is_not_there_is_refused(gpus):
    service, _ = gpus
    status, answer = service.call("POST", f"{FAULTS}/gpu/inject/xid-79", {"gpu_id": 2})
    assert (status, answer["detail"]) == (404, "gpu_id: there is no GPU 2; they are 0 to 1")


def test_armed_first_and_triggered_later(gpus):
    service, client = gpus
    status, answer = service.call("POST", f"{FAULTS}/gpu/inject/xid-94", {"armed_only": True})
    assert (status, answer["status"], answer["injected_at"]) == (200, "pending", None)
    assert client() == "0 0" and not service.kernel.exists()
    status, answer = service.call("POST", f"{FAULTS}/{answer['fault_id']}/trigger")
    assert (status, answer["status"]) == (200, "active")
    assert client() == "214 214" and service.kernel.exists()
    status, again = service.call("POST", f"{FAULTS}/{answer['fault_id']}/trigger")
    assert (status, again["detail"]) == (409, f"fault {answer['fault_id']} is active")


# Processes.


def test_a_stopped_process_goes_on(service, victim):
    fault = service.inject("process/inject", pid=victim.pid, action="stop")
    wait_for(lambda: state(victim.pid) == "T")
    said = service.call("POST", f"{FAULTS}/{fault}/verify")[1]
    assert said["verified"] and said["evidence"]["states"] == {str(victim.pid): "T"}
    service.call("DELETE", f"{FAULTS}/{fault}")
    wait_for(lambda: goes_on(victim.pid))


def test_a_duration_is_honoured(service, victim):
    begin = time.monotonic()
    fault = service.inject("process/inject", pid=victim.pid, action="stop", duration=0.5)
    wait_for(lambda: service.call("GET", f"{FAULTS}/{fault}")[1]["status"] == "recovered")
    assert time.monotonic() - begin >= 0.5
    assert goes_on(victim.pid)
    assert service.call("GET", f"{FAULTS}/{fault}")[1]["message"] == "its duration is over"


def test_a_slowed_process_is_stopped_for_a_part_of_the_time(service, victim):
    fault = service.inject("process/inject", pid=victim.pid, action="slow", percent=80)
    wait_for(lambda: state(victim.pid) == "T")
    wait_for(lambda: goes_on(victim.pid))
    wait_for(lambda: state(victim.pid) == "T")
    wait_for(lambda: service.call("POST", f"{FAULTS}/{fault}/verify")[1]["evidence"]["stops"] >= 3)
    service.call("DELETE", f"{FAULTS}/{fault}")
    for _ in range(20):
        assert goes_on(victim.pid)
        time.sleep(0.01)


def test_a_killed_process_is_dead(service, victim):
    fault = service.inject("process/inject", pid=victim.pid, action="kill")
    assert victim.wait(20) == -signal.SIGKILL
    assert service.call("POST", f"{FAULTS}/{fault}/verify")[1]["verified"]


def test_a_tree_is_stopped_whole(service):
    parent = subprocess.Popen(["sh", "-c", "sleep 600 & sleep 600 & echo ready; wait"], stdout=subprocess.PIPE, text=True)
    try:
        assert parent.stdout.readline() == "ready\n"
        fault = service.inject("process/inject", pid=parent.pid, action="stop", tree=True)
        states = service.call("POST", f"{FAULTS}/{fault}/verify")[1]["evidence"]["states"]
        assert len(states) == 3
        wait_for(lambda: all(state(int(pid)) == "T" for pid in states))
        service.call("DELETE", f"{FAULTS}/{fault}")
        wait_for(lambda: all(state(int(pid)) == "S" for pid in states))
    finally:
        for pid in Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split():
            os.kill(int(pid), signal.SIGKILL)
        parent.kill()
        parent.wait()
        parent.stdout.close()


# Memory and disks.

LIMIT = 96 << 20


def memory_group() -> Path:
    """The folder of this process's memory group."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, group = line.split(":", 2)
        if "memory" in controllers.split(","):
            return Path(f"/sys/fs/cgroup/memory{group}")
    return Path("/sys/fs/cgroup") / Path("/proc/self/cgroup").read_text().partition("0::/")[2].strip()


@pytest.fixture
def limited() -> Iterator[subprocess.Popen[bytes]]:
    """A process in a control group of its own, with a limit."""
    group = memory_group() / f"holdfast-faultd-{os.getpid()}"
    process = subprocess.Popen(["sleep", "600"])
    try:
        group.mkdir()
        limit = next((group / name for name in ("memory.limit_in_bytes", "memory.max") if (group / name).exists()), None)
        if limit is None:
            pytest.skip("NOT RUN: the memory controller is not enabled for groups below ours")
        limit.write_text(str(LIMIT))
        (group / "cgroup.procs").write_text(str(process.pid))
        yield process
    except OSError as problem:
        pytest.skip(f"NOT RUN: no control group can be made here: {problem}")
    finally:
        process.kill()
        process.wait()
        if group.exists():
            wait_for(lambda: not (group / "cgroup.procs").read_text())
            group.rmdir()


def test_memory_is_taken_in_the_group_of_a_process(service, limited):
    fault = service.inject("memory/inject", pid=limited.pid, percent=50)
    said = wait_for(lambda: (answer := service.call("POST", f"{FAULTS}/{fault}/verify")[1])["verified"] and answer)
    evidence = said["evidence"]
    assert evidence["limit"] == LIMIT and evidence["held"] >= LIMIT * 0.45 and evidence["used"] >= LIMIT * 0.45
    assert "holdfast-faultd" in evidence["group"]
    service.call("DELETE", f"{FAULTS}/{fault}")
    group = Path(evidence["group"])
    wait_for(lambda: (group / "cgroup.procs").read_text().split() == [str(limited.pid)])


def test_memory_is_back_when_the_service_is_killed(service, limited):
    fault = service.inject("memory/inject", pid=limited.pid, bytes=32 << 20)
    said = wait_for(lambda: (answer := service.call("POST", f"{FAULTS}/{fault}/verify")[1])["verified"] and answer)
    service.process.kill()
    service.process.wait()
    wait_for(lambda: (Path(said["evidence"]["group"]) / "cgroup.procs").read_text().split() == [str(limited.pid)])
    assert "takes 33554432 bytes of memory" in sweep(service.folder).stdout


def test_a_disk_is_filled_and_emptied(service, tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    fault = service.inject("disk/inject", folder=str(folder), bytes=8 << 20)
    said = wait_for(lambda: (answer := service.call("POST", f"{FAULTS}/{fault}/verify")[1])["verified"] and answer)
    assert said["evidence"]["held"] >= 8 << 20 and len(list(folder.iterdir())) == 1
    service.call("DELETE", f"{FAULTS}/{fault}")
    assert list(folder.iterdir()) == []
    service.inject("disk/inject", folder=str(folder), bytes=1 << 20)
    service.inject("disk/inject", folder=str(folder), bytes=1 << 20)
    wait_for(lambda: len(list(folder.iterdir())) == 2)
    service.process.kill()
    service.process.wait()
    swept = sweep(service.folder).stdout
    assert swept.count("is removed") == 2 and list(folder.iterdir()) == []


def test_sweep_removes_no_other_file(service, tmp_path):
    mine = tmp_path / "mine"
    mine.write_text("mine")
    service.inject("disk/inject", folder=str(tmp_path), bytes=4096)
    service.process.kill()
    service.process.wait()
    change = f"UPDATE change SET undo = json_set(undo, '$.file', '{mine}') WHERE undo LIKE '%remove%'"
    subprocess.run(["sqlite3", str(service.folder / "changes.db"), change], check=True, timeout=20)
    assert "is no file of ours" in sweep(service.folder).stdout and mine.exists()


@pytest.fixture
def slowed() -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A process in a control group of its own for disks, and that group."""
    lines = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    own = next((Path(f"/sys/fs/cgroup/blkio{group}") for _, controllers, group in lines if "blkio" in controllers.split(",")), None)
    if own is None or not (own / "blkio.throttle.write_bps_device").exists():
        pytest.skip("NOT RUN: there is no blkio controller (v1) here; io.max (v2) is not tried")
    group = own / f"holdfast-faultd-{os.getpid()}"
    process = subprocess.Popen(["sleep", "600"])
    try:
        group.mkdir()
        (group / "cgroup.procs").write_text(str(process.pid))
        yield process, group
    except OSError as problem:
        pytest.skip(f"NOT RUN: no control group can be made here: {problem}")
    finally:
        process.kill()
        process.wait()
        if group.exists():
            wait_for(lambda: not (group / "cgroup.procs").read_text())
            group.rmdir()


def test_a_disk_is_slow_for_the_group_of_a_process(service, slowed, tmp_path):
    process, group = slowed
    status, answer = service.call(
        "POST", f"{FAULTS}/disk/inject", {"pid": process.pid, "folder": str(tmp_path), "bytes_per_second": 1 << 20}
    )
    if status == 400 and "is on no disk" in answer["detail"]:
        pytest.skip("NOT RUN: the temporary folder is on no disk")
    assert status == 200, answer
    limits = [group / f"blkio.throttle.{way}_bps_device" for way in ("read", "write")]
    assert all(limit.read_text().endswith(" 1048576\n") for limit in limits)
    assert service.call("POST", f"{FAULTS}/{answer['fault_id']}/verify")[1]["verified"]
    service.call("DELETE", f"{FAULTS}/{answer['fault_id']}")
    assert all(limit.read_text() == "" for limit in limits)
    # What was there before comes back.
    device = f"{os.major(tmp_path.stat().st_dev)}:{os.minor(tmp_path.stat().st_dev)}"
    limits[1].write_text(f"{device} 4194304")
    service.inject("disk/inject", pid=process.pid, folder=str(tmp_path), bytes_per_second=1 << 20)
    service.process.kill()
    service.process.wait()
    assert "is '" in sweep(service.folder).stdout
    assert (limits[0].read_text(), limits[1].read_text()) == ("", f"{device} 4194304\n")


def test_a_whole_machine_is_not_slowed_down(service, tmp_path):
    inner = Path("/proc/self/cgroup").read_text()
    if ":blkio:/\n" not in inner:
        pytest.skip("NOT RUN: these tests are in a control group of their own for disks")
    body = {"pid": os.getpid(), "folder": str(tmp_path), "bytes_per_second": 1 << 20}
    status, answer = service.call("POST", f"{FAULTS}/disk/inject", body)
    assert status == 400 and ("all of the machine would be slow" in answer["detail"] or "is on no disk" in answer["detail"])


# Networks.


def test_packets_of_a_namespace_are_late_or_lost(tmp_path):
    if subprocess.run(["unshare", "--net", "true"], capture_output=True, timeout=20, check=False).returncode != 0:
        pytest.skip("NOT RUN: no network namespace can be made here")
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        pytest.skip("NOT RUN: /dev/net/tun is not there, or not ours")
    name = f"t{os.getpid() % 10**9}"
    command = [
        "unshare",
        "--net",
        sys.executable,
        str(HERE / "faults" / "network_checks.py"),
        find_engine(),
        str(tmp_path / "state"),
        name,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, "checked\n"), done.stderr


# What is left.


def test_sweep_puts_back_what_a_killed_service_has_left(service, victim):
    service.inject("process/inject", pid=victim.pid, action="stop", owner="test")
    service.process.kill()
    service.process.wait()
    wait_for(lambda: state(victim.pid) == "T")
    done = sweep(service.folder)
    assert done.returncode == 0
    assert re.search(
        rf"process {victim.pid} \(.*while True.*\) is stopped: process {victim.pid} goes on \(process_stop-\w+, of test\)", done.stdout
    )
    wait_for(lambda: goes_on(victim.pid))
    assert "nothing to undo" in sweep(service.folder).stdout


def test_the_next_service_puts_it_back_too(service, start, victim):
    service.inject("process/inject", pid=victim.pid, action="slow")
    service.process.kill()
    service.process.wait()
    next_one = start()
    wait_for(lambda: goes_on(victim.pid))
    assert "goes on" in next_one.lines[0]


def test_a_service_that_is_told_to_end_puts_everything_back(service, victim):
    service.inject("process/inject", pid=victim.pid, action="stop")
    service.process.terminate()
    assert service.process.wait(20) == 0
    wait_for(lambda: goes_on(victim.pid))
    assert "nothing to undo" in sweep(service.folder).stdout


def test_another_process_with_the_same_number_is_left_alone(service, victim):
    service.inject("process/inject", pid=victim.pid, action="stop")
    service.process.kill()
    service.process.wait()
    # As after a restart of the machine.
    subprocess.run(
        ["sqlite3", str(service.folder / "changes.db"), "UPDATE change SET undo = json_set(undo, '$.boot', 'another')"],
        check=True,
        timeout=20,
    )
    wait_for(lambda: state(victim.pid) == "T")
    assert f"process {victim.pid} has ended" in sweep(service.folder).stdout
    assert state(victim.pid) == "T"


def test_no_change_without_its_undo_on_disk(service, victim):
    # No file grows beyond that from here on, so soon no undo can be written down.
    resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE, (60000, 60000))
    for _ in range(200):
        status, answer = service.call("POST", f"{FAULTS}/process/inject", {"pid": victim.pid, "action": "stop"})
        if status != 200:
            break
        service.call("DELETE", f"{FAULTS}/{answer['fault_id']}")
        wait_for(lambda: state(victim.pid) != "T")
    assert status == 500 and answer["detail"].startswith("failed to "), answer
    assert goes_on(victim.pid)
    assert service.call("GET", "/health")[0] == 200


def test_one_service_a_folder_and_no_sweep_beside_it(service):
    done = sweep(service.folder)
    assert done.returncode == 4 and "a fault service is running there" in done.stderr
    second = subprocess.run(
        [find_engine(), "faultd", "--state", str(service.folder), "--listen", "127.0.0.1:0"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert second.returncode == 4 and "a fault service is running there" in second.stderr


def test_a_sweep_where_nothing_was_is_no_error(tmp_path):
    done = sweep(tmp_path / "none")
    assert done.returncode == 0 and "nothing to undo" in done.stdout
    assert not (tmp_path / "none").exists()


# Who may ask, and what.


def test_a_token_is_needed(service):
    assert service.call("GET", "/health", token="")[0] == 200
    for token in ("", "x", service.token[:-1] + "x", service.token + "x", service.token.upper() + "!"):
        for method, path in (("GET", FAULTS), ("POST", f"{FAULTS}/process/inject"), ("DELETE", f"{FAULTS}/x"), ("GET", "/metrics")):
            status, answer = service.call(method, path, token=token)
            assert status == 401 and "a token is needed" in answer["detail"]
    assert (service.folder / "token").stat().st_mode & 0o777 == 0o600
    assert service.folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("path", "body", "status", "text"),
    [
        ("gpu/inject", "{", 400, "the body is not JSON"),
        ("gpu/inject", "[1]", 400, "the body is no object"),
        ("gpu/inject", {}, 400, "fault_type: '' is none of xid_error error memory_pressure"),
        ("gpu/inject", {"fault_type": 7}, 400, "fault_type: 7 is no text"),
        ("gpu/inject", {"fault_type": "xid_error"}, 400, "xid_type: which XID?"),
        ("gpu/inject/xid-7", {}, 400, "xid: 7 can't be imitated"),
        ("gpu/inject/xid-", {}, 404, ""),
        ("gpu/inject/xid-79x", {}, 404, ""),
        ("gpu/inject/xid-99999999999999999999", {}, 404, ""),
        ("gpu/inject/xid-79", [1], 400, "an object"),
        ("gpu/inject/xid-79", {"xid_type": 48}, 400, "48 in the body, 79 in the path"),
        ("gpu/inject/xid-79", {"node_name": "there"}, 400, "this is here, not there"),
        ("gpu/inject/xid-79", {"gpu_id": -1}, 400, "gpu_id: -1 is no number from 0 to 63"),
        ("gpu/inject/xid-79", {"gpu_id": "0"}, 400, "is no number"),
        ("gpu/inject/xid-79", {"duration": 0}, 400, "duration: 0 is no number"),
        ("gpu/inject/xid-79", {"duration": 1e9}, 400, "duration: "),
        ("gpu/inject/xid-79", {"functions": "cuMemAloc"}, 400, "'cuMemAloc' is no function"),
        ("gpu/inject/xid-79", {"armed_only": 1}, 400, "armed_only: give true or false"),
        ("gpu/inject/xid-79", {"kernel_log": "no"}, 400, "kernel_log: give true or false"),
        ("gpu/inject", {"fault_type": "error"}, 400, "an error needs a code"),
        ("gpu/inject", {"fault_type": "throttle", "severity": "mild"}, 400, "severity: 'mild' is none of"),
        ("process/inject", {}, 400, "pid: which process?"),
        ("process/inject", {"pid": 1, "action": "stop"}, 400, "is this service, or what it runs under"),
        ("process/inject", {"pid": 4194304, "action": "stop"}, 404, "there is no process 4194304"),
        ("process/inject", {"pid": 1e300, "action": "stop"}, 400, "is no number"),
        ("process/inject", {"pid": 2, "action": "hug"}, 400, "action: 'hug' is none of kill, stop, slow"),
        ("process/inject", {"pid": 2, "action": "stop", "percent": 5}, 400, "percent: only for action slow"),
        ("memory/inject", {}, 400, "pid: in whose control group?"),
        ("memory/inject", {"pid": 2}, 400, "how much? give one of the two"),
        ("memory/inject", {"pid": 2, "bytes": 5, "percent": 5}, 400, "how much? give one of the two"),
        ("memory/inject", {"pid": 4194304, "bytes": 5}, 404, "there is no process 4194304"),
        ("disk/inject", {}, 400, "folder: give an absolute path"),
        ("disk/inject", {"folder": "tmp", "bytes": 5}, 400, "folder: give an absolute path"),
        ("disk/inject", {"folder": "/nowhere", "bytes": 5}, 404, "there is no folder /nowhere"),
        ("disk/inject", {"folder": "/tmp", "bytes_per_second": 1 << 20}, 400, "pid: in whose control group?"),
        ("disk/inject", {"folder": "/tmp", "pid": 2, "bytes": 1, "bytes_per_second": 1 << 20}, 400, "one of the two"),
        ("disk/inject", {"folder": "/proc", "pid": 2, "bytes_per_second": 5}, 400, "is no number from 1024"),
        ("disk/inject", {"folder": "/tmp"}, 400, "how much? give one of the two"),
        ("disk/inject", {"folder": "/tmp", "bytes": 9e15}, 400, "bytes are free in /tmp"),
        ("network/namespace", {}, 400, "name: '' is none; give 1 to 12"),
        ("network/namespace", {"name": "A"}, 400, "give 1 to 12 small letters and digits"),
        ("network/namespace", {"name": "../x"}, 400, "give 1 to 12 small letters and digits"),
        ("network/namespace", {"name": "abcdefghijklm"}, 400, "give 1 to 12"),
        ("network/inject", {"namespace": "none"}, 400, "which?"),
        ("network/inject", {"namespace": "none", "loss": 0.1}, 404, "this service has made no hf-none"),
        ("network/inject", {"namespace": "none", "loss": 2}, 400, "loss: 2 is no number from 0 to 1"),
        ("process/inject", {"pid": 1, "action": "kill", "container": "../x"}, 400, "container: '../x' is no id of one"),
        ("process/inject", {"pid": 1, "action": "kill", "container": "0" * 64}, 404, "container: no process of 0000"),
        ("network/inject", {"container": "containerd://00000000ffff", "partition": True}, 404, "no process of 00000000ffff is on this"),
        ("network/inject", {"container": "00000000ffff"}, 400, "container: it can be cut off (partition: true)"),
        ("network/inject", {"container": "00000000ffff", "partition": True, "loss": 1}, 400, "loss: not together with container"),
        ("network/inject", {"container": 5, "partition": True}, 400, "container"),
        ("network/inject", {"namespace": "none", "partition": True, "delay": 1}, 400, "leave out delay and loss"),
        ("weather/inject", {}, 404, "no such route"),
        ("x/verify", None, 404, "there is no fault x"),
        ("x/explode", None, 404, "no such route"),
    ],
)
def test_what_cannot_be_is_refused_in_words(service, path, body, status, text):
    got, answer = service.call("POST", f"{FAULTS}/{path}", body)
    assert got == status and text in answer["detail"], (got, answer)
    assert service.call("GET", FAULTS)[1]["count"] == 0 and not service.kernel.exists()


def test_the_service_itself_is_no_victim(service):
    for pid in (service.process.pid, os.getpid()):
        assert service.call("POST", f"{FAULTS}/process/inject", {"pid": pid, "action": "stop"})[0] == 400


def test_every_route_is_in_the_description_and_answers(service):
    assert service.call("GET", "/openapi.json", token="")[1] == OPENAPI
    for path, methods in OPENAPI["paths"].items():
        real = path.replace("{fault_id}", "x").replace("{xid}", "79")
        for method in methods:
            status, answer = service.call(method.upper(), real, {} if method == "post" else None)
            assert "no such route" not in str(answer) and status != 405, (method, path)
        status, _ = service.call("PATCH", real)
        assert status == 405, path
    assert service.call("GET", "/api/v1/nothing")[0] == 404
    types = service.call("GET", f"{FAULTS}/gpu/xid-types")[1]
    assert {43, 48, 74, 79, 94, 95, 119, 120} <= {entry["code"] for entry in types}
    collected = service.call("GET", "/api/v1/metrics/collect?namespace=dynamo&duration=60")[1]
    assert collected["node"] == "here" and collected["faults"]["injected"] == {"gpu_xid_79": 1} and collected["memory"]["limit"] > 0
    metrics = service.call("GET", "/metrics")[1]
    assert re.search(r'^holdfast_faults_injected_total\{type="gpu_xid_79"\} 1$', metrics, re.MULTILINE)


# Clients that misbehave.


def test_a_body_of_100_megabytes(service):
    with socket.create_connection(("127.0.0.1", service.port), 20) as client:
        head = f"POST {FAULTS}/gpu/inject HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {service.token}\r\nContent-Length: 104857600\r\n\r\n"
        client.sendall(head.encode())
        with contextlib.suppress(OSError):
            for _ in range(100):
                client.sendall(b" " * (1 << 20))
        answer = client.recv(4096)
    assert b" 413 " in answer and b"the body is larger than 1 MiB" in answer
    assert service.call("GET", "/health")[0] == 200
    resident = int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{service.process.pid}/status").read_text()).group(1))
    assert resident < 100_000


def test_a_thousand_requests_at_once(service, victim):
    answers: list[Any] = []

    def ask(number: int) -> None:
        body = {"pid": victim.pid, "action": "slow"} if number % 10 == 0 else None
        answers.append(service.call("POST" if body else "GET", f"{FAULTS}/process/inject" if body else FAULTS, body, timeout=60)[0])

    connections = [socket.create_connection(("127.0.0.1", service.port), 60) for _ in range(600)]  # These say nothing.
    threads = [threading.Thread(target=ask, args=(number,)) for number in range(1000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for connection in connections:
        connection.close()
    assert answers.count(200) == 1000
    active = service.call("GET", f"{FAULTS}?active_only=true")[1]["faults"]
    assert len(active) == 100
    for fault in active:
        service.call("DELETE", f"{FAULTS}/{fault['fault_id']}")
    wait_for(lambda: goes_on(victim.pid))


def test_bytes_that_are_no_requests(service):
    fuzz = random.Random(20261126)
    pieces = [b"GET ", b"/health", b" HTTP/1.1", b"\r\n", b"Host: x", b"Content-Length: ", b"9" * 40, b"-1", b"\x00", b"\xff" * 9, b"%", b"%zz",
              b"?a=%", b"Transfer-Encoding: chunked", b"\r\n\r\n", b"A" * 20000, b"POST ", FAULTS.encode(), b"{" * 5000, b"[" * 100]  # fmt: skip
    for round_ in range(300):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", service.port), 20) as client:
            data = (
                b"".join(fuzz.choice(pieces) for _ in range(fuzz.randrange(1, 12)))
                if round_ % 2
                else fuzz.randbytes(fuzz.randrange(1, 300))
            )
            client.sendall(data)
            if round_ % 3:
                client.shutdown(socket.SHUT_WR)
                client.settimeout(5)
                client.recv(4096)
    for _ in range(50):
        body = fuzz.choice(
            [b"{" * 100000, b"[" * 100000, b'{"a":' * 50000, fuzz.randbytes(1000), b'{"pid":1e999}', b'{"fault_type":"\xff"}', b'"x"']
        )
        status, _ = service.call("POST", f"{FAULTS}/{fuzz.choice(['gpu/inject', 'process/inject', 'gpu/inject/xid-79'])}", body)
        assert status in (400, 404)
    assert service.call("GET", "/health")[0] == 200
    assert service.process.poll() is None


def test_a_client_that_vanishes_leaves_a_consistent_state(service, victim):
    body = json.dumps({"pid": victim.pid, "action": "stop"})
    head = f"POST {FAULTS}/process/inject HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {service.token}\r\nContent-Length: {len(body)}\r\n\r\n"
    for whole in (False, True):
        client = socket.create_connection(("127.0.0.1", service.port), 20)
        client.sendall((head + (body if whole else body[:5])).encode())
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")  # It resets the connection.
        if whole:
            wait_for(lambda: state(victim.pid) == "T")
        client.close()
        # It answers others, and has done what was asked for in whole.
        assert service.call("GET", FAULTS)[1]["count"] == (1 if whole else 0)


# Other machines.


def test_tls_for_others(start, tmp_path):
    if shutil.which("openssl") is None:
        pytest.skip("NOT RUN: there is no openssl to make a certificate with")
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    service = start("--tls-cert", str(certificate), "--tls-key", str(key))
    assert "https://127.0.0.1" in service.lines[-1]
    context = ssl.create_default_context(cafile=str(certificate))
    for _ in range(3):
        connection = http.client.HTTPSConnection("127.0.0.1", service.port, context=context, timeout=20)
        connection.request("GET", FAULTS, headers={"Authorization": f"Bearer {service.token}"})
        assert json.loads(connection.getresponse().read())["count"] == 0
        connection.close()
    with contextlib.suppress(OSError, http.client.HTTPException):
        service.call("GET", "/health")  # Without TLS: no answer, and no harm.
    assert service.process.poll() is None


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--listen", "0.0.0.0:0"], "other machines reach it, so it needs TLS"),
        (["--listen", "here:80"], "here: not an IP address|listen on here"),
        (["--listen", "127.0.0.1"], "give ADDRESS:PORT"),
        (["--listen", "127.0.0.1:99999"], "give ADDRESS:PORT"),
        (["--listen", "203.0.113.7:0", "--tls-cert", "a", "--tls-key", "b"], "use the certificate a"),
        (["--tls-cert", "a"], "it needs --tls-cert and --tls-key"),
        (["--kernel-log", "syslog"], "give auto, kmsg, journald, none or a path"),
        (["--token-file", "/nowhere"], "read a token from /nowhere"),
        (["--limit", "0"], "--limit"),
        (["--state", "/proc/nothing"], "make the folder /proc/nothing"),
    ],
)
def test_options_that_cannot_be_are_refused(tmp_path, options, text):
    usual = {"--state": str(tmp_path / "state"), "--listen": "127.0.0.1:0"}
    usual.update(zip(options[::2], options[1::2]))
    command = [find_engine(), "faultd", *(word for pair in usual.items() for word in pair)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 4 and re.search(text, done.stderr), done.stderr
