"""What the test of this process, and its forks, have made outside of their own directories: temporary files and names in /dev/shm, as
libtrail notes them (shim/trail.c) behind the slate."""

from __future__ import annotations

import ctypes
import os
import struct
import tempfile
from collections.abc import Iterable
from typing import Any, NamedTuple

import pytest

from holdfast.engine_path import find_library
from holdfast.slate import SIZE, TRAIL, Slate

_USED = struct.Struct("<I")
_ENTRIES = TRAIL + 8
# Kinds: made by tempfile; opened by name, or a directory; a name in /dev/shm.
TEMPORARY, OPENED, SHARED = "t", "o", "s"

_library: Any = None


class Entry(NamedTuple):
    kind: str
    path: str


class _Python(ctypes.Structure):
    """struct python of shim/trail.c."""

    _fields_ = [(name, ctypes.c_void_p) for name in ("tuple_item", "text", "number", "forget_error")]


def arm(slate: Slate, config: pytest.Config) -> None:
    """Notes go behind `slate` from now on. Does nothing where the library is missing."""
    global _library
    first = _library is None
    if first:
        path = find_library("libtrail.so")
        if path is None:
            return
        _library = ctypes.PyDLL(path)
        _library.trail_names.restype = ctypes.c_void_p
    api = ctypes.pythonapi
    functions = (api.PyTuple_GetItem, api.PyUnicode_AsUTF8AndSize, api.PyLong_AsLong, api.PyErr_Clear)
    python = _Python(*(ctypes.cast(function, ctypes.c_void_p).value for function in functions))
    places = [os.fsencode(place) for place in _places(config)]
    given = (ctypes.c_char_p * (len(places) + 1))(*places, None)
    add = ctypes.cast(api.PySys_AddAuditHook, ctypes.c_void_p) if first else None
    _library.trail_arm(ctypes.c_void_p(slate.address + TRAIL), ctypes.c_size_t(SIZE - TRAIL), ctypes.byref(python), given, add)


def _places(config: pytest.Config) -> list[str]:
    """Where files are temporary ones, and where they are not, for trail_arm()."""
    temporary = {"/tmp", "/var/tmp", tempfile.gettempdir()}
    own = set()
    factory: Any = getattr(config, "_tmp_path_factory", None)
    if factory is not None and getattr(factory, "_basetemp", None) is not None:
        # A slot's directory is below that of the run, which is below that of the user, where pytest keeps the last three.
        base = str(factory._basetemp)
        parts = base.split("/")
        cut = next((i + 1 for i, part in enumerate(parts) if part.startswith("pytest-of-")), len(parts) - 1)
        own.add("/".join(parts[:cut]) or base)
    suite = {str(config.rootpath), str(config.invocation_params.dir)}
    places = [f"+{path}" for path in _with_real(temporary)] + [f"-{path}" for path in _with_real(own)]
    return places + [f"~{path}" for path in _with_real(suite)]


def _with_real(paths: Iterable[str]) -> list[str]:
    return sorted({form for path in paths for form in (path.rstrip("/"), os.path.realpath(path))} - {"", "/"})


def learn() -> None:
    """What threads and descriptors there are now is not the next test's doing."""
    if _library is not None:
        _library.trail_learn()


def begin() -> None:
    """A test begins."""
    if _library is not None:
        _library.trail_begin()


def found() -> int:
    """What it may have left, in bits (shim/trail.c); all of them where the library is missing."""
    return int(_library.trail_end()) if _library is not None else 31


def names_before() -> frozenset[str]:
    """In /dev/shm, when the test began."""
    if _library is None:
        return frozenset()
    size = ctypes.c_size_t()
    address = _library.trail_names(ctypes.byref(size))
    return frozenset(os.fsdecode(name) for name in ctypes.string_at(address, size.value).split(b"\0") if name)


def position(slate: Slate) -> int:
    """How much has been noted so far, for entries()."""
    (used,) = _USED.unpack(slate.read(TRAIL, 4))
    return min(int(used), SIZE - _ENTRIES)


def entries(slate: Slate, start: int = 0, end: int = -1) -> list[Entry]:
    """What was noted from one position to another one, each path once; of an overflow what fits."""
    end = position(slate) if end < 0 else end
    if end <= start:
        return []
    found: dict[str, str] = {}
    for raw in slate.read(_ENTRIES + start, end - start).split(b"\0"):
        kind, path = os.fsdecode(raw[:1]), os.fsdecode(raw[1:])
        # tempfile opens by name what it has told of before.
        if path and found.get(path) != TEMPORARY:
            found[path] = kind
    return [Entry(kind, path) for path, kind in found.items()]


def forget(slate: Slate, start: int) -> None:
    """What was noted from that position on."""
    slate.write(TRAIL, _USED.pack(start))
