"""pytest-xdist, installed but not used: its plugin would take a zygote for a worker of its own."""

from __future__ import annotations

import os
from typing import Any

import pytest


def configure_node(config: pytest.Config, workerinput: dict[str, Any]) -> None:
    """`pytest_configure_node` of the user's conftest files, which put things into `node.workerinput`. All slots have the same: there is
    one collection. (Those of plugins expect xdist's controller.)"""
    hook: Any = getattr(config.hook, "pytest_configure_node", None)
    if hook is None:
        return
    from holdfast.present import Gateway, WorkerNode

    node = WorkerNode(Gateway(str(workerinput["workerid"])), workerinput)
    for implementation in reversed(hook.get_hookimpls()):
        if os.path.basename(str(getattr(implementation.plugin, "__file__", ""))) == "conftest.py":
            implementation.function(*[{"node": node, "config": config}.get(name) for name in implementation.argnames])


def stand_aside(config: pytest.Config) -> None:
    """Plugins that see xdist beside `config.workerinput` ask its controller for more than there is (rerunfailures: for a socket)."""
    for name in ("xdist", "xdist.plugin", "xdist.looponfail"):
        if config.pluginmanager.has_plugin(name):
            config.pluginmanager.unregister(name=name)
