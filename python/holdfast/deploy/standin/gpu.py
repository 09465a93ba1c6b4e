"""The part of a worker that uses GPUs, through cuda-bindings: memory that stands for weights, and copies for each token."""

from __future__ import annotations

import hashlib
from typing import Any

from cuda.bindings import driver  # type: ignore[import-untyped,unused-ignore]

_WEIGHTS = 256 << 20  # Bytes on each device.
_ROOM = 1 << 16


class CudaError(Exception):
    """A call of CUDA has failed; the text names both."""


def checked(answer: Any, what: str) -> Any:
    if int(answer[0]) != 0:
        raise CudaError(f"{what}: {answer[0].name}")
    return answer[1] if len(answer) > 1 else None


class Engine:
    """On `count` devices. All calls come from one thread."""

    def __init__(self, count: int) -> None:
        checked(driver.cuInit(0), "cuInit")
        there = checked(driver.cuDeviceGetCount(), "cuDeviceGetCount")
        if there < count:
            raise CudaError(f"{count} GPUs are needed, {there} are there")
        self._parts = [self._part(number) for number in range(count)]

    def _part(self, number: int) -> tuple[Any, Any]:
        device = checked(driver.cuDeviceGet(number), "cuDeviceGet")
        context = checked(driver.cuDevicePrimaryCtxRetain(device), "cuDevicePrimaryCtxRetain")
        checked(driver.cuCtxSetCurrent(context), "cuCtxSetCurrent")
        checked(driver.cuMemAlloc(_WEIGHTS), "cuMemAlloc")
        return context, checked(driver.cuMemAlloc(_ROOM), "cuMemAlloc")

    def step(self, data: bytes) -> bytes:
        """What stands for a token's computation: there and back on each device."""
        for context, memory in self._parts:
            checked(driver.cuCtxSetCurrent(context), "cuCtxSetCurrent")
            data = hashlib.sha256(data).digest()
            back = bytearray(len(data))
            checked(driver.cuMemcpyHtoD(memory, data, len(data)), "cuMemcpyHtoD")
            checked(driver.cuMemcpyDtoH(back, memory, len(data)), "cuMemcpyDtoH")
            checked(driver.cuCtxSynchronize(), "cuCtxSynchronize")
            if bytes(back) != data:
                raise CudaError("what came back from the device is not what went there")
        return data

    def generate(self, prompt: bytes, tokens: int) -> bytes:
        for _ in range(max(1, tokens)):
            prompt = self.step(prompt)
        return prompt
