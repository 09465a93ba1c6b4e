"""Reads text and TOML that a user has written."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found,unused-ignore]  # pytest brings it where Python has none.


class Unreadable(Exception):
    """What is wrong, to be put behind the name of the file."""


def text_of(path: Path) -> str:
    """Raises Unreadable."""
    try:
        return path.read_bytes().decode()
    except OSError as problem:
        raise Unreadable(f"cannot be read: {problem.strerror}") from None
    except UnicodeDecodeError as problem:
        raise Unreadable(f"is no text in UTF-8: {problem}") from None


def toml_in(text: str) -> dict[str, Any]:
    """Raises Unreadable."""
    try:
        found: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as problem:
        raise Unreadable(f"is no TOML: {problem}") from None
    return found
