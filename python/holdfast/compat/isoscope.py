"""The `iso_scheduling` fixture of pytest-xdist's proposed isoscope scheduler (pull request 1126), so that suites written for it run.

    @pytest.fixture(scope="class", autouse=True)
    def around(request, iso_scheduling):
        with iso_scheduling.coordinate_setup_teardown(setup_request=request) as coordinator:
            coordinator.maybe_call_setup(set_up)         # in one process of all that run tests of this class
            yield
            coordinator.maybe_call_teardown(tear_down)   # once, when all tests of the class have ended

Both callbacks get an object with `client_dir`, a directory for whatever they want to keep, the same for both and in every process.
What `set_up` returns, if JSON can hold it, is what maybe_call_setup() returns in every process.

With the fork tree a fixture runs once anyway. Where several processes run it (isolation `worker`, a mark, a crash), the first one that
gets a file lock sets up, and the engine knows who is the last; if that one dies, the engine starts a process that tears down.
Where pytest runs without Holdfast there is one process, which does both.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest

from holdfast import wire

# Seconds to wait for another process's setup.
SETUP_TIMEOUT = 2 * 60 * 60.0
TEARDOWN_TIMEOUT = 2 * 60 * 60.0
_POLL = 0.01


class CoordinationTimeoutError(Exception):
    """Another process has not finished its setup or teardown within the time given."""


class Context:
    """What the callbacks are given."""

    def __init__(self, client_dir: Path, worker_id: str) -> None:
        self.client_dir = client_dir
        self.worker_id = worker_id


Callback = Callable[[Context], Any]


class Coordinator:
    """Of one scope, in one process."""

    def __init__(self, scheduling: IsoScheduling, node: str, place: Path) -> None:
        self._scheduling = scheduling
        self._node = node
        self._done = place / "done"
        self._lock = place / "lock"
        self._context = Context(place / "client", scheduling.worker_id)

    def maybe_call_setup(self, setup_callback: Callback, timeout: float = SETUP_TIMEOUT) -> Any:
        """Calls it unless some process has done so. Returns what it returned there. Raises CoordinationTimeoutError."""
        with self._locked(timeout):
            if not self._done.exists():
                self._context.client_dir.mkdir(parents=True, exist_ok=True)
                value = wire.plain(setup_callback(self._context))
                # In one piece: who is killed in between has not set up.
                draft = self._done.with_suffix(".new")
                draft.write_text(json.dumps(value))
                draft.rename(self._done)
                self._scheduling.tell("opened", self._node)
            return json.loads(self._done.read_text())

    def maybe_call_teardown(self, teardown_callback: Callback, timeout: float = TEARDOWN_TIMEOUT) -> None:
        """Calls it if this is the last process that uses the scope, and it was set up. Raises CoordinationTimeoutError."""
        if not self._scheduling.is_last(self._node):
            return
        with self._locked(timeout):
            if not self._done.exists():
                return
            try:
                teardown_callback(self._context)
            finally:
                self._done.unlink()
                shutil.rmtree(self._context.client_dir, ignore_errors=True)
                self._scheduling.tell("closed", self._node)

    @contextlib.contextmanager
    def _locked(self, timeout: float) -> Iterator[None]:
        """The kernel lets the lock go when its process dies, however that happens."""
        deadline = time.monotonic() + timeout
        with open(self._lock, "a") as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise CoordinationTimeoutError(f"{self._node}: waited {timeout:.0f} s for another process") from None
                    time.sleep(_POLL)
            yield


class IsoScheduling:
    """The value of the fixture."""

    def __init__(self, config: pytest.Config, base: Path, worker_id: str) -> None:
        self._config = config
        self._base = base
        self.worker_id = worker_id

    @contextlib.contextmanager
    def coordinate_setup_teardown(self, setup_request: pytest.FixtureRequest) -> Iterator[Coordinator]:
        """`setup_request`: that of the fixture, whose scope must be above the test's. Raises ValueError."""
        if setup_request.scope == "function":
            raise ValueError(
                "iso_scheduling coordinates fixtures of a class, module, package or session; this one has scope 'function'"
            )
        node = str(setup_request.node.nodeid)
        place = self._base / "holdfast-iso" / hashlib.sha256(f"{setup_request.scope} {node}".encode()).hexdigest()[:16]
        place.mkdir(parents=True, exist_ok=True)
        yield Coordinator(self, node, place)

    def _runner(self) -> Any:
        """Ours, in a process that is one of several."""
        runner: Any = self._config.pluginmanager.get_plugin("holdfast-runner")
        if runner is None or runner.owner != os.getpid() or runner.sets_up_alone:
            return None
        return runner

    def is_last(self, node: str) -> bool:
        runner = self._runner()
        if runner is None:
            return True
        runner.send({"t": "left", "node": node})
        return not runner.hear("left").get("others")

    def tell(self, what: str, node: str) -> None:
        runner = self._runner()
        if runner is not None:
            runner.send({"t": what, "node": node})


@pytest.fixture(scope="session")
def iso_scheduling(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> IsoScheduling:
    """Coordinates setup and teardown of a class, module or session over processes (as pytest-xdist's isoscope)."""
    base = tmp_path_factory.getbasetemp()
    # Below that of the run each slot has a directory of its own.
    return IsoScheduling(request.config, base.parent if hasattr(request.config, "workerinput") else base, worker_id)
