"""The golden frames in protocol/golden are read by this test and by tests/unit/frame_test.cc."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from holdfast import wire

GOLDEN = Path(__file__).parents[2] / "protocol" / "golden"
GOOD = sorted((GOLDEN / "good").glob("*.frame"))
BAD = sorted((GOLDEN / "bad").glob("*.frame"))


def test_there_are_golden_frames() -> None:
    assert len(GOOD) >= 15
    assert len(BAD) >= 8


@pytest.mark.parametrize("path", GOOD, ids=lambda p: p.stem)
def test_good_frames_are_what_their_json_says(path: Path) -> None:
    expected = json.loads(path.with_suffix(".json").read_text())
    assert wire.Decoder(wire.TEST_FRAME_LIMIT).feed(path.read_bytes()) == [expected]
    assert wire.Decoder(wire.TEST_FRAME_LIMIT).feed(wire.encode(expected)) == [expected]


@pytest.mark.parametrize("path", BAD, ids=lambda p: p.stem)
def test_bad_frames_are_refused(path: Path) -> None:
    with pytest.raises(wire.WireError):
        wire.Decoder(wire.TEST_FRAME_LIMIT).feed(path.read_bytes())


def test_a_stream_that_arrives_byte_by_byte() -> None:
    decoder = wire.Decoder(100)
    stream = wire.encode({"a": 1}) + wire.encode({}) + wire.encode({"b": [2]})
    assert [f for byte in stream for f in decoder.feed(bytes([byte]))] == [{"a": 1}, {}, {"b": [2]}]


class Odd:
    def __repr__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (float("inf"), "inf"),
        ({1}, [1]),
        ((1, 2), [1, 2]),
        (b"x", "b'x'"),
        (Odd(), "<Odd whose repr raised RuntimeError>"),
        ({b"k": object}, {"b'k'": "<class 'object'>"}),
        ("\ud800", "?"),
    ],
)
def test_any_value_can_be_encoded(value: object, expected: object) -> None:
    assert wire.Decoder(1000).feed(wire.encode({"v": value})) == [{"v": expected}]


def test_endless_nesting_can_be_encoded() -> None:
    nested: list[object] = []
    nested.append(nested)
    assert len(wire.encode({"v": nested})) < 100_000


def test_descriptors_come_with_their_frame() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, open(__file__, "rb") as file:
        channel = wire.Channel(ours)
        socket.send_fds(theirs, [wire.encode({"t": "x"})], [file.fileno()])
        assert channel.receive() == {"t": "x"}
        (fd,) = channel.take_fds(1)
        with open(fd, "rb") as copy:
            assert (
                copy.readline()
                == b'"""The golden frames in protocol/golden are read by this test and by tests/unit/frame_test.cc."""\n'
            )
        with pytest.raises(wire.WireError, match="1 descriptors were expected, 0 came"):
            channel.take_fds(1)


def test_the_end_of_the_stream() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        theirs.close()
        assert wire.Channel(ours).receive() is None
