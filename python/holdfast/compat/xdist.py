"""pytest-xdist, installed but not used: its plugin would take a zygote for a worker of its own."""

from __future__ import annotations

import pytest


def stand_aside(config: pytest.Config) -> None:
    """Plugins that see xdist beside `config.workerinput` ask its controller for more than there is (rerunfailures: for a socket)."""
    for name in ("xdist", "xdist.plugin", "xdist.looponfail"):
        if config.pluginmanager.has_plugin(name):
            config.pluginmanager.unregister(name=name)
