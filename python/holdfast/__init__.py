"""Holdfast: a fault-tolerant, parallel test engine. `pytest --holdfast` is the way in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["guard", "mark", "resource"]

if TYPE_CHECKING:
    from holdfast.guards import guard
    from holdfast.parallel import mark
    from holdfast.resources import resource


def __getattr__(name: str) -> Any:
    """Only who asks for them pays for importing pytest."""
    if name == "resource":
        from holdfast.resources import resource

        return resource
    if name == "guard":
        from holdfast.guards import guard

        return guard
    if name == "mark":
        from holdfast.parallel import mark

        return mark
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
