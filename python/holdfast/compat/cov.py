"""pytest-cov: every process writes a data file of its own, and pytest-cov in the controller combines them.

What a process measured is lost when it dies from a signal: coverage keeps it in memory. A worker therefore writes now and then.
"""

from __future__ import annotations

import os
import socket
import time
from typing import Any, Optional

import pytest

# Seconds between two writes of a worker.
_INTERVAL = 2.0
_last_save = 0.0


def _coverage(config: pytest.Config) -> Optional[Any]:
    plugin: Any = config.pluginmanager.get_plugin("_cov")
    if plugin is None or getattr(plugin, "_disabled", False):
        return None
    return getattr(getattr(plugin, "cov_controller", None), "cov", None)


def give_place(config: pytest.Config, workerinput: dict[str, Any]) -> None:
    """What pytest-cov's controller tells its workers under pytest-xdist: that they share its machine and folder."""
    if config.pluginmanager.has_plugin("_cov"):
        workerinput.update(
            cov_master_host=socket.gethostname(), cov_master_topdir=os.path.abspath(os.curdir), cov_master_rsync_roots=[]
        )


def keep_collection(config: pytest.Config) -> None:
    """What the imports have run is written by the root zygote, once, before pytest-cov in the controller combines; its forks begin with
    nothing."""
    coverage = _coverage(config)
    if coverage is not None:
        coverage.save()


def end_root(config: pytest.Config) -> None:
    """The root zygote ends, when all has been combined: pytest-cov must not write once more."""
    if _coverage(config) is not None:
        plugin: Any = config.pluginmanager.get_plugin("_cov")
        plugin.cov_controller.finish = lambda: None


def save(config: pytest.Config) -> None:
    """Writes what this process has measured so far into a file that no other process writes."""
    global _last_save
    coverage = _coverage(config)
    if coverage is None:
        return
    # Not get_data() yet, nor bool(): those open the file that the zygote has chosen.
    data = getattr(coverage, "_data", None)
    if data is None:
        data = coverage.get_data()
    if getattr(data, "holdfast_pid", None) != os.getpid():
        # pytest-cov has chosen one suffix for the zygote; all its forks would write to that file.
        data._suffix = f"{socket.gethostname()}.pid{os.getpid()}.{time.monotonic_ns():x}"
        data._choose_filename()
        data.holdfast_pid = os.getpid()
    coverage.save()
    _last_save = time.monotonic()


def save_now_and_then(config: pytest.Config) -> None:
    if time.monotonic() - _last_save > _INTERVAL and _coverage(config) is not None:
        save(config)
