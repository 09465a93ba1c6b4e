"""Pods of a deployment, their processes, and ports of theirs on this machine."""

from __future__ import annotations

import asyncio
import signal
import threading
from types import TracebackType
from typing import Any, Optional, Union

from holdfast.deploy.connection import Connection
from holdfast.deploy.errors import ApiError, WaitFailed
from holdfast.deploy.kinds import POD, Object, is_leaving, is_ready, name_of, namespace_of

# All processes of a container, one a line: pid, a blank, the command. Pods of the local cluster share this machine, so there those
# count that have the pod's mark. Without ps, which images need not have.
_PROCESSES = r"""
for folder in /proc/[0-9]*; do
  pid=${folder#/proc/}
  [ "$pid" = $$ ] && continue
  if [ -n "$HOLDFAST_POD_UID" ]; then
    tr '\0' '\n' <"$folder/environ" 2>/dev/null | grep -qx "HOLDFAST_POD_UID=$HOLDFAST_POD_UID" || continue
  fi
  command=$(tr '\0' ' ' <"$folder/cmdline" 2>/dev/null)
  case $command in ''|'sh -c '*|*'/proc/[0-9]*'*) continue;; esac
  echo "$pid $command"
done
"""
# Where pods share this machine a number that has been given anew may be anybody's.
_KILL = r"""
if [ -n "$HOLDFAST_POD_UID" ]; then
  tr '\0' '\n' <"/proc/$2/environ" 2>/dev/null | grep -qx "HOLDFAST_POD_UID=$HOLDFAST_POD_UID" ||
    { echo "no such process of this pod" >&2; exit 3; }
fi
kill "-$1" "$2"
"""
_AGAIN = 0.1  # Seconds; processes in a pod have no watch.


class Pod:
    """As it was when it was asked for; refresh() looks again. Methods block."""

    def __init__(self, connection: Connection, thing: Object) -> None:
        self._connection = connection
        self.raw = thing

    def __repr__(self) -> str:
        return f"<Pod {self.namespace}/{self.name} on {self.node}>"

    @property
    def name(self) -> str:
        return name_of(self.raw)

    @property
    def namespace(self) -> str:
        return namespace_of(self.raw)

    @property
    def uid(self) -> str:
        return str(self.raw["metadata"]["uid"])

    @property
    def node(self) -> str:
        return str(self.raw["spec"].get("nodeName", ""))

    @property
    def phase(self) -> str:
        return str(self.raw.get("status", {}).get("phase", "Pending"))

    @property
    def ready(self) -> bool:
        return is_ready(self.raw)

    @property
    def running(self) -> bool:
        """Whether any of its containers does."""
        return any("running" in (one.get("state") or {}) for one in self.raw.get("status", {}).get("containerStatuses") or [])

    @property
    def leaving(self) -> bool:
        return is_leaving(self.raw)

    @property
    def restarts(self) -> int:
        """Of all its containers."""
        return sum(one.get("restartCount", 0) for one in self.raw.get("status", {}).get("containerStatuses") or [])

    @property
    def container_id(self) -> str:
        """Of its first container, the one that exec() means; empty where it does not run, and on the local cluster, whose pods are
        processes of this machine."""
        name = self.raw["spec"]["containers"][0]["name"]
        statuses = self.raw.get("status", {}).get("containerStatuses") or []
        found: Object = next((one for one in statuses if one.get("name") == name and "running" in (one.get("state") or {})), {})
        return str(found.get("containerID", ""))

    def refresh(self) -> None:
        """Raises ApiError: 404 when it has gone."""
        self.raw = self._connection.call(self._connection.api.get(POD, self.namespace, self.name))

    def logs(self, *, container: str = "", previous: bool = False) -> str:
        return self._connection.call(self._connection.api.log(self.namespace, self.name, container=container, previous=previous))

    def exec(self, command: list[str], *, timeout: float = 30.0, check: bool = True) -> tuple[int, str, str]:
        """Exit code, output, errors. Raises ApiError; with `check` also for an exit code other than 0."""
        found = self._connection.call(self._connection.api.execute(self.namespace, self.name, command, timeout=timeout))
        if check and found[0] != 0:
            raise ApiError(
                500, "NonZeroExitCode", f"{' '.join(command)} in pod {self.name} has ended with {found[0]}: {found[2].strip()[-500:]}"
            )
        return found

    def delete(self, grace: Optional[float] = None) -> None:
        """Asks for it; whether it has gone, the deployment's waits tell."""
        self._connection.call(self._connection.api.delete(POD, self.namespace, self.name, grace=grace))

    def processes(self) -> list[PodProcess]:
        self.refresh()
        lines = self.exec(["sh", "-c", _PROCESSES])[1].splitlines()
        return [PodProcess(self, int(pid), command.strip()) for pid, _, command in (line.partition(" ") for line in lines)]


class PodProcess:
    """A process in a pod, by its number there."""

    def __init__(self, pod: Pod, pid: int, command: str) -> None:
        self.pod, self.pid, self.command = pod, pid, command
        self._uid, self._restarts = pod.uid, pod.restarts

    def __repr__(self) -> str:
        return f"<process {self.pid} of {self.pod.name}: {self.command}>"

    def kill(self, signal_: Union[int, str, None] = None) -> None:
        """Otherwise SIGKILL; SIGINT for process 1, which the kernel keeps from signals of its own name space that it has no handler
        for. What is asked for is what is sent. Raises ApiError where it has gone."""
        number = (
            signal_
            if isinstance(signal_, int)
            else signal.Signals[signal_]
            if signal_
            else signal.SIGINT
            if self.pid == 1
            else signal.SIGKILL
        )
        self.pod.exec(["sh", "-c", _KILL, "sh", str(int(number)), str(self.pid)])

    def running(self) -> bool:
        """Zombies do not run, nor does anything of a container that has ended since. Raises ApiError where the pod cannot be asked:
        that is no proof of an end."""
        return self.state() not in ("", "Z", "X")

    def state(self) -> str:
        """The kernel's letter for it (T: stopped), as in /proc/PID/stat; empty when it has gone. Raises ApiError."""
        if self._container_gone():
            return ""
        try:
            code, state, _ = self.pod.exec(["sh", "-c", f"sed 's/.*) //' /proc/{self.pid}/stat 2>/dev/null"], check=False)
        except ApiError:
            if self._container_gone():  # In between.
                return ""
            raise
        return state[:1] if code == 0 else ""

    def _container_gone(self) -> bool:
        """Numbers of processes mean nothing in the next container."""
        try:
            self.pod.refresh()
        except ApiError as error:
            if error.status != 404:
                raise
            return True
        return self.pod.uid != self._uid or self.pod.restarts > self._restarts or not self.pod.running

    def wait(self, timeout: float = 60.0) -> None:
        """Raises WaitFailed."""
        ending = threading.Event()
        left, last = timeout, self.command
        while True:
            try:
                if not self.running():
                    return
            except ApiError as error:
                # Its container may have ended with it, which the API hears a moment later than whoever asks the container.
                last = error.message
            if left <= 0:
                raise WaitFailed(f"process {self.pid} of pod {self.pod.name} to end", timeout, last)
            ending.wait(_AGAIN)
            left -= _AGAIN


class PortForward:
    """A port of this machine's loopback that leads to a pod's. stop() it, or use it as `with`; the deployment stops what is left."""

    def __init__(self, connection: Connection, namespace: str, pod: str, port: int) -> None:
        self._connection = connection
        self.pod, self.namespace, self.remote_port = pod, namespace, port
        self._server: Optional[asyncio.AbstractServer] = connection.call(self._listen())
        self.local_port = int(self._server.sockets[0].getsockname()[1])  # type: ignore[attr-defined]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.local_port}"

    async def _listen(self) -> asyncio.AbstractServer:
        return await asyncio.start_server(self._serve, "127.0.0.1", 0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._connection.api.forward(self.namespace, self.pod, self.remote_port, reader, writer)
        except Exception:  # Whoever has connected sees that it is over, as with any server that goes.
            writer.transport.abort()

    def stop(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            self._connection.call(_closed(server))

    def __enter__(self) -> PortForward:
        return self

    def __exit__(self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]) -> None:
        self.stop()


async def _closed(server: Any) -> None:
    server.close()
