"""What a test's marks ask of the engine: `holdfast(...)`, `timeout`, `forked`. Wrong values are a usage error that names the test."""

from __future__ import annotations

import argparse
import re
import weakref
from typing import Any, Optional

import pytest

from holdfast.amounts import bytes_in
from holdfast.compat import benchmark, fkit
from holdfast.compat.loaded import is_loaded
from holdfast.options import ISOLATIONS, MAX_RETRIES, RETRY_CAUSES, is_for_jobs, is_interactive, retries
from holdfast.parallel import EACH, Ranks, ranks_of
from holdfast.project import as_text
from holdfast.wire import Frame

# Seconds.
_AFTER_PYTEST_TIMEOUT = 5.0
_MOST_GPUS = 64
_ARCH = re.compile(r"(>=)?\d+\.\d+|sm_\d{2,3}|nvidia|amd")
# Marks that mean something here.
_NAMES = frozenset(("holdfast", "timeout", "forked", "serial", "xdist_group", *fkit.MARKS))
_above: weakref.WeakKeyDictionary[Any, set[str]] = weakref.WeakKeyDictionary()
KEYWORDS = (
    "timeout",
    "isolate",
    "retry",
    "cores",
    "memory",
    "exclusive",
    "shared",
    "serial",
    "leaks",
    "gpus",
    "vram",
    "gpu_arch",
    "faults",
)


def wishes_of(item: pytest.Item, isolation: str) -> Frame:
    """Only what differs from the defaults, in the words of protocol/README.md (`items`). Raises pytest.UsageError."""
    wishes = _wishes_of_marks(item, isolation)
    # Of the project's file (overrides.py).
    if (slow := getattr(item, "holdfast_slow", None)) is not None:
        wishes["slow"] = slow
    if (group := getattr(item, "holdfast_group", None)) is not None:
        name, most = group
        demand = wishes.setdefault("demand", {})
        if most == 1:
            demand.setdefault("tokens", {})[f"group {name}"] = True
        else:
            demand.setdefault("leases", {})[f"group {name}"] = most
        wishes.pop("batch", None)
    return wishes


def _wishes_of_marks(item: pytest.Item, isolation: str) -> Frame:
    wishes: Frame = {}
    if getattr(item, "holdfast_is_program", False):
        # It has a process of its own whatever process of ours waits for it, and nothing that ran there before can be to blame.
        wishes["program"] = True
        if (number := item.holdfast_batch()) is not None:  # type: ignore[attr-defined]
            wishes["batch"] = number
        isolation = "worker" if isolation == "test" else isolation
    ranks = ranks_of(item)
    if ranks is None and not _NAMES.intersection(mark_names(item)) and not benchmark.is_here(item.config):
        # The fast way for nearly all tests: there may be tens of thousands.
        return {**wishes, **_place(item, "test" if item.config.getoption("forked", False) else isolation)}
    given = _keywords(item)
    if given.get("faults") is not None:
        # What they break stays broken.
        if given.get("isolate") not in (None, "test"):
            raise _wrong(item, f"has faults= and isolate={given['isolate']!r}", "isolate='test'")
        given = {**given, "isolate": "test"}
        wishes["faulted"] = True
    own = given.get("isolate") == "test" or item.get_closest_marker("forked") is not None
    if ranks is not None:
        given = _with_ranks(item, given, ranks)
    wishes.update(_place(item, _isolation(item, isolation, given)))
    if given.get("isolate") == "test":
        wishes["own"] = True
    timeout = timeout_of(item, given)
    if timeout is not None:
        wishes["timeout"] = timeout
    if given.get("retry") is not None:
        wishes["retries"] = _retries(item, given["retry"])
    if given.get("leaks") is not None:
        if given["leaks"] not in ("report", "fail", "ignore"):
            raise _wrong(item, f"has leaks={given['leaks']!r}", "'report', 'fail' or 'ignore'")
        wishes["leaks"] = given["leaks"]
    demand = _demand(item, given)
    if ranks is not None:
        demand["ranks"] = _slots(item) if ranks.all else int(ranks)
        if isolation == "worker" and not own and "gpus" not in demand and "vram" not in demand and "program" not in wishes:
            demand["pool"] = True
        if (manager := getattr(item, "holdfast_mpi_manager", "")) != "":
            wishes["manager"] = manager
    if demand:
        wishes["demand"] = demand
    group = group_of(item)
    if group:
        wishes["group"] = group
    return wishes


def _with_ranks(item: pytest.Item, given: dict[str, Any], ranks: Ranks) -> dict[str, Any]:
    """What holds for each rank. They are never a slot's ordinary worker: MPI is initialised there."""
    for name in (*EACH, "serial"):
        if name in ranks.each and name in given:
            raise _wrong(item, f"has {name}=, and so has parallel()", "it in one of the two")
    if given.get("isolate") not in (None, "test"):
        raise _wrong(item, f"has isolate={given['isolate']!r} on a test with MPI ranks", "isolate='test'")
    return {**given, **ranks.each, "isolate": "test"}


def _slots(item: pytest.Item) -> int:
    """All that one machine has. Where a job has not begun nobody knows, and any node will do, which then says what it has."""
    workers: Any = getattr(item.config, "workerinput", {})
    in_a_job = is_for_jobs(item.config)
    return int(workers.get("slots_here") or (1 if in_a_job else workers.get("workercount", 1)))


def mark_names(item: pytest.Item) -> set[str]:
    """Of the marks of the item and everything above it."""
    names = {mark.name for mark in item.own_markers}
    parent = item.parent
    if parent is not None:
        above = _above.get(parent)
        if above is None:
            above = _above[parent] = {mark.name for node in parent.listchain() for mark in node.own_markers}
        names |= above
    return names


def group_of(item: pytest.Item) -> str:
    """pytest-xdist's `@pytest.mark.xdist_group("name")` or `xdist_group(name="name")`."""
    mark = item.get_closest_marker("xdist_group")
    if mark is None:
        return ""
    return str(mark.args[0] if mark.args else mark.kwargs.get("name", "default"))


def _demand(item: pytest.Item, given: dict[str, Any]) -> Frame:
    """What the test needs while it runs, in the words of plan::Demand."""
    demand: Frame = {}
    cores = given.get("cores")
    if cores is not None:
        if isinstance(cores, bool) or not isinstance(cores, int) or cores < 1:
            raise _wrong(item, f"has cores={cores!r}", "a whole number of at least 1")
        demand["cores"] = cores
    if given.get("memory") is not None:
        demand["memory"] = _bytes(item, given["memory"])
    serial = given.get("serial")
    if serial not in (None, True, False):
        raise _wrong(item, f"has serial={serial!r}", "True or False")
    if serial or benchmark.runs_alone(item) or item.get_closest_marker("serial") is not None:
        demand["alone"] = True
    tokens = _tokens(item, given)
    if tokens:
        demand["tokens"] = tokens
    demand.update(_gpus(item, given))
    return demand


def _gpus(item: pytest.Item, given: dict[str, Any]) -> Frame:
    """What it asks for of GPUs; nothing if it says nothing of them."""
    gpus, vram, arch = given.get("gpus"), given.get("vram"), given.get("gpu_arch")
    if gpus is None and vram is None and arch is None:
        count = fkit.gpus(item)
        return {"gpus": count, "soft": True} if count else {}
    if gpus is None:
        gpus = 1
    if isinstance(gpus, bool) or not isinstance(gpus, int) or not 0 <= gpus <= _MOST_GPUS:
        raise _wrong(item, f"has gpus={gpus!r}", f"a whole number of 0 to {_MOST_GPUS}")
    demand: Frame = {"gpus": gpus}
    if gpus == 0 and (vram is not None or arch is not None):
        raise _wrong(item, "has gpus=0 and asks for memory or an architecture of GPUs", "one of the two")
    if vram is not None:
        demand["vram"] = _bytes(item, vram, "vram", "vram='20GiB'")
    if arch is not None:
        names = [arch] if isinstance(arch, str) else arch
        if not isinstance(names, (list, tuple)) or not names or not all(isinstance(n, str) and _ARCH.fullmatch(n) for n in names):
            raise _wrong(item, f"has gpu_arch={arch!r}", "'9.0', 'sm_90', '>=8.0', 'nvidia', 'amd', or a list of these")
        demand["arch"] = list(names)
    return demand


def _bytes(item: pytest.Item, value: Any, keyword: str = "memory", example: str = "memory='2G'") -> int:
    """A number of bytes, or text with a unit: `300M`, `1.5G`."""
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    found = bytes_in(value) if isinstance(value, str) else None
    if found is None:
        raise _wrong(item, f"has {keyword}={value!r}", f"a number of bytes, or one with a unit, as in {example}")
    return found


def _tokens(item: pytest.Item, given: dict[str, Any]) -> dict[str, bool]:
    """name -> whether it is wanted exclusively."""
    tokens: dict[str, bool] = {}
    lock = fkit.token(item)
    if lock:
        tokens[lock] = True
    for keyword, exclusive in (("exclusive", True), ("shared", False)):
        value = given.get(keyword)
        names = [value] if isinstance(value, str) else [] if value is None else value
        if not isinstance(names, (list, tuple, set)) or not all(isinstance(name, str) and name for name in names):
            raise _wrong(item, f"has {keyword}={value!r}", f"a name or a list of names, as in {keyword}='port:8080'")
        for name in names:
            if tokens.setdefault(name, exclusive) is not exclusive:
                raise _wrong(item, f"wants {name!r} both exclusively and shared", "one of the two")
    return tokens


def _keywords(item: pytest.Item) -> dict[str, Any]:
    """Of all `holdfast` marks of the test; the closest one wins."""
    found: dict[str, Any] = {}
    for mark in item.iter_markers("holdfast"):
        if mark.args:
            raise _wrong(item, f"takes keywords only, not {mark.args[0]!r}", f"holdfast({KEYWORDS[0]}=...)")
        for name, value in mark.kwargs.items():
            if name not in KEYWORDS:
                raise _wrong(item, f"does not know {name!r}", f"one out of {', '.join(KEYWORDS)}")
            found.setdefault(name, value)
    return found


def _wrong(item: pytest.Item, problem: str, instead: str) -> pytest.UsageError:
    return pytest.UsageError(f"{item.nodeid}: the holdfast mark {problem}; give {instead}")


def _place(item: pytest.Item, isolation: str) -> Frame:
    """Whether the test may run in a process that has run others, and in which: of a scope, or else the slot's worker."""
    if isolation == "worker":
        return {"reuse": True}
    scope: Any = None
    if isolation == "module":
        scope = item.getparent(pytest.File)
    elif isolation == "class":
        # The outermost: the fixtures of nested ones are below its own.
        scope = next((node for node in item.listchain() if isinstance(node, pytest.Class)), None)
    return {"reuse": True, "scope": scope.nodeid} if scope is not None else {}


def _isolation(item: pytest.Item, isolation: str, given: dict[str, Any]) -> str:
    """A mark's word counts more than the option's."""
    wanted = given.get("isolate")
    forked = item.get_closest_marker("forked") is not None or bool(item.config.getoption("forked", False))
    if wanted is None and fkit.is_unisolated(item):
        wanted = "worker"
    if wanted is None and given.get("memory") is not None:
        return "test"  # Its memory can be limited, and proved, only for a process of its own.
    if wanted is None and given.get("gpus") == 0:
        return "test"  # No other test's devices are to be seen.
    if wanted is None:
        return "test" if forked else isolation
    if wanted not in ISOLATIONS:
        raise _wrong(item, f"has isolate={wanted!r}", f"one out of {', '.join(ISOLATIONS)}")
    if wanted != "test" and forked:
        raise _wrong(item, f"has isolate={wanted!r}, but there is a `forked` mark too", "one of the two")
    return str(wanted)


def timeout_of(item: pytest.Item, given: dict[str, Any]) -> Optional[float]:
    """Seconds from @pytest.mark.holdfast(timeout=) or else @pytest.mark.timeout."""
    if is_interactive(item.config.option):
        return None
    name, value = "holdfast", given.get("timeout")
    if value is None:
        mark = item.get_closest_marker("timeout")
        if mark is None:
            return None
        name, value = "timeout", mark.args[0] if mark.args else mark.kwargs.get("timeout")
        if value is None:
            return None
        if is_loaded(item.config, "timeout", "pytest_timeout") and isinstance(value, (int, float)) and value > 0:
            # pytest-timeout is there and the mark is its own: it acts first, and the engine if that does not help.
            value += _AFTER_PYTEST_TIMEOUT
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e9:
        raise pytest.UsageError(f"{item.nodeid}: the {name} mark's timeout is {value!r}; give a number of seconds, 0 for none")
    # 0 lifts the limit, as with pytest-timeout; for the engine that is a day.
    return float(value) or 86400.0


def _retries(item: pytest.Item, value: Any) -> dict[str, int]:
    """`2` (for every cause), `"crashed:1"` or `{"crashed": 1}`."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_RETRIES:
        return dict.fromkeys(RETRY_CAUSES, value)
    value = as_text(value)
    try:
        if isinstance(value, str):
            return retries(value)
    except argparse.ArgumentTypeError as problem:
        raise _wrong(item, f"has a retry that is wrong: {problem}", "CAUSE:TIMES") from None
    raise _wrong(item, f"has retry={value!r}", f"0 to {MAX_RETRIES}, or CAUSE:TIMES")
