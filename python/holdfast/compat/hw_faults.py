"""The options and fixtures of Dynamo's hardware-fault tests. Suites that have copied them into their conftest.py keep their own: ours
are added after those files have been read, and only where a name is free."""

from __future__ import annotations

import contextlib
import weakref
from typing import Any

import pytest

BACKENDS = ("vllm", "sglang", "trtllm")
_PARSERS: weakref.WeakKeyDictionary[Any, pytest.Parser] = weakref.WeakKeyDictionary()
_OPTIONS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("--enable-hw-faults", {"action": "store_true", "default": False, "help": "run the tests that inject hardware faults"}),
    ("--hw-fault-backend", {"choices": BACKENDS, "default": "vllm", "help": "whose deployment is broken: " + ", ".join(BACKENDS)}),
    ("--namespace", {"default": "fault-tolerance", "help": "of deployments (fault-tolerance)", "metavar": "NAME"}),
    ("--skip-service-restart", {"action": "store_true", "default": False, "help": "leave NATS and etcd that are there as they are"}),
)


def remember(parser: pytest.Parser, manager: pytest.PytestPluginManager) -> None:
    _PARSERS[manager] = parser


def add_options(config: pytest.Config) -> None:
    """After the initial conftest files."""
    parser = _PARSERS.get(config.pluginmanager)
    if parser is None:
        return
    group = parser.getgroup("holdfast deployments", "holdfast: deployments that are broken on purpose")
    for name, how in _OPTIONS:
        with contextlib.suppress(ValueError):  # The suite has one of that name.
            group.addoption(name, **how)


@pytest.fixture
def hw_fault_config(request: pytest.FixtureRequest) -> dict[str, Any]:
    """For ManagedDeployment(hw_fault_config=). Skips without --enable-hw-faults."""
    if not request.config.getoption("--enable-hw-faults"):
        pytest.skip("hardware faults are injected with --enable-hw-faults only")
    return {"enabled": True, "xid_type": 79, "target_node": None}


@pytest.fixture
def namespace(request: pytest.FixtureRequest) -> str:
    """--namespace."""
    return str(request.config.getoption("--namespace"))


@pytest.fixture
def hw_fault_backend(request: pytest.FixtureRequest) -> str:
    """--hw-fault-backend."""
    return str(request.config.getoption("--hw-fault-backend"))


@pytest.fixture
def skip_service_restart(request: pytest.FixtureRequest) -> bool:
    """--skip-service-restart."""
    return bool(request.config.getoption("--skip-service-restart"))
