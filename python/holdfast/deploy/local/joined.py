"""Nodes of this machine for a real control plane: simulated GPUs, pods that are processes, and what makes deployments of them (the
operator, the quarantine, the fault services as a DaemonSet). The API, the scheduler and the controllers are Kubernetes' own.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from pathlib import Path

import aiohttp

from holdfast.deploy.agents import APP, KERNEL_LOG, SYSTEM, TOKEN_SECRET, daemon_set
from holdfast.deploy.api import Access, Api
from holdfast.deploy.apply import made, remove, until
from holdfast.deploy.controllers import graph, sentinel
from holdfast.deploy.controllers.definition import definition
from holdfast.deploy.errors import ApiError, DeployError, Unreachable
from holdfast.deploy.kinds import (
    DAEMON_SET,
    DEFINITION,
    LEASE,
    NAMESPACE,
    NODE,
    POD,
    SECRET,
    SERVICE,
    Kind,
    Object,
    condition,
    is_leaving,
    name_of,
    namespace_of,
)  # fmt: skip
from holdfast.deploy.local.addresses import Addresses
from holdfast.deploy.local.endpoint import Endpoint, closed, context_for
from holdfast.deploy.local.kubelet import Node, Nodes, make_nodes
from holdfast.deploy.local.mirror import Mirror
from holdfast.deploy.local.services import Services
from holdfast.deploy.times import now
from holdfast.simgpu import Device

_LEASES = "kube-node-lease"
_BEAT = 5.0  # Seconds; the control plane gives a node up after 40, if it is not told otherwise.
_AGAIN = 0.1
_LEAVE = 15.0


async def begin(
    stack: contextlib.AsyncExitStack, folder: Path, nodes: list[list[Device]], drain: sentinel.Drain, access: Access
) -> list[asyncio.Future[None]]:
    """Joins them; what it returns runs for good. `stack` takes away what was added. Raises DeployError."""
    if access.context is None:
        raise DeployError(f"{access.source}: a control plane without TLS; its nodes could not tell who asks them")
    api = await stack.enter_async_context(Api(access))
    await _check_addresses(api, access)
    mirror, addresses = Mirror(api), Addresses()
    await _prepare(stack, api)
    await mirror.begin()
    stack.push_async_callback(mirror.close)
    sending = asyncio.ensure_future(mirror.send())
    stack.callback(sending.cancel)
    session = await stack.enter_async_context(aiohttp.ClientSession())
    machines = make_nodes(stack, mirror, folder, nodes, addresses, session)
    for machine in machines:
        machine.address = addresses.take()
    cluster = Nodes(machines)
    stack.push_async_callback(cluster.close)
    services = Services(mirror, addresses)
    stack.push_async_callback(services.close)
    logs = {machine.name: machine.root / KERNEL_LOG.lstrip("/") for machine in machines}
    await _listen(stack, mirror, cluster, machines, folder, access)
    for machine in machines:
        machine.join(addresses.room // len(machines))
    await mirror.sent()
    tasks = [
        mirror.follow(cluster.on_change),
        _services(mirror, services),
        *(_beat(api, machine.name) for machine in machines),
        graph.run(api),
        sentinel.run(api, logs, drain),
    ]
    running = [asyncio.ensure_future(task) for task in tasks]
    for one in running:
        stack.callback(one.cancel)
    stack.push_async_callback(_leave, api, mirror, machines)
    await _until_agents_are_ready(api, len(machines))
    return [sending, *running]


async def _check_addresses(api: Api, access: Access) -> None:
    """Pods reach services here by addresses of this machine."""
    first = await api.find(SERVICE, "default", "kubernetes")
    address = str((first or {"spec": {}})["spec"].get("clusterIP", ""))
    if not address.startswith("127."):
        raise DeployError(
            f"{access.source}: services have addresses like {address or 'none'}; simulated nodes need a control plane of this machine, "
            "whose --service-cluster-ip-range is a part of 127.0.0.0/8"
        )


async def _prepare(stack: contextlib.AsyncExitStack, api: Api) -> None:
    """The kind of deployments, and the fault services: what is not there yet is made, and taken away at the end."""
    token = secrets.token_hex(16)
    secret = {"metadata": {"name": TOKEN_SECRET, "namespace": SYSTEM}, "stringData": {"token": token}}
    things: list[tuple[Kind, Object]] = [
        (DEFINITION, definition()),
        (NAMESPACE, {"metadata": {"name": SYSTEM}}),
        (SECRET, secret),
        (DAEMON_SET, daemon_set()),
    ]
    for kind, thing in things:
        if not await made(api, kind, thing):
            continue
        if kind in (DEFINITION, NAMESPACE):
            stack.push_async_callback(remove, api, kind, thing)
    await until(api, DEFINITION, "", name_of(definition()), lambda thing: condition(thing, "Established").get("status") == "True")


async def _until_agents_are_ready(api: Api, count: int) -> None:
    def ready(thing: Object) -> bool:
        return int(thing.get("status", {}).get("numberReady", 0)) >= count

    await until(api, DAEMON_SET, SYSTEM, APP, ready)


async def _listen(
    stack: contextlib.AsyncExitStack, mirror: Mirror, cluster: Nodes, machines: list[Node], folder: Path, access: Access
) -> None:
    assert access.context is not None
    context = context_for(folder, b"".join(access.context.get_ca_certs(binary_form=True)))
    runners = []
    for machine in machines:
        runner, machine.port = await Endpoint(mirror, cluster).listen(machine.address, context)
        runners.append(runner)
    stack.push_async_callback(closed, runners)


async def _leave(api: Api, mirror: Mirror, machines: list[Node]) -> None:
    """Their pods end first, as long as there is somebody to end them."""
    names = {machine.name for machine in machines}
    with contextlib.suppress(ApiError, Unreachable):
        for name in names:
            await api.patch(NODE, "", name, {"spec": {"unschedulable": True}})
        await api.delete(DAEMON_SET, SYSTEM, APP)
        deadline = asyncio.get_running_loop().time() + _LEAVE
        asked: set[str] = set()
        while mine := [pod for pod in mirror.all(POD) if pod["spec"].get("nodeName") in names]:
            for pod in mine:
                if not is_leaving(pod) and pod["metadata"]["uid"] not in asked:
                    asked.add(pod["metadata"]["uid"])
                    await api.delete(POD, namespace_of(pod), name_of(pod), grace=1)
            if asyncio.get_running_loop().time() > deadline:
                break
            await asyncio.sleep(_AGAIN)
        await mirror.sent()
    for name in names:
        for kind, namespace in ((NODE, ""), (LEASE, _LEASES)):
            with contextlib.suppress(ApiError, Unreachable):
                await api.delete(kind, namespace, name)


async def _services(mirror: Mirror, services: Services) -> None:
    bell = mirror.seen.bell()
    while True:
        bell.clear()
        services.reconcile()
        await bell.wait()


async def _beat(api: Api, name: str) -> None:
    """A node's sign of life."""
    lease: Object = {"metadata": {"name": name, "namespace": _LEASES}, "spec": {"holderIdentity": name, "leaseDurationSeconds": 40}}
    while True:
        lease["spec"]["renewTime"] = now()
        try:
            await api.patch(LEASE, _LEASES, name, lease)
        except ApiError as error:
            if error.status == 404:
                with contextlib.suppress(ApiError):  # The namespace for them is on its way.
                    await api.create(LEASE, lease)
        except Unreachable:
            pass  # It is tried again; for too long, and the node is given up.
        await asyncio.sleep(_BEAT)
