"""What is put into a real cluster, and the images for it, as far as no cluster is needed."""

from __future__ import annotations

import asyncio
import json
import tarfile
from pathlib import Path
from typing import Any

import grpc
import pytest

from holdfast import simgpu
from holdfast.deploy import archive
from holdfast.deploy.agents import APP, KERNEL_LOG
from holdfast.deploy.inside import plugin, prepare
from holdfast.deploy.inside.plugin_messages import message
from holdfast.deploy.install import Choice, things
from holdfast.deploy.kinds import DAEMON_SET, DEFINITION, DEPLOYMENT, condition, labels_of


def pods(choice: Choice) -> dict[str, list[str]]:
    """Container -> its words."""
    template = next(thing for kind, thing in things(choice) if kind is DAEMON_SET)["spec"]["template"]["spec"]
    return {one["name"]: one["command"] for one in template["containers"]}


def test_parts_that_the_cluster_has_are_left_out():
    everything = things(Choice("image", gpus="2x80GiB"))
    assert everything[0][0] is DEFINITION and everything[-1][0] is DEPLOYMENT
    assert all(labels_of(thing)["app.kubernetes.io/managed-by"] == "holdfast" for _, thing in everything)
    assert set(pods(Choice("image", gpus="2x80GiB"))) == {"faultd", "gpus", "quarantine"}
    assert KERNEL_LOG in pods(Choice("image"))["faultd"]
    # The cluster's own monitors read the kernel's log.
    alone = Choice("image", quarantine=False, operator=False)
    assert set(pods(alone)) == {"faultd"} and "kmsg" in pods(alone)["faultd"]
    assert {kind for kind, _ in things(alone)}.isdisjoint({DEFINITION, DEPLOYMENT})
    assert {thing["metadata"]["name"] for kind, thing in things(alone) if kind is DAEMON_SET} == {APP}


def test_what_has_just_been_made_has_no_condition():
    """A definition's status begins with null in the place of its conditions."""
    for status in ({}, {"status": None}, {"status": {"conditions": None}}):
        assert condition(status, "Established") == {}


def test_the_archive_has_one_layer_that_its_images_name(tmp_path):
    archive.write(tmp_path / "images.tar")
    with tarfile.open(tmp_path / "images.tar") as file:
        said = json.load(file.extractfile("manifest.json"))
        assert [one["RepoTags"] for one in said] == [[image.name] for image in archive.IMAGES]
        config = json.load(file.extractfile(said[0]["Config"]))
        assert {tuple(one["Layers"]) for one in said} == {("layer.tar",)} and len(config["rootfs"]["diff_ids"]) == 1
        with tarfile.open(fileobj=file.extractfile("layer.tar")) as layer:
            names = set(layer.getnames())
    assert {"opt/holdfast/bin/holdfast", "opt/holdfast/bin/simgpu/libcuda.so.1", "opt/holdfast/lib/holdfast/__init__.py"} <= names
    assert {"usr/bin/etcd", "usr/bin/nats-server", "usr/bin/sh", "opt/holdfast/lib/grpc/__init__.py"} <= names
    assert not any(name.endswith(".pyc") for name in names)


def test_a_node_is_prepared_once_and_what_its_pods_use_stays(tmp_path):
    devices = simgpu.parse("2x80GiB")
    prepare.prepare(tmp_path / "state", tmp_path / "gpus", devices)
    first = {path: path.stat().st_ino for path in tmp_path.rglob("*") if path.is_file()}
    assert {"libfaultshim.so", "devices", "libcuda.so.1"} <= {path.name for path in first}
    prepare.prepare(tmp_path / "state", tmp_path / "gpus", devices)
    assert {path: path.stat().st_ino for path in tmp_path.rglob("*") if path.is_file()} == first


class Kubelet:
    """Its side of the protocol: where plugins register."""

    def __init__(self, sockets: Path) -> None:
        self.sockets = sockets
        self.registered: asyncio.Queue[Any] = asyncio.Queue()

    async def __aenter__(self) -> Kubelet:
        async def register(request: Any, context: Any) -> Any:
            await self.registered.put(request)
            return message("Empty")()

        method = grpc.unary_unary_rpc_method_handler(
            register, message("RegisterRequest").FromString, lambda answer: answer.SerializeToString()
        )
        self._server = grpc.aio.server()
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("v1beta1.Registration", {"Register": method}),))
        self._server.add_insecure_port(f"unix://{self.sockets / 'kubelet.sock'}")
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.stop(0)


def test_the_plugin_tells_which_gpus_there_are_and_what_a_container_needs(tmp_path):
    prepare.prepare(tmp_path / "state", tmp_path / "gpus", simgpu.parse("2x80GiB"))
    sockets = tmp_path / "s"
    sockets.mkdir()
    sim = simgpu.Simgpu(tmp_path / "gpus" / "devices")

    async def main() -> None:
        async with Kubelet(sockets) as kubelet:
            running = asyncio.ensure_future(plugin.Plugin(tmp_path / "gpus", sockets).run())
            request = await asyncio.wait_for(kubelet.registered.get(), 30)
            assert request.resource_name == "nvidia.com/gpu" and request.version == "v1beta1"
            async with grpc.aio.insecure_channel(f"unix://{sockets / request.endpoint}") as channel:

                def call(kind: Any, name: str, answer: str) -> Any:
                    return kind(f"/v1beta1.DevicePlugin/{name}", lambda one: one.SerializeToString(), message(answer).FromString)

                watch = call(channel.unary_stream, "ListAndWatch", "ListAndWatchResponse")(message("Empty")(), timeout=30)
                devices = [(one.ID, one.health) for one in (await watch.read()).devices]
                assert [health for _, health in devices] == ["Healthy", "Healthy"]
                sim.fault(1, "lost")
                assert [one.health for one in (await watch.read()).devices] == ["Healthy", "Unhealthy"]
                allocate = call(channel.unary_unary, "Allocate", "AllocateResponse")
                wanted = message("ContainerAllocateRequest")(devices_ids=[devices[1][0]])
                answer = await allocate(message("AllocateRequest")(container_requests=[wanted]), timeout=30)
                values = {one.key: one.value for one in answer.container_responses[0].envs}
                assert values["CUDA_VISIBLE_DEVICES"] == "1" and values["HOLDFAST_SIMGPU_STATE"] == str(tmp_path / "gpus" / "devices")
                assert [one.host_path for one in answer.container_responses[0].mounts] == [str(tmp_path / "gpus")]
                unknown = message("ContainerAllocateRequest")(devices_ids=["GPU-none"])
                with pytest.raises(grpc.aio.AioRpcError, match="no device GPU-none"):
                    await allocate(message("AllocateRequest")(container_requests=[unknown]), timeout=30)
                # A kubelet that begins anew clears its folder, and is told again.
                (sockets / request.endpoint).unlink()
                assert (await asyncio.wait_for(kubelet.registered.get(), 30)).endpoint == request.endpoint
            running.cancel()

    asyncio.run(main())
