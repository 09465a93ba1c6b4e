"""Points in time as objects have them: UTC, in text."""

from __future__ import annotations

import datetime

_UTC = datetime.timezone.utc
_FINE, _COARSE = "%Y-%m-%dT%H:%M:%S.%fZ", "%Y-%m-%dT%H:%M:%SZ"


def now() -> str:
    return datetime.datetime.now(_UTC).strftime(_FINE)


def seconds_since(text: str) -> float:
    """Since what now() has said. Raises ValueError."""
    return (datetime.datetime.now(_UTC) - datetime.datetime.strptime(text, _FINE).replace(tzinfo=_UTC)).total_seconds()


def end_in(life: datetime.timedelta) -> str:
    """In whole seconds."""
    return (datetime.datetime.now(_UTC) + life).strftime(_COARSE)


def is_past(text: str) -> bool:
    """What end_in() has said. Raises ValueError."""
    return datetime.datetime.strptime(text, _COARSE).replace(tzinfo=_UTC) < datetime.datetime.now(_UTC)
