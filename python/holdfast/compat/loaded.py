"""Whether a plugin is loaded: by the name of its entry point, or by its module's (`-p pytest_timeout`)."""

from __future__ import annotations

import pytest


def is_loaded(config: pytest.Config, *names: str) -> bool:
    return any(config.pluginmanager.has_plugin(name) for name in names)
