"""The slate: the shared page on which a test's process writes its phase. Layout in protocol/slate.md."""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
import time

SIZE = 65536
# Where libtrail's notes begin (trail.py).
TRAIL = 4096
IDLE, SETUP, CALL, TEARDOWN, EXIT = range(5)

_PHASE = struct.Struct("<IId")
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
_MAP_FAILED = ctypes.c_void_p(-1).value


class Slate:
    def __init__(self, fd: int) -> None:
        """Maps the page of the memory file `fd`, which the caller closes. Raises OSError.

        Not with the mmap module: that keeps a copy of the descriptor, and a test that writes to every descriptor it finds would
        write over the page.
        """
        address = _libc.mmap(None, SIZE, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, fd, 0)
        if address is None or address == _MAP_FAILED:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        self.address: int = address
        self._page = (ctypes.c_char * SIZE).from_address(address)

    def enter(self, phase: int) -> None:
        """Records that `phase` begins now."""
        _PHASE.pack_into(self._page, 0, phase, 0, time.monotonic())

    def read(self, offset: int, size: int) -> bytes:
        return ctypes.string_at(self.address + offset, size)

    def write(self, offset: int, data: bytes) -> None:
        ctypes.memmove(self.address + offset, data, len(data))
