"""A few words for tests on cuda-bindings; imported by programs that run on GPUs, simulated or real."""

import ctypes
from pathlib import Path

from cuda.bindings import driver

# Real ones compile it; simulated ones read the names.
PTX = Path(__file__).with_name("kernels.ptx").read_bytes() + b"\0"


class CudaError(RuntimeError):
    def __init__(self, code):
        self.code = int(code)
        super().__init__(f"CUDA error: {driver.cuGetErrorString(code)[1].decode()} ({code.name})")


def ok(result):
    if result[0] != driver.CUresult.CUDA_SUCCESS:
        raise CudaError(result[0])
    return result[1] if len(result) == 2 else result[1:]


def context(ordinal=0):
    ok(driver.cuInit(0))
    made = ok(driver.cuDevicePrimaryCtxRetain(ok(driver.cuDeviceGet(ordinal))))
    ok(driver.cuCtxSetCurrent(made))
    return made


def launch(name, *arguments, stream=0):
    function = ok(driver.cuModuleGetFunction(ok(driver.cuModuleLoadData(PTX)), name))
    values, types = tuple(value for value, _ in arguments), tuple(kind for _, kind in arguments)
    ok(driver.cuLaunchKernel(function, 1, 1, 1, 64, 1, 1, 0, stream, (values, types) if arguments else 0, 0))


def floats(address, count):
    out = (ctypes.c_float * count)()
    ok(driver.cuMemcpyDtoH(ctypes.addressof(out), address, ctypes.sizeof(out)))
    return list(out)
