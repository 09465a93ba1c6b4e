"""Runs real suites in real processes, and checks after each test that nothing of them is left."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable

import pytest
import slurm_cluster
from mpi_libraries import use
from native_programs import Programs

LIMIT = 120.0

# Under nohup, or in the background of a script, these are ignored, and every program that is started here would inherit that.
for _number, _usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _usual)


# Files whose tests must not be side by side: some see what others leave in /dev/shm, or that processes of other name spaces exist. These
# take longest, and come first.
_TOGETHER = (
    ("test_mpi", "test_mpi_launchers", "test_mpi_pools", "test_native_mpi", "test_slurm"),
    ("test_real_kubelets", "test_simgpu"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With --hf-dist=group a file, or several of these, go to one slot."""
    numbers = {name: number for number, names in enumerate(_TOGETHER) for name in names}
    for item in items:
        number = numbers.get(item.path.stem)
        item.add_marker(pytest.mark.xdist_group(item.path.stem if number is None else f"group {number}"))
    items.sort(key=lambda item: numbers.get(item.path.stem, len(_TOGETHER)))


@dataclass
class Run:
    """A finished run of pytest."""

    code: int
    output: str
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def verdicts(self) -> dict[str, str]:
        """id -> verdict; fails if an id has more than one verdict event."""
        assert self.events, f"exit {self.code}, and no event was logged:\n{self.output}"
        found = [e for e in self.events if e["event"] == "verdict"]
        twice = [i for i, n in Counter(e["id"] for e in found).items() if n > 1]
        assert not twice, f"more than one verdict: {twice}"
        return {e["id"]: e["verdict"] for e in found}

    @property
    def notes(self) -> dict[str, list[str]]:
        return {e["id"]: e["notes"] for e in self.events if e["event"] == "verdict"}

    def short(self) -> dict[str, str]:
        """Verdicts by the part of the id behind the file."""
        return {nodeid.partition("::")[2] or nodeid: verdict for nodeid, verdict in self.verdicts.items()}


class Suite:
    """A folder of tests and the ways to run it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.mark = f"HOLDFAST_E2E={uuid.uuid4().hex}"
        self.env = {
            k: v
            for k, v in os.environ.items()
            if not k.startswith(("PYTEST_", "OMP_", "OPENBLAS_")) and (k == "HOLDFAST_ENGINE" or not k.startswith("HOLDFAST_"))
        }
        self.env.update([self.mark.split("=")], TERM="dumb", COLUMNS="160")
        self.env.pop("CI", None)
        self.log = root / "log.jsonl"

    def write(self, **files: str) -> Suite:
        for name, text in files.items():
            self.file(f"{name}.py", text)
        return self

    def file(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def command(self, *args: str, holdfast: bool = True) -> list[str]:
        ours = ["--holdfast", f"--hf-log={self.log}"] if holdfast else []
        return [sys.executable, "-m", "pytest", "-p", "no:randomly", *ours, *args]

    def start(self, *args: str, holdfast: bool = True, cwd: Path | None = None, **options: Any) -> subprocess.Popen[str]:
        self.log.unlink(missing_ok=True)
        return subprocess.Popen(
            self.command(*args, holdfast=holdfast),
            cwd=cwd or self.root,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            **options,
        )

    def finish(self, process: subprocess.Popen[str]) -> Run:
        try:
            output, _ = process.communicate(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            self.end_survivors()  # They hold the other end of the pipe.
            output, _ = process.communicate(timeout=LIMIT)
            pytest.fail(f"the run did not end within {LIMIT} s:\n{output}")
        return Run(process.returncode, output, self.events())

    def events(self) -> list[dict[str, Any]]:
        if not self.log.exists():
            return []
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def run(self, *args: str, **options: Any) -> Run:
        return self.finish(self.start(*args, **options))

    def plain(self, *args: str, **options: Any) -> Run:
        return self.run(*args, holdfast=False, **options)

    def survivors(self) -> list[str]:
        """Command lines of living processes that were started, directly or not, by this suite's runs."""
        return [f"{pid}: {command}" for pid, command in self.living().items()]

    def end_survivors(self) -> None:
        for pid in self.living():
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)

    def living(self) -> dict[int, str]:
        found = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            try:
                if self.mark.encode() not in (entry / "environ").read_bytes():
                    continue
                if (entry / "stat").read_text().rpartition(")")[2].split()[0] in "ZX":
                    continue
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(bytes(1), b" ").decode(errors="replace")
            except OSError:
                continue
        return found


@pytest.fixture
def suite(tmp_path: Path) -> Any:
    made = Suite(tmp_path)
    yield made
    try:
        wait_until(lambda: not made.survivors(), "processes are left")
    finally:
        left = made.survivors()
        # A test that fails must not leave them to those after it, nor hold their pipes open.
        made.end_survivors()
        assert not left, f"processes are left: {left}"


def wait_until(condition: Callable[[], object], message: str = "the condition did not come true", limit: float = 20) -> None:
    deadline = time.monotonic() + limit
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(message)
        time.sleep(0.01)


@pytest.fixture
def place() -> str:
    """Where tests on GPUs run, unless `gpu_places.on_both` says otherwise."""
    return "simulated"


@pytest.fixture
def until() -> Callable[..., None]:
    return wait_until


def children(pid: int) -> list[int]:
    found: list[int] = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            found += [int(p) for p in Path(f"/proc/{pid}/task/{task}/children").read_text().split()]
    except OSError:
        pass
    return found


def is_mapped(path: str) -> bool:
    """By any living process."""
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with contextlib.suppress(OSError):
            if path in maps.read_text():
                return True
    return False


@dataclass
class Tree:
    """The processes of a running suite."""

    controller: int

    @property
    def engine(self) -> int:
        for pid in children(self.controller):
            if b"--control-fd" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return pid
        return 0

    @property
    def root(self) -> int:
        return next(iter(children(self.engine)), 0)

    @property
    def slots(self) -> list[int]:
        return children(self.root)

    @property
    def tests(self) -> list[int]:
        return [t for s in self.slots for t in children(s)]


@pytest.fixture
def tree() -> Callable[[subprocess.Popen[str]], Tree]:
    return lambda process: Tree(process.pid)


@pytest.fixture
def kill() -> Callable[[int], None]:
    return lambda pid: os.kill(pid, signal.SIGKILL)


@pytest.fixture(params=["openmpi", "openmpi5", "mpich"])
def mpi(request, suite, tmp_path_factory) -> str:
    """Lets the suite's mpi4py find one of Debian's two libraries, or PyPI's."""
    use(suite, request.param, tmp_path_factory.mktemp("mpi"))
    return str(request.param)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[slurm_cluster.Cluster]:
    missing = slurm_cluster.missing()
    if missing:
        pytest.skip(f"NOT RUN: Slurm is not installed ({', '.join(missing)} missing); nothing about it is tested")
    made = slurm_cluster.Cluster(tmp_path_factory.mktemp("slurm"), nodes=3)
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def shared_cluster() -> Iterator[Any]:
    """A local cluster for the tests of a module."""
    from holdfast.deploy import local

    with local.cluster() as found:
        yield found


@pytest.fixture
def kube(shared_cluster: Any) -> Iterator[Any]:
    """That, and afterwards nothing of the test's is in it: neither things, nor marks on its nodes."""
    from deployments import do, there

    from holdfast.deploy.controllers.sentinel import CHECK
    from holdfast.deploy.kinds import GRAPH, NAMESPACE, NODE, POD, condition, labels_of

    yield shared_cluster
    assert not set(there(shared_cluster, NAMESPACE)) - {"default", "kube-system", "fault-injection-system"}
    assert not there(shared_cluster, GRAPH) and len(there(shared_cluster, POD)) == 2
    for node in do(shared_cluster, lambda api: api.list(NODE))[0]:
        assert set(labels_of(node)) == {"kubernetes.io/hostname", "nvidia.com/gpu.present"}, node
        assert not node["metadata"].get("annotations") and not node["spec"] and condition(node, CHECK).get("status") != "True", node


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    """Test programs of the frameworks of C++."""
    return Programs(tmp_path_factory.mktemp("programs"))
