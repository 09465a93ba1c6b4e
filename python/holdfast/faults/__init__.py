"""Breaking GPUs on purpose, and proof that it happened (docs/faults.md).

from holdfast import faults
from holdfast.faults import gpu

with faults.lab() as lab:
    worker = subprocess.Popen(command, env=lab.environment())
    with gpu.lost(device=0, after_calls=100) as fault:
        fault.wait(10)
"""

from __future__ import annotations

from holdfast.faults import gpu
from holdfast.faults.errors import BadFault, FaultError, FaultNotSeen, NoLab
from holdfast.faults.fault import Fault
from holdfast.faults.gpu import Injection
from holdfast.faults.hardware import HWFaultConfig, HWFaultManager, LocalNode, NotCordoned, NotSetUp
from holdfast.faults.kinds import KINDS, parse
from holdfast.faults.lab import Armed, Calls, Evidence, First, Lab, current, lab
from holdfast.faults.page import Page, function_table, xid_table
from holdfast.faults.service import FaultClient, ServiceError, ServiceUnreachable, service

__all__ = [
    "KINDS", "Armed", "BadFault", "Calls", "Evidence", "Fault", "FaultClient", "FaultError", "FaultNotSeen", "First", "HWFaultConfig",
    "HWFaultManager", "Injection", "Lab", "LocalNode", "NoLab", "NotCordoned", "NotSetUp", "Page", "ServiceError", "ServiceUnreachable",
    "current", "function_table", "gpu", "lab", "parse", "service", "xid_table",
]  # fmt: skip
