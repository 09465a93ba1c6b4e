"""Stands in for a training program: each step allocates, fills and reads back. When the GPU fails it writes down how far it came, and
leaves with a code that says "start me again, elsewhere". Where memory is short it goes on with half of the batch.

    python trainer.py STEPS STATE
"""

import ctypes
import sys

from cuda.bindings import driver

OUT_OF_MEMORY = 2
TRY_ELSEWHERE = 75
BATCH = 1 << 16


class GpuFailed(RuntimeError):
    def __init__(self, code):
        super().__init__(f"{driver.cuGetErrorName(code)[1].decode()}")
        self.code = int(code)


def ok(result):
    if int(result[0]):
        raise GpuFailed(result[0])
    return result[1] if len(result) == 2 else result[1:]


def start():
    ok(driver.cuInit(0))
    ok(driver.cuCtxSetCurrent(ok(driver.cuDevicePrimaryCtxRetain(ok(driver.cuDeviceGet(0))))))


def allocate(size):
    """Memory for a batch, or for as much of it as there is room for."""
    while True:
        try:
            return ok(driver.cuMemAlloc(size)), size
        except GpuFailed as problem:
            if problem.code != OUT_OF_MEMORY or size < 2:
                raise
            size //= 2


def step(number):
    """Returns how large the batch was."""
    memory, size = allocate(BATCH)
    ok(driver.cuMemsetD8(memory, number % 256, size))
    back = (ctypes.c_ubyte * size)()
    ok(driver.cuMemcpyDtoH(ctypes.addressof(back), memory, size))
    ok(driver.cuMemFree(memory))
    if set(back) != {number % 256}:
        raise ValueError(f"step {number} came back wrong")
    return size


def main(steps, state):
    done = 0
    try:
        start()
        for number in range(steps):
            step(number)
            done += 1
    except GpuFailed as problem:
        with open(state, "w") as file:
            file.write(str(done))
        print(f"GPU failed after {done} steps: {problem}", flush=True)
        return TRY_ELSEWHERE
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2]))
