"""The fault shim: in front of real clients (cuda-bindings, nvidia-ml-py, C programs) on simulated GPUs. What is marked so runs on a real
GPU as well."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Optional

import pytest
from gpu_places import RealGpu, on_both, real_gpu

from holdfast import faults, simgpu
from holdfast.faults import Fault, Lab, gpu
from holdfast.faults.page import shim_path

HERE = Path(__file__).parent
PROGRAMS = HERE / "faults"


class Bench:
    """Two simulated GPUs or a real one, a page for faults, and programs that meet both."""

    def __init__(self, sim: simgpu.Simgpu | RealGpu, lab: Lab, folder: Path) -> None:
        self.sim, self.lab, self.folder = sim, lab, folder

    def environment(self, **more: str) -> dict[str, str]:
        path = f"{HERE / 'gpu'}:{os.environ.get('PYTHONPATH', '')}"
        return {**self.lab.environment(self.sim.environment()), "PYTHONPATH": path, **more}

    def start(self, *command: str, **more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(command, env=self.environment(**more), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def run(self, *command: str, **more: str) -> str:
        """What a program prints; it must end well."""
        done = subprocess.run(command, env=self.environment(**more), capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0 and done.stderr == "", (done.returncode, done.stdout, done.stderr)
        return done.stdout

    def python(self, code: str, *words: str, **more: str) -> str:
        # Python 3.12 warns of forks of programs with threads, and drivers start some.
        return self.run(
            sys.executable,
            "-W",
            "ignore::DeprecationWarning",
            "-c",
            "from cuda_basics import *\n" + textwrap.dedent(code),
            *words,
            **more,
        )

    def build(self, name: str, *flags: str, output: Optional[str] = None) -> str:
        target = self.folder / (output or name.partition(".")[0])
        subprocess.run(["cc", "-g", "-O1", "-o", str(target), str(PROGRAMS / name), *flags], check=True, timeout=60)
        return str(target)

    @property
    def driver(self) -> str:
        return self.sim.driver if isinstance(self.sim, RealGpu) else str(simgpu.libraries() / "libcuda.so.1")

    def with_cuda(self, name: str, *flags: str, output: Optional[str] = None) -> str:
        return self.build(name, *flags, self.driver, output=output)


@pytest.fixture
def bench(tmp_path, place):
    if place == "real":
        real = real_gpu()
        with faults.lab() as lab:
            yield Bench(real, lab, tmp_path)
        return
    with simgpu.running(simgpu.parse("2x80GiB")) as sim, faults.lab() as lab:
        yield Bench(sim, lab, tmp_path)


ALLOCATE = """
import sys
context()
print(*[int(driver.cuMemAlloc(64)[0]) for _ in range(int(sys.argv[1]))])
"""


# What passes: everything, however it looks for its functions.


@on_both
def test_off_it_hands_everything_on_and_counts_it(bench):
    out = bench.python(
        """
        context()
        x, y = ok(driver.cuMemAlloc(4000)), ok(driver.cuMemAlloc(4000))
        fill = lambda to, value: launch(b"fill", (to, None), (value, ctypes.c_float), (1000, ctypes.c_uint64))
        fill(x, 2.0), fill(y, 1.0)
        launch(b"saxpy", (3.0, ctypes.c_float), (x, None), (y, None), (1000, ctypes.c_uint64))
        assert floats(y, 1000) == [7.0] * 1000
        print(ok(driver.cuDeviceGetName(64, 0)))
        """
    )
    assert ("Holdfast SimGPU" in out) == isinstance(bench.sim, simgpu.Simgpu)
    assert bench.lab.seen("cuLaunchKernel") == 3
    assert bench.lab.seen("cuMemAlloc") == 2
    assert {(c.device, c.failed) for c in bench.lab.calls() if c.function == "cuLaunchKernel"} == {(0, 0)}
    assert bench.lab.page.report()["missed"] == 0


@on_both
def test_a_program_linked_against_the_driver(bench):
    program = bench.with_cuda("linked.c")
    assert bench.run(program) == "init 0\nretain 0\nset 0\nalloc 0\nsync 0\n"
    assert bench.lab.seen("cuMemAlloc") == 1


def test_a_library_that_came_in_by_rtld_local_works_and_is_seen(bench):
    hidden = bench.with_cuda("hidden.c", "-shared", "-fPIC", output="libhidden.so")
    assert bench.run(bench.build("opens.c"), hidden) == "init 0 count 0 devices 2\n"
    assert bench.lab.seen("cuDeviceGetCount") == 1
    bench.lab.arm(Fault("error", code=999, functions="cuDeviceGetCount"))
    assert bench.run(str(bench.folder / "opens"), hidden) == "init 0 count 999 devices -1\n"


def test_functions_that_are_looked_up_are_seen(bench):
    out = bench.run(bench.build("opens.c"), "libcuda.so.1", "dlsym")
    assert out == "init 0 count 0 none 0 error 1\n"
    assert bench.lab.seen("cuDeviceGetCount") == 1


def test_a_driver_that_finds_functions_in_its_own_ways_is_seen(bench):
    """As the real one does: cuGetProcAddress() knows addresses that nobody exports, and a launch has eleven parameters."""
    bench.build("driver.c", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", output="libcuda.so.1")
    program = bench.build("launches.c", str(bench.folder / "libcuda.so.1"))
    own = {"LD_LIBRARY_PATH": str(bench.folder)}
    assert bench.run(program, **own) == "linked 0\nfound 0\nlater 0\nbias 0\n"
    # That driver calls its own exported function, which is seen again.
    assert (bench.lab.seen("cuLaunchKernel"), bench.lab.seen("cuMemAlloc")) == (3, 1)
    fault = bench.lab.arm(Fault("error", code=719, functions="launch"))
    assert bench.run(program, **own) == "linked 719\nfound 719\nlater 0\nbias 0\n"
    fault.heal()
    # The long way hands on all parameters as well.
    bench.lab.arm(Fault("delay", seconds=0.001))
    assert bench.run(program, **own) == "linked 0\nfound 0\nlater 0\nbias 0\n"


@on_both
def test_a_program_without_cuda_sees_none(bench):
    assert bench.run(bench.build("without.c")) == "0 1 1\nend\n"


@pytest.mark.parametrize("first", ["ours", "theirs"])
def test_another_library_for_ld_preload_finds_its_next(bench, first):
    other = bench.build("next.c", "-shared", "-fPIC", output="libnext.so")
    both = [shim_path(), other] if first == "ours" else [other, shim_path()]
    assert bench.run(bench.build("without.c"), LD_PRELOAD=":".join(both)) == "0 1 1\nwrapped end\n"


def test_the_usual_programs_of_a_machine_run(bench):
    assert bench.run("sh", "-c", "ls / | grep -c '^tmp$'; exec cat /dev/null").strip() == "1"
    assert bench.lab.calls() == []


def test_where_the_page_is_missing_the_program_runs_and_says_so(bench):
    environment = {**bench.environment(), "HOLDFAST_FAULTS": "/nowhere/page"}
    done = subprocess.run([bench.with_cuda("linked.c")], env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0 and done.stdout.endswith("sync 0\n")
    assert "holdfast: no faults in process" in done.stderr and "No such file" in done.stderr


def test_a_driver_that_was_closed_is_no_trap(bench):
    out = bench.python(
        """
        import _ctypes
        for _ in range(3):
            library = ctypes.CDLL("libcuda.so.1")
            count = ctypes.c_int(-1)
            print(library.cuInit(0), library.cuDeviceGetCount(ctypes.byref(count)), count.value)
            _ctypes.dlclose(library._handle)
        # Nobody has it open now, and the shim still knows its functions.
        print(ctypes.CDLL(None).cuDeviceGetCount(ctypes.byref(count)))
        """
    )
    assert out == "0 0 2\n" * 3 + "0\n"


# What fails, and how often.


@on_both
def test_from_which_call_on_and_how_often(bench):
    fault = bench.lab.arm(Fault("error", code="OUT_OF_MEMORY", functions="cuMemAlloc", after_calls=2, times=2))
    assert bench.python(ALLOCATE, "6") == "0 0 2 2 0 0\n"
    evidence = fault.verify()
    assert (evidence.watched, evidence.struck, evidence.first.call, evidence.first.function) == (6, 2, 3, "cuMemAlloc")


@on_both
def test_each_process_counts_its_own_calls_and_the_times_are_for_all(bench):
    bench.lab.arm(Fault("error", code=2, functions="alloc", after_calls=1, times=3))
    assert [bench.python(ALLOCATE, "3") for _ in range(2)] == ["0 2 2\n", "0 2 0\n"]


@on_both
def test_what_chance_does_is_the_same_in_every_run(bench):
    fault = Fault("error", code=2, functions="alloc", probability=0.5, seed=7)
    armed = bench.lab.arm(fault)
    first = bench.python(ALLOCATE, "40")
    assert bench.python(ALLOCATE, "40") == first
    assert 8 <= first.count("2") <= 32
    armed.heal()
    bench.lab.arm(fault.with_(seed=8))
    assert bench.python(ALLOCATE, "40") != first


@on_both
def test_not_before_its_time(bench):
    fault = bench.lab.arm(Fault("error", code=2, functions="alloc", after_seconds=3600))
    assert bench.python(ALLOCATE, "3") == "0 0 0\n"
    with pytest.raises(faults.FaultNotSeen, match="3 calls that it watches were let through"):
        fault.verify()


def test_only_the_device_the_rank_the_process_that_are_meant(bench):
    program = "context(1)\nprint(int(driver.cuMemAlloc(64)[0]))"
    one = bench.sim.status()[1].uuid
    for fault, expected in (
        (Fault("error", code=2, functions="alloc", device=0), "0"),
        (Fault("error", code=2, functions="alloc", device=1), "2"),
        (Fault("error", code=2, functions="alloc", device=one[:12].lower()), "2"),
        (Fault("error", code=2, functions="alloc", device=bench.sim.status()[0].uuid), "0"),
        (Fault("error", code=2, functions="alloc", rank=0), "0"),
        (Fault("error", code=2, functions="alloc", rank=3), "2"),
        (Fault("error", code=2, functions="alloc", pid=1), "0"),
    ):
        armed = bench.lab.arm(fault)
        assert bench.python(program, PMIX_RANK="3").strip() == expected, fault
        armed.heal()


def test_devices_count_as_the_process_sees_them(bench):
    bench.lab.arm(Fault("error", code=2, functions="alloc", device=0))
    program = "context(0)\nprint(int(driver.cuMemAlloc(64)[0]))"
    assert bench.python(program, CUDA_VISIBLE_DEVICES="1").strip() == "2"
    # NVML shows all of them, in their own order.
    lost = bench.lab.arm(Fault("error", xid=79, device=0, functions="sync"))
    bench.python("context(0)\ndriver.cuCtxSynchronize()", CUDA_VISIBLE_DEVICES="1")
    states = """
    import pynvml as n
    n.nvmlInit()
    for i in range(2):
        try:
            print(n.nvmlDeviceGetName(n.nvmlDeviceGetHandleByIndex(i)) != "", end=" ")
        except n.NVMLError as error:
            print(type(error).__name__, end=" ")
    """
    assert bench.python(states, CUDA_VISIBLE_DEVICES="1").split() == ["True", "NVMLError_GpuIsLost"]
    assert bench.python(states).split() == ["NVMLError_GpuIsLost", "True"]
    assert lost.evidence().occurred == 1


@on_both
def test_a_delay_passes_afterwards(bench):
    bench.lab.arm(Fault("delay", seconds=0.3, functions="alloc", times=1))
    out = bench.python(
        """
        import time
        context()
        for _ in range(2):
            start = time.monotonic()
            code = int(driver.cuMemAlloc(64)[0])
            print(code, time.monotonic() - start >= 0.3)
        """
    )
    assert out == "0 True\n0 False\n"


@on_both
def test_a_hang_lasts_until_it_is_healed(bench):
    with gpu.hang(functions="alloc", lab=bench.lab) as hang:
        process = bench.start(bench.with_cuda("linked.c"))
        assert hang.wait(20).first.pid == process.pid
        assert process.poll() is None
    out, _ = process.communicate(timeout=20)
    assert out.endswith("alloc 0\nsync 0\n")


@on_both
def test_a_hanging_process_can_be_killed_and_leaves_its_evidence(bench):
    hang = bench.lab.arm(Fault("hang", functions="cuMemAlloc"))
    process = bench.start(bench.with_cuda("linked.c"))
    hang.wait(20)
    process.kill()
    process.communicate(timeout=20)
    assert hang.evidence().struck == 1
    assert bench.lab.seen("cuInit") == 1


@on_both
def test_a_corrupted_copy_differs_in_one_bit_and_says_nothing(bench):
    fault = bench.lab.arm(Fault("corrupt", times=1))
    out = bench.python(
        """
        context()
        at = ok(driver.cuMemAlloc(4096))
        ok(driver.cuMemcpyHtoD(at, bytes(range(256)) * 16, 4096))
        for _ in range(2):
            back = bytearray(4096)
            ok(driver.cuMemcpyDtoH((ctypes.c_char * 4096).from_buffer(back), at, 4096))
            print(sum(bin(a ^ b).count("1") for a, b in zip(back, bytes(range(256)) * 16)))
        """
    )
    assert out == "1\n1\n"  # What arrived on the device was wrong, so it is wrong each time that it is read.
    assert fault.verify().first.function == "cuMemcpyHtoD"


@on_both
def test_the_first_faulted_call_has_its_stack(bench):
    fault = bench.lab.arm(Fault("error", code=2, functions="cuMemAlloc", after_calls=1))
    process = bench.start(bench.with_cuda("linked.c", "-rdynamic"), "3")
    assert process.communicate(timeout=20)[0].count("alloc 2") == 2
    first = fault.verify().first
    assert (first.pid, first.call, first.device, first.rank) == (process.pid, 2, 0, -1)
    names = [line.split(" in ")[0] for line in first.stack.splitlines()]
    assert names[:2] == ["one_allocation", "main"]


@on_both
def test_a_fault_that_nothing_meets_is_an_error(bench):
    with pytest.raises(faults.FaultNotSeen, match="no process had the shim"), gpu.lost(lab=bench.lab):
        pass
    bench.run(bench.with_cuda("linked.c"))
    with pytest.raises(faults.FaultNotSeen, match="no call that it watches was made"), gpu.error(1, functions="ipc", lab=bench.lab):
        pass
    with gpu.lost(required=False, lab=bench.lab):
        pass
    with pytest.raises(ZeroDivisionError), gpu.lost(lab=bench.lab):
        raise ZeroDivisionError


@on_both
def test_a_million_switches_and_every_one_is_seen_by_the_next_call(bench):
    fault = bench.lab.prepare(Fault("error", code=2, functions="alloc"))
    program = """
    import sys
    context()
    for line in sys.stdin:
        print(int(driver.cuMemAlloc(64)[0]), flush=True)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", "from cuda_basics import *\n" + textwrap.dedent(program)], env=bench.environment(), text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    for round_ in range(200):
        fault.on() if round_ % 2 else fault.off()
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == ("2\n" if round_ % 2 else "0\n"), round_
    process.stdin.close()
    assert process.wait(20) == 0


# What breaks for good.

STEPS = """
import sys
code = lambda result: int(result[0])
context()
print(code(driver.cuMemAlloc(64)), code(driver.cuCtxSynchronize()), flush=True)
sys.stdin.readline()
print(code(driver.cuMemAlloc(64)), code(driver.cuCtxSynchronize()), code(driver.cuMemFree(1)), code(driver.cuDeviceGetCount()))
"""


def start_steps(bench: Bench) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", "from cuda_basics import *\n" + STEPS], env=bench.environment(), text=True, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )  # fmt: skip


@on_both
@pytest.mark.parametrize("entry", [e for e in faults.xid_table() if e["driver"]], ids=lambda e: str(e["xid"]))
def test_an_xid_breaks_what_the_table_says(bench, entry):
    fault = bench.lab.arm(Fault("error", xid=entry["xid"], device=0, functions="sync"))
    code = str(entry["driver"])
    broken = start_steps(bench)
    assert broken.stdout.readline().split() == ["0", code]
    # Others: a device that is broken is broken for all, a context only for its process.
    fresh = bench.python("context()\nprint(int(driver.cuMemAlloc(64)[0]))") if entry["reach"] != "device" else None
    assert fresh in (None, "0\n")
    if entry["reach"] == "device":
        done = subprocess.run(
            [bench.with_cuda("linked.c")], env=bench.environment(), capture_output=True, text=True, timeout=60, check=False
        )
        assert f"retain {code}\n" in done.stdout
    fault.heal()
    out, _ = broken.communicate("\n", timeout=20)
    assert out.split() == [code, code, code, "0"]  # Healing does not mend a context.
    assert bench.python(ALLOCATE, "1") == "0\n"
    evidence = fault.evidence()
    assert evidence.occurred >= 1 and evidence.struck >= 4


@on_both
def test_a_broken_context_is_not_inherited(bench):
    bench.lab.arm(Fault("error", xid=31, functions="sync", times=1))
    out = bench.python(
        """
        import os
        context()
        print(int(driver.cuCtxSynchronize()[0]), int(driver.cuCtxSynchronize()[0]), flush=True)
        child = os.fork()
        if child == 0:
            print(int(driver.cuMemAlloc(64)[0]), flush=True)  # The driver's own word: not initialized in this process.
            os._exit(0)
        os.waitpid(child, 0)
        """
    )
    assert out == "700 700\n3\n"


def test_the_runtime_remembers_the_errors_that_it_was_given(bench):
    runtime = bench.build("cudart.c", "-shared", "-fPIC", output="libcudart.so.13")
    program = bench.build("runtime.c", runtime, f"-Wl,-rpath,{bench.folder}")
    plain = bench.run(program).splitlines()
    assert plain == [f"{what} 0 peek 0 get 0 then 0" for what in ("malloc", "malloc", "fill", "copy")] + [
        "wrong bits 0", "free 0 peek 0 get 0 then 0", "sync 0 peek 0 get 0 then 0", "count 0: 2"
    ]  # fmt: skip
    once = bench.lab.arm(Fault("error", code=2, functions="cudaMalloc", times=1))
    assert bench.run(program).splitlines()[:2] == ["malloc 2 peek 2 get 2 then 0", "malloc 0 peek 0 get 0 then 0"]
    once.heal()
    below = bench.lab.arm(Fault("error", code=2, functions="cuMemAlloc", times=1))
    assert bench.run(program).splitlines()[:2] == ["malloc 2 peek 2 get 2 then 0", "malloc 0 peek 0 get 0 then 0"]
    below.heal()
    bad = bench.lab.arm(Fault("corrupt", functions="cudaMemcpy"))
    assert "wrong bits 1" in bench.run(program)
    bad.heal()
    lost = bench.lab.arm(Fault("error", xid=79, device=0, functions="cudaMemset"))
    lines = bench.run(program).splitlines()
    assert lines[1:4] == ["malloc 0 peek 0 get 0 then 0", "fill 100 peek 100 get 100 then 100", "copy 100 peek 100 get 100 then 100"]
    lost.heal()
    bench.lab.arm(Fault("error", code=100, functions="cudaGetDeviceCount"))
    assert bench.run(program).splitlines()[-1] == "count 100: 0"


NVML = """
import pynvml as n
n.nvmlInit()
try:
    handle = n.nvmlDeviceGetHandleByIndex(0)
    print(n.nvmlDeviceGetMemoryInfo(handle).total > 0)
    print(n.nvmlDeviceGetTotalEccErrors(handle, n.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, n.NVML_VOLATILE_ECC))
except n.NVMLError as error:
    print(type(error).__name__)
print(n.nvmlDeviceGetMemoryInfo(n.nvmlDeviceGetHandleByIndex(1)).total > 0, n.nvmlDeviceGetCount())
"""


def test_nvml_tells_the_same_story(bench):
    assert bench.python(NVML) == "True\n0\nTrue 2\n"
    program = bench.with_cuda("linked.c")
    lost = bench.lab.arm(Fault("error", xid=79, device=0, functions="cuMemAlloc"))
    assert bench.python(NVML) == "True\n0\nTrue 2\n"  # Not before it has struck.
    bench.run(program)
    assert bench.python(NVML) == "NVMLError_GpuIsLost\nTrue 2\n"
    by_name = """
    import sys, pynvml as n
    n.nvmlInit()
    for look, name in ((n.nvmlDeviceGetHandleByUUID, sys.argv[1]), (n.nvmlDeviceGetHandleByPciBusId, "0000:01:00.0")):
        try:
            print(n.nvmlDeviceGetIndex(look(name)), end=" ")
        except n.NVMLError as error:
            print(type(error).__name__, end=" ")
    """
    uuid = bench.sim.status()[0].uuid
    assert bench.python(by_name, uuid).split() == ["NVMLError_GpuIsLost"] * 2
    lost.heal()
    assert bench.python(by_name, uuid).split() == ["0", "0"]
    assert bench.python(NVML) == "True\n0\nTrue 2\n"
    bench.lab.arm(Fault("error", xid=94, device=bench.sim.status()[0].uuid, functions="cuMemAlloc"))
    bench.run(program)
    bench.run(program)
    assert bench.python(NVML) == "True\n2\nTrue 2\n"
    # By its own number, whatever CUDA counts.
    assert bench.python(NVML, CUDA_VISIBLE_DEVICES="1") == "True\n2\nTrue 2\n"


def test_a_row_that_is_remapped_fails_nothing_and_is_counted(bench):
    fault = bench.lab.arm(Fault("error", xid=63, device=0, functions="cuMemAlloc", times=1))
    assert bench.python(ALLOCATE, "3") == "0 0 0\n"
    assert bench.python(NVML) == "True\n1\nTrue 2\n"
    assert fault.verify().occurred == 1


@on_both
def test_who_waits_for_events_hears_of_the_xid(bench):
    listener = subprocess.Popen(
        [
            sys.executable,
            "-c",
            textwrap.dedent(
                """
                import pynvml as n
                n.nvmlInit()
                events = n.nvmlEventSetCreate()
                for i in range(n.nvmlDeviceGetCount()):
                    n.nvmlDeviceRegisterEvents(n.nvmlDeviceGetHandleByIndex(i), n.nvmlEventTypeXidCriticalError, events)
                print("ready", flush=True)
                data = n.nvmlEventSetWait_v2(events, 30000)
                print(n.nvmlDeviceGetIndex(data.device), data.eventType, data.eventData, hex(data.gpuInstanceId))
                try:
                    n.nvmlEventSetWait_v2(events, 100)
                except n.NVMLError as error:
                    print(type(error).__name__)
                """
            ),
        ],
        env=bench.environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert listener.stdout.readline() == "ready\n"
    bench.lab.arm(Fault("error", xid=48, device=0, functions="cuMemAlloc"))
    bench.run(bench.with_cuda("linked.c"))
    out, _ = listener.communicate(timeout=40)
    assert out == "0 8 48 0xffffffff\nNVMLError_Timeout\n"


# Threads, forks, many processes.


@on_both
def test_threads_lose_no_call(bench):
    bench.run(bench.with_cuda("threads.c", "-pthread"), "8", "10000", "3")
    assert bench.lab.seen("cuCtxGetFlags") == 240000
    report = bench.lab.page.report()
    assert not report["counts_lost"] and len(report["rows"]) <= 20


def test_where_there_are_more_threads_than_rows_it_says_so(tmp_path):
    with simgpu.running(simgpu.parse("1x8GiB")) as sim, faults.lab(rows=4) as lab:
        bench = Bench(sim, lab, tmp_path)
        bench.run(bench.with_cuda("threads.c", "-pthread"), "16", "1000", "1")
        report = lab.page.report()
        assert report["counts_lost"] and len(report["rows"]) == 4
        # What a fault has done is counted exactly all the same.
        fault = lab.arm(Fault("error", code=999, functions="cuCtxGetFlags"))
        bench.run(str(tmp_path / "threads"), "16", "1000", "1")
        assert fault.evidence().struck == 16000


@on_both
def test_a_fork_counts_for_itself(bench):
    bench.python(
        """
        import os
        context()
        driver.cuCtxGetFlags()
        for _ in range(3):
            child = os.fork()
            if child == 0:
                driver.cuDeviceGetCount()
                os._exit(0)
            os.waitpid(child, 0)
        """
    )
    counts = [c for c in bench.lab.calls() if c.function == "cuDeviceGetCount"]
    assert len({c.pid for c in counts}) == 3 and all(c.passed == 1 for c in counts)
    assert bench.lab.attached == 1


@on_both
def test_a_fork_can_take_another_page(bench):
    with faults.lab() as other:
        other.arm(Fault("error", code=2, functions="alloc"))
        out = bench.python(
            """
            import os, sys
            shim = ctypes.CDLL(None)
            print(shim.holdfast_faults_attach(sys.argv[1].encode()), shim.holdfast_faults_attach(b"/nowhere"), flush=True)
            context()
            print(int(driver.cuMemAlloc(64)[0]))
            """,
            str(other.page.path),
        )
        assert out == "0 2\n2\n"
        assert other.seen("cuMemAlloc") == 1 and bench.lab.seen("cuMemAlloc") == 0


# The environment of the shim that other suites were written for.


def seed_environment(bench: Bench, **more: str) -> dict[str, str]:
    environment = bench.environment(**more)
    del environment["HOLDFAST_FAULTS"]
    return environment


@on_both
def test_the_variables_of_the_earlier_shim_are_understood(bench):
    program = bench.with_cuda("linked.c")
    for more, code in (
        ({}, "0"),
        ({"CUDA_FAULT_INJECTION_ENABLED": "0", "CUDA_XID_TYPE": "94"}, "0"),
        ({"CUDA_FAULT_INJECTION_ENABLED": "1", "CUDA_XID_TYPE": "94"}, "214"),
        ({"CUDA_FAULT_INJECTION_ENABLED": "true"}, "100"),
        ({"CUDA_FAULT_INJECTION_ENABLED": "1", "CUDA_XID_TYPE": "95", "CUDA_FAULT_GPU_ID": "1"}, "0"),
    ):
        done = subprocess.run([program], env=seed_environment(bench, **more), capture_output=True, text=True, timeout=60, check=False)
        assert f"alloc {code}\n" in done.stdout, more


@on_both
def test_the_marker_file_of_the_earlier_shim_is_watched(bench):
    marker = Path("/tmp/cuda_fault_enabled")
    if marker.exists():
        pytest.skip(f"{marker} is there already, and not ours")
    process = subprocess.Popen(
        [sys.executable, "-c", "from cuda_basics import *\ncontext()\nimport sys\nfor _ in sys.stdin: print(int(driver.cuMemAlloc(8)[0]), flush=True)"],
        env=seed_environment(bench, CUDA_FAULT_INJECTION_ENABLED="0"), text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip

    def ask() -> str:
        process.stdin.write("\n")
        process.stdin.flush()
        return process.stdout.readline().strip()

    def until(expected: str) -> None:
        deadline = time.monotonic() + 20
        while (answer := ask()) != expected:
            assert time.monotonic() < deadline, answer
            time.sleep(0.005)

    try:
        assert ask() == "0"
        marker.write_text("1")
        until("100")
    finally:
        marker.unlink(missing_ok=True)
        process.stdin.close()
        process.wait(20)


# Bad input.


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (Fault("eror"), "kind: 'eror' is none; error, delay, hang, corrupt"),
        (Fault("error"), "an error needs a code"),
        (Fault("error", xid=7), "xid: 7 can't be imitated; those that can are 13, 31, 43"),
        (Fault("error", xid=79, code=2), "XID 79 says by itself what calls return"),
        (Fault("error", code="NONSENSE"), "code: 'NONSENSE' is not known by name"),
        (Fault("error", code=2, functions="cuMemAloc"), r"'cuMemAloc' is no function .*nearest: cuMemA"),
        (Fault("error", code=2, functions="alloc,,copy"), "'' is no function"),
        (Fault("corrupt", functions="alloc"), "has no copy that can be falsified"),
        (Fault("error", code=2, device=64), "devices are numbered from 0 to 63"),
        (Fault("error", code=2, device=-1), "device: -1 is not a whole number"),
        (Fault("error", code=2, device="G" * 60), "too long for one"),
        (Fault("error", code=2, probability=0), "probability: 0; give one above 0 and up to 1"),
        (Fault("error", code=2, probability=float("nan")), "probability: nan"),
        (Fault("error", code=2, times=0), "0 would strike nothing"),
        (Fault("error", code=2, after_calls=-1), "after_calls: -1 is not a whole number"),
        (Fault("error", code=2, seconds=1), "a error has none|an? error has none"),
        (Fault("delay"), "how long"),
        (Fault("delay", seconds=-1), "seconds: -1 is not a time"),
        (Fault("hang", code=2), "a hang has no error code"),
        (Fault("hang", reach="device"), "only an error reaches further than the call"),
        (Fault("error", code=2, reach="far"), "reach: 'far' is none"),
    ],
)
def test_a_fault_that_cannot_be_is_refused(fault, text):
    with faults.lab() as lab, pytest.raises(faults.BadFault, match=text):
        lab.arm(fault)


def test_faults_that_contradict_each_other_are_refused(bench):
    first = bench.lab.arm(Fault("error", xid=79, device=0))
    with pytest.raises(faults.BadFault, match=r"'XID 79' breaks the same device in another way and is armed \(fault 1\)"):
        bench.lab.arm(Fault("error", xid=119))
    bench.lab.arm(Fault("error", xid=119, device=1))
    first.heal()
    bench.lab.arm(Fault("error", xid=119, device=0))


def test_a_page_has_room_for_64_faults_and_takes_back_those_that_are_healed(bench):
    some = [bench.lab.arm(Fault("error", code=2, functions="ipc")) for _ in range(64)]
    with pytest.raises(faults.BadFault, match="64 faults are there already, and none is healed"):
        bench.lab.arm(Fault("error", code=2, functions="ipc"))
    some[10].heal()
    bench.lab.arm(Fault("error", code=2, functions="ipc"))
    with pytest.raises(faults.BadFault, match="healed long ago"):
        some[10].evidence()


def test_pages_that_are_none_are_refused(tmp_path):
    (tmp_path / "text").write_text("hello")
    (tmp_path / "zeros").write_bytes(bytes(1 << 20))
    for name, text in (("text", "not a page for faults"), ("zeros", "not a page for faults"), ("none", "No such file")):
        with pytest.raises(faults.BadFault, match=text):
            faults.Page(tmp_path / name)
    faults.Page(tmp_path / "page", create=True).close()
    with pytest.raises(faults.BadFault, match="File exists"):
        faults.Page(tmp_path / "page", create=True)


def test_without_a_lab_it_says_how_to_get_one(monkeypatch):
    monkeypatch.delenv("HOLDFAST_FAULTS", raising=False)
    with pytest.raises(faults.NoLab, match=r"with faults\.lab\(\)"), gpu.lost():
        pass
    with pytest.raises(faults.BadFault, match="a fault has no 'divice'"):
        gpu.lost(divice=0)


def test_whatever_is_on_the_page_neither_the_program_nor_the_report_breaks(bench):
    program = bench.with_cuda("linked.c")
    fuzz = random.Random(20261126)
    armed = bench.lab.arm(Fault("error", code=2, functions="alloc", probability=0.5))
    size = bench.lab.page.path.stat().st_size
    head = 0x28  # Past what says which page this is.
    for _ in range(60):
        with bench.lab.page.path.open("r+b") as page:
            for _ in range(fuzz.choice((1, 20, 400))):
                page.seek(fuzz.randrange(head, min(size, 400_000)))
                page.write(fuzz.randbytes(fuzz.choice((1, 8, 64))))
        process = bench.start(program, "3")
        try:
            process.communicate(timeout=1)
        except subprocess.TimeoutExpired:  # A delay or a hang, as the page now says.
            process.send_signal(signal.SIGKILL)
            process.communicate()
        assert process.returncode in (0, -signal.SIGKILL)
        bench.lab.page.report()
        bench.lab.calls()
    assert armed.number == 1
