"""The line below the dots on a terminal, and a plain line now and then where there is none: what runs, and since when."""

from __future__ import annotations

import shutil
import time
from typing import Any, Optional

_INTERVAL = 0.2
# Without a terminal: a sign of life only when nothing has ended for this long.
_SILENCE = 60.0


def _span(seconds: float) -> str:
    whole = max(1, round(seconds))
    return f"{whole} s" if whole < 90 else f"{whole // 60} min {whole % 60} s"


class Progress:
    def __init__(self, reporter: Optional[Any], total: int) -> None:
        self._reporter = reporter
        self._live = bool(reporter is not None and getattr(reporter, "isatty", False) and reporter.verbosity >= 0)
        self._total = total
        self._done = 0
        self._running: dict[int, tuple[str, float]] = {}
        self._drawn = False
        # Seconds that the rest should take by what earlier runs took; None where nothing is known.
        self.remaining: Optional[float] = None
        self._next = time.monotonic() + 1.0
        self._last_end = time.monotonic()

    def begun(self, index: int, nodeid: str, since: float) -> None:
        """A test has been running for `since` seconds."""
        self._running[index] = (nodeid, time.monotonic() - since)

    def ended(self, index: Optional[int]) -> None:
        self._done += 1
        self._last_end = time.monotonic()
        if index is not None:
            self._running.pop(index, None)

    def wait(self) -> float:
        """Seconds until tick() has something to do."""
        return max(0.01, self._next - time.monotonic())

    def tick(self) -> None:
        now = time.monotonic()
        if self._reporter is None or now < self._next:
            return
        if self._live:
            self._next = now + _INTERVAL
            self._draw(now)
        else:
            self._next = now + 1.0
            if now - self._last_end >= _SILENCE and self._running:
                self._last_end = now
                self._reporter.ensure_newline()
                self._reporter.write_line(f"holdfast: {self._text(now)}")

    def _text(self, now: float) -> str:
        oldest = sorted(self._running.values(), key=lambda entry: entry[1])
        shown = ", ".join(f"{nodeid} ({now - since:.0f} s)" for nodeid, since in oldest[:4])
        more = f", {len(oldest) - 4} more" if len(oldest) > 4 else ""
        left = f", about {_span(self.remaining)} left" if self.remaining else ""
        return f"{self._done}/{self._total} done{left}, {len(oldest)} running: {shown}{more}"

    def _draw(self, now: float) -> None:
        if not self._running:
            self.clear()
            return
        width = shutil.get_terminal_size().columns - 1
        self._below(self._text(now)[:width])
        self._drawn = True

    def clear(self) -> None:
        """Before anything else is written to the terminal."""
        if self._drawn:
            self._below("")
            self._drawn = False

    def _below(self, text: str) -> None:
        """Writes on the next line and comes back. The newline scrolls where it must, so going up one line is right everywhere."""
        assert self._reporter is not None
        column = self._reporter._tw.width_of_current_line + 1
        file = self._reporter._tw._file
        file.write(f"\n\r{text}\x1b[K\x1b[1A\x1b[{column}G")
        file.flush()
