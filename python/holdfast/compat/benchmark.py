"""pytest-benchmark: a test that uses its fixture runs alone, and what it measured is shown by pytest-benchmark in the controller."""

from __future__ import annotations

import importlib
import os
from types import SimpleNamespace
from typing import Any, Optional

import pytest

from holdfast.compat.loaded import is_loaded
from holdfast.wire import Frame

_WORKER = "PYTEST_XDIST_WORKER"
_hidden: Optional[str] = None


def _session(config: pytest.Config) -> Optional[Any]:
    return getattr(config, "_benchmarksession", None)


def before_configure(config: pytest.Config) -> None:
    """pytest-benchmark switches itself off where it sees a worker of pytest-xdist, since others would disturb the measurement."""
    global _hidden
    if is_loaded(config, "benchmark", "pytest_benchmark", "pytest_benchmark.plugin"):
        _hidden = os.environ.pop(_WORKER, None)


def after_configure(config: pytest.Config) -> None:
    if _hidden is not None:
        os.environ[_WORKER] = _hidden


def is_here(config: pytest.Config) -> bool:
    return _session(config) is not None


def runs_alone(item: pytest.Item) -> bool:
    session = _session(item.config)
    uses = {"benchmark", "benchmark_weave"}.intersection(getattr(item, "fixturenames", ()))
    return bool(uses and session is not None and not session.disabled and not session.skip)


def results(config: pytest.Config) -> list[Frame]:
    """Takes what was measured in this process since the last time."""
    session = _session(config)
    if session is None or not session.benchmarks:
        return []
    benches = [_as_frame(bench) for bench in session.benchmarks]
    session.benchmarks.clear()
    return [{"benchmarks": benches}]


def _as_frame(bench: Any) -> Frame:
    frame: Frame = {
        name: getattr(bench, name, None) for name in ("name", "fullname", "group", "param", "params", "extra_info", "iterations")
    }
    options = {key: getattr(value, "__name__", str(value)) if callable(value) else value for key, value in bench.options.items()}
    return {**frame, "options": options, "data": list(bench.stats.data), "error": bool(bench.has_error)}


def take(config: pytest.Config, frames: list[Frame]) -> None:
    """In the controller: the measurements become pytest-benchmark's own objects."""
    session = _session(config)
    if session is None:
        return
    kind: Any = importlib.import_module("pytest_benchmark.stats").Metadata
    for frame in frames:
        fixture = SimpleNamespace(**{key: frame[key] for key in ("name", "fullname", "group", "param", "params", "extra_info")})
        fixture.cprofile_stats = None
        fixture.has_error = frame["error"]
        bench = kind(fixture, iterations=frame["iterations"], options=frame["options"])
        for duration in frame["data"]:
            bench.stats.update(duration)
        session.benchmarks.append(bench)
