"""Amounts as Kubernetes writes them: `2Gi`, `500M`, `0.5`, `100m`, `1e9`."""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Decimal

_FORM = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(?:([eE][+-]?\d{1,3})|(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?)", re.ASCII)
_UNITS = {
    "m": Decimal("0.001"),
    **{unit: Decimal(1000) ** power for power, unit in enumerate(("", "k", "M", "G", "T", "P", "E"))},
    **{unit: Decimal(1024) ** power for power, unit in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), 1)},
}


def whole(amount: object) -> int:
    """Rounded up, as Kubernetes does. Raises ValueError where it is none."""
    found = _FORM.fullmatch(str(amount))
    if found is None or isinstance(amount, bool):
        raise ValueError(f"{amount!r} is no quantity (such as 2Gi, 500M or 1.5)")
    number, exponent, unit = found.groups()
    return int((Decimal(number + (exponent or "")) * _UNITS[unit or ""]).to_integral_value(ROUND_CEILING))
