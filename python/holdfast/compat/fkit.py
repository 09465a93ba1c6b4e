"""pytest-fkit's interface: options, marks, FKIT_WORKER_ID and the closing summary, mapped to Holdfast's own.

Where pytest-fkit itself is installed (and not blocked by `-p no:fkit`) its names stay its own.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import os
from typing import TYPE_CHECKING, Any, Callable, Optional

import pytest

if TYPE_CHECKING:
    from holdfast.summary import Summary

MARKS = {
    "fkit_skip": "this test needs no process of its own: it runs in a worker, with others (holdfast)",
    "fkit_serial": "no other fkit_serial test runs beside this one (holdfast)",
    "fkit_multi_gpu": "needs several GPUs: --fkit-gpus-per-worker of them; where there is no GPU at all, none (holdfast)",
    "fkit_single_gpu": "needs one GPU; where there is no GPU at all, none (holdfast)",
}
_OPTIONS: tuple[tuple[str, str, str, str], ...] = (
    ("--fkit-timeout", "SECONDS", "600", "limit for one test (as --hf-timeout)"),
    (
        "--fkit-workers",
        "N|auto",
        "1",
        "tests at a time; auto: as many as the GPUs allow, without GPUs half of the CPUs (as --hf-slots)",
    ),
    ("--fkit-gpus-per-worker", "N", "2", "GPUs for each test that says nothing else (as --hf-gpus-per-slot); without GPUs none"),
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
    if found != "auto":
        return found
    gpus = visible_gpus()
    return str(max(1, gpus // max(1, gpus_per_worker(config, options)) if gpus else len(os.sched_getaffinity(0)) // 2))


@functools.cache
def visible_gpus() -> int:
    """How many GPUs tests could be given; 0 where that cannot be told."""
    from holdfast.cli.devices import ask
    from holdfast.cli.files import Mistake

    try:
        return sum(1 for gpu in ask()["gpus"] if gpu["visible"] and not gpu["problem"])
    except Mistake:
        return 0  # The run itself says what is wrong.


def gpus_per_worker(config: pytest.Config, options: argparse.Namespace) -> int:
    return int(_value(config, options, "--fkit-gpus-per-worker", _count))


def gpus(item: pytest.Item) -> int:
    """What its marks ask for."""
    config = item.config
    if is_taken(config.pluginmanager):
        return 0
    if item.get_closest_marker("fkit_multi_gpu") is not None:
        return max(2, gpus_per_worker(config, config.option))
    return 1 if item.get_closest_marker("fkit_single_gpu") is not None else 0


def timeout(config: pytest.Config, options: argparse.Namespace, parse: Callable[[str], float]) -> float:
    return float(_value(config, options, "--fkit-timeout", parse))


def notes(config: pytest.Config) -> list[str]:
    """Lines for the header."""
    if is_taken(config.pluginmanager):
        return ["pytest-fkit is installed: --fkit and its marks are its own (`-p no:fkit` gives them to holdfast)"]
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


def write_summary(config: pytest.Config, reporter: Any, summary: Summary) -> None:
    out = [gpu["id"] for gpu in summary.gpus if gpu["out"]]
    if not is_enabled(config, config.option) or not (summary.crashed or summary.gpu_errors or out):
        return
    reporter.section("pytest-fkit summary")
    if summary.crashed:
        reporter.write_line(f"{len(summary.crashed)} test(s) CRASHED (kept from ending the run by holdfast):")
        for nodeid in summary.crashed:
            reporter.write_line(f"  - {nodeid}")
    if summary.gpu_errors:
        reporter.write_line(f"GPU errors: {summary.gpu_errors} (retries: {summary.gpu_retries})")
    if out:
        reporter.write_line(f"GPUs out of use: {', '.join(out)}")
