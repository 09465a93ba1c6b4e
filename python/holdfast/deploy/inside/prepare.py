"""Puts on a node what its pods need: the shim, the simulated driver and its devices."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

from holdfast.faults.page import shim_path
from holdfast.simgpu import Device, Simgpu, libraries


def put(source: Path, folder: Path) -> None:
    """In one step: a process that has the old one goes on with it. One that is the same stays."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / source.name
    if target.exists() and target.read_bytes() == source.read_bytes():
        return
    new = folder / f".{source.name}.{socket.gethostname()}.{os.getpid()}"
    shutil.copy(source, new)
    new.replace(target)


def prepare(state: Path, gpus: Path, devices: list[Device]) -> None:
    """`state`: the folder of the fault service; `gpus`: that of the simulated driver. Devices that are there stay: pods use them."""
    put(Path(shim_path()), state)
    if not devices:
        return
    for library in libraries().iterdir():
        put(library, gpus / "lib")
    if not (gpus / "devices").exists():
        Simgpu(gpus / "devices").create(devices)
        # Pods of any user have it open for writing, as they have /dev/nvidia0.
        (gpus / "devices").chmod(0o666)


def environment(gpus: Path) -> dict[str, str]:
    """Of a container that uses them, where that folder is mounted at its own place."""
    return {"HOLDFAST_SIMGPU_STATE": str(gpus / "devices"), "LD_LIBRARY_PATH": str(gpus / "lib")}
