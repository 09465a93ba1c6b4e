"""The simulated driver (shim/simgpu) as Python sees it: what devices there are to be, the file that all processes share, faults.

with simgpu.running(simgpu.parse("2x80GiB")) as sim:
    subprocess.run(command, env=sim.environment())
    sim.fault(0, "lost")
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import re
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Optional, Union

from holdfast.amounts import bytes_in
from holdfast.engine_path import find_engine

STATE = "HOLDFAST_SIMGPU_STATE"
SPEC = "HOLDFAST_SIMGPU"
_DEFAULT_SPEC = "1x80GiB"
_MOST = 64
# simgpu_fault_kind of shim/simgpu/state.h.
_ERROR, _STICKY, _SLOW, _HANG = 1, 2, 3, 4
_KIND_NAMES = {_ERROR: "error", _STICKY: "sticky", _SLOW: "slow", _HANG: "hang"}
# name -> kind, functions that it strikes, code, XID.
_ARMED: dict[str, tuple[int, str, int, int]] = {
    "oom": (_ERROR, "cuMemAlloc", 2, 0),
    "error": (_ERROR, "cu", 999, 0),
    "sticky": (_STICKY, "cuLaunch", 700, 31),
    "slow": (_SLOW, "cu", 0, 0),
    "hang": (_HANG, "cu", 0, 0),
    "nvml-error": (_ERROR, "nvml", 999, 0),
    "nvml-slow": (_SLOW, "nvml", 0, 0),
    "nvml-hang": (_HANG, "nvml", 0, 0),
}
_CHANGES = ("lost", "ecc", "ecc-corrected", "xid", "stuck")
FAULTS = (*_ARMED, *_CHANGES)
ALL = -1


class SimgpuError(ValueError):
    """A wrong specification, device or fault, in words for the user."""


@dataclass(frozen=True)
class Device:
    """What a device is to be."""

    memory: int  # Bytes.
    name: str = "Holdfast SimGPU"
    vendor: str = "nvidia"
    arch: tuple[int, int] = (9, 0)
    numa: int = -1
    uuid: str = ""
    pci: str = ""
    mig: tuple[int, ...] = ()  # Bytes of each instance.


@dataclass(frozen=True)
class Status:
    """What a device (or MIG instance) is at the moment; bytes."""

    index: int
    name: str
    uuid: str
    total: int
    used: int
    stuck: int
    lost: bool
    sticks: bool
    corrected: int
    uncorrected: int
    parent: int
    numa: int
    vendor: str
    processes: tuple[tuple[int, int], ...] = ()  # pid, bytes.
    faults: tuple[str, ...] = ()
    events: tuple[str, ...] = field(default=(), compare=False)


def size(text: Any) -> int:
    """`80GiB`, `512M`, or a number of bytes."""
    result = bytes_in(str(text)) or 0
    if result <= 0:
        raise SimgpuError(f"{text!r} is not an amount of memory; give one like 80GiB")
    return result


def parse(spec: str) -> list[Device]:
    """`8x80GiB`, `2x80GiB,1x24GiB`, `4x64GiB:amd`, or the name of a TOML file. Raises SimgpuError."""
    if spec.endswith(".toml"):
        return _read_toml(Path(spec))
    devices: list[Device] = []
    for part in spec.split(","):
        found = re.fullmatch(r"\s*(?:(\d+)\s*x)?\s*([^:]+?)\s*(?::\s*(nvidia|amd))?\s*", part)
        if found is None:
            raise SimgpuError(f"{part!r} does not describe GPUs; give COUNTxMEMORY, as in 8x80GiB, or a .toml file")
        devices += [Device(size(found.group(2)), vendor=found.group(3) or "nvidia")] * int(found.group(1) or 1)
    return _checked(devices)


def _checked(devices: list[Device]) -> list[Device]:
    count = sum(1 + len(device.mig) for device in devices)
    if not 1 <= count <= _MOST:
        raise SimgpuError(f"that makes {count} GPUs and instances; 1 to {_MOST} can be simulated")
    return devices


def _read_toml(path: Path) -> list[Device]:
    # tomli before Python 3.11, where pytest depends on it.
    toml = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        data = toml.loads(path.read_text())
    except (OSError, ValueError) as problem:
        raise SimgpuError(f"{path}: {problem}") from None
    devices: list[Device] = []
    entries = data.get("device", [])
    if not isinstance(entries, list):
        raise SimgpuError(f"{path}: `device` must be a list of tables, [[device]]")
    for number, entry in enumerate(entries, 1):
        try:
            devices += _device_of(entry)
        except SimgpuError as problem:
            raise SimgpuError(f"{path}: device {number}: {problem}") from None
    return _checked(devices)


def _device_of(entry: Mapping[str, Any]) -> list[Device]:
    known = ("count", "memory", "name", "vendor", "arch", "numa", "uuid", "pci", "mig")
    unknown = [key for key in entry if key not in known]
    if unknown:
        raise SimgpuError(f"{unknown[0]!r} is not known; one out of {', '.join(known)}")
    arch = re.fullmatch(r"(\d+)\.(\d+)", str(entry.get("arch", "9.0")))
    count, numa, vendor = entry.get("count", 1), entry.get("numa", -1), entry.get("vendor", "nvidia")
    if arch is None:
        raise SimgpuError(f"arch is {entry['arch']!r}; give text like '9.0'")
    if not isinstance(count, int) or not isinstance(numa, int) or count < 1:
        raise SimgpuError("count and numa must be whole numbers, and count at least 1")
    if vendor not in ("nvidia", "amd"):
        raise SimgpuError(f"vendor is {vendor!r}; nvidia or amd")
    if "memory" not in entry:
        raise SimgpuError("memory is missing")
    if count > 1 and ("uuid" in entry or "pci" in entry):
        raise SimgpuError("uuid and pci are of one device; leave out count")
    device = Device(
        size(entry["memory"]), str(entry.get("name", Device.name)), vendor, (int(arch.group(1)), int(arch.group(2))), numa,
        str(entry.get("uuid", "")), str(entry.get("pci", "")), tuple(size(part) for part in entry.get("mig", ())),
    )  # fmt: skip
    if sum(device.mig) > device.memory:
        raise SimgpuError("its MIG instances have more memory than it has")
    return [device] * count


class _CDevice(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p), ("uuid", ctypes.c_char_p), ("uuid_bytes", ctypes.c_char_p), ("total", ctypes.c_uint64),
        ("vendor", ctypes.c_int), ("parent", ctypes.c_int), ("slice", ctypes.c_int), ("numa", ctypes.c_int), ("major", ctypes.c_int),
        ("minor", ctypes.c_int), ("domain", ctypes.c_uint), ("bus", ctypes.c_uint), ("slot", ctypes.c_uint),
    )  # fmt: skip


class _CFault(ctypes.Structure):
    _fields_ = (
        ("device", ctypes.c_int), ("kind", ctypes.c_int), ("function", ctypes.c_char_p), ("code", ctypes.c_int), ("xid", ctypes.c_int),
        ("skip", ctypes.c_int64), ("times", ctypes.c_int64), ("nanoseconds", ctypes.c_uint64),
    )  # fmt: skip


def libraries() -> Path:
    """The folder of the simulated libraries."""
    return Path(find_engine()).parent / "simgpu"


def _fault_text(line: list[str]) -> str:
    return f"{_KIND_NAMES[int(line[2])]} {line[3] or 'all calls'} code {line[4]}, {line[6]} times so far"


def _event_text(line: list[str]) -> str:
    return f"XID {line[2]}" if line[2] != "0" else f"ECC {'uncorrected' if line[3] != '0' else 'corrected'}"


class Simgpu:
    """A simulated machine: the file that its processes share. Made by create() or running(), or found by its path."""

    def __init__(self, path: Union[str, Path]) -> None:
        self.path = Path(path)
        self._library = ctypes.CDLL(str(libraries() / "libnvidia-ml.so.1"))
        self._library.holdfast_simgpu_status.restype = ctypes.c_long

    def create(self, devices: list[Device]) -> None:
        self._check(self._library.holdfast_simgpu_create(os.fsencode(self.path)))
        position = 0
        for number, device in enumerate(devices):
            parent = position
            position = self._add(device, number, -1, 0)
            for piece, memory in enumerate(device.mig):
                position = self._add(replace(device, memory=memory, uuid="", name=f"{device.name} MIG"), number, parent, piece + 1)

    def _add(self, device: Device, number: int, parent: int, piece: int) -> int:
        identity = uuid.uuid5(uuid.NAMESPACE_OID, f"holdfast simgpu {number} {piece}")
        prefix = "MIG-" if parent >= 0 else "GPU-"
        pci = re.fullmatch(r"([0-9a-f]+):([0-9a-f]+):([0-9a-f]+)(?:\.0)?", device.pci or f"0:{number + 1:x}:0", re.IGNORECASE)
        if pci is None:
            raise SimgpuError(f"pci is {device.pci!r}; give one like 0000:3b:00.0")
        entry = _CDevice(
            device.name.encode(), (device.uuid or f"{prefix}{identity}").encode(), identity.bytes, device.memory,
            0 if device.vendor == "nvidia" else 1, parent, piece, device.numa, *device.arch, *(int(part, 16) for part in pci.groups()),
        )  # fmt: skip
        self._check(self._library.holdfast_simgpu_add(os.fsencode(self.path), ctypes.byref(entry)))
        return sum(1 for line in self._lines() if line[0] == "device")

    def _check(self, problem: int) -> None:
        if problem != 0:
            raise SimgpuError(f"{self.path}: {os.strerror(problem)}")

    def _lines(self) -> list[list[str]]:
        room = 1 << 16
        while True:
            text = ctypes.create_string_buffer(room)
            length = self._library.holdfast_simgpu_status(os.fsencode(self.path), text, room)
            if length < 0:
                raise SimgpuError(f"{self.path}: not the state of simulated GPUs (of this version)")
            if length < room:
                return [line.split("\t") for line in text.value.decode(errors="replace").splitlines()]
            room = length + 1

    def status(self) -> list[Status]:
        lines = self._lines()
        found = []
        for line in lines:
            if line[0] != "device":
                continue
            index = line[1]
            total, used, stuck, lost, sticks, corrected, uncorrected, parent, numa, vendor = (int(part) for part in line[4:])
            processes = tuple((int(other[2]), int(other[3])) for other in lines if other[:2] == ["process", index])
            faults = tuple(_fault_text(other) for other in lines if other[0] == "fault" and other[1] in (index, "-1"))
            events = tuple(_event_text(other) for other in lines if other[:2] == ["event", index])
            found.append(
                Status(
                    int(index), line[2], line[3], total, used, stuck, lost != 0, sticks != 0, corrected, uncorrected, parent, numa,
                    "amd" if vendor else "nvidia", processes, faults, events,
                )
            )  # fmt: skip
        return found

    def fault(
        self, device: int, kind: str, *, code: Optional[int] = None, times: Optional[int] = None, after: int = 0, seconds: float = 1.0,
        function: Optional[str] = None,
    ) -> None:  # fmt: skip
        """Arms a fault (one of FAULTS) on a device, or on ALL. It strikes `times` calls (None: all) after letting `after` pass."""
        indices = range(len(self.status()))
        if device not in indices and device != ALL:
            raise SimgpuError(f"there is no GPU {device}; they are 0 to {len(indices) - 1}")
        if kind in _CHANGES:
            value = code if code is not None else 79 if kind == "xid" else 1
            for one in indices if device == ALL else (device,):
                self._check(self._library.holdfast_simgpu_change(os.fsencode(self.path), one, kind.encode(), value))
            return
        if kind not in _ARMED:
            raise SimgpuError(f"{kind!r} is not a fault; one out of {', '.join(FAULTS)}")
        number, functions, usual, xid = _ARMED[kind]
        entry = _CFault(
            device, number, (function if function is not None else functions).encode(), usual if code is None else code, xid, after,
            -1 if times is None else times, int(seconds * 1e9),
        )  # fmt: skip
        self._check(self._library.holdfast_simgpu_arm(os.fsencode(self.path), ctypes.byref(entry)))

    def heal(self, device: int = ALL) -> None:
        """Takes all faults away, gives stuck memory back, and sets counters of errors to zero."""
        for one in range(len(self.status())) if device == ALL else (device,):
            self._check(self._library.holdfast_simgpu_change(os.fsencode(self.path), one, b"heal", 0))

    def environment(self, base: Optional[Mapping[str, str]] = None) -> dict[str, str]:
        """For a process that is to see the simulated devices."""
        environment = dict(os.environ if base is None else base)
        before = environment.get("LD_LIBRARY_PATH", "")
        environment["LD_LIBRARY_PATH"] = f"{libraries()}:{before}" if before else str(libraries())
        environment[STATE] = str(self.path)
        return environment


@contextlib.contextmanager
def running(devices: list[Device]) -> Iterator[Simgpu]:
    """A simulated machine in a temporary file, which is removed at the end."""
    # Memory of its own kind where there is one: a disk would be written to with every call.
    shared = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="holdfast-simgpu-", dir=shared) as folder:
        sim = Simgpu(Path(folder) / "state")
        sim.create(devices)
        yield sim
