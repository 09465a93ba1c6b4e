"""Frames between the engine and Python: a 4-byte little-endian length and a JSON object. The contract is protocol/README.md.

Stdlib only: the zygote lives in the user's environment. Nothing that arrives is unpickled or evaluated.
"""

from __future__ import annotations

import array
import json
import socket
from typing import Any

PROTOCOL_VERSION = 1
TEST_FRAME_LIMIT = 16 << 20
TRUSTED_FRAME_LIMIT = 64 << 20
_MAX_FDS = 8

Frame = dict[str, Any]


class WireError(Exception):
    """The peer's bytes are not frames, or it went away in the middle of one."""


def encode(frame: Frame) -> bytes:
    """The bytes of a frame. Values that JSON lacks become their repr; lone surrogates become `?`; never raises for odd values."""
    try:
        text = json.dumps(frame, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        text = json.dumps(plain(frame), ensure_ascii=False, separators=(",", ":"))
    # A lone surrogate has no UTF-8 form, and its JSON escape is refused by strict parsers.
    payload = text.encode("utf-8", "replace")
    return len(payload).to_bytes(4, "little") + payload


def plain(value: Any, depth: int = 0) -> Any:
    """A copy of `value` that JSON can hold; what it cannot hold is replaced by its repr, deep nesting too."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else repr(value)
    if depth < 50:
        if isinstance(value, dict):
            return {_safe_str(key): plain(item, depth + 1) for key, item in value.items()}
        if isinstance(value, (list, tuple, set, frozenset)):
            return [plain(item, depth + 1) for item in value]
    return _safe_repr(value)


def _safe_str(value: Any) -> str:
    try:
        return str(value)
    except Exception:
        return _safe_repr(value)


def _safe_repr(value: Any) -> str:
    try:
        text = repr(value)
    except Exception as problem:
        return f"<{type(value).__name__} whose repr raised {type(problem).__name__}>"
    return text if len(text) <= 10_000 else text[:10_000] + "..."


class Decoder:
    """Cuts a byte stream into frames. After an error the stream is out of step and must be given up."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """All frames that are complete now. Raises WireError."""
        self._buffer += data
        frames = []
        start = 0
        while len(self._buffer) - start >= 4:
            size = int.from_bytes(self._buffer[start : start + 4], "little")
            if size > self._limit:
                raise WireError(f"a frame of {size} bytes was announced, the limit is {self._limit}")
            end = start + 4 + size
            if len(self._buffer) < end:
                break
            frames.append(_parse(bytes(self._buffer[start + 4 : end])))
            start = end
        del self._buffer[:start]
        return frames


def _parse(payload: bytes) -> Frame:
    try:
        frame = json.loads(payload)
    except (ValueError, RecursionError) as problem:
        raise WireError(f"a frame is not JSON: {problem}") from None
    if not isinstance(frame, dict):
        raise WireError("a frame is not a JSON object")
    return frame


def receive_one(sock: socket.socket) -> Frame | None:
    """One frame without descriptors from a peer that sends no second one before it is answered; None at the end of the stream. Less
    machinery than Channel: it is the first thing that a fresh fork does. Raises WireError, OSError."""
    data = sock.recv(1 << 16)
    while data and len(data) < 4 + int.from_bytes(data[:4], "little"):
        more = sock.recv(1 << 16)
        if not more:
            raise WireError("half a frame")
        data += more
    return _parse(data[4:]) if data else None


def receive_with_fds(sock: socket.socket) -> tuple[Frame | None, list[int]]:
    """The same for a peer that may send descriptors with it."""
    channel = Channel(sock)
    frame = channel.receive()
    return frame, channel._fds


class Channel:
    """A blocking channel to the engine. Not thread-safe."""

    def __init__(self, sock: socket.socket, limit: int = TRUSTED_FRAME_LIMIT) -> None:
        self.sock = sock
        self._decoder = Decoder(limit)
        self._ready: list[Frame] = []
        self._fds: list[int] = []

    def fileno(self) -> int:
        return self.sock.fileno()

    def send(self, frame: Frame) -> None:
        """Raises OSError when the engine has gone away."""
        self.sock.sendall(encode(frame))

    def receive(self) -> Frame | None:
        """The next frame, or None at the end of the stream. Raises WireError, OSError."""
        while not self._ready:
            if not self.pump():
                return None
        return self._ready.pop(0)

    def pending(self) -> bool:
        """True if receive() would return without reading."""
        return bool(self._ready)

    def pump(self) -> bool:
        """Reads once; False at the end of the stream."""
        data, ancillary, flags, _ = self.sock.recvmsg(1 << 16, socket.CMSG_SPACE(_MAX_FDS * 4))
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds = array.array("i")
                fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
                self._fds.extend(fds)
        if flags & socket.MSG_CTRUNC:
            raise WireError("descriptors were lost on the way (is the limit on open files reached?)")
        if not data:
            return False
        self._ready.extend(self._decoder.feed(data))
        return True

    def take_fds(self, count: int) -> list[int]:
        """The descriptors that came with the frame just received, oldest first. Raises WireError if there are fewer."""
        if len(self._fds) < count:
            raise WireError(f"{count} descriptors were expected, {len(self._fds)} came")
        taken, self._fds = self._fds[:count], self._fds[count:]
        return taken
