"""simgpu: real clients (cuda-bindings, cuda-core, nvidia-ml-py) on simulated GPUs, and faults on command. What is marked so runs on a real GPU as well."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from gpu_places import RealGpu, on_both, real_gpu

from holdfast import simgpu

HERE = Path(__file__).parent
GIB = 1 << 30


def run_on(sim: simgpu.Simgpu | RealGpu, code: str, **environment: str) -> str:
    """What a Python program prints on simulated GPUs; it must end well."""
    env = {**sim.environment(), "PYTHONPATH": f"{HERE / 'gpu'}:{os.environ.get('PYTHONPATH', '')}", **environment}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def holdfast(*args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "holdfast", "simgpu", *args],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def one(place):
    if place == "real":
        yield real_gpu()
        return
    with simgpu.running(simgpu.parse("1x80GiB")) as sim:
        yield sim


@pytest.fixture
def two():
    with simgpu.running(simgpu.parse("2x80GiB")) as sim:
        yield sim


def wait_until(wanted) -> None:
    deadline = time.monotonic() + 60
    while not wanted():
        assert time.monotonic() < deadline
        time.sleep(0.01)


BASICS = "from cuda_basics import *\n"


@on_both
def test_kernels_memory_streams_and_events_of_cuda_bindings(one):
    run_on(
        one,
        BASICS
        + """
context()
x, y = ok(driver.cuMemAlloc(4000)), ok(driver.cuMemAlloc(4000))
fill = lambda to, value: launch(b"fill", (to, None), (value, ctypes.c_float), (1000, ctypes.c_uint64))
fill(x, 2.0), fill(y, 1.0)
launch(b"saxpy", (3.0, ctypes.c_float), (x, None), (y, None), (1000, ctypes.c_uint64))
assert floats(y, 1000) == [7.0] * 1000
stream = ok(driver.cuStreamCreate(0))
first, last = ok(driver.cuEventCreate(0)), ok(driver.cuEventCreate(0))
ok(driver.cuEventRecord(first, stream))
launch(b"spin", (50_000_000, ctypes.c_uint64), stream=stream)
ok(driver.cuEventRecord(last, stream))
assert driver.cuStreamQuery(stream)[0] == driver.CUresult.CUDA_ERROR_NOT_READY
ok(driver.cuEventSynchronize(last))
assert ok(driver.cuEventElapsedTime(first, last)) >= 50
ok(driver.cuMemFree(x))
assert driver.cuMemFree(x)[0] == driver.CUresult.CUDA_ERROR_INVALID_VALUE
assert driver.cuModuleGetFunction(ok(driver.cuModuleLoadData(PTX)), b"absent")[0] == driver.CUresult.CUDA_ERROR_NOT_FOUND
""",
    )


def test_a_kernel_of_ones_own_is_not_supported_since_there_is_no_compiler(two):
    code = "context()\ntry:\n    launch(b'mine')\nexcept CudaError as error:\n    print(error.code)\n"
    assert run_on(two, BASICS + code) == "801\n"


@on_both
def test_virtual_memory_and_pools(one):
    run_on(
        one,
        BASICS
        + """
context()
prop = driver.CUmemAllocationProp()
prop.type = driver.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
prop.location.type = driver.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
prop.location.id = 0
page = ok(driver.cuMemGetAllocationGranularity(prop, driver.CUmemAllocationGranularity_flags.CU_MEM_ALLOC_GRANULARITY_MINIMUM))
place = ok(driver.cuMemAddressReserve(2 * page, 0, 0, 0))
handle = ok(driver.cuMemCreate(page, prop, 0))
ok(driver.cuMemMap(int(place) + page, page, 0, handle, 0))
access = driver.CUmemAccessDesc()
access.location = prop.location
access.flags = driver.CUmemAccess_flags.CU_MEM_ACCESS_FLAGS_PROT_READWRITE
ok(driver.cuMemSetAccess(int(place) + page, page, [access], 1))
ok(driver.cuMemsetD32(int(place) + page, 0x3F800000, 10))
assert floats(int(place) + page, 10) == [1.0] * 10
ok(driver.cuMemUnmap(int(place) + page, page)), ok(driver.cuMemRelease(handle)), ok(driver.cuMemAddressFree(place, 2 * page))
before = ok(driver.cuMemGetInfo())[0]
held = ok(driver.cuMemAllocAsync(1 << 30, 0))
ok(driver.cuStreamSynchronize(0))
assert before - ok(driver.cuMemGetInfo())[0] >= 1 << 30
ok(driver.cuMemFreeAsync(held, 0))
ok(driver.cuStreamSynchronize(0))
# A pool may keep what it has until it is told.
ok(driver.cuMemPoolTrimTo(ok(driver.cuDeviceGetDefaultMemPool(0)), 0))
assert before - ok(driver.cuMemGetInfo())[0] < 1 << 30
""",
    )
    if isinstance(one, simgpu.Simgpu):
        assert one.status()[0].used == 0


@on_both
def test_cuda_core(one):
    run_on(
        one,
        BASICS
        + """
from cuda.core import Device, LaunchConfig, ObjectCode, launch as run
device = Device(0)
device.set_current()
stream = device.create_stream()
buffer = device.allocate(400, stream=stream)
kernel = ObjectCode.from_ptx(PTX).get_kernel("fill")
run(stream, LaunchConfig(grid=1, block=64), kernel, buffer, ctypes.c_float(1.5), ctypes.c_uint64(100))
stream.sync()
assert floats(int(buffer.handle), 100) == [1.5] * 100
""",
    )


@on_both
def test_memory_is_shared_with_a_process_that_gets_its_handle(one):
    run_on(
        one,
        BASICS
        + """
import subprocess, sys
context()
memory = ok(driver.cuMemAlloc(400))
launch(b"fill", (memory, None), (1.0, ctypes.c_float), (100, ctypes.c_uint64))
handle = ctypes.string_at(ok(driver.cuIpcGetMemHandle(memory)).getPtr(), 64).hex()
other = '''
from cuda_basics import *
import sys
context()
handle = driver.CUipcMemHandle()
ctypes.memmove(handle.getPtr(), bytes.fromhex(sys.argv[1]), 64)
there = ok(driver.cuIpcOpenMemHandle(handle, 1))
assert floats(there, 100) == [1.0] * 100
launch(b"fill", (there, None), (2.0, ctypes.c_float), (100, ctypes.c_uint64))
ok(driver.cuIpcCloseMemHandle(there))
'''
subprocess.run([sys.executable, "-c", other, handle], check=True)
assert floats(memory, 100) == [2.0] * 100
""",
    )


@on_both
def test_nvidia_ml_py(one):
    out = run_on(
        one,
        BASICS
        + """
import os, pynvml
context()
ok(driver.cuMemAlloc(3 << 30))
pynvml.nvmlInit()
assert pynvml.nvmlDeviceGetCount() >= 1
device = pynvml.nvmlDeviceGetHandleByIndex(0)
(process,) = pynvml.nvmlDeviceGetComputeRunningProcesses(device)
assert process.pid == os.getpid()
assert 3 << 30 < process.usedGpuMemory <= pynvml.nvmlDeviceGetMemoryInfo(device).used
assert pynvml.nvmlDeviceGetIndex(pynvml.nvmlDeviceGetHandleByUUID(pynvml.nvmlDeviceGetUUID(device))) == 0
print(pynvml.nvmlDeviceGetName(device), pynvml.nvmlDeviceGetPciInfo(device).busId, pynvml.nvmlDeviceGetCudaComputeCapability(device))
""",
    )
    if isinstance(one, simgpu.Simgpu):
        assert out == "Holdfast SimGPU 00000000:01:00.0 (9, 0)\n"
        assert one.status()[0].used == 0  # Its process has ended.


@on_both
def test_a_killed_process_gives_its_memory_back(one):
    code = BASICS + "import os, signal\ncontext()\nok(driver.cuMemAlloc(70 << 30))\nos.kill(os.getpid(), signal.SIGKILL)\n"
    env = {**one.environment(), "PYTHONPATH": f"{HERE / 'gpu'}:{os.environ.get('PYTHONPATH', '')}"}
    assert subprocess.run([sys.executable, "-c", code], env=env, check=False).returncode == -9
    run_on(one, BASICS + "context()\nok(driver.cuMemAlloc(70 << 30))")


@on_both
@pytest.mark.parametrize(
    ("visible", "count"), [("0", 1), ("", 0), ("-1", 0), ("0,-1", 1), ("0,77", 1), ("77", 0), ("0,0", 0), ("nonsense", 0), ("UUID", 1)]
)
def test_the_list_of_visible_devices_where_there_is_one(one, visible, count):
    if visible == "UUID":
        uuid = "import pynvml as n\nn.nvmlInit()\nprint(n.nvmlDeviceGetUUID(n.nvmlDeviceGetHandleByIndex(0))[:12])"
        visible = run_on(one, uuid).strip()
    out = run_on(one, BASICS + "print(driver.cuInit(0)[0].value or ok(driver.cuDeviceGetCount()))", CUDA_VISIBLE_DEVICES=visible)
    assert int(out) == (101 if visible == "0,0" else count or 100)


@pytest.mark.parametrize(
    ("visible", "count"),
    [("0", 1), ("1,0", 2), ("", 0), ("-1", 0), ("0,-1,1", 1), ("1,7", 1), ("0,0", 0), ("GPU-2e77", 1), ("GPU-", 0), ("nonsense", 0)],
)
def test_the_list_of_visible_devices(two, visible, count):
    out = run_on(two, BASICS + "print(driver.cuInit(0)[0].value or ok(driver.cuDeviceGetCount()))", CUDA_VISIBLE_DEVICES=visible)
    assert int(out) == (101 if visible == "0,0" else count or 100)


@on_both
def test_a_fork_of_a_process_with_a_context_cannot_use_it(one):
    out = run_on(
        one,
        BASICS
        + """
import os
context()
child = os.fork()
if child == 0:
    os._exit(int(driver.cuMemAlloc(100)[0]))
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
""",
    )
    assert out == "3\n"


def test_mig_instances(tmp_path):
    (tmp_path / "gpus.toml").write_text(
        '[[device]]\nmemory = "80GiB"\nmig = ["10GiB", "20GiB"]\n[[device]]\nmemory = "40GiB"\nnuma = 1\narch = "8.6"\n'
    )
    with simgpu.running(simgpu.parse(str(tmp_path / "gpus.toml"))) as sim:
        instance = sim.status()[2]
        assert (instance.parent, instance.total) == (0, 20 * GIB)
        out = run_on(
            sim,
            BASICS + "context()\nprint(ok(driver.cuDeviceGetCount()), ok(driver.cuDeviceTotalMem(0)))",
            CUDA_VISIBLE_DEVICES=instance.uuid,
        )
        assert out == f"1 {20 * GIB}\n"
        # A device that is divided is no device for itself.
        assert (
            run_on(sim, BASICS + "context()\nprint(ok(driver.cuDeviceGetCount()), ok(driver.cuDeviceComputeCapability(0)))")
            == "1 (8, 6)\n"
        )
        out = run_on(
            sim,
            """
            import pynvml as n
            n.nvmlInit()
            device = n.nvmlDeviceGetHandleByIndex(0)
            print(n.nvmlDeviceGetMigMode(device), n.nvmlDeviceGetUUID(n.nvmlDeviceGetMigDeviceHandleByIndex(device, 1)))
            """,
        )
        assert out == f"[1, 1] {instance.uuid}\n"


# ---- faults ------------------------------------------------------------------------------------------------------------------


def test_out_of_memory_by_command_and_by_size(two):
    two.fault(0, "oom", times=1, after=1)
    out = run_on(
        two,
        BASICS
        + "context()\nfor size in (1, 1, 1, 81 << 30): print(int(driver.cuMemAlloc(size)[0]), end=' ')\ncontext(1)\nok(driver.cuMemAlloc(1))",
    )
    assert out == "0 2 0 2 "


@on_both
@pytest.mark.parametrize(("kernel", "code", "xid"), [("wild", 700, 31), ("trap", 719, 43), ("device_assert", 710, 43)])
def test_a_kernel_that_fails_poisons_the_context_until_the_process_ends(one, kernel, code, xid):
    out = run_on(
        one,
        BASICS
        + f"""
import pynvml as n
n.nvmlInit()
events = n.nvmlEventSetCreate()
n.nvmlDeviceRegisterEvents(n.nvmlDeviceGetHandleByIndex(0), n.nvmlEventTypeXidCriticalError, events)
context()
launch(b"{kernel}")
calls = driver.cuCtxSynchronize(), driver.cuMemAlloc(1), driver.cuDevicePrimaryCtxReset(0), driver.cuMemAlloc(1)
print(*(int(call[0]) for call in calls), "XID", n.nvmlEventSetWait_v2(events, 10000).eventData)
""",
    )
    assert out == f"{code} {code} 0 709 XID {xid}\n"
    run_on(one, BASICS + "context()\nok(driver.cuMemAlloc(1))")


@on_both
@pytest.mark.parametrize(
    ("steps", "codes"),
    [
        ("driver.cuDevicePrimaryCtxReset(0), driver.cuDevicePrimaryCtxReset(0), driver.cuDevicePrimaryCtxRetain(0)", "0 0 700"),
        ("driver.cuDevicePrimaryCtxRelease(0), driver.cuMemAlloc(1), driver.cuDevicePrimaryCtxRetain(0)", "0 709 700"),
        ("driver.cuDevicePrimaryCtxRetain(0), driver.cuMemAlloc(1), driver.cuCtxCreate(None, 0, 0)", "0 700 700"),
        ("driver.cuCtxSetCurrent(other), driver.cuMemAlloc(1), driver.cuCtxDestroy(other)", "0 700 0"),
        ("driver.cuCtxGetDevice(), driver.cuCtxGetFlags(), driver.cuDeviceGetCount(), driver.cuMemGetInfo()", "0 0 0 700"),
    ],
)
def test_nothing_but_its_end_helps_a_process_with_a_poisoned_context(one, steps, codes):
    start = """
first = context()
other = ok(driver.cuCtxCreate(None, 0, 0))
ok(driver.cuCtxSetCurrent(first))
launch(b"wild")
driver.cuCtxSynchronize()
"""
    assert run_on(one, BASICS + start + f"print(*(int(call[0]) for call in ({steps})))") == codes + "\n"


@on_both
def test_a_context_that_has_ended(one):
    steps = "driver.cuMemAlloc(1), driver.cuCtxSynchronize(), driver.cuCtxGetDevice(), driver.cuDevicePrimaryCtxRelease(0)"
    out = run_on(
        one,
        BASICS
        + f"""
context()
ok(driver.cuDevicePrimaryCtxRelease(0))
print(*(int(call[0]) for call in ({steps})))
context()
ok(driver.cuMemAlloc(1))
other = ok(driver.cuCtxCreate(None, 0, 0))
ok(driver.cuCtxDestroy(other))
print(int(driver.cuMemAlloc(1)[0]))
""",
    )
    assert out == "709 709 0 201\n0\n"


@on_both
def test_nvml_has_to_be_started_again_in_a_fork(one):
    out = run_on(
        one,
        """
        import os, pynvml as n
        n.nvmlInit()
        child = os.fork()
        if child == 0:
            try:
                n.nvmlDeviceGetHandleByIndex(0)
            except n.NVMLError as error:
                print(type(error).__name__, flush=True)
            n.nvmlInit()
            print(n.nvmlDeviceGetMemoryInfo(n.nvmlDeviceGetHandleByIndex(0)).total > 0, flush=True)
            os._exit(0)
        os.waitpid(child, 0)
        """,
    )
    assert out == "NVMLError_Uninitialized\nTrue\n"


def test_a_poisoned_context_leaves_those_of_other_devices_alone(two):
    run_on(two, BASICS + "context()\nlaunch(b'wild')\ncontext(1)\nok(driver.cuMemAlloc(1))\n")
    assert [device.events for device in two.status()] == [("XID 31",), ()]


@on_both
def test_more_than_there_is(one):
    out = run_on(one, BASICS + "context()\nfor size in (1, 1 << 38, 1): print(int(driver.cuMemAlloc(size)[0]), end=' ')")
    assert out == "0 2 0 "


def test_a_device_that_falls_off_the_bus(two):
    code = """
context()
two.fault(0, "lost")
assert int(driver.cuMemAlloc(1)[0]) == 999
import pynvml
pynvml.nvmlInit()
try:
    pynvml.nvmlDeviceGetHandleByIndex(0)
    raise SystemExit("still there")
except pynvml.NVMLError_GpuIsLost:
    pass
"""
    run_on(two, BASICS + f"from holdfast import simgpu\ntwo = simgpu.Simgpu({str(two.path)!r})" + code)
    assert two.status()[0].events == ("XID 79",)
    assert run_on(two, BASICS + "context()\nprint(ok(driver.cuDeviceGetCount()))") == "1\n"
    two.heal(0)
    assert run_on(two, BASICS + "context()\nprint(ok(driver.cuDeviceGetCount()))") == "2\n"


def test_ecc_errors_reach_contexts_and_nvml(two):
    run_on(
        two,
        BASICS
        + f"""
from holdfast import simgpu
import pynvml as n
sim = simgpu.Simgpu({str(two.path)!r})
n.nvmlInit()
device = n.nvmlDeviceGetHandleByIndex(0)
events = n.nvmlEventSetCreate()
n.nvmlDeviceRegisterEvents(device, n.nvmlEventTypeXidCriticalError | n.nvmlEventTypeDoubleBitEccError, events)
context()
sim.fault(0, "ecc", code=2)
assert int(driver.cuCtxSynchronize()[0]) == 214
assert n.nvmlDeviceGetTotalEccErrors(device, n.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, n.NVML_VOLATILE_ECC) == 2
kinds = [(event.eventType, event.eventData) for event in (n.nvmlEventSetWait_v2(events, 1000), n.nvmlEventSetWait_v2(events, 1000))]
assert kinds == [(n.nvmlEventTypeDoubleBitEccError, 0), (n.nvmlEventTypeXidCriticalError, 48)], kinds
sim.fault(1, "ecc-corrected")
context(1)
ok(driver.cuCtxSynchronize())
""",
    )


def test_calls_that_hang_until_the_fault_is_taken_away(two):
    two.fault(0, "hang", function="cuMemAlloc")
    env = {**two.environment(), "PYTHONPATH": str(HERE / "gpu")}
    code = BASICS + "context()\nprint('here', flush=True)\nok(driver.cuMemAlloc(1))\nprint('there')"
    child = subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "here\n"
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(0.3)
    two.heal()
    assert child.communicate(timeout=30)[0] == "there\n"


def test_memory_that_dead_processes_do_not_give_back(two):
    two.fault(0, "stuck")
    run_on(two, BASICS + "context()\nok(driver.cuMemAlloc(30 << 30))")
    assert two.status()[0].stuck > 30 * GIB
    assert two.status()[0].used > 30 * GIB
    two.heal()
    assert two.status()[0].used == 0


def test_the_rocm_twin():
    with simgpu.running(simgpu.parse("3x64GiB:amd")) as sim:
        out = run_on(
            sim,
            """
            import ctypes
            smi = ctypes.CDLL("librocm_smi64.so")
            count, total = ctypes.c_uint32(), ctypes.c_uint64()
            assert smi.rsmi_init(0) == 0 and smi.rsmi_num_monitor_devices(ctypes.byref(count)) == 0
            assert smi.rsmi_dev_memory_total_get(2, 0, ctypes.byref(total)) == 0
            print(count.value, total.value >> 30)
            """,
        )
    assert out == "3 64\n"


# ---- the command -------------------------------------------------------------------------------------------------------------


def test_the_command_runs_anything_and_gives_its_exit_code():
    command = f"{sys.executable} -m holdfast simgpu"
    done = holdfast("--gpus", "2x24GiB", "--", "sh", "-c", f"{command} fault 1 xid --code 63 && {command} status; exit 7")
    assert done.returncode == 7, done.stderr
    lines = done.stdout.splitlines()
    assert [line[:5] for line in lines] == ["GPU 0", "GPU 1", "    X"]
    assert lines[2].strip() == "XID 63"
    assert holdfast("--", "sh", "-c", "kill -9 $$").returncode == 137


def test_nothing_of_it_stays(tmp_path):
    out = holdfast("--", "sh", "-c", "echo $HOLDFAST_SIMGPU_STATE").stdout.strip()
    assert out
    assert not Path(out).exists()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ((), "nothing to do"),
        (("--",), "no command"),
        (("start",), "'start' is not known"),
        (("--gpus", "lots", "--", "true"), "'lots' is not an amount of memory"),
        (("--gpus", "99x80GiB", "--", "true"), "1 to 64 can be simulated"),
        (("--gpus", "absent.toml", "--", "true"), "absent.toml"),
        (("--", "absent-command"), "absent-command: No such file"),
        (("status",), "neither --state nor $HOLDFAST_SIMGPU_STATE"),
        (("status", "--state", "/dev/null"), "not the state of simulated GPUs"),
    ],
)
def test_mistakes(args, words):
    done = holdfast(*args, HOLDFAST_SIMGPU_STATE="", HOLDFAST_SIMGPU="")
    assert done.returncode == 4
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("0",), "a GPU and a kind"),
        (("9", "lost"), "there is no GPU 9"),
        (("x", "lost"), "'x' is not the number"),
        (("0", "tired"), "'tired' is not a fault"),
    ],
)
def test_mistakes_with_faults(two, words, said):
    done = holdfast("fault", *words, HOLDFAST_SIMGPU_STATE=str(two.path))
    assert done.returncode == 4
    assert said in done.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[device]]\n", "memory is missing"),
        ('[[device]]\nmemory="1GiB"\ncolour="red"\n', "'colour' is not known"),
        ('[[device]]\nmemory="1GiB"\nmig=["2GiB"]\n', "more memory than it has"),
        ('device="1GiB"\n', "list of tables"),
        ("[[device]\n", "gpus.toml"),
    ],
)
def test_mistakes_in_a_file(tmp_path, text, said):
    (tmp_path / "gpus.toml").write_text(text)
    with pytest.raises(simgpu.SimgpuError, match=said.replace("[", r"\[")):
        simgpu.parse(str(tmp_path / "gpus.toml"))


def test_memory_of_processes_in_name_spaces_of_their_own(two):
    """As containers have them: their numbers mean nothing outside, and what they have is theirs until they have gone."""
    code = BASICS + "context()\nmemory = ok(driver.cuMemAlloc(1 << 30))\nprint('ready', flush=True)\ninput()"
    env = {**two.environment(), "PYTHONPATH": f"{HERE / 'gpu'}:{os.environ.get('PYTHONPATH', '')}"}
    apart = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if subprocess.run([*apart, "true"], capture_output=True, timeout=60, check=False).returncode != 0:
        pytest.skip("NOT RUN: no name space for processes can be made here")
    command = [*apart, sys.executable, "-c", code]
    pipe = subprocess.PIPE
    with (
        subprocess.Popen(command, env=env, stdin=pipe, stdout=pipe, text=True) as one,
        subprocess.Popen(command, env=env, stdin=pipe, stdout=pipe, text=True) as other,
    ):
        assert one.stdout.readline() == other.stdout.readline() == "ready\n"
        # Both are process 1 of theirs.
        assert two.status()[0].used >= 2 * GIB and {pid for pid, _ in two.status()[0].processes} == {1}
        one.kill()
        one.wait(60)
        wait_until(lambda: two.status()[0].used == GIB + (256 << 20))
        other.kill()
        other.wait(60)
    # Nobody of another name space can be seen any more, so nobody can tell; what runs among the machine's own processes could.
    with subprocess.Popen([*apart, "sleep", "60"]) as third:
        wait_until(lambda: two.status()[0].used == 0)
        third.kill()
