"""Deployments for as long as a test needs them, broken on purpose, and proof that they recover (docs/deploy.md).

from holdfast.deploy import DeploymentSpec, ManagedDeployment

async with ManagedDeployment("logs", DeploymentSpec("disagg.yaml"), "my-test", enable_hw_faults=True) as deployment:
    ...
"""

from __future__ import annotations

try:
    import aiohttp as _aiohttp  # noqa: F401
    import yaml as _yaml  # noqa: F401
except ImportError as _missing:
    raise ImportError(f"holdfast.deploy needs {_missing.name}: pip install 'holdfast[deploy]'", name=_missing.name) from None

from holdfast.deploy import local
from holdfast.deploy.api import Access, Api
from holdfast.deploy.errors import ApiError, BadSpec, DeployError, NameTaken, NotEntered, NotLetIn, Unreachable, WaitFailed
from holdfast.deploy.hardware import HardwareFaults
from holdfast.deploy.kubeconfig import BadAccess, access_from
from holdfast.deploy.managed import ManagedDeployment
from holdfast.deploy.pods import Pod, PodProcess, PortForward
from holdfast.deploy.spec import DeploymentSpec, ServiceSpec

__all__ = [
    "Access",
    "Api",
    "ApiError",
    "BadAccess",
    "BadSpec",
    "DeployError",
    "DeploymentSpec",
    "HardwareFaults",
    "ManagedDeployment",
    "NameTaken",
    "NotEntered",
    "NotLetIn",
    "Pod",
    "PodProcess",
    "PortForward",
    "ServiceSpec",
    "Unreachable",
    "WaitFailed",
    "access_from",
    "local",
]
