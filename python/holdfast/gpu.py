"""The GPUs of a test's process: what the engine has leased to it, and whether its context still works.

Runs in tests' processes: standard library only, and as little of it as possible.
"""

from __future__ import annotations

import ctypes
import os
from typing import Any, Optional

_RTLD_NOLOAD = 4
# What a process had before it was given devices: variables, and CPUs. Its forks have this, too.
_outside: Optional[tuple[dict[str, Optional[str]], set[int]]] = None


def enter(order: dict[str, Any]) -> None:
    """Makes the process see the devices of its lease, and run near them."""
    global _outside
    gpus = order["gpus"]
    cpus = os.sched_getaffinity(0)
    if _outside is None:
        _outside = ({name: os.environ.get(name) for name in gpus["environment"]}, cpus)
    os.environ.update(gpus["environment"])
    near = set(gpus.get("cpus", ())) & _outside[1]
    if near and near != cpus:
        os.sched_setaffinity(0, near)


def leave() -> None:
    """A fork of a scope's process, for a test that has no devices: it sees what it would have seen without that scope."""
    global _outside
    if _outside is None:
        return
    variables, cpus = _outside
    _outside = None
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    os.sched_setaffinity(0, cpus)


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
    # An error of a context stays, and every call returns it from then on; those of single calls are lower numbers.
    return bool(driver.cuCtxSynchronize() >= 200)
