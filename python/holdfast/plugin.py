"""The pytest plugin (entry point `holdfast`): options, and the start of everything when `--holdfast` is given."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from typing import Any, Optional

import pytest

from holdfast import faulted, guards, options, outer, overrides
from holdfast.compat import fkit, hw_faults, pytest_parallel, randomly

_ENGINE = pytest.StashKey[Any]()
_STDERR = pytest.StashKey[int]()

# Set while a zygote makes its own configuration: there this plugin only declares its options and fixtures.
configuring_zygote = False


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    options.add_options(parser)
    guards.add_option(parser)
    if not fkit.is_taken(pluginmanager):
        fkit.add_options(parser)
    if not pytest_parallel.is_taken(pluginmanager):
        pytest_parallel.add_options(parser)
    hw_faults.remember(parser, pluginmanager)


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None, None, None]:
    """Before pytest captures output and loads the user's conftest files: the cleanest moment to fork."""
    known = early_config.known_args_namespace
    if not configuring_zygote and early_config.getini("hf_guards"):
        # The capture has not begun.
        early_config.stash[_STDERR] = os.dup(2)
    if not configuring_zygote and options.is_enabled(early_config, known) and _runs_tests(known):
        if faulted.are_wanted(early_config, known):
            faulted.begin(early_config, known)
        outer.enter()
        _start(early_config)
    elif not configuring_zygote and _runs_tests(known):
        faulted.refuse_without_engine(known)
    yield
    hw_faults.add_options(early_config)


def _runs_tests(known: Any) -> bool:
    """False for command lines that only print something."""
    names = ("help", "version", "showfixtures", "show_fixtures_per_test", "markers", "cacheshow")
    return not any(getattr(known, name, False) for name in names)


def _start(config: pytest.Config) -> None:
    from holdfast.launch import start_engine
    from holdfast.zygote import WorkerInfo

    params = config.invocation_params
    info = WorkerInfo({"argv": list(sys.argv)})
    slots = options.slots_of(config, config.known_args_namespace)
    info.slots = _count(slots)
    info.interactive = options.is_interactive(config.known_args_namespace)
    randomly.prepare()
    engine = start_engine(slots, list(params.args), params.plugins, info)
    config.stash[_ENGINE] = engine
    config.add_cleanup(engine.abandon)


def _count(slots: str) -> int:
    """As the engine counts `auto` (engine/inventory/cpus.cc), without asking it: cgroup quotas are rare, so it corrects us by hello."""
    return len(os.sched_getaffinity(0)) if slots == "auto" else int(slots)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    if config.stash.get(_ENGINE, None) is not None:
        randomly.use_seed(config)
    hw_faults.choose_cluster(config)
    config.addinivalue_line("markers", "forked: this test runs in a process of its own (holdfast, pytest-forked)")
    config.addinivalue_line("markers", "xdist_group(name): with --hf-dist=group, tests of one name go to one slot, in order (holdfast)")
    config.addinivalue_line("markers", "serial: nothing runs beside this test (holdfast)")
    config.addinivalue_line("markers", "timeout(seconds): limit for this test, setup and call together (holdfast)")
    config.addinivalue_line(
        "markers",
        "holdfast(timeout=, isolate=, retry=, cores=, memory=, gpus=, vram=, gpu_arch=, exclusive=, shared=, serial=, leaks=, faults=):"
        " how it is run (docs/marks.md)",
    )
    if not fkit.is_taken(config.pluginmanager):
        for name, meaning in fkit.MARKS.items():
            config.addinivalue_line("markers", f"{name}: {meaning}")
    engine = config.stash.get(_ENGINE, None)
    if engine is None and _STDERR in config.stash:
        guards.configure(config, config.stash[_STDERR])
    if engine is not None and not hasattr(config, "workerinput"):
        from holdfast.controller import Controller

        config.pluginmanager.register(Controller(config, engine), "holdfast-controller")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    guards.mark_items(config, items)
    overrides.apply(config, items)
    faulted.register(config, items)


@pytest.fixture
def check_guards(request: pytest.FixtureRequest) -> Any:
    """For a test of the suite itself: `check_guards("tests/ipc")` fails unless that directory is guarded (ini `hf_guards`), and all
    tests that were collected below guarded ones have their deadlines."""

    def check(*directories: str) -> None:
        __tracebackhide__ = True
        found = guards.problems(request.config, request.session.items, directories)
        assert not found, "\n".join(found)

    return check


@pytest.fixture
def track_child_processes() -> Generator[Any, None, None]:
    """What the test starts and leaves running is killed before its fixtures are torn down; a warning names it (holdfast.children)."""
    from holdfast import children

    with children.track_child_processes() as tracker:
        yield tracker


@pytest.fixture
def fault_lab(request: pytest.FixtureRequest) -> Generator[Any, None, None]:
    """A page for faults (holdfast.faults.Lab): for processes that the test starts with its environment(), and for the test's own
    process where that has the shim."""
    from holdfast.faults import marked

    with marked.lab_for(request.node) as lab:
        yield lab


@pytest.fixture
def fault_service() -> Generator[Any, None, None]:
    """A fault service of the test's own (holdfast.faults.service()): processes, memory, disks, networks, and GPUs of its children."""
    from holdfast import faults

    with faults.service() as service:
        yield service


@pytest.fixture
def local_cluster() -> Generator[Any, None, None]:
    """A local cluster of the test's own (holdfast.deploy.local.cluster()), with two nodes of two simulated GPUs."""
    from holdfast.deploy import local

    with local.cluster() as cluster:
        yield cluster


from holdfast.compat.hw_faults import (  # noqa: E402, F401  (fixtures of this plugin)
    hw_fault_backend,
    hw_fault_config,
    namespace,
    skip_service_restart,
)
from holdfast.compat.isoscope import iso_scheduling  # noqa: E402, F401  (a fixture of this plugin)
from holdfast.parallel import comm, mpi_tmpdir  # noqa: E402, F401  (fixtures of this plugin)


@pytest.fixture(scope="session")
def worker_id(request: pytest.FixtureRequest) -> str:
    """`gw0`, `gw1`, ... for the slot that runs the test, or `master` without workers (as pytest-xdist's)."""
    worker_input: Optional[dict[str, Any]] = getattr(request.config, "workerinput", None)
    return str(worker_input["workerid"]) if worker_input else "master"


@pytest.fixture(scope="session")
def testrun_uid(request: pytest.FixtureRequest) -> str:
    """The same for all tests of a run, another in every run (as pytest-xdist's)."""
    worker_input: Optional[dict[str, Any]] = getattr(request.config, "workerinput", None)
    if worker_input:
        return str(worker_input["testrunuid"])
    import uuid

    return uuid.uuid4().hex
