"""ManagedDeployment: a deployment for as long as a test needs it. The names are those of Dynamo's tests; what went wrong there in
silence raises here."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import logging
import os
import secrets
from collections.abc import Awaitable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Callable, Optional, Union

from holdfast.deploy import local
from holdfast.deploy.api import Access
from holdfast.deploy.collect import Collector
from holdfast.deploy.connection import Connection, Hopeless
from holdfast.deploy.controllers.graph import COMPONENT
from holdfast.deploy.describe import state_of, warnings
from holdfast.deploy.errors import ApiError, DeployError, NameTaken, NotEntered
from holdfast.deploy.hardware import HardwareFaults
from holdfast.deploy.kinds import (
    EVENT,
    GRAPH,
    NAMESPACE,
    NODE,
    POD,
    SERVICE,
    STATEFUL_SET,
    Object,
    condition,
    is_leaving,
    is_ready,
    labels_of,
    name_of,
)  # fmt: skip
from holdfast.deploy.kubeconfig import access_from
from holdfast.deploy.marks import is_made_by, marked, new_run
from holdfast.deploy.platform import Platform
from holdfast.deploy.pods import Pod, PodProcess, PortForward
from holdfast.deploy.resource import Resource
from holdfast.deploy.settle import settle
from holdfast.deploy.spec import DeploymentSpec
from holdfast.deploy.timeline import Timeline
from holdfast.faults import HWFaultConfig

_WATCHED = (NAMESPACE, NODE, POD, EVENT, GRAPH, SERVICE, STATEFUL_SET)
# What a kubelet says where waiting longer does not help.
_HOPELESS = ("ErrImageNeverPull", "InvalidImageName")
_GONE = 120.0  # Seconds.
_FORWARD_PAUSE = 0.5
OUTPUT = "DYN_TEST_OUTPUT_PATH"
CLUSTER = "HOLDFAST_CLUSTER"


class ManagedDeployment:
    """Use it as `async with`. Inside of that the deployment is ready; afterwards everything that it has made is gone, and its logs are
    in `log_dir` (below $DYN_TEST_OUTPUT_PATH, if that is set).

    `cluster`: a local one that runs (`local.cluster()`), or how to reach another (`access_from()`); else $HOLDFAST_CLUSTER: that in
    the folder of that name, or of the kubeconfig; otherwise a local one of its own. `namespace` is made, and removed, if it is not
    there. `ready_timeout`: seconds. `settle`: first waits, `settle_timeout` seconds at most, until no node has anything of an earlier
    test on it, for so many seconds without a break.
    """

    def __init__(
        self,
        log_dir: Union[str, os.PathLike[str]],
        deployment_spec: DeploymentSpec,
        namespace: str,
        frontend_service_name: str = "Frontend",
        skip_service_restart: bool = False,
        enable_hw_faults: bool = False,
        hw_fault_config: Union[HWFaultConfig, dict[str, Any], None] = None,
        *,
        cluster: Union[local.Local, Access, None] = None,
        ready_timeout: float = 600.0,
        settle: Optional[float] = None,
        settle_timeout: float = 60.0,
    ) -> None:
        self.log_dir = Path(os.environ.get(OUTPUT, "")) / log_dir
        self.deployment_spec = deployment_spec
        self.namespace = namespace
        self.frontend_service_name = frontend_service_name
        self.skip_service_restart = skip_service_restart
        self.enable_hw_faults = enable_hw_faults
        self.ready_timeout = ready_timeout
        self._settle, self._settle_timeout = settle, settle_timeout
        self.run = new_run()
        self.logger = logging.getLogger("holdfast.deploy")
        self.timeline = Timeline(self.log_dir)
        self._config = hw_fault_config if isinstance(hw_fault_config, HWFaultConfig) else HWFaultConfig.from_dict(hw_fault_config or {})
        self._cluster = cluster
        self._stack = contextlib.ExitStack()
        self._connection: Optional[Connection] = None
        self._platform: Optional[Platform] = None
        self._hardware: Optional[HardwareFaults] = None
        self._forwards: list[PortForward] = []
        # Set before the request: one that is cancelled may have been done all the same. Whose it is, the object says.
        self._made_namespace = self._made_graph = False
        self._by = ""
        self._resource: Optional[Resource] = None

    @property
    def name(self) -> str:
        return self.deployment_spec.name

    # ---- in and out

    async def __aenter__(self) -> ManagedDeployment:
        if self._connection is not None:
            raise DeployError(f"{self.name} has been entered already; make another ManagedDeployment for another one")
        self.deployment_spec.namespace = self.namespace
        self._made_namespace = self._made_graph = False
        self._by, self._forwards, self._platform, self._hardware = secrets.token_hex(6), [], None, None
        try:
            access = self._access()
            if self._settle is not None:
                await settle(access, self._settle, self._settle_timeout)
            self._connection = Connection(access, _WATCHED, self.namespace)
            self._connection.begin()
            self._resource = Resource(self._connection, self.namespace, self.name)
            await self._connection.run(self._enter())
            if self.enable_hw_faults:
                self._hardware = HardwareFaults(self._connection, self._resource, self._config, self.timeline, self.run)
                await self._hardware.setup()
        except BaseException as problem:
            self.timeline.note("could not begin", problem=repr(problem))
            await self._leave_for_sure(problem)
            raise
        return self

    async def __aexit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        if error is not None:
            self.timeline.note("failed", problem=repr(error))
        await self._leave_for_sure(error)

    def _access(self) -> Access:
        chosen = self._cluster
        if chosen is None and (named := os.environ.get(CLUSTER)):
            chosen = access_from(named) if Path(named).is_file() else local.found_in(Path(named))
        if chosen is None:
            chosen = self._stack.enter_context(local.cluster())
        return chosen.access if isinstance(chosen, local.Local) else chosen

    async def _enter(self) -> None:
        await self._make_namespace()
        if self.graph.find():
            raise NameTaken(
                f"there is a deployment {self.name} in the namespace {self.namespace} already; "
                "give this one another name, or remove that"
            )
        self._platform = Platform(self.connection, self.namespace, self.run, self._by)
        await self._platform.deploy(restart=not self.skip_service_restart)
        self.timeline.note("platform ready", made=self._platform.made)
        wanted = marked(copy.deepcopy(self.deployment_spec.spec()), self.run, self._by)
        self._made_graph = True
        try:
            made = await self.connection.api.create(GRAPH, wanted)
        except ApiError as error:
            if error.status == 409:
                raise NameTaken(
                    f"a deployment {self.name} in the namespace {self.namespace} was made by somebody else just now"
                ) from None
            raise
        self.graph.written(made)
        seconds = await self._until_ready(self.ready_timeout)
        self.timeline.note("deployment ready", seconds=round(seconds, 3), pods=self._where())

    async def _make_namespace(self) -> None:
        seen = self.connection.seen[NAMESPACE]

        def gone() -> tuple[bool, str]:
            there = seen.find("", self.namespace)
            return there is None or not is_leaving(there), "it is being removed"

        await self.connection.until(f"the namespace {self.namespace}, which is being removed, to be gone", _GONE, gone)
        if seen.find("", self.namespace) is None:
            self._made_namespace = True
            await self.connection.api.create(NAMESPACE, marked({"metadata": {"name": self.namespace}}, self.run, self._by))

    async def _leave_for_sure(self, error: Optional[BaseException]) -> None:
        """Also where the test is being cancelled. Raises what went wrong here only where nothing else did."""
        leaving = asyncio.ensure_future(self._leave())
        try:
            problems = await asyncio.shield(leaving)
        except asyncio.CancelledError:
            await leaving
            raise
        if problems and error is None:
            raise DeployError(f"{self.name} could not be removed as it should: " + "; ".join(problems))

    async def _leave(self) -> list[str]:
        problems: list[str] = []

        async def step(what: str, work: Callable[[], Awaitable[Any]]) -> None:
            try:
                await work()
            except Exception as problem:  # Whatever it is, the other steps must be done all the same.
                problems.append(f"{what}: {problem}")
                self.logger.error("%s: %s", what, problem)
                self.timeline.note("clean-up failed", step=what, problem=str(problem))

        connection = self._connection
        if connection is not None and connection.begun:
            await step("logs", lambda: connection.run(self._collect()))
            if self._hardware is not None:
                await step("hardware faults", self._hardware.cleanup)
            for forward in self._forwards:
                await asyncio.to_thread(forward.stop)
            await step("deployment", lambda: connection.run(self._remove_graph()))
            if self._platform is not None:
                await step("platform", lambda: connection.run(self._remove_platform()))
            await step("namespace", lambda: connection.run(self._remove_namespace()))
            await asyncio.to_thread(connection.close)
        self._connection = None
        self._stack.close()
        self.timeline.note("removed", problems=problems)
        return problems

    async def _collect(self) -> None:
        collector = Collector(self.connection, self.log_dir, self.logger)
        for service, pods in self.get_pods().items() if self._made_graph else ():
            for pod in pods:
                await collector.pod(service, pod.raw, self._port_of(service))
        await collector.events()
        if self._made_graph:
            self.deployment_spec.save(self.log_dir / "deployment.yaml")

    def _port_of(self, service: str) -> int:
        return self.deployment_spec.port if service == self.frontend_service_name else self.deployment_spec.system_port

    async def _remove_graph(self) -> None:
        there = await self.connection.api.find(GRAPH, self.namespace, self.name)
        if not self._made_graph or (there is not None and not is_made_by(there, self._by)):
            return
        await self.connection.api.delete(GRAPH, self.namespace, self.name)

        def gone() -> tuple[bool, str]:
            pods = self.graph.pods()
            return not self.graph.find() and not pods, "; ".join(state_of(pod) for pod in pods) or "the deployment itself"

        await self.connection.until(f"all of {self.name} to be gone", _GONE, gone)

    async def _remove_platform(self) -> None:
        assert self._platform is not None
        await self._platform.remove()

    async def _remove_namespace(self) -> None:
        seen = self.connection.seen[NAMESPACE]
        there = await self.connection.api.find(NAMESPACE, "", self.namespace)
        if not self._made_namespace or (there is not None and not is_made_by(there, self._by)):
            return
        await self.connection.api.delete(NAMESPACE, "", self.namespace)

        def gone() -> tuple[bool, str]:
            inside = self.connection.seen[POD].all()
            return seen.find("", self.namespace) is None, "; ".join(state_of(pod) for pod in inside) or "it is being removed"

        await self.connection.until(f"the namespace {self.namespace} to be gone", _GONE, gone)

    @property
    def connection(self) -> Connection:
        """To the cluster, with its objects as they are now. Raises NotEntered."""
        if self._connection is None:
            raise NotEntered("the deployment is there inside of `async with` only")
        return self._connection

    @property
    def graph(self) -> Resource:
        if self._connection is None or self._resource is None:
            raise NotEntered("the deployment is there inside of `async with` only")
        return self._resource

    # ---- what is there

    def _where(self) -> dict[str, str]:
        return {name_of(pod): str(pod["spec"].get("nodeName", "")) for pod in self.graph.pods() if not is_leaving(pod)}

    def _names(self, service_names: Union[str, Sequence[str], None]) -> list[str]:
        if service_names is None:
            return [service.name for service in self.deployment_spec.services]
        names = [service_names] if isinstance(service_names, str) else list(service_names)
        return [self.deployment_spec.get_service(name).name for name in names]

    def get_pods(self, service_names: Union[str, Sequence[str], None] = None) -> dict[str, list[Pod]]:
        """By service; without those that are about to go. Raises BadSpec for a service that is not there."""
        pods = [pod for pod in self.graph.pods() if not is_leaving(pod)]
        return {
            name: [Pod(self.connection, pod) for pod in pods if labels_of(pod).get(COMPONENT) == name]
            for name in self._names(service_names)
        }

    def get_pod_names(self, service_names: Union[str, Sequence[str], None] = None) -> list[str]:
        return [pod.name for pods in self.get_pods(service_names).values() for pod in pods]

    def get_processes(self, pod: Pod) -> list[PodProcess]:
        return pod.processes()

    def get_service(self, service_name: Optional[str] = None) -> Object:
        """The Service of a frontend. Raises DeployError."""
        name = f"{self.name}-{(service_name or self.frontend_service_name).lower()}"
        found = self.connection.seen[SERVICE].find(self.namespace, name)
        if found is None:
            raise DeployError(f"there is no Service {name}; frontends have one")
        return found

    def get_deployment_status(self) -> Object:
        return self.graph.status()

    def get_node(self, name: str) -> Object:
        """Raises DeployError."""
        found = self.connection.seen[NODE].find("", name)
        if found is None:
            raise DeployError(
                f"there is no node {name}; there are {', '.join(name_of(node) for node in self.connection.seen[NODE].all())}"
            )
        return found

    def get_pod_manifest_logs_metrics(self, service_name: str, pod: Pod, suffix: str = "") -> None:
        """Into log_dir, now."""
        collector = Collector(self.connection, self.log_dir, self.logger)
        self.connection.call(collector.pod(service_name, pod.raw, self._port_of(service_name), suffix))

    def collect_metrics(self, phase: str) -> None:
        """Logs and metrics of all pods as they are now, with the phase in the files' names."""
        for service, pods in self.get_pods().items():
            for pod in pods:
                self.get_pod_manifest_logs_metrics(service, pod, f".{phase}")

    def port_forward(self, pod: Pod, remote_port: int, max_connection_attempts: int = 3) -> PortForward:
        """Raises ApiError where nobody listens there, after so many attempts."""
        self.connection.call(self._reach(pod, remote_port, max(1, max_connection_attempts)))
        made = PortForward(self.connection, pod.namespace, pod.name, remote_port)
        self._forwards.append(made)
        return made

    async def _reach(self, pod: Pod, port: int, attempts: int) -> None:
        for attempt in range(attempts):
            try:
                return await self.connection.api.reach(pod.namespace, pod.name, port)
            except ApiError:
                if attempt == attempts - 1:
                    raise
                await asyncio.sleep(_FORWARD_PAUSE * 1.5**attempt)

    # ---- waits

    async def wait_for_ready(self, timeout: float = 600.0) -> float:
        """Until the deployment, as it is written now, is ready. Returns seconds. Raises WaitFailed with what the pods and events
        say."""
        return await self.connection.run(self._until_ready(timeout))

    async def wait_for_unready(self, timeout: float = 600.0) -> float:
        def look() -> tuple[bool, str]:
            ready = condition(self.graph.find(), "Ready")
            return ready.get("status") == "False", f"Ready is {ready.get('status')}"

        return await self.connection.run(self.connection.until(f"{self.name} to be unready", timeout, look))

    async def wait_for_all_pods_ready(self, timeout: float = 300.0, min_pods: Optional[int] = None) -> float:
        """All that the specification asks for, and at least `min_pods`."""
        wanted = max(min_pods or 0, sum(service.replicas for service in self.deployment_spec.services))

        def look() -> tuple[bool, str]:
            self._give_up_if_hopeless()
            pods = self.graph.pods()
            ready = sum(is_ready(pod) for pod in pods)
            others = [state_of(pod) for pod in pods if not is_ready(pod)]
            return ready >= wanted and not others and self.graph.is_current(), f"{ready} of {wanted} are ready" + (
                f": {'; '.join(others)}" if others else ""
            )

        return await self.connection.run(
            self.connection.until(f"all pods of {self.name} to be ready", timeout, look, hint=self._warnings)
        )

    async def wait_for_pods_on_healthy_nodes(self, exclude_node: str, timeout: float = 360.0) -> bool:
        """Until all pods are ready, and none is on that node. Where that node has died, pods that are to leave it do not count: nobody
        is there to end them. Raises WaitFailed; otherwise true."""
        wanted = sum(service.replicas for service in self.deployment_spec.services)

        def look() -> tuple[bool, str]:
            pods = self.graph.pods()
            dead = condition(self.connection.seen[NODE].find("", exclude_node) or {}, "Ready").get("status") != "True"
            there = [name_of(pod) for pod in pods if pod["spec"].get("nodeName") == exclude_node and not (dead and is_leaving(pod))]
            ready = sum(is_ready(pod) for pod in pods)
            return (
                not there and ready >= wanted,
                f"{len(there)} pods are on {exclude_node}, {ready} of {wanted} ready: {'; '.join(map(state_of, pods))}",
            )

        what = f"the pods of {self.name} to be ready on nodes other than {exclude_node}"
        seconds = await self.connection.run(self.connection.until(what, timeout, look, hint=self._warnings))
        self.timeline.note("pods on healthy nodes", seconds=round(seconds, 3), pods=self._where())
        return True

    async def _until_ready(self, timeout: float) -> float:
        return await self.connection.until(f"{self.name} to be ready", timeout, self._look_ready, hint=self._warnings)

    def _look_ready(self) -> tuple[bool, str]:
        self._give_up_if_hopeless()
        ready = condition(self.graph.find(), "Ready")
        came = self.graph.is_current() and ready.get("status") == "True" and self.graph.status().get("state") == "successful"
        others = "; ".join(state_of(pod) for pod in self.graph.pods() if not is_ready(pod))
        return came, f"{ready.get('message', 'the operator has not looked at it')}" + (f"; {others}" if others else "")

    def _give_up_if_hopeless(self) -> None:
        status = self.graph.status()
        if status.get("state") == "failed" and self.graph.is_current():
            raise Hopeless(f"the operator has refused it: {(status.get('conditions') or [{}])[0].get('message')}")
        for pod in self.graph.pods():
            for one in pod.get("status", {}).get("containerStatuses") or []:
                if one.get("state", {}).get("waiting", {}).get("reason") in _HOPELESS and self.graph.is_current():
                    raise Hopeless(f"it cannot come: {state_of(pod)}")

    def _warnings(self) -> str:
        return warnings(self.connection.seen[EVENT].all(), self.graph.pods())

    # ---- changes

    async def apply_service_changes(self, service_names: Union[str, Sequence[str], None] = None) -> None:
        """Writes the specification's environments of these services to the cluster; pods are replaced as the update strategy says."""
        names = self._names(service_names)

        def edit(graph: Object) -> None:
            for name in names:
                graph["spec"]["services"][name]["envs"] = self.deployment_spec[name].envs

        await self.edit(edit)

    async def edit(self, edit: Callable[[Object], Any]) -> None:
        """Changes the resource; the waits then mean what it says now."""
        await self.graph.edit(edit)

    async def trigger_rolling_upgrade(self, service_names: Union[str, Sequence[str], None] = None) -> None:
        for name in self._names(service_names):
            self.deployment_spec.set_service_env_var(name, "TEST_ROLLING_UPDATE_TRIGGER", secrets.token_hex(4))
        await self.apply_service_changes(service_names)

    # ---- hardware faults

    @property
    def hw_fault_manager(self) -> HardwareFaults:
        """Raises NotEntered without enable_hw_faults."""
        if self._hardware is None:
            raise NotEntered("hardware faults need ManagedDeployment(..., enable_hw_faults=True), and it entered")
        return self._hardware

    async def setup_cuda_passthrough(self, xid_type: Optional[int] = None, target_node: Optional[str] = None) -> None:
        """Pods are begun anew once, on the target node, with the shim in them; afterwards faults need no new start."""
        await self.hw_fault_manager.setup_cuda_passthrough(xid_type, target_node)

    async def toggle_cuda_faults(self, enable: bool) -> None:
        await self.hw_fault_manager.toggle_cuda_faults(enable)

    async def inject_hw_fault(self, fault_type: str = "xid", xid_type: Optional[int] = None, gpu_id: int = 0) -> str:
        """Returns the fault's id."""
        if fault_type != "xid":
            raise DeployError(
                f"fault_type {fault_type!r}: only xid; for others ask the node's fault service (hw_fault_manager.client(node))"
            )
        return await self.hw_fault_manager.inject_xid_fault(xid_type, gpu_id)

    def get_hw_fault_target_node(self) -> str:
        return self.hw_fault_manager.target_node

    def is_node_cordoned(self, node: Optional[str] = None) -> bool:
        return bool(self.get_node(node or self.get_hw_fault_target_node())["spec"].get("unschedulable"))

    async def wait_for_node_cordon(self, node: Optional[str] = None, timeout: float = 180.0) -> Object:
        """Until it is cordoned for what was injected here. Returns the health event that says so."""
        return await self.hw_fault_manager.wait_for_node_cordon(node, timeout)

    async def remove_node_affinity(self, delete_pods: bool = True) -> None:
        await self.hw_fault_manager.remove_node_affinity(delete_pods)

    async def cleanup_cuda_spec_without_restart(self) -> None:
        """The specification is what it was; pods that run keep what they have until they end."""
        await self.hw_fault_manager.cleanup_cuda_spec_without_restart()
