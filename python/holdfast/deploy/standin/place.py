"""Where this process is, and what else there is: from the environment that an operator gives."""

from __future__ import annotations

import os
import sys


def required(name: str) -> str:
    """Ends the process with a line where it is missing."""
    value = os.environ.get(name)
    if not value:
        sys.exit(f"{name} is not set; the operator sets it where NATS and etcd have been deployed")
    return value


def listen_on() -> str:
    """Pods of the local cluster share this machine, so each has its own address; a real pod takes all of its own."""
    return os.environ.get("HOLDFAST_LISTEN", "0.0.0.0")


def pod() -> str:
    return os.environ.get("POD_NAME", f"process-{os.getpid()}")


def namespace() -> str:
    return os.environ.get("DYN_NAMESPACE", "dynamo")
