"""pytest-forked: `@pytest.mark.forked` and `--forked` mean a process of its own, which is what Holdfast gives such a test anyway."""

from __future__ import annotations

import pytest


def stand_aside(config: pytest.Config) -> None:
    """In a process that runs tests: pytest-forked, where installed, must not fork once more (its child would report to nobody)."""
    for name in ("pytest_forked", "forked"):
        if config.pluginmanager.has_plugin(name):
            config.pluginmanager.unregister(name=name)
