"""A stand-in for pytest's terminal reporter in processes that run tests: the controller has the terminal, but plugins ask for one."""

from __future__ import annotations

import sys
from typing import Any

import pytest


class _CurrentStdout:
    """Whatever sys.stdout is now: captured, or not."""

    encoding = "utf-8"

    def write(self, text: str) -> int:
        return sys.stdout.write(text)

    def flush(self) -> None:
        sys.stdout.flush()

    def isatty(self) -> bool:
        return False


class WorkerTerminal:
    """No hooks, so it reports nothing; what is written goes where the test's own output goes."""

    isatty = False
    showlongtestinfo = False

    def __init__(self, config: pytest.Config) -> None:
        from _pytest.config import create_terminal_writer

        self.stats: dict[str, list[Any]] = {}
        self.config = config
        self._tw = create_terminal_writer(config, _CurrentStdout())  # type: ignore[arg-type]
        self.currentfspath = None

    @property
    def verbosity(self) -> int:
        return int(self.config.option.verbose)

    def ensure_newline(self) -> None:
        if self._tw.width_of_current_line:
            self._tw.line()

    def write(self, content: str, *, flush: bool = False, **markup: bool) -> None:
        self._tw.write(content, flush=flush, **markup)

    def write_line(self, line: str, **markup: bool) -> None:
        self.ensure_newline()
        self._tw.line(line, **markup)

    def line(self, message: str, **markup: bool) -> None:
        self._tw.line(message, **markup)

    def write_sep(self, sep: str, title: Any = None, fullwidth: Any = None, **markup: bool) -> None:
        self.ensure_newline()
        self._tw.sep(sep, title, fullwidth, **markup)

    def section(self, title: str, sep: str = "=", **markup: bool) -> None:
        self._tw.sep(sep, title, **markup)

    def hasopt(self, char: str) -> bool:
        return char in str(getattr(self.config.option, "reportchars", ""))
