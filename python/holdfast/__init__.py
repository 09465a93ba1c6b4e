"""Holdfast: a fault-tolerant, parallel test engine. `pytest --holdfast` is the way in."""

from __future__ import annotations

__version__ = "0.1.0"
