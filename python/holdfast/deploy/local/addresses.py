"""Addresses of pods and services: all of 127.0.0.0/8 is this machine's loopback, and a cluster takes a /24 of it for itself."""

from __future__ import annotations

import random
import socket

from holdfast.deploy.errors import DeployError

_TRIES = 100


class Addresses:
    """`.1` is the API's, services have the upper ones. Another cluster on this machine has another /24: the name of a socket in the
    abstract name space says that it is taken, and the kernel forgets that when this process ends."""

    def __init__(self) -> None:
        # Which one it is does not matter to anybody, so this draw has no seed.
        for _ in range(_TRIES):
            prefix = f"127.{random.randint(16, 250)}.{random.randint(1, 250)}"
            self._lock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                self._lock.bind(f"\0holdfast-cluster-{prefix}")
            except OSError:
                self._lock.close()
                continue
            self._prefix = prefix
            self._pods = list(range(199, 1, -1))
            self._services = list(range(254, 199, -1))
            return
        raise DeployError(f"no /24 of the loopback network is free after {_TRIES} tries; are that many local clusters running?")

    @property
    def api(self) -> str:
        return f"{self._prefix}.1"

    @property
    def room(self) -> int:
        """For pods; one that leaves still has its address."""
        return len(self._pods) // 2

    def take(self) -> str:
        return f"{self._prefix}.{self._pods.pop()}"

    def take_for_service(self) -> str:
        return f"{self._prefix}.{self._services.pop()}"

    def give_back(self, address: str) -> None:
        prefix, _, last = address.rpartition(".")
        if prefix != self._prefix:
            return  # A real API's.
        number = int(last)
        # First in, first out: a late packet of an old pod's should not meet a new one.
        (self._services if number >= 200 else self._pods).insert(0, number)
