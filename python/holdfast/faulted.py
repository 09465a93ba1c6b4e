"""Runs with faults: the options, and the process that has the shim in it. holdfast.faults is imported only where something is to
break."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import pytest

from holdfast.engine_path import EngineMissing
from holdfast.marks import mark_names
from holdfast.options import OPTION, switch_of, value_of

if TYPE_CHECKING:
    from holdfast.faults.chaos import Chaos

SEED = "HOLDFAST_CHAOS_SEED"
FOLDER = "HOLDFAST_FAULTS_FOLDER"
# The property of a report that says what has become of a fault.
PROPERTY = "holdfast_fault"


def are_wanted(config: pytest.Config, known: Any) -> bool:
    if getattr(known, "hf_seed", None) is not None:
        return True  # If only to say that it does nothing by itself.
    return switch_of(config, known, "hf_faults") or bool(value_of(config, known, OPTION["hf_chaos"]))


def refuse_without_engine(known: Any) -> None:
    """Raises pytest.UsageError for options that would do nothing."""
    for name in ("hf_faults", "hf_chaos", "hf_seed"):
        if getattr(known, name, None) not in (None, False, ""):
            raise pytest.UsageError(f"--{name.replace('_', '-')} breaks processes for good, so it needs one a test: add --holdfast")


def begin(config: pytest.Config, known: Any) -> None:
    """Before anything has begun: goes on in a process with the shim. Raises pytest.UsageError."""
    from holdfast.faults import BadFault, pages, preload

    try:
        _chaos(config, known, None)
        preload.begin_again(config.invocation_params.args)
    except (BadFault, EngineMissing) as problem:
        raise pytest.UsageError(f"--holdfast: {problem}") from None
    folder = pages.make_folder()
    config.add_cleanup(lambda: pages.remove_folder(folder))
    os.environ[SEED] = str(_seed(config, known))


def chaos_file(config: pytest.Config, known: Any) -> Optional[Path]:
    given = str(value_of(config, known, OPTION["hf_chaos"]))
    return config.invocation_params.dir / given if given else None


def _seed(config: pytest.Config, known: Any) -> int:
    """The command line's, else the file's, else a new one."""
    from holdfast.faults.chaos import file_seed

    given = value_of(config, known, OPTION["hf_seed"])
    file = chaos_file(config, known)
    if given is None and file is not None:
        given = file_seed(file)
    return random.SystemRandom().randrange(1 << 32) if given is None else int(given)


def _chaos(config: pytest.Config, known: Any, seed: Optional[int]) -> Optional[Chaos]:
    file = chaos_file(config, known)
    if file is None:
        if value_of(config, known, OPTION["hf_seed"]) is not None:
            raise pytest.UsageError("--hf-seed is for the draws of --hf-chaos=FILE, which is missing")
        return None
    from holdfast.faults.chaos import load

    if value_of(config, known, OPTION["hf_isolate"]) != "test":
        raise pytest.UsageError("--hf-chaos breaks what is in a process for good, so each test needs its own: leave out --hf-isolate")
    return load(file, seed)


def register(config: pytest.Config, items: Sequence[pytest.Item]) -> None:
    """In the process that has collected the tests. Raises pytest.UsageError."""
    chaos = None
    if hasattr(config, "workerinput") and chaos_file(config, config.option) is not None:
        if SEED not in os.environ:
            raise pytest.UsageError(
                "--hf-chaos needs the environment of the run where its tests run: leave out --hf-job-environment=none"
            )
        chaos = _chaos(config, config.option, int(os.environ[SEED]))
    some = [item for item in items if "holdfast" in mark_names(item) and _declares(item)]
    if chaos is None and not some:
        return
    from holdfast.faults import marked

    for item in some:
        marked.check(item)
    marked.register(config, chaos)


def _declares(item: pytest.Item) -> bool:
    return any(mark.kwargs.get("faults") is not None for mark in item.iter_markers("holdfast"))
