"""One container of a pod: a process with its own session, begun again when it ends, with the backoff of a kubelet."""

from __future__ import annotations

import asyncio
import errno
import functools
import os
import select
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Callable, Optional

from holdfast import crash
from holdfast.deploy.kinds import Object
from holdfast.deploy.local.groups import Group
from holdfast.deploy.times import now

MARK = "HOLDFAST_POD_UID"
# Seconds before it is begun again: a kubelet takes 10, doubled up to 300; who tests here does not have that long.
_BACKOFF = (0.0, 1.0, 2.0, 4.0, 8.0)
_DIE = 5  # Seconds from SIGKILL to the end; the kernel has no limit.


def kill_marked(uid: str) -> None:
    """SIGKILL for all processes that a pod has started, also those that have left its sessions: they keep its mark in their
    environment. At most 20 passes. None of them runs any more afterwards."""
    mark = f"{MARK}={uid}".encode()
    for _ in range(20):
        found = [pid for pid in map(int, filter(str.isdecimal, os.listdir("/proc"))) if pid != os.getpid() and _has(pid, mark)]
        if not found:
            return
        for pid in found:
            _end(pid, mark)


def _end(pid: int, mark: bytes) -> None:
    """One that dies has no environment any more before it has ended, so the next pass would not see it."""
    try:
        process = os.pidfd_open(pid)
    except OSError:
        return
    try:
        if _has(pid, mark):  # The number may have been given anew before it was opened.
            signal.pidfd_send_signal(process, signal.SIGKILL)
            ending = select.poll()
            ending.register(process, select.POLLIN)
            ending.poll(_DIE * 1000)
    except OSError:
        pass
    finally:
        os.close(process)


def _has(pid: int, mark: bytes) -> bool:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return mark in file.read().split(b"\0")
    except OSError:
        return False


async def start(
    command: list[str], environment: Mapping[str, str], folder: Path, group: Group, **streams: Any
) -> asyncio.subprocess.Process:
    """Raises OSError where it cannot be run."""
    try:
        return await asyncio.create_subprocess_exec(
            *command, env=dict(environment), cwd=folder, stdin=asyncio.subprocess.DEVNULL, start_new_session=True,
            preexec_fn=functools.partial(_begin, os.getpid(), group), **streams,
        )  # fmt: skip
    except subprocess.SubprocessError:
        raise OSError(errno.EACCES, "cannot join its control group") from None


def _begin(parent: int, group: Group) -> None:
    """In the new process: before it runs anything, so that all of it is in its group."""
    group.join()
    crash.die_with_parent(parent)


def exit_code(returned: int) -> int:
    """As a shell and Kubernetes count: 128 and the signal's number for what a signal has ended."""
    return 128 - returned if returned < 0 else returned


class Container:
    """`changed` is called when its state does. Cancel run() to be rid of it; stop() first asks it to go."""

    def __init__(
        self,
        name: str,
        image: str,
        command: list[str],
        environment: Mapping[str, str],
        logs: Path,
        folder: Path,
        group: Group,
        changed: Callable[[], None],
    ) -> None:
        self.name, self.image = name, image
        self.command, self.environment = command, environment
        self.restarts = 0
        self.ready = False
        self.was_ready = False  # Since its last start.
        self.state: Object = {"waiting": {"reason": "ContainerCreating"}}
        self.last: Object = {}
        self.process: Optional[asyncio.subprocess.Process] = None
        self.group = group
        self._logs, self._folder, self._changed = logs, folder, changed
        self._leaving = False

    def status(self) -> Object:
        return {
            "name": self.name,
            "image": self.image,
            "ready": self.ready,
            "restartCount": self.restarts,
            "state": self.state,
            "lastState": self.last,
            "started": "running" in self.state,
        }

    def log_file(self, *, previous: bool = False) -> Path:
        return self._logs / f"{self.restarts - (1 if previous else 0)}.log"

    async def run(self, *, again: str) -> Optional[int]:
        """`again`: the pod's restartPolicy. Returns its exit code when it will not run again."""
        while True:
            code = await self._once()
            if self._leaving or again == "Never" or (again == "OnFailure" and code == 0):
                return code
            delay = _BACKOFF[min(self.restarts, len(_BACKOFF) - 1)]
            message = f"back-off {delay:g}s restarting failed container={self.name}"
            self.last, self.state = self.state, {"waiting": {"reason": "CrashLoopBackOff", "message": message}}
            self._changed()
            await asyncio.sleep(delay)
            self.restarts += 1

    async def _once(self) -> int:
        self._logs.mkdir(parents=True, exist_ok=True)
        begun, killed = now(), self.group.memory_kills()
        code, reason = 128, "StartError"
        message = ""
        with self.log_file().open("ab") as log:
            try:
                self.process = await start(self.command, self.environment, self._folder, self.group, stdout=log, stderr=log)
            except OSError as problem:
                message = f"{self.command[0]}: {problem.strerror}"
                log.write(message.encode() + b"\n")
            else:
                self.was_ready = False
                self.state = {"running": {"startedAt": begun}}
                self._changed()
                code = exit_code(await self.process.wait())
                reason = "Completed" if code == 0 else "Error"
                if code != 0 and self.group.memory_kills() > killed:
                    reason = "OOMKilled"
                # A container ends with its first process.
                await asyncio.to_thread(self.group.end)
        self.ready, self.process = False, None
        self.state = {"terminated": {"exitCode": code, "reason": reason, "message": message, "startedAt": begun, "finishedAt": now()}}
        self._changed()
        return code

    async def stop(self, grace: float) -> None:
        """SIGTERM, then SIGKILL."""
        self._leaving = True
        for number, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, 10.0)):
            process = self.process
            if process is None:
                return
            try:
                os.killpg(process.pid, number)
            except OSError:
                pass
            try:
                await asyncio.wait_for(process.wait(), seconds)
                return
            except asyncio.TimeoutError:
                continue
