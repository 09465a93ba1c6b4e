"""The fault service (`holdfast faultd`) from Python: a client, and a service of one's own for a test."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import selectors
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional
from urllib.parse import urlsplit

from holdfast.engine_path import find_engine
from holdfast.faults.errors import FaultError
from holdfast.faults.page import with_shim
from holdfast.procs import end_child

URL = "FAULT_INJECTION_API"
TOKEN = "HOLDFAST_FAULTD_TOKEN"
_DEFAULT = "http://127.0.0.1:8080"
_FAULTS = "/api/v1/faults"
_START = 30.0  # Seconds.


class ServiceError(FaultError):
    """The service has refused a request; `status` is HTTP's."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(f"the fault service says: {detail} ({status})")
        self.status = status
        self.detail = detail


class ServiceUnreachable(FaultError):
    """Nobody answers there; nothing was injected."""


class FaultClient:
    """Talks to a service. `url`: else $FAULT_INJECTION_API, else this machine's usual port; `token`: else $HOLDFAST_FAULTD_TOKEN.
    Raises ServiceError and ServiceUnreachable."""

    def __init__(
        self, url: Optional[str] = None, token: Optional[str] = None, *, timeout: float = 60, context: Optional[ssl.SSLContext] = None
    ) -> None:
        self.url = url or os.environ.get(URL) or _DEFAULT
        self.token = token or os.environ.get(TOKEN) or ""
        self.timeout = timeout
        self._context = context
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise FaultError(f"{self.url!r} is no address of a fault service; give one like http://127.0.0.1:8080")
        self._https, self._host, self._port = parts.scheme == "https", parts.hostname, parts.port

    def call(self, method: str, path: str, body: Optional[dict[str, Any]] = None) -> Any:
        connection: http.client.HTTPConnection
        if self._https:
            connection = http.client.HTTPSConnection(self._host, self._port, timeout=self.timeout, context=self._context)
        else:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=self.timeout)
        try:
            headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
            connection.request(method, path, json.dumps(body) if body is not None else None, headers)
            answer = connection.getresponse()
            said = json.loads(answer.read())
        except (OSError, http.client.HTTPException, ValueError) as problem:
            raise ServiceUnreachable(f"no fault service answers at {self.url}: {problem}") from None
        finally:
            connection.close()
        if answer.status >= 400:
            raise ServiceError(answer.status, str(said.get("detail", said)))
        return said

    def health(self) -> dict[str, Any]:
        found: dict[str, Any] = self.call("GET", "/health")
        return found

    def inject(self, kind: str, **body: Any) -> str:
        """`kind`: gpu, gpu/inject/xid-79, process, memory, disk, network (docs/faultd.md). Returns the fault's id."""
        path = kind if "/" in kind else f"{kind}/inject"
        return str(self.call("POST", f"{_FAULTS}/{path}", body)["fault_id"])

    def trigger(self, fault: str) -> None:
        self.call("POST", f"{_FAULTS}/{fault}/trigger")

    def verify(self, fault: str) -> dict[str, Any]:
        """`verified` and `evidence`."""
        found: dict[str, Any] = self.call("POST", f"{_FAULTS}/{fault}/verify")
        return found

    def recover(self, fault: str) -> dict[str, Any]:
        """What it was, with the evidence of its end."""
        found: dict[str, Any] = self.call("DELETE", f"{_FAULTS}/{fault}")
        return found

    def faults(self, *, active_only: bool = False) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.call("GET", f"{_FAULTS}?active_only={str(active_only).lower()}")["faults"]
        return found

    def environment(self, base: Optional[dict[str, str]] = None) -> dict[str, str]:
        """For a process on the service's machine that is to meet its faults of GPUs."""
        environment = dict(os.environ if base is None else base)
        environment.update(self.call("GET", "/api/v1/page")["environment"])
        with_shim(environment)
        return environment


class Service(FaultClient):
    """A service of this process's own."""

    def __init__(self, url: str, token: str, folder: Path, kernel_log: Path) -> None:
        super().__init__(url, token)
        self.folder = folder
        # Where its lines about XIDs go: the kernel of this machine is told nothing.
        self.kernel_log = kernel_log


@contextlib.contextmanager
def service(*, node: Optional[str] = None, env: Optional[dict[str, str]] = None) -> Iterator[Service]:
    """Starts `holdfast faultd` on a free port of this machine; at the end everything is put back, also if it has been killed."""
    with tempfile.TemporaryDirectory(prefix="holdfast-faultd-") as name:
        folder = Path(name) / "state"
        kernel_log = Path(name) / "kernel.log"
        kernel_log.touch()
        command = [find_engine(), "faultd", "--state", str(folder), "--listen", "127.0.0.1:0", "--kernel-log", str(kernel_log)]
        command += ["--node", node] if node else []
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=env)
        try:
            url = _url_of(process)
            yield Service(url, (folder / "token").read_text().strip(), folder, kernel_log)
        finally:
            end_child(process, _START)
            assert process.stdout is not None
            process.stdout.close()
            subprocess.run([find_engine(), "sweep", "--state", str(folder)], stdout=subprocess.DEVNULL, timeout=_START, check=True)


def _url_of(process: subprocess.Popen[bytes]) -> str:
    """What it says when it listens."""
    assert process.stdout is not None
    deadline = time.monotonic() + _START
    said = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while (found := re.search(rb"(https?://\S+:\d+), token", said)) is None:
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise ServiceUnreachable(f"the fault service did not begin within {_START:g} s")
            more = os.read(process.stdout.fileno(), 4096)
            if not more:
                raise ServiceUnreachable(f"the fault service has ended with {process.wait()} before it began")
            said += more
    return found.group(1).decode()
