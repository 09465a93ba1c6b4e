"""A few words for tests on cuda-bindings; imported by programs that run on simulated GPUs."""

import ctypes

from cuda.bindings import driver

PTX = b""".version 8.0
.target sm_90
.visible .entry saxpy(.param .f32 a, .param .u64 x, .param .u64 y, .param .u64 n) { ret; }
.visible .entry fill(.param .u64 to, .param .f32 value, .param .u64 n) { ret; }
.visible .entry spin(.param .u64 nanoseconds) { ret; }
.visible .entry wild() { ret; }
.visible .entry empty() { ret; }
.visible .entry mine() { ret; }
\0"""


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
