"""Holdfast: a fault-tolerant, parallel test engine. `pytest --holdfast` is the way in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["guard", "resource"]

if TYPE_CHECKING:
    from holdfast.guards import guard
    from holdfast.resources import resource


def __getattr__(name: str) -> Any:
    """Only who asks for them pays for importing pytest."""
    if name == "resource":
        from holdfast.resources import resource

        return resource
    if name == "guard":
        from holdfast.guards import guard

        return guard
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
