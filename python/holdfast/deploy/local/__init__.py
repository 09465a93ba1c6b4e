"""A cluster on this machine: Kubernetes' API as far as deployments need it, nodes with simulated GPUs, pods as processes.

with local.cluster() as access:                # or the fixture `local_cluster`
    async with ManagedDeployment(..., cluster=access) as deployment:
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from holdfast.deploy.api import Access
from holdfast.deploy.errors import DeployError
from holdfast.deploy.kubeconfig import access_from
from holdfast.procs import end_child

# Seconds.
_START = 30.0
_JOIN = 120.0  # With controllers that are not ours to wait for.
_LOOK = 0.01


@dataclass(frozen=True)
class Local:
    """A running one. `folder`: its nodes' files and all logs."""

    access: Access
    folder: Path
    pid: int


@contextlib.contextmanager
def cluster(
    nodes: Sequence[str] = ("2x80GiB", "2x80GiB"),
    *,
    drain: str = "DeleteAfterTimeout",
    drain_seconds: float = 3.0,
    folder: Optional[Path] = None,
    control_plane: Optional[Path] = None,
) -> Iterator[Local]:
    """`nodes`: the GPUs of each, as simgpu has them (`none` for no GPUs). Ends everything that runs in it at the end, and with this
    process. `folder`: where its files go, and stay; otherwise a temporary one. `control_plane`: the kubeconfig of a
    real one, on this machine, which the nodes join. Raises DeployError."""
    made = Path(tempfile.mkdtemp(prefix="holdfast-cluster-")) if folder is None else folder
    command = [
        sys.executable,
        "-m",
        "holdfast.deploy.local",
        "--folder",
        str(made),
        "--drain",
        drain,
        "--drain-seconds",
        str(drain_seconds),
        "--with-parent",
        *(["--control-plane", str(control_plane)] if control_plane is not None else []),
    ]
    log = made / "cluster.log"
    try:
        made.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            process = subprocess.Popen([*command, *nodes], stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=_environment())
        try:
            yield _wait(process, made, log, _START if control_plane is None else _JOIN)
        finally:
            end_child(process, _START)
    finally:
        if folder is None:
            shutil.rmtree(made, ignore_errors=True)


def _environment() -> dict[str, str]:
    """Without what makes this process a test's: a shim in front of CUDA, a place under an engine's eyes."""
    found = {key: value for key, value in os.environ.items() if key not in ("LD_PRELOAD", "PYTEST_CURRENT_TEST")}
    package = str(Path(__file__).resolve().parents[3])
    found["PYTHONPATH"] = ":".join(part for part in (package, os.environ.get("PYTHONPATH", "")) if part)
    return found


def _wait(process: subprocess.Popen[bytes], folder: Path, log: Path, seconds: float) -> Local:
    deadline = time.monotonic() + seconds
    while not (folder / "access.json").exists():
        if process.poll() is not None or time.monotonic() > deadline:
            how = f"has ended with {process.returncode}" if process.returncode is not None else f"did not begin within {seconds:g} s"
            raise DeployError(f"the local cluster {how}:\n{log.read_text(errors='replace')[-4000:].strip()}")
        time.sleep(_LOOK)
    return found_in(folder)


def found_in(folder: Path) -> Local:
    """One that runs already (`holdfast deploy cluster --folder`). Raises DeployError."""
    try:
        said = json.loads((folder / "access.json").read_text())
    except (OSError, ValueError) as problem:
        raise DeployError(f"{folder}: no local cluster has its files there ({problem})") from None
    if "kubeconfig" in said:
        return Local(access_from(said["kubeconfig"]), folder, said["pid"])
    return Local(Access(said["server"], said["token"]), folder, said["pid"])
