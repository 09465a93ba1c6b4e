"""The GPUs of a test's process: what the engine has leased to it, and whether its context still works.

Runs in tests' processes: standard library only, and as little of it as possible.
"""

from __future__ import annotations

import ctypes
import os
from typing import Any

_RTLD_NOLOAD = 4


def enter(order: dict[str, Any]) -> None:
    """Makes the process see the devices of its lease, and run near them; nothing where the order names none."""
    gpus = order.get("gpus")
    if gpus is None:
        return
    os.environ.update(gpus["environment"])
    near = set(gpus.get("cpus", ())) & os.sched_getaffinity(0)
    if near:
        os.sched_setaffinity(0, near)


def is_poisoned() -> bool:
    """Whether a CUDA context of this process has failed so that nothing can run in it any more. Asks only where the driver is
    loaded already."""
    try:
        driver = ctypes.CDLL("libcuda.so.1", mode=_RTLD_NOLOAD)
    except OSError:
        return False
    context = ctypes.c_void_p()
    if driver.cuCtxGetCurrent(ctypes.byref(context)) != 0 or not context.value:
        return False
    # An error of a context stays, and every call returns it from then on; those below 700 are of single calls.
    return bool(driver.cuCtxSynchronize() >= 200)
