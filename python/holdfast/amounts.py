"""Amounts of memory as people write them: `300M`, `1.5G`, `80GiB`."""

from __future__ import annotations

import re
from typing import Optional

_AMOUNT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?\s*", re.IGNORECASE)


def bytes_in(text: str) -> Optional[int]:
    """None for what is no amount, and for none at all."""
    found = _AMOUNT.fullmatch(text)
    if found is None or float(found.group(1)) == 0:
        return None
    return int(float(found.group(1)) * 1024 ** " KMGT".index(found.group(2).upper() or " "))
