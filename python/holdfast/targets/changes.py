"""CTest's ENVIRONMENT_MODIFICATION: `NAME=operation:value`, one after the other."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Callable

# Of a list, what stands between its entries.
_SEPARATORS = {"path_list": os.pathsep, "cmake_list": ";", "string": ""}


def changed(environment: Mapping[str, str], changes: Sequence[str]) -> dict[str, str]:
    """`reset` takes all earlier changes of that variable back. Raises ValueError."""
    found = dict(environment)
    for change in changes:
        name, _, rest = change.partition("=")
        operation, _, value = rest.partition(":")
        if operation == "set":
            found[name] = value
        elif operation == "unset":
            found.pop(name, None)
        elif operation == "reset":
            found.pop(name, None)
            if name in environment:
                found[name] = environment[name]
        else:
            found[name] = _joined(operation)(found.get(name, ""), value)
    return found


def _joined(operation: str) -> Callable[[str, str], str]:
    kind, _, side = operation.rpartition("_")
    if kind not in _SEPARATORS or side not in ("append", "prepend"):
        raise ValueError(f"ENVIRONMENT_MODIFICATION: {operation!r} is no operation")
    separator = _SEPARATORS[kind]

    def join(old: str, value: str) -> str:
        parts = [old, value] if side == "append" else [value, old]
        return separator.join(part for part in parts if part)

    return join
