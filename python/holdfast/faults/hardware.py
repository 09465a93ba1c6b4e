"""HWFaultManager: the life of a hardware fault in a test of a deployment, by the names that Dynamo's tests know.

manager = HWFaultManager(namespace="test", deployment_name="mine", config=HWFaultConfig(xid_type=79))
await manager.setup()
await manager.setup_cuda_passthrough()                  # start workers with manager.environment() from here on
await manager.toggle_cuda_faults(enable=True)
await manager.inject_xid_fault()
manager.wait_for_node_cordon(timeout=30)
await manager.cleanup()

Here on this machine: the fault service breaks its processes and writes the driver's lines, and LocalNode is the part of a cluster that
reads them and takes the node out of use. Nothing is skipped in silence: what cannot be done raises.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from holdfast.faults.errors import BadFault, FaultError, FaultNotSeen
from holdfast.faults.kernel_lines import XID, NewLines
from holdfast.faults.page import xid_table
from holdfast.faults.service import FaultClient, Service, service

_XID = re.compile(XID)
# What the program that was hit can do about it by itself. For these nobody takes a node out of use.
_HARMLESS = ("none", "restart_app")


class NotSetUp(FaultError, RuntimeError):
    """A step that needs an earlier one; the text names it."""


class NotCordoned(FaultError, TimeoutError):
    """The node was not taken out of use in time, or never will be."""


@dataclass(frozen=True)
class HWFaultConfig:
    """`enabled=False`: setup() does nothing, and every later step raises NotSetUp."""

    enabled: bool = True
    xid_type: int = 79
    target_node: Optional[str] = None
    api_url: Optional[str] = None  # Otherwise a service of the manager's own.
    api_token: Optional[str] = None
    setup_timeout: float = 300.0
    fault_timeout: float = 600.0
    service_names: tuple[str, ...] = ()

    @classmethod
    def from_dict(cls, given: Optional[Mapping[str, Any]]) -> HWFaultConfig:
        """None: no faults are wanted. Raises BadFault for a key that is none."""
        if given is None:
            return cls(enabled=False)
        names = [field.name for field in dataclasses.fields(cls)]
        for key in given:
            if key not in names:
                raise BadFault(f"hw_fault_config has no {key!r}; it has {', '.join(names)}")
        values = dict(given)
        if "service_names" in values:
            values["service_names"] = tuple(values["service_names"])
        return cls(**values)


def is_fatal(xid: int) -> bool:
    """Whether monitors take a node out of use for it: where the remedy is more than to start the program again (the rule of
    NVSentinel, by the catalog's resolution buckets)."""
    entry = next((entry for entry in xid_table() if entry["xid"] == xid), None)
    return entry is None or entry["remedy"] not in _HARMLESS


class LocalNode:
    """What monitors, quarantine and operators do to a node, for this machine: it reads lines of the driver in a file."""

    def __init__(self, name: str, kernel_log: Path) -> None:
        self.name = name
        self._lines = NewLines(kernel_log)
        self.cordoned_by: list[tuple[str, int]] = []  # PCI address, XID.

    def look(self) -> None:
        for line in self._lines.read():
            found = _XID.search(line)
            if found and is_fatal(int(found.group(2))):
                self.cordoned_by.append((found.group(1), int(found.group(2))))

    @property
    def unschedulable(self) -> bool:
        self.look()
        return bool(self.cordoned_by)

    def uncordon(self) -> None:
        self.look()
        self.cordoned_by.clear()


class HWFaultManager:
    """Raises what goes wrong: ServiceUnreachable, ServiceError, NotSetUp, NotCordoned, FaultNotSeen."""

    def __init__(
        self, namespace: str, deployment_name: str, config: Optional[HWFaultConfig] = None, in_cluster: bool = False,
        logger: Optional[logging.Logger] = None,
    ) -> None:  # fmt: skip
        if in_cluster:
            raise BadFault("in_cluster: faults in a cluster are not there yet; leave it out for processes of this machine")
        self.namespace = namespace
        self.deployment_name = deployment_name
        self.config = config or HWFaultConfig()
        self.logger = logger or logging.getLogger("holdfast.faults")
        self.node: Optional[LocalNode] = None
        self._stack = contextlib.ExitStack()
        self._client: Optional[FaultClient] = None
        self._passthrough: Optional[dict[str, Any]] = None
        self._cuda: Optional[str] = None
        self._injected: list[str] = []

    # ---- the steps

    async def setup(self) -> None:
        """Finds the service, or starts one."""
        if not self.config.enabled:
            self.logger.info("hardware faults are not enabled: nothing is set up")
            return
        if self._client is not None:
            return
        await asyncio.to_thread(self._begin)

    def _begin(self) -> None:
        if self.config.api_url:
            client = FaultClient(self.config.api_url, self.config.api_token, timeout=self.config.setup_timeout)
            where = Path(str(client.health()["kernel_log"]))
        else:
            client = self._stack.enter_context(service(node=self.config.target_node))
            where = client.kernel_log
        self._client = client
        # What goes to the kernel's own log is for real monitors to read.
        if where.is_absolute():
            self.node = LocalNode(str(client.health()["node"]), where)

    def set_target_node(self, node: str) -> None:
        """Before setup()."""
        if self._client is not None:
            raise NotSetUp("set_target_node() comes before setup()")
        self.config = dataclasses.replace(self.config, target_node=node)

    async def setup_cuda_passthrough(self, xid_type: Optional[int] = None, target_node: Optional[str] = None) -> None:
        """Faults of that kind are ready to be switched on; processes with environment() meet them then, without a new start."""
        client = self._ready()
        if target_node and target_node != client.health()["node"]:
            raise BadFault(f"target_node: the fault service is on {client.health()['node']}, not on {target_node}")
        self._passthrough = {
            "fault_type": "xid_error",
            "xid_type": xid_type or self.config.xid_type,
            "kernel_log": False,  # That is inject_xid_fault()'s.
        }
        # Refused now rather than when it is switched on.
        fault = await asyncio.to_thread(lambda: client.inject("gpu", **{**self._cuda_fault(), "armed_only": True}))
        await asyncio.to_thread(client.recover, fault)

    def environment(self, base: Optional[dict[str, str]] = None) -> dict[str, str]:
        """For the processes of the deployment."""
        return self._ready().environment(base)

    async def toggle_cuda_faults(self, enable: bool) -> None:
        """On or off. Off: a context that is broken stays so until its process ends. Raises FaultNotSeen if it was on and no call met
        it."""
        client = self._ready()
        if self._passthrough is None:
            raise NotSetUp("toggle_cuda_faults() needs setup_cuda_passthrough() before it")
        if enable and self._cuda is None:
            self._cuda = await asyncio.to_thread(lambda: client.inject("gpu", **self._cuda_fault()))
        elif not enable and self._cuda is not None:
            fault, self._cuda = self._cuda, None
            ended = await asyncio.to_thread(client.recover, fault)
            if not ended.get("verified"):
                raise FaultNotSeen(
                    f"the CUDA faults ({fault}) were on, and no call of any process has met them: {ended.get('evidence')}"
                )

    async def inject_xid_fault(self, xid_type: Optional[int] = None, gpu_id: int = 0, node: Optional[str] = None) -> str:
        """The driver's line, and what programs and NVML see of it. Returns the fault's id."""
        client = self._ready()
        number = xid_type or self.config.xid_type
        body: dict[str, Any] = {"gpu_id": gpu_id, "owner": f"{self.namespace}/{self.deployment_name}"}
        if node:
            body["node_name"] = node
        fault = await asyncio.to_thread(lambda: client.inject(f"gpu/inject/xid-{number}", **body))
        self._injected.append(fault)
        return fault

    def is_node_cordoned(self, node: Optional[str] = None) -> bool:
        return self._node(node).unschedulable

    def uncordon_node(self, node: Optional[str] = None) -> None:
        self._node(node).uncordon()

    def wait_for_node_cordon(self, node: Optional[str] = None, timeout: float = 180.0) -> None:
        """Raises NotCordoned; at once where nobody would take a node out of use for what was injected."""
        watched = self._node(node)
        deadline = time.monotonic() + timeout
        while not watched.unschedulable:
            harmless = [fault for fault in self._injected if not is_fatal(int(fault.split("-")[0].rpartition("_")[2]))]
            if self._injected and len(harmless) == len(self._injected):
                raise NotCordoned(f"{', '.join(harmless)}: the remedy is to start the program again, so no node is cordoned for it")
            if time.monotonic() >= deadline:
                raise NotCordoned(f"{watched.name} was not cordoned within {timeout:g} s; injected: {self._injected or 'nothing'}")
            time.sleep(0.01)

    async def check_api_health(self) -> dict[str, Any]:
        return await asyncio.to_thread(self._ready().health)

    async def cleanup(self) -> None:
        """Heals everything that this manager has injected, and ends its service. Never raises FaultNotSeen: that is
        toggle_cuda_faults(False)'s to say."""
        client, self._client = self._client, None
        if client is None:
            return
        faults = [*self._injected, *([self._cuda] if self._cuda else [])]
        self._injected, self._cuda, self._passthrough = [], None, None
        try:
            for fault in reversed(faults):
                await asyncio.to_thread(client.recover, fault)
        finally:
            if self.node is not None:
                self.node.uncordon()
            await asyncio.to_thread(self._stack.close)

    # ---- what they need

    def _ready(self) -> FaultClient:
        if not self.config.enabled:
            raise NotSetUp("hardware faults are not enabled (HWFaultConfig.enabled), so none can be injected")
        if self._client is None:
            raise NotSetUp("setup() comes first")
        return self._client

    def _cuda_fault(self) -> dict[str, Any]:
        assert self._passthrough is not None
        return {**self._passthrough, "owner": f"{self.namespace}/{self.deployment_name}"}

    def _node(self, node: Optional[str]) -> LocalNode:
        self._ready()
        if self.node is None:
            raise NotSetUp("the fault service writes to the kernel's own log: nodes are cordoned by who reads that, not here")
        if node and node != self.node.name:
            raise BadFault(f"there is no node {node} here, only {self.node.name}")
        return self.node


__all__ = ["HWFaultConfig", "HWFaultManager", "LocalNode", "NotCordoned", "NotSetUp", "Service", "is_fatal"]
