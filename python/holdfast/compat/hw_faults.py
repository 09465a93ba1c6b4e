"""The options and fixtures of Dynamo's hardware-fault tests. Suites that have copied them into their conftest.py keep their own: ours
are added after those files have been read, and only where a name is free."""

from __future__ import annotations

import contextlib
import os
import weakref
from pathlib import Path
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


def choose_cluster(config: pytest.Config) -> None:
    """Tests, and the processes that run them, know it by the environment. Raises pytest.UsageError."""
    from holdfast.options import OPTION, value_of

    if value_of(config, config.option, OPTION["hf_backend"]) != "kubernetes":
        return
    path = os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
    if not Path(path).is_file():
        raise pytest.UsageError(f"--hf-backend=kubernetes: there is no kubeconfig {path}; KUBECONFIG names one")
    os.environ["HOLDFAST_CLUSTER"] = path


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
