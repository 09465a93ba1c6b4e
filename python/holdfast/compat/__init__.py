"""Names and habits of other tools that suites already use: a small file each, mapped to Holdfast's own.

The functions here are the moments of a process's life at which those files want to be asked.
"""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.compat import benchmark, cov, fkit, forked, randomly, sqlalchemy, xdist
from holdfast.wire import Frame


def prepare_worker(config: pytest.Config, workerinput: dict[str, Any]) -> None:
    """The root zygote has parsed its options; its plugins' pytest_configure comes next."""
    xdist.configure_node(config, workerinput)
    xdist.stand_aside(config)
    sqlalchemy.give_database(workerinput)
    randomly.give_seed(config, workerinput)
    cov.give_place(config, workerinput)
    benchmark.before_configure(config)


def configured(config: pytest.Config) -> None:
    """The root zygote's plugins are configured."""
    benchmark.after_configure(config)


def before_forks(config: pytest.Config) -> None:
    """The root zygote has collected and is about to fork."""
    cov.keep_collection(config)


def end_root(config: pytest.Config) -> None:
    """The root zygote has no forks any more; its session ends."""
    cov.end_root(config)


def enter_slot(config: pytest.Config, slot: int) -> None:
    """A slot's zygote, or a cold process, begins."""
    forked.stand_aside(config)
    fkit.enter_slot(config, slot)


def end_of_test(config: pytest.Config) -> list[Frame]:
    """A test has ended in this process. Returns what the controller is to be told, as contents of `report` frames."""
    return benchmark.results(config)


def end_of_process(config: pytest.Config) -> None:
    """A process that ran tests is about to end."""
    cov.save(config)
