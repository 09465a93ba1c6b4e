"""pytest-randomly: controller and zygote must shuffle with one seed, and the zygote is forked before pytest-randomly has made it."""

from __future__ import annotations

import random
from typing import Any

import pytest

from holdfast.compat.loaded import is_loaded

NAMES = ("randomly", "pytest_randomly")
# Made in the controller before the fork, so that both have it.
_seed = 0


def prepare() -> None:
    """Before the root zygote is forked."""
    global _seed
    _seed = random.Random().getrandbits(32)


def give_seed(config: pytest.Config, workerinput: dict[str, Any]) -> None:
    """As pytest-randomly does for the workers of pytest-xdist."""
    if is_loaded(config, *NAMES):
        workerinput["randomly_seed"] = _resolve(config)


def use_seed(config: pytest.Config) -> None:
    """In the controller, before pytest-randomly is configured."""
    if is_loaded(config, *NAMES):
        config.option.randomly_seed = _resolve(config)


def _resolve(config: pytest.Config) -> int:
    wanted = config.getoption("randomly_seed", "default")
    if wanted == "last":
        cache: Any = getattr(config, "cache", None)
        if cache is None:
            from _pytest.cacheprovider import Cache

            cache = Cache.for_config(config, _ispytest=True)
        wanted = cache.get("randomly_seed", _seed)
    return _seed if wanted == "default" else int(wanted)
