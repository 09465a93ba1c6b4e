"""pytest-fkit's interface: options, marks, FKIT_WORKER_ID and the closing summary, mapped to Holdfast's own.

Where pytest-fkit itself is installed (and not blocked by `-p no:fkit`) its names stay its own.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import os
from typing import Any, Callable, Optional

import pytest

MARKS = {
    "fkit_skip": "this test needs no process of its own: it runs in a worker, with others (holdfast)",
    "fkit_serial": "no other fkit_serial test runs beside this one (holdfast)",
    "fkit_multi_gpu": "needs several GPUs (as pytest-fkit: read by people only)",
    "fkit_single_gpu": "needs one GPU (as pytest-fkit: read by people only)",
}
_OPTIONS: tuple[tuple[str, str, str, str], ...] = (
    ("--fkit-timeout", "SECONDS", "600", "limit for one test (as --hf-timeout)"),
    ("--fkit-workers", "N|auto", "1", "tests at a time; auto: half of the CPUs (as --hf-slots)"),
    ("--fkit-gpus-per-worker", "N", "2", "checked; GPUs are not placed by this version"),
)


@functools.cache
def _is_installed() -> bool:
    return importlib.util.find_spec("pytest_fkit") is not None


def is_taken(manager: pytest.PytestPluginManager) -> bool:
    """Whether pytest-fkit itself is there and owns the names."""
    return _is_installed() and not manager.is_blocked("fkit")


def add_options(parser: pytest.Parser) -> None:
    group = parser.getgroup("fkit", "fkit: pytest-fkit's options, run by holdfast")
    group.addoption("--fkit", action="store_true", default=False, help="as --holdfast")
    parser.addini("fkit", "as --fkit", type="bool", default=False)
    for name, metavar, default, text in _OPTIONS:
        group.addoption(name, default=None, metavar=metavar, help=f"{text}; {default}")
        parser.addini(_dest(name), f"{text} (as {name})", default=None)


def _dest(name: str) -> str:
    return name.lstrip("-").replace("-", "_")


def is_enabled(config: pytest.Config, options: argparse.Namespace) -> bool:
    if is_taken(config.pluginmanager):
        return False
    return bool(getattr(options, "fkit", False) or config.getini("fkit"))


def _value(config: pytest.Config, options: argparse.Namespace, name: str, parse: Callable[[str], Any]) -> Any:
    given = getattr(options, _dest(name), None) or config.getini(_dest(name))
    default = next(entry[2] for entry in _OPTIONS if entry[0] == name)
    try:
        return parse(str(given or default))
    except argparse.ArgumentTypeError as problem:
        raise pytest.UsageError(f"{name}: {problem}") from None


def slots(config: pytest.Config, options: argparse.Namespace, parse: Callable[[str], str]) -> str:
    found: str = _value(config, options, "--fkit-workers", parse)
    return str(max(1, len(os.sched_getaffinity(0)) // 2)) if found == "auto" else found


def timeout(config: pytest.Config, options: argparse.Namespace, parse: Callable[[str], float]) -> float:
    return float(_value(config, options, "--fkit-timeout", parse))


def notes(config: pytest.Config) -> list[str]:
    """Lines for the header."""
    if is_taken(config.pluginmanager):
        return ["pytest-fkit is installed: --fkit and its marks are its own (`-p no:fkit` gives them to holdfast)"]
    options = config.option
    if is_enabled(config, options):
        given = _value(config, options, "--fkit-gpus-per-worker", _count)
        if getattr(options, "fkit_gpus_per_worker", None) is not None:
            return [f"--fkit-gpus-per-worker={given}: GPUs are not placed by this version, every worker sees all of them"]
    return []


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of GPUs")
    return int(text)


def refuse_both(config: pytest.Config) -> None:
    """Raises pytest.UsageError where pytest-fkit and Holdfast are both asked to run the tests."""
    if is_taken(config.pluginmanager) and config.getoption("fkit", False):
        raise pytest.UsageError("--holdfast and pytest-fkit's --fkit both want to run the tests; leave out one (or add `-p no:fkit`)")


def enter_slot(config: pytest.Config, slot: int) -> None:
    if is_enabled(config, config.option):
        os.environ["FKIT_WORKER_ID"] = str(slot)


def is_unisolated(item: pytest.Item) -> bool:
    return not is_taken(item.config.pluginmanager) and item.get_closest_marker("fkit_skip") is not None


def token(item: pytest.Item) -> Optional[str]:
    """The lock that the test shares with others."""
    serial = not is_taken(item.config.pluginmanager) and item.get_closest_marker("fkit_serial") is not None
    return "fkit_serial" if serial else None


def write_summary(config: pytest.Config, reporter: Any, crashed: list[str]) -> None:
    if not is_enabled(config, config.option) or not crashed:
        return
    reporter.section("pytest-fkit summary")
    reporter.write_line(f"{len(crashed)} test(s) CRASHED (kept from ending the run by holdfast):")
    for nodeid in crashed:
        reporter.write_line(f"  - {nodeid}")
