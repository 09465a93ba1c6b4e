"""Colours for what commands print, by the rules that pytest has for its own."""

from __future__ import annotations

import argparse
import os
import sys

_CODES = {"bold": 1, "red": 31, "green": 32, "yellow": 33}


def argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--color", choices=("auto", "yes", "no"), default="auto", help="auto: in a terminal, without NO_COLOR")


class Paint:
    """`paint("text", "red")`. `choice`: of --color."""

    def __init__(self, choice: str) -> None:
        self._on = choice == "yes" or (choice == "auto" and _is_wanted())

    def __call__(self, text: str, *names: str) -> str:
        if not (self._on and text and names):
            return text
        return f"\x1b[{';'.join(str(_CODES[name]) for name in names)}m{text}\x1b[0m"


def of_verdict(verdict: str) -> str:
    """As the report's letters: green, yellow for what was no test of the code, red."""
    return {"passed": "green", "skipped": "yellow", "xfailed": "yellow", "xpassed": "yellow"}.get(verdict, "red")


def _is_wanted() -> bool:
    """https://no-color.org, https://force-color.org; pytest's own variable comes before both."""
    own = os.environ.get("PY_COLORS")
    if own in ("0", "1"):
        return own == "1"
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
