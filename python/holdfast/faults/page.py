"""The page that faults are switched on (shim/fault/block.h), through the library that writes it."""

from __future__ import annotations

import ctypes
import functools
import json
import os
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any, Callable, Optional, Union

from holdfast.engine_path import EngineMissing, find_library
from holdfast.faults.errors import BadFault

VARIABLE = "HOLDFAST_FAULTS"
_PROBLEM = 512


class CWish(ctypes.Structure):
    """struct hf_wish of shim/fault/control.h."""

    _fields_ = (
        *((name, ctypes.c_char_p) for name in ("name", "kind", "reach", "functions", "uuid")),
        *((name, ctypes.c_int32) for name in ("pid", "rank", "device", "xid", "driver", "runtime", "nvml")),
        *((name, ctypes.c_uint64) for name in ("after", "times", "delay_ns", "wait_ns", "seed")),
        ("probability", ctypes.c_double),
    )  # fmt: skip


def _needed(name: str) -> str:
    path = find_library(name)
    if path is None:
        raise EngineMissing(f"{name}, which the wheel brings, is missing; reinstall with `pip install --force-reinstall holdfast`")
    return path


def shim_path() -> str:
    """What LD_PRELOAD is to name. Raises EngineMissing."""
    return _needed("libfaultshim.so")


def with_shim(environment: MutableMapping[str, str]) -> None:
    """Puts the shim in front of what a process loads first; once, whoever has done so before."""
    shim = shim_path()
    others = [part for part in environment.get("LD_PRELOAD", "").replace(":", " ").split() if part != shim]
    environment["LD_PRELOAD"] = ":".join([shim, *others])


@functools.lru_cache(maxsize=1)
def _library() -> Any:
    library = ctypes.CDLL(_needed("libfaultcontrol.so"))
    for name in ("create", "open"):
        getattr(library, f"hf_control_{name}").restype = ctypes.c_void_p
    library.hf_control_add.restype = ctypes.c_int64
    for name in ("report", "xids", "functions"):
        getattr(library, f"hf_control_{name}").restype = ctypes.c_size_t
    return library


def _whole_json(write: Callable[[Any, ctypes.c_size_t], int]) -> Any:
    room = 1 << 16
    while True:
        text = ctypes.create_string_buffer(room)
        length = write(text, ctypes.c_size_t(room))
        if length < room:
            return json.loads(text.raw[:length])
        room = length + (1 << 14)  # It may grow meanwhile.


def xid_table() -> list[dict[str, Any]]:
    """The XIDs that can be imitated: what they mean, what calls return, what a remedy would be."""
    result: list[dict[str, Any]] = _whole_json(lambda text, size: _library().hf_control_xids(text, size))
    return result


def function_table() -> list[tuple[str, str, str]]:
    """The functions that can be struck: name, API, group."""
    return [(name, api, group) for name, api, group in _whole_json(lambda text, size: _library().hf_control_functions(text, size))]


def check(wish: CWish) -> None:
    """Raises BadFault for what no page would take."""
    problem = ctypes.create_string_buffer(_PROBLEM)
    if _library().hf_control_check(ctypes.byref(wish), problem, ctypes.c_size_t(_PROBLEM)) != 0:
        raise BadFault(problem.value.decode(errors="replace"))


class Page:
    """One open page. Raises BadFault."""

    def __init__(self, path: Union[str, Path], *, create: bool = False, rows: int = 0) -> None:
        self.path = Path(path)
        problem = ctypes.create_string_buffer(_PROBLEM)
        size = ctypes.c_size_t(_PROBLEM)
        self._library = _library()
        self._handle: Optional[int] = None
        name = os.fsencode(self.path)
        if create:
            handle = self._library.hf_control_create(name, ctypes.c_uint32(rows), problem, size)
        else:
            handle = self._library.hf_control_open(name, problem, size)
        if not handle:
            raise BadFault(problem.value.decode(errors="replace"))
        self._handle = handle

    def _open(self) -> ctypes.c_void_p:
        if self._handle is None:
            raise BadFault(f"{self.path}: this page for faults is closed")
        return ctypes.c_void_p(self._handle)

    def close(self) -> None:
        """The file stays."""
        if self._handle is not None:
            self._library.hf_control_close(self._open())
        self._handle = None

    def add(self, wish: CWish, armed: bool) -> int:
        """Returns the fault's id."""
        problem = ctypes.create_string_buffer(_PROBLEM)
        number = self._library.hf_control_add(self._open(), ctypes.byref(wish), int(armed), problem, ctypes.c_size_t(_PROBLEM))
        if number < 0:
            raise BadFault(problem.value.decode(errors="replace"))
        return int(number)

    def switch(self, number: int, on: bool) -> None:
        if self._library.hf_control_switch(self._open(), ctypes.c_int64(number), int(on)) != 0:
            raise BadFault(f"{self.path}: there is no fault {number} (any more)")

    def heal(self, number: int) -> None:
        if self._library.hf_control_heal(self._open(), ctypes.c_int64(number)) != 0:
            raise BadFault(f"{self.path}: there is no fault {number} (any more)")

    def heal_all(self) -> None:
        self._library.hf_control_heal_all(self._open())

    def report(self) -> dict[str, Any]:
        """protocol/faults.md."""
        handle = self._open()
        result: dict[str, Any] = _whole_json(lambda text, size: self._library.hf_control_report(handle, text, size))
        return result
