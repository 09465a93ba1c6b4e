"""A device plugin: kubelet hears from it which simulated GPUs its node has and which of them work, and asks it what a container needs
that gets some (https://kubernetes.io/docs/concepts/extend-kubernetes/compute-storage-net/device-plugins/)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Callable

import grpc
import grpc.aio

from holdfast.deploy.inside.plugin_messages import PACKAGE, message
from holdfast.deploy.inside.prepare import environment
from holdfast.simgpu import Simgpu, Status

RESOURCE = "nvidia.com/gpu"
SOCKETS = Path("/var/lib/kubelet/device-plugins")
_OWN = "holdfast-simgpu.sock"
_LOOK = 0.5  # Seconds; the devices' file has no watch.
_REGISTER = 30.0


class Plugin:
    """Of the devices in a folder (see prepare.py)."""

    def __init__(self, gpus: Path, sockets: Path = SOCKETS) -> None:
        self._gpus, self._sockets = gpus, sockets
        self._simgpu = Simgpu(gpus / "devices")

    async def run(self) -> None:
        """For good. A kubelet that begins anew removes the socket, and is told again. Raises grpc.aio.AioRpcError where it does not
        listen."""
        while True:
            (self._sockets / _OWN).unlink(missing_ok=True)
            server = grpc.aio.server()
            server.add_generic_rpc_handlers((self._handlers(),))
            server.add_insecure_port(f"unix://{self._sockets / _OWN}")
            await server.start()
            try:
                await self._register()
                while (self._sockets / _OWN).exists():
                    await asyncio.sleep(_LOOK)
            finally:
                await server.stop(1)

    async def _register(self) -> None:
        request = message("RegisterRequest")(version=PACKAGE, endpoint=_OWN, resource_name=RESOURCE)
        async with grpc.aio.insecure_channel(f"unix://{self._sockets / 'kubelet.sock'}") as channel:
            name = f"/{PACKAGE}.Registration/Register"
            call: Any = channel.unary_unary(name, lambda one: one.SerializeToString(), message("Empty").FromString)
            await call(request, timeout=_REGISTER, wait_for_ready=True)

    def _handlers(self) -> Any:
        def one(kind: Callable[..., Any], method: Callable[..., Any], request: str) -> Any:
            return kind(method, message(request).FromString, lambda answer: answer.SerializeToString())

        methods = {
            "GetDevicePluginOptions": one(grpc.unary_unary_rpc_method_handler, self._options, "Empty"),
            "ListAndWatch": one(grpc.unary_stream_rpc_method_handler, self._watch, "Empty"),
            "Allocate": one(grpc.unary_unary_rpc_method_handler, self._allocate, "AllocateRequest"),
        }
        return grpc.method_handlers_generic_handler(f"{PACKAGE}.DevicePlugin", methods)

    async def _options(self, request: Any, context: Any) -> Any:
        return message("DevicePluginOptions")()

    async def _watch(self, request: Any, context: Any) -> AsyncIterator[Any]:
        last = None
        while True:
            now = [(device.uuid, "Unhealthy" if device.lost else "Healthy") for device in self._whole()]
            if now != last:
                yield message("ListAndWatchResponse")(devices=[message("Device")(ID=name, health=health) for name, health in now])
                last = now
            await asyncio.sleep(_LOOK)

    def _whole(self) -> list[Status]:
        """Without the instances that they are divided into."""
        return [device for device in self._simgpu.status() if device.parent < 0]

    async def _allocate(self, request: Any, context: Any) -> Any:
        answers = []
        for wanted in request.container_requests:
            index = {device.uuid: str(number) for number, device in enumerate(self._whole())}
            unknown = [name for name in wanted.devices_ids if name not in index]
            if unknown:
                await context.abort(grpc.StatusCode.NOT_FOUND, f"this node has no device {unknown[0]}")
            values = {**environment(self._gpus), "CUDA_VISIBLE_DEVICES": ",".join(sorted(index[name] for name in wanted.devices_ids))}
            answer = message("ContainerAllocateResponse")(
                envs=[message("EnvsEntry")(key=key, value=value) for key, value in values.items()],
                mounts=[message("Mount")(container_path=str(self._gpus), host_path=str(self._gpus))],
            )
            answers.append(answer)
        return message("AllocateResponse")(container_responses=answers)


async def run(gpus: Path) -> None:
    """For good; where kubelet cannot be reached, again."""
    while True:
        with contextlib.suppress(grpc.aio.AioRpcError):
            await Plugin(gpus).run()
        await asyncio.sleep(_LOOK)
