"""The local cluster as a process: the API, its controllers and its nodes. See `python -m holdfast.deploy.local --help`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import signal
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

import aiohttp
from aiohttp import web

from holdfast import crash
from holdfast.deploy.agents import KERNEL_LOG, SYSTEM, TOKEN_SECRET, agent
from holdfast.deploy.api import Access, Api
from holdfast.deploy.controllers import graph, sentinel
from holdfast.deploy.kinds import KINDS, NAMESPACE, NODE, POD, REPLICA_SET, SECRET, SERVICE, STATEFUL_SET
from holdfast.deploy.local import garbage, joined, scheduler, workloads
from holdfast.deploy.local.addresses import Addresses
from holdfast.deploy.local.kubelet import Nodes, make_nodes
from holdfast.deploy.local.server import Server
from holdfast.deploy.local.services import Services
from holdfast.deploy.local.store import Store, reconcile_always
from holdfast.simgpu import Device


async def serve(
    folder: Path,
    nodes: list[list[Device]],
    *,
    drain: sentinel.Drain,
    with_parent: bool,
    control_plane: Optional[Path] = None,
    access: Optional[Access] = None,
) -> None:
    """Until SIGTERM or SIGINT. Writes `access.json` in the folder when it can be used. `with_parent`: ends when its parent does.
    `control_plane`: the kubeconfig of a real one, which these nodes join; `access`: what is in it."""
    if with_parent:
        crash.die_with_parent(os.getppid(), signal.SIGTERM)
    os.umask(0o077)  # The token, and what a secret has, are this user's alone.
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.set)
    async with contextlib.AsyncExitStack() as stack:
        if access is not None:
            running: Sequence[asyncio.Future[None]] = await joined.begin(stack, folder, nodes, drain, access)
            said: dict[str, object] = {"kubeconfig": str(control_plane)}
        else:
            running, said = await _begin(stack, folder, nodes, drain)
        for one in running:
            one.add_done_callback(_die_of)
        _tell(stack, folder, said)
        await ending.wait()


def _tell(stack: contextlib.AsyncExitStack, folder: Path, said: dict[str, object]) -> None:
    stack.callback((folder / "access.json").unlink, missing_ok=True)
    written = folder / "access.json.new"
    written.write_text(json.dumps({**said, "pid": os.getpid()}))
    written.rename(folder / "access.json")


async def _begin(
    stack: contextlib.AsyncExitStack, folder: Path, nodes: list[list[Device]], drain: sentinel.Drain
) -> tuple[Sequence[asyncio.Future[None]], dict[str, object]]:
    store, addresses, token = Store(), Addresses(), secrets.token_hex(16)
    for name in ("default", "kube-system"):
        store.create(NAMESPACE, {"metadata": {"name": name}, "spec": {}})
    session = await stack.enter_async_context(aiohttp.ClientSession())
    machines = make_nodes(stack, store, folder, nodes, addresses, session)
    cluster = Nodes(machines)
    stack.push_async_callback(cluster.close)
    store.listen(cluster.on_change)
    access = await _listen(stack, Server(store, cluster, token), addresses.api, token)
    for machine in machines:
        machine.join(addresses.room // len(machines))
    services = Services(store, addresses)
    stack.push_async_callback(services.close)
    api = await stack.enter_async_context(Api(access))
    _add_agents(store, [machine.name for machine in machines], token)
    logs = {machine.name: machine.root / KERNEL_LOG.lstrip("/") for machine in machines}
    tasks = [
        reconcile_always(store, (POD, NODE), lambda: scheduler.schedule(store)),
        reconcile_always(store, (REPLICA_SET, STATEFUL_SET, POD), lambda: workloads.reconcile(store)),
        reconcile_always(store, KINDS, lambda: garbage.collect(store)),
        reconcile_always(store, (SERVICE,), services.reconcile),
        graph.run(api),
        sentinel.run(api, logs, drain),
    ]
    running = [asyncio.ensure_future(task) for task in tasks]
    for one in running:
        stack.callback(one.cancel)
    return running, {"server": access.server, "token": token}


def _die_of(task: asyncio.Future[None]) -> None:
    """A cluster without one of its controllers would only let everybody wait."""
    if not task.cancelled() and (problem := task.exception()) is not None:
        traceback.print_exception(type(problem), problem, problem.__traceback__)
        os.kill(os.getpid(), signal.SIGTERM)


async def _listen(stack: contextlib.AsyncExitStack, server: Server, address: str, token: str) -> Access:
    runner = web.AppRunner(server.app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    # A port that is free: the usual one (6443) is taken on all addresses where a real cluster runs on this machine.
    await web.TCPSite(runner, address, 0).start()
    return Access(f"http://{address}:{runner.addresses[0][1]}", token)


def _add_agents(store: Store, nodes: Sequence[str], token: str) -> None:
    store.create(NAMESPACE, {"metadata": {"name": SYSTEM}, "spec": {}})
    secret = {"metadata": {"name": TOKEN_SECRET, "namespace": SYSTEM}, "stringData": {"token": token}}
    store.create(SECRET, secret)
    for node in nodes:
        store.create(POD, agent(node))
