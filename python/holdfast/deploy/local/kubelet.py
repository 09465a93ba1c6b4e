"""The nodes of the local cluster: each has simulated GPUs of its own, a file system of its own below its folder, and runs the pods
that are bound to it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from pathlib import Path
from typing import Optional

import aiohttp

from holdfast.deploy.agents import KERNEL_LOG, STATE_PATH
from holdfast.deploy.errors import ApiError
from holdfast.deploy.kinds import NODE, POD, Object, gpus_of, is_leaving, name_of
from holdfast.deploy.local import container as containers
from holdfast.deploy.local import images
from holdfast.deploy.local.addresses import Addresses
from holdfast.deploy.local.groups import Cluster, Group
from holdfast.deploy.local.pod import Pod
from holdfast.deploy.local.store import Change, Objects
from holdfast.deploy.times import now
from holdfast.faults.page import shim_path
from holdfast.simgpu import Device, Simgpu

_ALL = [-1]


class Node:
    """A kubelet and its machine."""

    def __init__(
        self, store: Objects, name: str, folder: Path, devices: list[Device], addresses: Addresses, programs: Path, group: Group
    ) -> None:
        self.store, self.name, self.folder, self.programs, self.group = store, name, folder, programs, group
        self.root = folder / "root"
        self.address, self.port = "127.0.0.1", 0  # Of its own API, where it has one.
        self.session: aiohttp.ClientSession
        self._addresses = addresses
        self._pods: dict[str, Pod] = {}
        self._leaving: set[str] = set()
        self._ending: set[asyncio.Task[None]] = set()
        (self.root / "var" / "log").mkdir(parents=True)
        (self.root / KERNEL_LOG.lstrip("/")).touch()
        self._gpus = Simgpu(folder / "gpus")
        self._count = len(devices)
        if devices:
            self._gpus.create(devices)

    def join(self, room: int) -> None:
        """`room`: pods."""
        amount = {"cpu": str(os.cpu_count() or 1), "pods": str(room), **({"nvidia.com/gpu": str(self._count)} if self._count else {})}
        labels = {"kubernetes.io/hostname": self.name, **({"nvidia.com/gpu.present": "true"} if self._count else {})}
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "lastTransitionTime": now()}
        self.store.create(NODE, {"metadata": {"name": self.name, "labels": labels}, "spec": {}})
        addresses = [{"type": "Hostname", "address": self.name}, {"type": "InternalIP", "address": self.address}]
        status = {
            "capacity": amount, "allocatable": amount, "conditions": [ready], "addresses": addresses,
            "daemonEndpoints": {"kubeletEndpoint": {"Port": self.port}},
            "nodeInfo": {"bootID": self.folder.name, "kubeletVersion": "v1.34.0-holdfast-local"},
        }  # fmt: skip
        self.store.patch(NODE, "", self.name, {"status": status}, status=True)

    def devices(self, indices: list[int]) -> dict[str, str]:
        """The environment of a container that has these GPUs of the node."""
        if not self._count or not indices:
            return {"CUDA_VISIBLE_DEVICES": ""}
        found = self._gpus.environment({})
        if indices != _ALL:
            found["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, indices))
        return found

    def on_pod(self, change: Change) -> None:
        uid = change.thing["metadata"]["uid"]
        if change.thing["spec"].get("nodeName") != self.name:
            return
        if change.type == "DELETED":
            self._end(uid, change.thing, 0)
        elif is_leaving(change.thing):
            self._end(uid, change.thing, float(change.thing["metadata"].get("deletionGracePeriodSeconds", 30)))
        elif uid not in self._pods:
            self._pods[uid] = Pod(self, change.thing, self._addresses.take(), self._assign(change.thing))
            self._pods[uid].begin()

    def _assign(self, pod: Object) -> list[int]:
        wanted = gpus_of(pod["spec"])
        if not wanted:
            # As an agent that sees the whole machine.
            return _ALL if any((one.get("securityContext") or {}).get("privileged") for one in pod["spec"]["containers"]) else []
        taken = {index for other in self._pods.values() for index in other.devices}
        return [index for index in range(self._count) if index not in taken][:wanted]

    def _end(self, uid: str, thing: Object, grace: float) -> None:
        pod = self._pods.get(uid)
        if pod is None:
            # It was to go before this node has heard of it.
            self._remove(uid, thing)
            return
        if grace and uid in self._leaving:
            return
        self._leaving.add(uid)

        async def end() -> None:
            await pod.end(grace)
            self._leaving.discard(uid)
            if self._pods.pop(uid, None) is not None:
                self._addresses.give_back(pod.address)
            self._remove(uid, thing)

        task = asyncio.ensure_future(end())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def _remove(self, uid: str, thing: Object) -> None:
        present = self.store.find(POD, thing["metadata"]["namespace"], name_of(thing))
        if present is not None and present["metadata"]["uid"] == uid:
            self.store.remove(POD, present)

    async def close(self) -> None:
        await asyncio.gather(*(pod.end(0) for pod in self._pods.values()), *self._ending)

    def pod(self, uid: str) -> Optional[Pod]:
        return self._pods.get(uid)


def make_nodes(
    stack: contextlib.AsyncExitStack,
    store: Objects,
    folder: Path,
    nodes: list[list[Device]],
    addresses: Addresses,
    session: aiohttp.ClientSession,
) -> list[Node]:
    """node-1, node-2, ..., with these GPUs, and with what the fault services give to pods. `stack` takes away their groups."""
    groups = Cluster()
    stack.callback(groups.close)
    programs = images.make_folder(folder / "bin")
    made = []
    for number, devices in enumerate(nodes, 1):
        (folder / f"node-{number}").mkdir()
        name = f"node-{number}"
        node = Node(store, name, folder / name, devices, addresses, programs, groups.group.child(name))
        node.session = session
        state = node.root / STATE_PATH.lstrip("/")
        state.mkdir(parents=True, mode=0o700)
        # Beside the page, so that one volume brings a pod both.
        shutil.copy(shim_path(), state / "libfaultshim.so")
        made.append(node)
    return made


class Nodes:
    """All of them; what the API does with pods goes through here."""

    def __init__(self, nodes: list[Node]) -> None:
        self._nodes = {node.name: node for node in nodes}

    def on_change(self, change: Change) -> None:
        if change.kind is POD:
            for node in self._nodes.values():
                node.on_pod(change)

    def _pod(self, thing: Object) -> Pod:
        node = self._nodes.get(thing["spec"].get("nodeName", ""))
        pod = node.pod(thing["metadata"]["uid"]) if node else None
        if pod is None:
            raise ApiError(400, "BadRequest", f"pod {name_of(thing)} does not run on any node")
        return pod

    def log(self, thing: Object, container: Optional[str], *, previous: bool) -> bytes:
        one = self._pod(thing).container(container)
        if previous and not one.restarts:
            raise ApiError(400, "BadRequest", f'previous terminated container "{one.name}" in pod "{name_of(thing)}" not found')
        path = one.log_file(previous=previous)
        return path.read_bytes() if path.exists() else b""

    def check_runs(self, thing: Object, container: Optional[str]) -> None:
        """Raises ApiError."""
        one = self._pod(thing).container(container)
        if one.process is None:
            raise ApiError(400, "BadRequest", f"container {one.name} of pod {name_of(thing)} does not run")

    async def execute(self, thing: Object, container: Optional[str], command: list[str]) -> asyncio.subprocess.Process:
        pod = self._pod(thing)
        one = pod.container(container)
        if not command:
            raise ApiError(400, "BadRequest", "no command")
        pipe = asyncio.subprocess.PIPE
        try:
            return await containers.start(command, one.environment, pod.folder, one.group, stdout=pipe, stderr=pipe)
        except OSError as problem:
            raise ApiError(500, "InternalError", f"{command[0]}: {problem.strerror}") from None

    async def connect(self, thing: Object, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        try:
            return await asyncio.wait_for(asyncio.open_connection(self._pod(thing).address, port), 10)
        except (OSError, asyncio.TimeoutError) as problem:
            raise ApiError(500, "InternalError", f"port {port} of pod {name_of(thing)}: {problem}") from None

    async def close(self) -> None:
        await asyncio.gather(*(node.close() for node in self._nodes.values()))
