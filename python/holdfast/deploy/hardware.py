"""HWFaultManager for deployments in a cluster: faults by the fault service of each node, on pods that have the shim.

What is changed is read first and put back as it was: a node that somebody else has cordoned stays cordoned.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import secrets
from collections.abc import Iterator
from typing import Any, Optional

from holdfast.deploy.agents import APP, PORT, STATE_PATH, SYSTEM, TOKEN_SECRET
from holdfast.deploy.connection import Connection, Hopeless
from holdfast.deploy.controllers import sentinel
from holdfast.deploy.errors import DeployError, NotEntered
from holdfast.deploy.kinds import (
    NODE,
    POD,
    SECRET,
    Object,
    condition,
    decoded,
    is_leaving,
    labels_of,
    name_of,
    namespace_of,
    service_gpus,
)  # fmt: skip
from holdfast.deploy.pods import PortForward
from holdfast.deploy.quarantine import Found, cordons_for
from holdfast.deploy.record import Record
from holdfast.deploy.resource import Resource
from holdfast.deploy.settle import new_mark
from holdfast.deploy.timeline import Timeline
from holdfast.faults import BadFault, FaultClient, FaultError, FaultNotSeen, HWFaultConfig
from holdfast.faults.hardware import is_fatal
from holdfast.faults.page import VARIABLE

VOLUME = "holdfast-faults"
_SHIM = f"{STATE_PATH}/libfaultshim.so"
_BACK = 30.0  # Seconds until a node is as it was found.
_SECONDS = 60.0


async def agents_in(connection: Connection) -> tuple[dict[str, Object], str]:
    """The pods of the nodes' fault services, by node, and their token. Raises DeployError where there are none."""
    pods, _ = await connection.api.list(POD, SYSTEM, labels=f"app={APP}")
    agents = {str(pod["spec"]["nodeName"]): pod for pod in pods if pod["spec"].get("nodeName") and not is_leaving(pod)}
    if not agents:
        raise DeployError(f"no node has a fault service: there are no pods with app={APP} in the namespace {SYSTEM}")
    return agents, decoded(await connection.api.get(SECRET, SYSTEM, TOKEN_SECRET))["token"]


@contextlib.contextmanager
def fault_service(connection: Connection, node: str) -> Iterator[FaultClient]:
    """That of a node, through a port of this machine. Blocks. Raises DeployError where the node has none."""
    agents, token = connection.call(agents_in(connection))
    if node not in agents:
        raise DeployError(f"the node {node or '(none)'} has no fault service; these have: {', '.join(sorted(agents))}")
    with PortForward(connection, namespace_of(agents[node]), name_of(agents[node]), PORT) as forward:
        yield FaultClient(forward.url, token, timeout=_SECONDS)


class HardwareFaults:
    """Of one deployment. Raises what goes wrong: DeployError, ServiceError, FaultNotSeen, WaitFailed."""

    def __init__(self, connection: Connection, resource: Resource, config: HWFaultConfig, timeline: Timeline, run: str) -> None:
        self._run = run
        self._owner = f"{resource.namespace}/{resource.name}"
        self._record = Record(connection.api, run, self._owner)
        self.config = config
        self._connection, self._resource, self._timeline = connection, resource, timeline
        self._agents: dict[str, Object] = {}
        self._token = ""
        self._clients: dict[str, tuple[FaultClient, PortForward]] = {}
        self._before: Optional[Object] = None  # The specification before ours.
        self._target: Optional[str] = None
        self._xid = config.xid_type
        self._cuda: dict[str, list[str]] = {}  # node -> faults.
        self._injected: dict[str, tuple[str, str, int]] = {}  # fault -> node, mark, XID.
        self._others: dict[str, str] = {}  # fault -> node.
        self._healed: set[str] = set()
        self._nodes: dict[str, Found] = {}

    # ---- before

    async def setup(self) -> None:
        """Looks for the fault services of the nodes, and how the nodes are."""
        if not self.config.enabled:
            return
        connection = self._connection
        self._agents, self._token = await connection.run(agents_in(connection))
        self._nodes = {name_of(node): Found.of(node) for node in connection.seen[NODE].all()}
        if self.config.target_node:
            self._check_node(self.config.target_node)
        await connection.run(self._record.begin())
        self._timeline.note("hardware faults ready", nodes=sorted(self._agents))

    def _check_node(self, node: str) -> str:
        if not self.config.enabled:
            raise NotEntered("hardware faults are not enabled (hw_fault_config)")
        if node not in self._agents:
            raise DeployError(f"the node {node} has no fault service; these have: {', '.join(sorted(self._agents)) or 'none'}")
        return node

    def client(self, node: Optional[str] = None) -> FaultClient:
        """The fault service of a node, through a port of this machine. Blocks."""
        node = self._check_node(node or self.target_node)
        if node not in self._clients:
            agent = self._agents[node]
            forward = PortForward(self._connection, namespace_of(agent), name_of(agent), PORT)
            self._clients[node] = (FaultClient(forward.url, self._token, timeout=_SECONDS), forward)
        return self._clients[node][0]

    @property
    def target_node(self) -> str:
        """Raises NotEntered before setup_cuda_passthrough() where the configuration names none."""
        node = self._target or self.config.target_node
        if node is None:
            raise NotEntered("the target node is known after setup_cuda_passthrough(), or by hw_fault_config's target_node")
        return node

    def _service_names(self, graph: Object) -> list[str]:
        """That the faults are for: those of the configuration, else all with GPUs. Raises DeployError for one that is not there."""
        services = graph["spec"]["services"]
        for name in self.config.service_names:
            if name not in services:
                raise DeployError(f"service_names: the deployment has no {name!r}; it has {', '.join(services)}")
        found = list(self.config.service_names) or [name for name, one in services.items() if service_gpus(one)]
        if not found:
            raise DeployError("no service of the deployment has GPUs; name some in hw_fault_config's service_names")
        return found

    # ---- the passthrough

    async def setup_cuda_passthrough(self, xid_type: Optional[int] = None, target_node: Optional[str] = None) -> None:
        """One restart of the services' pods, all at once, on the target node (else that of the first of them). Raises WaitFailed."""
        if self._before is not None:
            raise DeployError("the passthrough is set up already; cleanup_cuda_spec_without_restart() takes it away")
        if xid_type:
            self._xid = xid_type
        self._target = self._check_node(target_node or self.config.target_node or self._first_node())
        wanted = self._target
        # Refused now rather than when it is switched on.
        await asyncio.to_thread(self._try_fault)

        def edit(graph: Object) -> None:
            self._before = {name: copy.deepcopy(graph["spec"].get(name)) for name in ("services", "updateStrategy")}
            for name in self._service_names(graph):
                add_passthrough(graph["spec"]["services"][name], wanted)
            graph["spec"]["updateStrategy"] = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "100%"}}

        await self._resource.edit(edit)
        seconds = await self._connection.run(
            self._connection.until("the pods with the shim to be ready", self.config.setup_timeout, self._look_ready)
        )
        self._timeline.note("passthrough ready", node=self._target, seconds=round(seconds, 3))

    def _first_node(self) -> str:
        names = [f"{self._resource.name}-{name.lower()}" for name in self._service_names(self._graph())]
        pods = [pod for pod in self._resource.pods() if any(name_of(pod).startswith(name + "-") for name in names)]
        node = next((str(pod["spec"]["nodeName"]) for pod in pods if pod["spec"].get("nodeName")), None)
        if node is None:
            raise DeployError("no pod of the services that the faults are for is on a node yet")
        return node

    def _try_fault(self) -> None:
        client = self.client()
        fault = client.inject("gpu", fault_type="xid_error", xid_type=self._xid, kernel_log=False, armed_only=True, owner=self._owner)
        client.recover(fault)

    def _graph(self) -> Object:
        graph = self._resource.find()
        if not graph:
            raise DeployError(f"the deployment {self._resource.name} is not there any more")
        return graph

    def _look_ready(self) -> tuple[bool, str]:
        said = condition(self._graph(), "Ready")
        return self._resource.is_current() and said.get("status") == "True", str(
            said.get("message", "the operator has not looked at it")
        )

    async def remove_node_affinity(self, delete_pods: bool = True) -> None:
        """Pods may go to any node again; with `delete_pods` they do so now."""
        if self._before is None:
            raise NotEntered("remove_node_affinity() needs setup_cuda_passthrough() before it")
        before = self._before["services"]

        def edit(graph: Object) -> None:
            for name, service in graph["spec"]["services"].items():
                old = ((before.get(name) or {}).get("extraPodSpec") or {}).get("affinity")
                _put_back(service.setdefault("extraPodSpec", {}), "affinity", old)
            if not delete_pods:
                graph["spec"]["updateStrategy"] = {"type": "OnDelete"}

        await self._resource.edit(edit)

    async def cleanup_cuda_spec_without_restart(self) -> None:
        """The specification as it was before setup_cuda_passthrough(); pods keep what they have until they end by themselves or are
        evicted. cleanup() gives the update strategy back, which then replaces those that are left."""
        before = self._before
        if before is None:
            return

        def edit(graph: Object) -> None:
            for name in self._service_names(graph):
                if name in before["services"]:
                    remove_passthrough(graph["spec"]["services"][name], before["services"][name])
            graph["spec"]["updateStrategy"] = {"type": "OnDelete"}

        await self._resource.edit(edit)
        self._before = {"services": {}, "updateStrategy": before["updateStrategy"]}
        self._timeline.note("specification restored")

    # ---- the faults

    async def toggle_cuda_faults(self, enable: bool) -> None:
        """On all GPUs of the target node. Off: raises FaultNotSeen if no call has met them."""
        if self._target is None:
            raise NotEntered("toggle_cuda_faults() needs setup_cuda_passthrough() before it")
        node = self._target
        if enable and node not in self._cuda:
            self._cuda[node] = []
            await asyncio.to_thread(self._switch_on, node)
            self._timeline.note("CUDA faults on", node=node, faults=self._cuda[node])
        elif not enable and node in self._cuda:
            ended = await asyncio.to_thread(self._heal, node, self._cuda.pop(node))
            self._timeline.note("CUDA faults off", node=node, evidence=ended)
            if not any(one.get("verified") for one in ended):
                raise FaultNotSeen(f"the CUDA faults on {node} were on, and no call of any process has met them: {ended}")

    def _switch_on(self, node: str) -> None:
        client = self.client(node)
        for gpu in range(int(client.health()["gpu_count"])):
            body = {"fault_type": "xid_error", "xid_type": self._xid, "gpu_id": gpu, "kernel_log": False, "owner": self._owner}
            self._cuda[node].append(client.inject("gpu", **body))
        if not self._cuda[node]:
            raise BadFault(f"the fault service of {node} knows of no GPU")

    def _heal(self, node: str, faults: list[str]) -> list[dict[str, Any]]:
        return [self.client(node).recover(fault) for fault in reversed(faults)]

    async def inject_xid_fault(self, xid_type: Optional[int] = None, gpu_id: int = 0, node: Optional[str] = None) -> str:
        """The driver's line, with a mark in it by which the cordon is known for ours, and what programs and NVML see."""
        where, number, mark = node or self.target_node, xid_type or self._xid, new_mark(self._run, secrets.token_hex(4))
        client = await asyncio.to_thread(self.client, where)
        found = self._nodes.setdefault(where, Found.of(self._node(where)))
        if is_fatal(number):  # Nothing else reaches the node.
            await self._connection.run(self._record.node(where, found, mark))
        fault = await asyncio.to_thread(
            lambda: client.inject(f"gpu/inject/xid-{number}", gpu_id=gpu_id, node_name=where, owner=self._owner, mark=mark)
        )
        self._injected[fault] = (where, mark, number)
        self._timeline.note("XID injected", fault=fault, node=where, xid=number, gpu=gpu_id, mark=mark)
        return fault

    def _node(self, name: str) -> Object:
        node = self._connection.seen[NODE].find("", name)
        if node is None:
            raise DeployError(f"there is no node {name}")
        return node

    async def inject(self, kind: str, node: Optional[str] = None, **body: Any) -> str:
        """Any other fault of a node's fault service (docs/faultd.md): `memory`, `disk`, `gpu`, ... Returns its id."""
        where = node or self.target_node
        client = await asyncio.to_thread(self.client, where)
        fault = await asyncio.to_thread(lambda: client.inject(kind, owner=self._owner, **body))
        self._others[fault] = where
        self._timeline.note("fault injected", fault=fault, node=where, kind=kind, **body)
        return fault

    async def recover(self, fault: str) -> dict[str, Any]:
        """Heals one that inject_xid_fault() or inject() has given; its node's quarantine is over with it, if it was cordoned for that
        alone. Returns the evidence of its end."""
        node, ended = self._node_of(fault), {}
        if fault not in self._healed:  # Else an earlier call was cancelled after that.
            ended = (await asyncio.to_thread(self._heal, node, [fault]))[0]
            self._healed.add(fault)
            self._timeline.note("fault healed", fault=fault, evidence=ended)
        self._others.pop(fault, None)
        if fault in self._injected and is_fatal(self._injected[fault][2]):
            await self._connection.run(self._nodes[node].give_back(self._connection, node, [self._injected[fault][1]], _BACK))
            self._timeline.note("node given back", node=node)
        self._injected.pop(fault, None)
        return ended

    def _node_of(self, fault: str) -> str:
        if fault in self._injected:
            return self._injected[fault][0]
        return self._others.get(fault) or self.target_node

    async def verify(self, fault: str) -> dict[str, Any]:
        """`verified` and `evidence`, by the fault service."""
        node = self._node_of(fault)
        return await asyncio.to_thread(lambda: self.client(node).verify(fault))

    async def wait_for_node_cordon(self, node: Optional[str] = None, timeout: float = 180.0) -> Object:
        """Until a node is cordoned for one of our faults: the health event of its quarantine carries our mark. Returns that event.
        Raises WaitFailed, at once where nobody would cordon for what was injected."""
        name = node or self.target_node
        mine = {fault: mark for fault, (where, mark, _) in self._injected.items() if where == name}
        harmless = [fault for fault in mine if not is_fatal(self._injected[fault][2])]
        found: list[Object] = []

        def look() -> tuple[bool, str]:
            if not mine:
                raise Hopeless(f"nothing was injected on {name}")
            if len(harmless) == len(mine):
                raise Hopeless(f"{', '.join(harmless)}: the remedy is to start the program again, so no node is cordoned for it")
            thing = self._node(name)
            found[:] = cordons_for(thing, mine.values())
            cordoned = bool(thing["spec"].get("unschedulable"))
            state = labels_of(thing).get(sentinel.STATE, "no state")
            for_others = ", but not for our faults" if cordoned and not found else ""
            return cordoned and bool(found), f"{name} is {'cordoned' if cordoned else 'not cordoned'}{for_others} ({state})"

        seconds = await self._connection.run(self._connection.until(f"{name} to be cordoned for our fault", timeout, look))
        self._timeline.note("node cordoned", node=name, seconds=round(seconds, 3), event=found[0])
        return found[0]

    # ---- after

    async def cleanup(self) -> None:
        """Heals all faults, gives nodes and the specification back as they were found. Tries all of it; raises the first problem."""
        problems: list[Exception] = []
        for step in (self._heal_all, self._nodes_back, self._strategy_back):
            try:
                await step()
            except (DeployError, OSError, FaultError) as problem:
                problems.append(problem)
        for _, forward in self._clients.values():
            await asyncio.to_thread(forward.stop)
        self._clients = {}
        if problems:
            raise problems[0]
        await self._connection.run(self._record.end())

    async def _heal_all(self) -> None:
        for node, faults in self._cuda.items():
            await asyncio.to_thread(self._heal, node, faults)
        self._cuda = {}
        for fault, node in [*((fault, node) for fault, (node, _, _) in self._injected.items()), *self._others.items()]:
            if fault in self._healed:
                continue  # recover() was interrupted.
            ended = await asyncio.to_thread(self._heal, node, [fault])
            self._timeline.note("fault healed", fault=fault, evidence=ended[0])
        self._others = {}

    async def _nodes_back(self) -> None:
        """Only what was done for our faults: see quarantine.py."""
        marks: dict[str, list[str]] = {}
        for node, mark, number in self._injected.values():
            if is_fatal(number):
                marks.setdefault(node, []).append(mark)
        self._injected = {}
        for node, mine in marks.items():
            before = self._nodes[node]
            await self._connection.run(before.give_back(self._connection, node, mine, _BACK))
            self._timeline.note("node given back", node=node)

    async def _strategy_back(self) -> None:
        """And the services, where the passthrough is still in them."""
        before, self._before = self._before, None
        if before is None or not self._resource.find():
            return

        def edit(graph: Object) -> None:
            for name, old in before["services"].items():
                if name in graph["spec"]["services"]:
                    remove_passthrough(graph["spec"]["services"][name], old)
            _put_back(graph["spec"], "updateStrategy", before["updateStrategy"])

        await self._resource.edit(edit)


def add_passthrough(service: Object, node: str) -> None:
    """The shim, the node's page for faults, and the node, into a service of a DynamoGraphDeployment. Twice is the same as once."""
    pod = service.setdefault("extraPodSpec", {})
    container = pod.setdefault("mainContainer", {})
    preload = next((one.get("value", "") for one in container.get("env") or [] if one["name"] == "LD_PRELOAD"), "")
    others = [part for part in preload.replace(":", " ").split() if part != _SHIM]
    for holder, key, entry in (
        (pod, "volumes", {"name": VOLUME, "hostPath": {"path": STATE_PATH, "type": "DirectoryOrCreate"}}),
        (container, "volumeMounts", {"name": VOLUME, "mountPath": STATE_PATH}),
        (container, "env", {"name": "LD_PRELOAD", "value": ":".join([_SHIM, *others])}),
        (container, "env", {"name": VARIABLE, "value": f"{STATE_PATH}/page"}),
    ):
        holder[key] = [*(one for one in holder.get(key) or [] if one["name"] != entry["name"]), entry]
    term = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]}
    pod["affinity"] = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}


def remove_passthrough(service: Object, before: Object) -> None:
    """What add_passthrough() has put there becomes what it was; what others have changed meanwhile stays."""
    pod, old_pod = service.setdefault("extraPodSpec", {}), before.get("extraPodSpec") or {}
    container, old_container = pod.setdefault("mainContainer", {}), old_pod.get("mainContainer") or {}
    for holder, old, key, ours in (
        (pod, old_pod, "volumes", (VOLUME,)),
        (container, old_container, "volumeMounts", (VOLUME,)),
        (container, old_container, "env", ("LD_PRELOAD", VARIABLE)),
    ):
        _put_back(holder, key, _without(holder.get(key) or [], old.get(key), ours))
    _put_back(pod, "affinity", old_pod.get("affinity"))
    for holder, key, found in (
        (pod, "mainContainer", old_pod.get("mainContainer")),
        (service, "extraPodSpec", before.get("extraPodSpec")),
    ):
        if found is None and not holder[key]:
            del holder[key]


def _without(now: list[Object], before: Optional[list[Object]], ours: tuple[str, ...]) -> Optional[list[Object]]:
    """The list as it was, order included, where nobody else has changed it."""
    others = [one for one in now if one["name"] not in ours]
    if others == [one for one in before or [] if one["name"] not in ours]:
        return before
    return others + [one for one in before or [] if one["name"] in ours]


def _put_back(holder: Object, key: str, old: Any) -> None:
    if old is None:
        holder.pop(key, None)
    else:
        holder[key] = old
