"""Faults of GPUs, to be used as they read:

async with gpu.lost(device=0, after_calls=100):
    ...

Each is armed when its block begins, and healed when that ends. One that no call has met is then an error (FaultNotSeen), unless
`required=False`. The fields of Fault can be given to all of them.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, Optional, Union

from holdfast.faults.fault import Fault
from holdfast.faults.kinds import make
from holdfast.faults.lab import Armed, Evidence, Lab, current

Where = Union[int, str, None]


class Injection:
    """A fault for the length of a block, synchronous or not: with it, nothing waits."""

    def __init__(self, fault: Fault, lab: Optional[Lab] = None) -> None:
        self.fault = fault
        self._lab = lab
        self.armed: Optional[Armed] = None

    def __enter__(self) -> Armed:
        self.armed = (self._lab or current()).arm(self.fault)
        return self.armed

    def __exit__(self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]) -> None:
        armed, self.armed = self.armed, None
        if armed is None:
            return
        armed.heal()
        # An error of the block itself says more than that a fault was not reached because of it.
        if kind is None and self.fault.required:
            armed.verify()

    async def __aenter__(self) -> Armed:
        return self.__enter__()

    async def __aexit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.__exit__(kind, error, trace)

    def evidence(self) -> Optional[Evidence]:
        return self.armed.evidence() if self.armed else None


def _injection(kind: str, lab: Optional[Lab], more: dict[str, Any], **fields: Any) -> Injection:
    return Injection(make(kind, **fields, **more), lab)


def xid(number: int, *, device: Where = 0, lab: Optional[Lab] = None, **more: Any) -> Injection:
    """What the driver reports under that number: errors, how far they reach, and what NVML says (docs/faults.md)."""
    return _injection("xid", lab, more, xid=number, device=device)


def lost(*, device: Where = 0, lab: Optional[Lab] = None, **more: Any) -> Injection:
    """It falls off the bus: XID 79."""
    return _injection("lost", lab, more, device=device)


def error(code: Union[int, str], *, device: Where = None, lab: Optional[Lab] = None, **more: Any) -> Injection:
    """Calls return that code, and nothing else happens; with `reach="context"` the context is broken by it."""
    return _injection("error", lab, more, code=code, device=device)


def out_of_memory(*, device: Where = None, lab: Optional[Lab] = None, **more: Any) -> Injection:
    """Allocations find no memory."""
    return _injection("out_of_memory", lab, more, device=device)


def slow(seconds: float, *, device: Where = None, lab: Optional[Lab] = None, **more: Any) -> Injection:
    """Calls take that much longer."""
    return _injection("slow", lab, more, seconds=seconds, device=device)


def hang(*, device: Where = None, lab: Optional[Lab] = None, **more: Any) -> Injection:
    """Calls do not return before the end of the block."""
    return _injection("hang", lab, more, device=device)


def corrupt(*, device: Where = None, lab: Optional[Lab] = None, **more: Any) -> Injection:
    """One bit of what a copy brings is another one; the copy says nothing of it."""
    return _injection("corrupt", lab, more, device=device)
