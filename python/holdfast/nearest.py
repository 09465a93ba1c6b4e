"""For messages about words that are not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(given: str, known: Iterable[str]) -> str:
    """What to put behind such a message."""
    words = sorted(known)
    near = difflib.get_close_matches(given, words, 1)
    return f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(words) or 'none'}"
