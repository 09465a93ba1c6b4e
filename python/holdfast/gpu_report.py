"""The closing section about GPUs: for each a strip of what ran when, its memory over time, its faults."""

from __future__ import annotations

from typing import Any

from holdfast.wire import Frame

_WIDTH = 40
_GIB = 1 << 30
_BLOCKS = "▁▂▃▄▅▆▇█"
_ASCII = "._-=+*#@"


def write(reporter: Any, gpus: list[Frame]) -> None:
    """Nothing where no test had any."""
    if not any(gpu["tests"] or gpu["events"] or gpu["out"] for gpu in gpus):
        return
    reporter.section("GPUs")
    blocks = _BLOCKS if _can_show(reporter) else _ASCII
    for gpu in gpus:
        total, seconds = max(1, gpu["total"]), max(1e-9, gpu["seconds"])
        busy = sum(end - begin for begin, end in _merged(gpu["spans"]))
        words = [
            f"{gpu['tests']} lease(s)",
            f"busy {100 * busy / seconds:.0f} %",
            f"peak {gpu['peak'] / _GIB:.1f} of {total / _GIB:.1f} GiB",
        ]
        reporter.write_line(f"GPU {gpu['id']} {gpu['name']}: {', '.join(words)}")
        if gpu["tests"]:
            reporter.write_line(f"    tests  {_strip([_share(gpu['spans'], *cell) for cell in _cells(seconds)], blocks)}")
            reporter.write_line(f"    memory {_strip(_memory(gpu['samples'], seconds, total), blocks)}")
        for at, text in gpu["events"][-5:]:
            reporter.write_line(f"    {at:.1f} s: {text}")
        if gpu["out"]:
            reporter.write_line(f"    OUT OF USE: {gpu['out']}")
        if reporter.verbosity > 0:
            for begin, end, name in gpu["spans"]:
                reporter.write_line(f"    {begin:8.2f} to {end:8.2f} s: {name}")


def _can_show(reporter: Any) -> bool:
    try:
        _BLOCKS.encode(getattr(reporter._tw._file, "encoding", None) or "ascii")
    except (UnicodeError, LookupError, AttributeError):
        return False
    return True


def _cells(seconds: float) -> list[tuple[float, float]]:
    return [(seconds * i / _WIDTH, seconds * (i + 1) / _WIDTH) for i in range(_WIDTH)]


def _merged(spans: list[Any]) -> list[tuple[float, float]]:
    """Times at which any test had it."""
    merged: list[tuple[float, float]] = []
    for begin, end, _ in sorted(spans):
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((begin, end))
    return merged


def _share(spans: list[Any], begin: float, end: float) -> float:
    return sum(max(0.0, min(end, b) - max(begin, a)) for a, b in _merged(spans)) / (end - begin)


def _memory(samples: list[Any], seconds: float, total: int) -> list[float]:
    """Of each part of the time the most that was in use; where nobody looked, what was known before."""
    shares, known = [], 0.0
    for begin, end in _cells(seconds):
        inside = [used / total for at, used in samples if begin <= at < end]
        shares.append(max([known, *inside]) if inside else known)
        known = inside[-1] if inside else known
    return shares


def _strip(shares: list[float], blocks: str) -> str:
    return "".join(" " if share <= 0.001 else blocks[min(len(blocks) - 1, int(share * len(blocks)))] for share in shares)
