"""What is to break: a description, checked when it is armed."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Optional, Union

from holdfast.faults.errors import BadFault
from holdfast.faults.page import CWish, check

# Errors by name, as CUDA spells them. Driver and runtime have had the same numbers since CUDA 10.1; the older ones differ in name only.
CODES = {
    "CUDA_ERROR_INVALID_VALUE": 1, "CUDA_ERROR_OUT_OF_MEMORY": 2, "CUDA_ERROR_NOT_INITIALIZED": 3, "CUDA_ERROR_DEINITIALIZED": 4,
    "CUDA_ERROR_DEVICE_UNAVAILABLE": 46, "CUDA_ERROR_NO_DEVICE": 100, "CUDA_ERROR_INVALID_DEVICE": 101, "CUDA_ERROR_INVALID_IMAGE": 200,
    "CUDA_ERROR_INVALID_CONTEXT": 201, "CUDA_ERROR_NO_BINARY_FOR_GPU": 209, "CUDA_ERROR_ECC_UNCORRECTABLE": 214,
    "CUDA_ERROR_PEER_ACCESS_UNSUPPORTED": 217, "CUDA_ERROR_NVLINK_UNCORRECTABLE": 220, "CUDA_ERROR_INVALID_HANDLE": 400,
    "CUDA_ERROR_NOT_FOUND": 500, "CUDA_ERROR_NOT_READY": 600, "CUDA_ERROR_ILLEGAL_ADDRESS": 700,
    "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES": 701, "CUDA_ERROR_LAUNCH_TIMEOUT": 702, "CUDA_ERROR_ASSERT": 710,
    "CUDA_ERROR_HARDWARE_STACK_ERROR": 714, "CUDA_ERROR_ILLEGAL_INSTRUCTION": 715, "CUDA_ERROR_MISALIGNED_ADDRESS": 716,
    "CUDA_ERROR_LAUNCH_FAILED": 719, "CUDA_ERROR_NOT_SUPPORTED": 801, "CUDA_ERROR_SYSTEM_NOT_READY": 802, "CUDA_ERROR_UNKNOWN": 999,
}  # fmt: skip


@dataclass(frozen=True)
class Fault:
    """One fault. `device` is a number as the struck process counts, or how a UUID begins; None is any, as for `rank` and `pid`.

    It strikes calls of `functions` (names, groups, APIs, `prefix*`, between commas; None: all that use a device), after letting
    `after_calls` of each process pass, not before `after_seconds` have gone by, each with `probability` (drawn from `seed`, the rank
    and the number of the call, so the same in every run), at most `times` in all processes together (None: no limit).
    """

    kind: str  # error, delay, hang, corrupt
    name: str = ""
    functions: Optional[str] = None
    device: Union[int, str, None] = None
    rank: Optional[int] = None
    pid: Optional[int] = None
    xid: int = 0
    code: Union[int, str, None] = None  # Of CUDA, driver and runtime.
    nvml_code: Optional[int] = None
    reach: Optional[str] = None  # call, context, device
    after_calls: int = 0
    after_seconds: float = 0.0
    times: Optional[int] = None
    probability: float = 1.0
    seed: int = 0
    seconds: float = 0.0  # Of a delay.
    required: bool = True  # Never struck: an error.

    def with_(self, **changes: Any) -> Fault:
        """A copy with other values; raises BadFault for a name that is none."""
        return dataclasses.replace(self, **known(changes))

    def title(self) -> str:
        return self.name or (f"XID {self.xid}" if self.xid else self.kind)

    def check(self) -> None:
        """Raises BadFault if it could not be armed on an empty page."""
        check(self.wish())

    def wish(self) -> CWish:
        """For the page. Raises BadFault for what is no number, or out of range; the page checks the rest."""
        uuid = self.device if isinstance(self.device, str) else ""
        code = _code(self.code)
        return CWish(
            name=self.title().encode(errors="replace"), kind=str(self.kind).encode(), reach=self.reach.encode() if self.reach else None,
            functions=self.functions.encode() if self.functions else None, uuid=uuid.encode() or None,
            pid=_whole("pid", self.pid, -1, 31), rank=_whole("rank", self.rank, -1, 31),
            device=-1 if uuid else _whole("device", self.device, -1, 31), xid=_whole("xid", self.xid, 0, 31), driver=code, runtime=code,
            nvml=_whole("nvml_code", self.nvml_code, 0, 31), after=_whole("after_calls", self.after_calls, 0, 63),
            times=_times(self.times), delay_ns=_nanoseconds("seconds", self.seconds),
            wait_ns=_nanoseconds("after_seconds", self.after_seconds), seed=_whole("seed", self.seed, 0, 64),
            probability=_number("probability", self.probability),
        )  # fmt: skip


def known(given: dict[str, Any]) -> dict[str, Any]:
    """`given`, if all of its keys are fields of a fault."""
    names = [field.name for field in dataclasses.fields(Fault)]
    for key in given:
        if key not in names:
            raise BadFault(f"a fault has no {key!r}; it has {', '.join(names)}")
    return given


def _whole(name: str, value: Any, default: int, bits: int) -> int:
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << bits:
        raise BadFault(f"{name}: {value!r} is not a whole number from 0 on")
    return value


def _times(value: Any) -> int:
    times = _whole("times", value, 0, 63)
    if value is not None and times == 0:
        raise BadFault("times: 0 would strike nothing; leave it out for no limit")
    return times


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise BadFault(f"{name}: {value!r} is not a number")
    return float(value)


def _nanoseconds(name: str, value: Any) -> int:
    seconds = _number(name, value)
    if not 0 <= seconds < 1e9:
        raise BadFault(f"{name}: {value!r} is not a time in seconds")
    return int(seconds * 1e9)


def _code(value: Union[int, str, None]) -> int:
    if isinstance(value, str):
        number = CODES.get(value.upper() if value.upper().startswith("CUDA_ERROR_") else f"CUDA_ERROR_{value.upper()}")
        if number is None:
            raise BadFault(f"code: {value!r} is not known by name; give its number, or one out of {', '.join(CODES)}")
        return number
    return _whole("code", value, 0, 31)
