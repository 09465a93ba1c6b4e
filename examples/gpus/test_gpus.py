"""Tests on GPUs, with the driver's own API. On a machine without one:

    pip install cuda-bindings
    holdfast simgpu --gpus 2x80GiB -- pytest --holdfast --hf-slots=4 examples/gpus

Three small ones share a card, one has a card to itself, one has two, and one uses memory that is not its own.
"""

import ctypes
import os

import pytest

driver = pytest.importorskip("cuda.bindings.driver")
GIB = 1 << 30
# simgpu has a kernel of this name, which touches memory that nobody has allocated.
WILD = b".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry wild() { ret; }\n\0"


def ok(result):
    """What a call has returned, or its error."""
    if result[0] != driver.CUresult.CUDA_SUCCESS:
        raise RuntimeError(f"CUDA error: {driver.cuGetErrorString(result[0])[1].decode()}")
    return result[1] if len(result) == 2 else result[1:]


@pytest.fixture
def device():
    ok(driver.cuInit(0))
    found = ok(driver.cuDeviceGet(0))
    ok(driver.cuCtxSetCurrent(ok(driver.cuDevicePrimaryCtxRetain(found))))
    return found


@pytest.mark.holdfast(vram="20GiB")
@pytest.mark.parametrize("value", [1, 2, 3])
def test_small(device, value):
    memory = ok(driver.cuMemAlloc(16 * GIB))
    ok(driver.cuMemsetD8(memory, value, 1000))
    back = (ctypes.c_ubyte * 1000)()
    ok(driver.cuMemcpyDtoH(ctypes.addressof(back), memory, 1000))
    assert set(back) == {value}


@pytest.mark.holdfast(gpus=1)
def test_a_whole_card(device):
    assert ok(driver.cuDeviceGetCount()) == 1
    ok(driver.cuMemAlloc(70 * GIB))


@pytest.mark.holdfast(gpus=2)
def test_two_cards(device):
    assert len(os.environ["HOLDFAST_GPU_IDS"].split(",")) == ok(driver.cuDeviceGetCount()) == 2


@pytest.mark.holdfast(gpus=1)
def test_wild_access(device):
    """Fails on every device, so it is its own failure, after a second judgement on another one."""
    kernel = ok(driver.cuModuleGetFunction(ok(driver.cuModuleLoadData(WILD)), b"wild"))
    ok(driver.cuLaunchKernel(kernel, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0))
    ok(driver.cuCtxSynchronize())
