"""Tests on GPUs: leases, sharing by memory, devices that fail, and what is said of it. On simulated GPUs, with real clients. What is
marked so runs on a real GPU as well."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest
from gpu_places import RealGpu, on_both, real_gpu

from holdfast import simgpu

HERE = Path(__file__).parent
HEAD = """
import os, subprocess, sys, time, pytest
from cuda_basics import *
from holdfast import simgpu
GIB = 1 << 30
def sim(): return simgpu.Simgpu(os.environ["HOLDFAST_SIMGPU_STATE"])
def mine(): return [int(i) for i in os.environ["HOLDFAST_GPU_IDS"].split(",")]
def hold(gib):
    context()
    return ok(driver.cuMemAlloc(int(gib * GIB)))
def until(condition):
    deadline = time.monotonic() + 20
    while not condition(): assert time.monotonic() < deadline; time.sleep(0.01)
def until_looked_at():
    # A real one cannot say; it is looked at twenty times a second.
    if "HOLDFAST_SIMGPU_STATE" not in os.environ: return time.sleep(1)
    # The run has asked twice who has memory on the device: an armed fault that changes nothing counts that.
    me = os.getpid()
    sim().fault(mine()[0], "nvml-slow", seconds=0, code=me, function="nvmlDeviceGetComputeRunningProcesses")
    def times(): return [int(f.split(", ")[1].split()[0]) for s in sim().status() for f in s.faults if f" code {me}," in f]
    until(lambda: times()[0] >= 2)
def gpus(*args, **kwargs): return pytest.mark.holdfast(*args, **kwargs)
def times(n): return pytest.mark.parametrize("i", range(n))
"""


@pytest.fixture
def on(suite, place) -> Iterator[Callable[[str], Any]]:
    """Puts the suite on simulated GPUs, or on the real one."""
    with contextlib.ExitStack() as stack:

        def begin(spec: str) -> simgpu.Simgpu | RealGpu:
            if place == "real":
                real = real_gpu()
                suite.env = real.environment(suite.env)
                suite.env["PYTHONPATH"] = f"{HERE / 'gpu'}:{suite.env.get('PYTHONPATH', '')}"
                return real
            sim = stack.enter_context(simgpu.running(simgpu.parse(spec)))
            suite.env = sim.environment(suite.env)
            suite.env["PYTHONPATH"] = f"{HERE / 'gpu'}:{suite.env.get('PYTHONPATH', '')}"
            return sim

        yield begin


def leases(run: Any) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for event in run.events:
        if event["event"] == "lease":
            found.setdefault(event["id"].rpartition("::")[2], []).append(",".join(event["gpus"]))
    return found


# ---- leases ------------------------------------------------------------------------------------------------------------------

SEES = (
    HEAD
    + """
NAMES = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HOLDFAST_GPU_IDS", "FKIT_GPU_IDS")
def seen(): return {os.environ.get(name) for name in NAMES}
@gpus(gpus=1)
@times(4)
def test_one(i):
    (only,) = seen()
    context()
    assert ok(driver.cuDeviceGetCount()) == 1
    assert ok(driver.cuDeviceGetPCIBusId(20, 0)).startswith(b"0000:%02x" % (int(only) + 1))
@gpus(gpus=2)
def test_two():
    assert len(mine()) == 2 and len(seen()) == 1
    context(1)
@gpus(gpus=0)
def test_none():
    assert seen() == {""}
    assert int(driver.cuInit(0)[0]) == 100
def test_says_nothing():
    assert seen() == {None}
"""
)


@pytest.mark.parametrize("isolation", ["test", "module", "worker"])
@pytest.mark.parametrize("count", [2, 8])
def test_a_test_sees_exactly_its_lease(suite, on, isolation, count):
    on(f"{count}x80GiB")
    suite.write(test_sees=SEES)
    run = suite.run(
        f"--hf-isolate={isolation}", "--hf-slots=4", *(["--deselect=test_sees.py::test_says_nothing"] if isolation != "test" else [])
    )
    assert set(run.verdicts.values()) == {"passed"}, run.output
    assert all(not note for note in run.notes.values()), run.output


@on_both
@pytest.mark.parametrize("isolation", ["test", "module", "worker"])
def test_a_test_sees_its_gpu_or_none(suite, on, isolation):
    on("1x80GiB")
    text = """
@gpus(gpus=1)
@times(3)
def test_one(i):
    assert {os.environ[name] for name in ("CUDA_VISIBLE_DEVICES", "HOLDFAST_GPU_IDS", "FKIT_GPU_IDS")} == {"0"}
    context()
    assert ok(driver.cuDeviceGetCount()) == 1
@gpus(gpus=0)
def test_none():
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
    assert int(driver.cuInit(0)[0]) == 100
"""
    suite.write(test_sees=HEAD + text)
    run = suite.run(f"--hf-isolate={isolation}", "--hf-slots=2")
    assert set(run.verdicts.values()) == {"passed"}, run.output
    assert all(not note for note in run.notes.values()), run.output


@on_both
def test_two_tests_never_have_a_whole_gpu_at_once(suite, on, place):
    on("2x80GiB")
    suite.write(test_whole=HEAD + "@gpus(gpus=1)\n@times(8)\ndef test(i):\n    hold(60)\n    time.sleep(0.02)\n")
    run = suite.run("--hf-slots=4")
    assert set(run.verdicts.values()) == {"passed"}, run.output
    assert {gpu for found in leases(run).values() for gpu in found} == ({"0", "1"} if place == "simulated" else {"0"})


@on_both
def test_tests_share_a_gpu_by_what_they_declare(suite, on, until):
    on("1x80GiB")
    # Each waits for the other: they pass only if they run at the same time, and memory that is declared is enough.
    text = """
@gpus(vram="30GiB")
@times(2)
def test_together(i):
    hold(29)
    open(f"here{i}", "w").close()
    until(lambda: os.path.exists(f"here{1 - i}"))
"""
    suite.write(test_share=HEAD + text)
    run = suite.run("--hf-slots=2")
    assert set(run.verdicts.values()) == {"passed"}, run.output


@on_both
def test_memory_that_was_measured_is_booked_the_next_time(suite, on):
    on("1x80GiB")
    text = """
@gpus(gpus=1)
@times(2)
def test_measured(i):
    hold(20)
    open(f"here{i}", "w").close()
    until_looked_at()
    both = os.path.exists(f"here{1 - i}")
    os.unlink(f"here{i}")
    print("BOTH" if both else "ALONE")
"""
    suite.write(test_measured=HEAD + text)
    first = suite.run("--hf-slots=2", "-rP")
    assert "BOTH" not in first.output
    assert set(first.verdicts.values()) == {"passed"}, first.output
    with sqlite3.connect(suite.root / ".holdfast" / "history.db") as db:
        known = [row[0] for row in db.execute("SELECT vram FROM tests")]
    assert all(20 << 30 < bytes_ < 22 << 30 for bytes_ in known), known
    second = suite.run("--hf-slots=2", "-rP")
    assert "BOTH" in second.output, second.output
    marks = suite_command(suite, "suggest-marks")
    assert marks.count('@pytest.mark.holdfast(vram="23GiB")') == 2, marks


def suite_command(suite: Any, *args: str) -> str:
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, "-m", "holdfast", *args], cwd=suite.root, env=suite.env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@on_both
def test_a_gpu_that_is_too_full_gives_the_test_one_of_its_own(suite, on):
    on("1x80GiB")
    # It says 10 and takes 60, while another one holds 30.
    text = """
@gpus(vram="35GiB")
def test_holds():
    hold(30)
    open("held", "w").close()
    until(lambda: os.path.exists("full"))
@gpus(vram="10GiB")
def test_lies():
    until(lambda: os.path.exists("held"))
    try: hold(60)
    finally: open("full", "w").close()
"""
    suite.write(test_full=HEAD + text)
    run = suite.run("--hf-slots=2")
    assert set(run.verdicts.values()) == {"passed"}, run.output
    assert "judged again with a GPU to itself" in run.output
    assert run.notes["test_full.py::test_lies"] == []


SCOPE = (
    HEAD
    + """
@pytest.fixture(scope="module")
def model():
    memory = hold(10)
    yield memory, mine(), os.getpid()
    ok(driver.cuMemFree(memory))
@gpus(gpus=1)
@times(4)
def test_uses(model, i):
    assert (mine(), os.getpid()) == model[1:]
    ok(driver.cuMemsetD8(model[0], 1, 100))
@gpus(gpus=2)
def test_more(model): assert len(mine()) == 2
@gpus(gpus=1)
def test_whole(): hold(75)
"""
)


@on_both
def test_what_a_scope_has_on_the_only_gpu_stays_with_its_tests(suite, on):
    on("1x80GiB")
    suite.write(test_scope=SCOPE)
    run = suite.run("--hf-slots=2")
    assert run.short().pop("test_more") == "error"
    assert set(run.verdicts.values()) == {"passed", "error"}, run.output
    assert "does not survive a fork" in run.output


@pytest.mark.parametrize("slots", [1, 3])
def test_what_a_scope_has_on_a_gpu_stays_with_its_tests(suite, on, slots):
    on("2x80GiB")
    suite.write(test_scope=SCOPE)
    run = suite.run(f"--hf-slots={slots}")
    assert set(run.verdicts.values()) == {"passed"}, run.output
    assert "does not survive a fork" in run.output


def test_a_test_without_devices_sees_nothing_of_its_scopes(suite, on):
    on("2x80GiB")
    text = """
@pytest.fixture(scope="module")
def data(): return os.environ.get("HOLDFAST_GPU_IDS"), os.getpid()
@gpus(gpus=1)
@times(3)
def test_on_one(data, i): assert data[0] in ("0", "1") and len(mine()) == 1 and os.getpid() != data[1]
def test_on_none(data): assert "HOLDFAST_GPU_IDS" not in os.environ
"""
    suite.write(test_beside=HEAD + text)
    run = suite.run("--hf-slots=1", "--hf-dist=sequential")
    assert set(run.verdicts.values()) == {"passed"}, run.output


@on_both
def test_cold_processes_have_their_lease_before_they_import(suite, on):
    on("2x80GiB")
    text = "import threading, os\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n" + HEAD
    suite.write(
        test_cold=text
        + 'SEEN = os.environ.get("HOLDFAST_GPU_IDS")\n@gpus(gpus=1)\n@times(3)\ndef test(i):\n    assert SEEN in ("0", "1")\n'
    )
    run = suite.run("--hf-slots=2")
    assert set(run.verdicts.values()) == {"passed"}, run.output
    assert "cold processes" in run.output


def test_gpus_for_each_slot(suite, on):
    on("4x80GiB")
    suite.write(
        test_slots=HEAD
        + "@times(6)\ndef test(i):\n    assert len(mine()) == 2\n    hold(1)\n@gpus(gpus=1)\ndef test_own(): assert len(mine()) == 1\n"
    )
    for isolation in ("test", "worker"):
        run = suite.run("--hf-slots=3", "--hf-gpus-per-slot=2", f"--hf-isolate={isolation}")
        assert set(run.verdicts.values()) == {"passed"}, run.output
    assert suite.run("--hf-gpus-per-slot=5").verdicts["test_slots.py::test[0]"] == "error"


def test_architectures(suite, on, tmp_path):
    (tmp_path / "gpus.toml").write_text('[[device]]\nmemory="8GiB"\narch="8.0"\n[[device]]\nmemory="8GiB"\narch="9.0"\n')
    on(str(tmp_path / "gpus.toml"))
    suite.write(
        test_arch=HEAD
        + """
@gpus(gpu_arch="9.0")
def test_exactly(): assert mine() == [1]
@gpus(gpu_arch=["sm_80"])
def test_named(): assert mine() == [0]
@gpus(gpus=2, gpu_arch=">=8.0")
def test_at_least(): assert mine() == [0, 1]
@gpus(gpu_arch="amd")
def test_absent(): pass
"""
    )
    run = suite.run("--hf-slots=2")
    assert run.short() == {"test_exactly": "passed", "test_named": "passed", "test_at_least": "passed", "test_absent": "error"}, (
        run.output
    )


def test_mig_instances_and_the_callers_list(suite, on, tmp_path):
    (tmp_path / "gpus.toml").write_text(
        '[[device]]\nmemory="80GiB"\nmig=["10GiB", "20GiB"]\n[[device]]\nmemory="8GiB"\n[[device]]\nmemory="8GiB"\n'
    )
    sim = on(str(tmp_path / "gpus.toml"))
    instance = sim.status()[2].uuid
    suite.env["CUDA_VISIBLE_DEVICES"] = f"2,{instance}"
    suite.write(
        test_mig=HEAD
        + f"""
@gpus(vram="15GiB")
def test_instance():
    assert os.environ["CUDA_VISIBLE_DEVICES"] == {instance!r}
    hold(15)
@gpus(gpus=2)
def test_both():
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "2,{instance}"
"""
    )
    run = suite.run("--hf-slots=2")
    assert set(run.verdicts.values()) == {"passed"}, run.output


# ---- devices and tests that fail ---------------------------------------------------------------------------------------------


def test_a_device_that_is_lost_is_left_out_and_its_test_passes_elsewhere(suite, on):
    on("2x80GiB")
    text = """
@gpus(gpus=1)
def test_loses():
    context()
    if mine() == [0]: sim().fault(0, "lost")
    hold(1)
@gpus(gpus=1)
@times(4)
def test_others(i): hold(1)
"""
    suite.write(test_lost=HEAD + text)
    run = suite.run("--hf-slots=2")
    assert set(run.verdicts.values()) == {"passed"}, run.output
    assert run.notes["test_lost.py::test_loses"] == ["infra"]
    assert "GPU 0 is out of use from now on: GPU is lost" in run.output
    assert "XID 79" in run.output
    assert all(found[-1] == "1" for name, found in leases(run).items() if name != "test_others[0]"), leases(run)
    assert [event["gpu"] for event in run.events if event["event"] == "gpu_quarantined"] == ["0"]


def test_when_no_device_is_left_the_tests_end_as_infra(suite, on):
    on("1x80GiB")
    text = """
@gpus(gpus=1)
@times(3)
def test(i):
    context()
    sim().fault(0, "lost")
    hold(1)
def test_plain(): pass
"""
    suite.write(test_none_left=HEAD + text)
    run = suite.run("--hf-slots=1")
    assert run.short() == {"test[0]": "infra", "test[1]": "infra", "test[2]": "infra", "test_plain": "passed"}, run.output
    assert run.code == 11
    assert "0 of 1 can be used: GPU 0 is out of use (GPU is lost" in run.output


def test_waiting_for_a_device_that_comes_back(suite, on):
    sim = on("1x80GiB")
    sim.fault(0, "lost")
    suite.write(test_wait=HEAD + "@gpus(gpus=1)\ndef test(): hold(1)\n")
    assert suite.run("--hf-no-gpu=wait:1.5").short() == {"test": "infra"}
    process = suite.start("--hf-no-gpu=wait:60")
    assert process.stdout is not None
    seen = ""
    while "looking again for 60 s" not in seen:
        line = process.stdout.readline()
        assert line, seen
        seen += line
    sim.heal()
    run = suite.finish(process)
    assert run.short() == {"test": "passed"}, run.output
    assert "GPU 0 can be used again" in run.output


def test_an_illegal_access_of_its_own_is_the_tests_failure(suite, on):
    on("2x80GiB")
    suite.write(
        test_wild=HEAD
        + '@gpus(gpus=1)\ndef test():\n    context()\n    launch(b"wild")\n    ok(driver.cuCtxSynchronize())\n@gpus(gpus=1)\ndef test_ok(): hold(1)\n'
    )
    run = suite.run("--hf-slots=1")
    assert run.short() == {"test": "failed", "test_ok": "passed"}
    assert len(set(leases(run)["test"])) == 2, "it was to be judged again on another device"
    assert "out of use" not in run.output


@on_both
def test_failures_where_no_other_device_is_left_are_the_tests_own(suite, on):
    on("1x80GiB")
    text = """
@gpus(gpus=1)
@pytest.mark.parametrize("kernel", ["wild", "trap", "device_assert"])
def test_kernel(kernel):
    context()
    launch(kernel.encode())
    ok(driver.cuCtxSynchronize())
@gpus(gpus=1)
def test_too_much(): hold(1000)
@gpus(gpus=1)
def test_crash():
    hold(10)
    os.kill(os.getpid(), 11)
@gpus(gpus=1)
@pytest.mark.timeout(2)
def test_hangs():
    context()
    launch(b"spin", (60_000_000_000, ctypes.c_uint64))
    ok(driver.cuCtxSynchronize())
@gpus(gpus=1)
def test_ok(): hold(70)
"""
    suite.write(test_own=HEAD + "import ctypes\n" + text)
    run = suite.run("--hf-slots=1", "--hf-dist=sequential")
    verdicts = run.short()
    assert verdicts.pop("test_crash") == "crashed"
    assert verdicts.pop("test_hangs") == "timeout"
    assert verdicts.pop("test_ok") == "passed", run.output
    assert set(verdicts.values()) == {"failed"}, run.output
    assert "out of use" not in run.output


def test_three_failures_in_a_row_that_others_do_not_have_take_a_device_out(suite, on):
    sim = on("2x80GiB")
    # It answers every probe, and fails what tests do.
    sim.fault(0, "error", function="cuLaunchKernel", code=719)
    suite.write(test_weak=HEAD + '@gpus(gpus=1)\n@times(40)\ndef test(i):\n    context()\n    launch(b"empty")\n')
    run = suite.run("--hf-slots=2")
    assert set(run.verdicts.values()) == {"passed"}, run.output
    assert "GPU 0 is out of use from now on: 3 failures in a row that other devices did not have" in run.output
    assert sum("infra" in notes for notes in run.notes.values()) >= 3
    assert sum(found[0] == "0" for found in leases(run).values()) < 8


def test_uncorrectable_memory_errors_are_proof(suite, on):
    on("2x80GiB")
    text = """
@gpus(gpus=1)
def test_ecc():
    context()
    if not os.path.exists("struck"):
        open("struck", "w").close()
        sim().fault(mine()[0], "ecc")
    ok(driver.cuCtxSynchronize())
"""
    suite.write(test_ecc=HEAD + text)
    run = suite.run("--hf-slots=1")
    assert run.short() == {"test_ecc": "passed"}
    assert run.notes["test_ecc.py::test_ecc"] == ["infra"]
    assert "XID 48" in run.output


def test_memory_that_is_not_given_back_is_charged(suite, on):
    sim = on("1x80GiB")
    sim.fault(0, "stuck")
    suite.write(test_stuck=HEAD + "@gpus(gpus=1)\ndef test(): hold(30)\n@gpus(gpus=1)\ndef test_next(): hold(30)\n")
    run = suite.run("--hf-slots=1", "-p", "no:randomly")
    assert set(run.verdicts.values()) == {"passed"}
    assert "leaked" in run.notes["test_stuck.py::test"]
    assert "30.2 GiB of GPU 0's memory, which no process holds" in run.output
    sim.heal()
    sim.fault(0, "stuck")
    assert suite.run("--hf-slots=1", "--hf-leaks=fail", "-k", "test_next").short() == {"test_next": "error"}


@on_both
def test_a_process_that_outlives_its_test_on_a_gpu_is_ended_and_its_memory_is_back(suite, on):
    on("1x80GiB")
    text = """
@gpus(gpus=1)
def test_leaves():
    code = "from cuda_basics import *; import time; context(); ok(driver.cuMemAlloc(70 << 30)); print(1, flush=True); time.sleep(1000)"
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True)
    child.stdout.readline()
@gpus(gpus=1)
def test_next(): hold(70)
"""
    suite.write(test_leaves=HEAD + text)
    run = suite.run("--hf-slots=1")
    assert set(run.verdicts.values()) == {"passed"}, run.output
    assert run.notes["test_leaves.py::test_leaves"] == ["leaked"]


def test_what_others_have_on_a_gpu_is_said_and_left_alone(suite, on):
    import subprocess
    import sys

    sim = on("2x80GiB")
    code = "from cuda_basics import *\ncontext(1)\nok(driver.cuMemAlloc(50 << 30))\nprint(1, flush=True)\ninput()"
    env = {**os.environ, **{k: suite.env[k] for k in ("LD_LIBRARY_PATH", simgpu.STATE, "PYTHONPATH")}}
    other = subprocess.Popen([sys.executable, "-c", code], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout is not None
    other.stdout.readline()
    try:
        suite.write(test_beside=HEAD + '@gpus(vram="40GiB")\n@times(3)\ndef test(i):\n    assert mine() == [0]\n    hold(35)\n')
        run = suite.run("--hf-slots=3")
        assert set(run.verdicts.values()) == {"passed"}, run.output
        assert f"GPU 1: 50.2 GiB are in use already, by process {other.pid}" in run.output
        assert sim.status()[1].processes[0][0] == other.pid
    finally:
        other.communicate(b"\n", timeout=30)


@on_both
def test_a_poisoned_context_retires_its_worker_at_no_one_elses_cost(suite, on):
    on("1x80GiB")
    text = """
@gpus(gpus=1)
@times(3)
def test_before(i): hold(1)
@gpus(gpus=1)
def test_poisons():
    context()
    launch(b"wild")
@gpus(gpus=1)
@times(3)
def test_later(i): hold(1)
"""
    suite.write(test_poison=HEAD + text)
    run = suite.run("--hf-slots=1", "--hf-isolate=worker", "--hf-dist=sequential")
    assert set(run.verdicts.values()) == {"passed"}, run.output
    assert not any(run.notes.values()), run.notes
    assert all(event["attempts"] == 1 for event in run.events if event["event"] == "verdict")


@on_both
def test_a_crash_in_a_worker_gives_its_gpu_back(suite, on):
    on("1x80GiB")
    suite.write(
        test_crash=HEAD
        + "@gpus(gpus=1)\n@times(4)\ndef test(i):\n    hold(10)\n    if i == 1: os.kill(os.getpid(), 9)\n    time.sleep(0.01)\n"
    )
    run = suite.run("--hf-slots=1", "--hf-isolate=module")
    assert sorted(run.verdicts.values()) == ["crashed", "passed", "passed", "passed"], run.output


ALL_KINDS = (
    HEAD
    + """
@gpus(gpus=1)
@times(3)
def test_fine(i): hold(1)
@gpus(gpus=2)
def test_multi(): context(1)
@gpus(gpus=1)
def test_oom(): hold(90)
@gpus(gpus=1)
def test_sticky():
    context()
    launch(b"wild")
    hold(1)
@gpus(gpus=1)
def test_leaves():
    code = "from cuda_basics import *; import time; context(); print(1, flush=True); time.sleep(1000)"
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    child.stdout.readline()
@gpus(gpus=1)
def test_loses():
    context()
    if not os.path.exists("lost"):
        open("lost", "w").close()
        sim().fault(mine()[0], "lost")
    hold(1)
"""
)


@pytest.mark.parametrize("count", [1, 2, 8])
def test_a_suite_of_all_kinds_ends_as_declared(suite, on, count):
    on(f"{count}x80GiB")
    suite.write(test_kinds=ALL_KINDS)
    run = suite.run("--hf-slots=1", "--hf-dist=sequential")
    assert run.short() == {
        **{f"test_fine[{i}]": "passed" for i in range(3)},
        "test_multi": "passed" if count > 1 else "error",
        "test_oom": "failed",
        "test_sticky": "failed",
        "test_leaves": "passed",
        "test_loses": "passed" if count > 1 else "infra",
    }, run.output
    assert run.notes["test_kinds.py::test_leaves"] == ["leaked"]


def test_a_test_runs_near_its_device(suite, on, tmp_path):
    (tmp_path / "gpus.toml").write_text('[[device]]\nmemory="8GiB"\nnuma=0\n')
    node = Path("/sys/devices/system/node/node0/cpulist")
    if not node.exists():
        pytest.skip("NOT RUN: the kernel shows no NUMA nodes here")
    on(str(tmp_path / "gpus.toml"))
    suite.write(test_near=HEAD + "@gpus(gpus=1)\ndef test(): print('CPUS', sorted(os.sched_getaffinity(0)))\n")
    near: set[int] = set()
    for part in node.read_text().strip().split(","):
        first, _, last = part.partition("-")
        near |= set(range(int(first), int(last or first) + 1))
    assert f"CPUS {sorted(near & os.sched_getaffinity(0))}" in suite.run("-rP").output


# ---- what cannot be --------------------------------------------------------------------------------------------------------

WANTS = (
    HEAD
    + "@gpus(gpus=1)\ndef test_one(): pass\n@gpus(gpus=3)\ndef test_three(): pass\n@gpus(vram='100GiB')\ndef test_big(): pass\ndef test_plain(): pass\n"
)


def test_what_is_never_possible_is_refused_with_the_reason(suite, on):
    on("2x80GiB")
    suite.write(test_wants=WANTS)
    run = suite.run()
    assert run.short() == {"test_one": "passed", "test_three": "error", "test_big": "error", "test_plain": "passed"}
    assert "it asks for 3 GPU(s), and 2 of the 2 here suit(s)" in run.output
    assert "it asks for 1 GPU(s) with 100.0 GiB each" in run.output


@pytest.mark.parametrize(("policy", "verdict"), [("fail", "error"), ("skip", "skipped"), ("wait:1", "error")])
def test_without_any_gpu(suite, policy, verdict):
    suite.env["PYTHONPATH"] = f"{HERE / 'gpu'}:{suite.env.get('PYTHONPATH', '')}"
    suite.write(test_wants=WANTS)
    run = suite.run(f"--hf-no-gpu={policy}", "-rs", "--hf-gpus=none")
    assert run.short() == {"test_one": verdict, "test_three": verdict, "test_big": verdict, "test_plain": "passed"}, run.output
    assert "it asks for 1 GPU(s), and there is none: --hf-gpus=none" in run.output
    assert run.code == (0 if verdict == "skipped" else 1)


def test_fewer_gpus_than_there_are(suite, on):
    on("4x80GiB")
    suite.write(test_few=HEAD + "@gpus(gpus=1)\n@times(4)\ndef test(i): assert mine() == [0]\n")
    assert set(suite.run("--hf-gpus=1", "--hf-slots=4").verdicts.values()) == {"passed"}


@pytest.mark.parametrize(
    ("mark", "words"),
    [
        ("gpus=3.5", "has gpus=3.5; give a whole number"),
        ("gpus=-1", "has gpus=-1"),
        ("vram='lots'", "has vram='lots'; give a number of bytes, or one with a unit, as in vram='20GiB'"),
        ("gpus=0, vram='1GiB'", "gpus=0 and asks for memory"),
        ("gpu_arch='fast'", "has gpu_arch='fast'"),
    ],
)
def test_wrong_marks(suite, mark, words):
    suite.write(test_wrong=f"import pytest\n@pytest.mark.holdfast({mark})\ndef test(): pass\n")
    run = suite.run()
    assert run.code == 4
    assert words in run.output
    assert "Traceback" not in run.output


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--hf-gpus=many", "'many' is not a number of GPUs"),
        ("--hf-gpus-per-slot=x", "'x' is not a number of GPUs"),
        ("--hf-no-gpu=wait", "give fail, skip or wait:SECONDS"),
    ],
)
def test_wrong_options(suite, option, words):
    suite.write(test_wrong="def test(): pass\n")
    run = suite.run(option)
    assert run.code == 4
    assert words in run.output


@pytest.mark.parametrize(("visible", "words"), [("0,0", "names GPU 0 twice"), ("0,9", 'there is no GPU "9" among the 2')])
def test_a_wrong_list_of_visible_devices(suite, on, visible, words):
    on("2x80GiB")
    suite.env["CUDA_VISIBLE_DEVICES"] = visible
    suite.write(test_visible=HEAD + "@gpus(gpus=1)\ndef test(): pass\n")
    run = suite.run()
    assert run.code == 4
    assert words in run.output


def test_nvml_that_returns_errors(suite, on):
    sim = on("2x80GiB")
    sim.fault(simgpu.ALL, "nvml-error", code=999)
    suite.write(test_nvml=HEAD + "@gpus(gpus=1)\ndef test(): pass\ndef test_plain(): pass\n")
    run = suite.run()
    assert run.short() == {"test": "error", "test_plain": "passed"}
    assert run.output.count("NVML does not start") >= 1


def test_nvml_that_hangs_from_the_start(suite, on):
    sim = on("1x80GiB")
    sim.fault(simgpu.ALL, "nvml-hang")
    suite.write(test_hang=HEAD + "@gpus(gpus=1)\ndef test(): pass\ndef test_plain(): pass\n")
    run = suite.run("--hf-no-gpu=skip", "-rs")
    assert run.short() == {"test": "skipped", "test_plain": "passed"}, run.output
    assert "the drivers do not answer within 15 s" in run.output


def test_nvml_that_hangs_later(suite, on):
    on("1x80GiB")
    text = '@gpus(gpus=1)\n@times(3)\ndef test(i):\n    if i == 0: sim().fault(0, "nvml-hang")\n'
    suite.write(test_hang=HEAD + text)
    run = suite.run("--hf-slots=1", "--hf-dist=sequential")
    assert set(run.verdicts.values()) == {"passed"}, run.output
    assert "the GPUs cannot be looked at any more (the drivers do not answer within 5 s): leases go on without" in run.output


# ---- what is said ------------------------------------------------------------------------------------------------------------


@on_both
def test_the_report_shows_what_ran_on_each_gpu(suite, on, place):
    on("2x80GiB")
    suite.write(test_report=HEAD + '@gpus(vram="30GiB")\n@times(4)\ndef test(i):\n    hold(20)\n    until_looked_at()\n')
    run = suite.run("--hf-slots=2", "-v")
    section = run.output.partition("= GPUs =")[2]
    assert "GPU 0 " in section
    if place == "simulated":
        assert "GPU 0 Holdfast SimGPU: " in section
        assert "peak 40.5 of 80.0 GiB" in section, section
    assert "    memory " in section
    assert "s: test_report.py::test[3]" in section
    used = [event["usage"]["vram"] for event in run.events if event["event"] == "verdict"]
    assert all(20 << 30 < bytes_ < 21 << 30 for bytes_ in used)


def test_pytest_fkits_example(suite, on):
    """4 workers, 8 GPUs, GPU 4 missing: nothing is lost, and the counts are in the summary."""
    sim = on("8x80GiB")
    sim.fault(4, "error", function="cuLaunchKernel", code=719)
    text = """
@times(40)
def test(i):
    assert len(mine()) == 2 and os.environ["FKIT_GPU_IDS"] == os.environ["CUDA_VISIBLE_DEVICES"]
    for ordinal in (0, 1):
        context(ordinal)
        launch(b"empty")
    time.sleep(0.02)
@pytest.mark.fkit_single_gpu
def test_single(): assert len(mine()) == 1
@pytest.mark.fkit_multi_gpu
def test_multi(): assert len(mine()) == 2
"""
    suite.write(test_fkit=HEAD + text)
    run = suite.run("--fkit", "--fkit-workers=auto", "--fkit-gpus-per-worker=2")
    assert len(run.verdicts) == 42
    assert set(run.verdicts.values()) == {"passed"}, run.output
    assert "holdfast 0.1.0: 4 slot(s)" in run.output
    moved = sum("infra" in notes for notes in run.notes.values())
    assert moved >= 3
    assert f"GPU errors: {moved} (retries: {moved})" in run.output
    assert "GPUs out of use: 4" in run.output or "GPUs out of use: 4, 5" in run.output


def test_fkits_marks_on_a_machine_without_gpus(suite):
    suite.write(
        test_fkit="import pytest\n@pytest.mark.fkit_single_gpu\ndef test(): pass\n@pytest.mark.fkit_multi_gpu\ndef test_multi(): pass\n"
    )
    run = suite.run("--fkit", "--fkit-gpus-per-worker=2")
    assert set(run.verdicts.values()) == {"passed"}, run.output


# ---- the commands ------------------------------------------------------------------------------------------------------------


def test_holdfast_devices(suite, on):
    sim = on("2x24GiB")
    out = suite_command(suite, "devices")
    assert "nvidia 0: Holdfast SimGPU, GPU-" in out
    assert out.count("0.0 of 24.0 GiB used, arch 9.0") == 2
    suite.env["CUDA_VISIBLE_DEVICES"] = "1"
    sim.fault(1, "lost")
    found = json.loads(suite_command(suite, "devices", "--json"))["gpus"]
    assert [(gpu["visible"], gpu["problem"]) for gpu in found] == [(False, ""), (True, "GPU is lost (NVML error 15)")]


@on_both
def test_holdfast_devices_says_what_nvml_says(suite, on):
    import subprocess
    import sys

    on("1x80GiB")
    code = """
import pynvml as n
n.nvmlInit()
h = n.nvmlDeviceGetHandleByIndex(0)
print(n.nvmlDeviceGetUUID(h), n.nvmlDeviceGetMemoryInfo(h).total, "%d.%d" % n.nvmlDeviceGetCudaComputeCapability(h), n.nvmlDeviceGetName(h))
"""
    said = subprocess.run([sys.executable, "-c", code], env=suite.env, capture_output=True, text=True, timeout=60, check=True).stdout
    gpu = json.loads(suite_command(suite, "devices", "--json"))["gpus"][0]
    assert f"{gpu['uuid']} {gpu['total']} {gpu['arch']} {gpu['name']}\n" == said


def test_holdfast_devices_without_any(suite):
    assert suite_command(suite, "devices") == "no GPUs\n"
