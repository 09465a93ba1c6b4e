"""Tests of several MPI ranks, as users write them: `holdfast.mark.parallel`, the fixtures `comm` and `mpi_tmpdir`.

`import holdfast as pytest_parallel` serves suites that were written for pytest_parallel.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any, Optional, Union

import pytest

MOST_RANKS = 4096
# What a mark may ask of the engine for each rank, beside their number.
EACH = ("cores", "memory", "gpus", "vram")
# What may be reserved around it (the seed's `exclusive_numa_domain`): in both cases nothing else runs beside it on this machine, which
# is the least that keeps a domain free of tests that are bound to none.
DOMAINS = ("cpu", "node")


class Ranks(int):
    """How many ranks a test has, as the parameter of its `comm`; pytest makes the same id of it as of the plain number."""

    # For each rank, in the words of the holdfast mark.
    each: dict[str, Any]
    # As many as there are slots.
    all: bool

    def __new__(cls, count: int, each: dict[str, Any], all_of_them: bool = False) -> Ranks:
        ranks = super().__new__(cls, count)
        ranks.each = each
        ranks.all = all_of_them
        return ranks


class Mark:
    """`holdfast.mark`."""

    @staticmethod
    def parallel(n_procs: Union[int, Iterable[int]], **each: Any) -> pytest.MarkDecorator:
        """The test runs as `n_procs` ranks of an MPI program, once for each number if there are several, and takes their communicator
        as `comm`. `cores`, `memory`, `gpus` and `vram` are for each rank, `exclusive_numa_domain` (`cpu` or `node`) keeps other tests
        away (docs/mpi.md). Raises TypeError, ValueError."""
        if "exclusive_numa_domain" in each:
            domain = each.pop("exclusive_numa_domain")
            if domain not in DOMAINS:
                raise ValueError(f"parallel(exclusive_numa_domain={domain!r}): give 'cpu' or 'node'")
            each["serial"] = True
        unknown = sorted(set(each) - {*EACH, "serial"})
        if unknown:
            names = ", ".join((*EACH, "exclusive_numa_domain"))
            raise TypeError(f"parallel() does not know {unknown[0]!r}; it takes the number of ranks, and {names}")
        counts = list(n_procs) if isinstance(n_procs, Iterable) and not isinstance(n_procs, str) else [n_procs]
        if not counts:
            raise ValueError("parallel([]): give at least one number of ranks")
        return pytest.mark.parametrize("comm", [Ranks(_count(count), each) for count in counts], indirect=["comm"])

    @staticmethod
    def parallel_from_context(**each: Any) -> pytest.MarkDecorator:
        """The test runs as as many ranks as there are slots."""
        one: Ranks = Mark.parallel(1, **each).args[1][0]
        ranks = Ranks(1, one.each, all_of_them=True)
        return pytest.mark.parametrize("comm", [ranks], ids=["all"], indirect=["comm"])


mark = Mark()


def _count(value: Any) -> int:
    try:
        count = int(value.__index__())
    except AttributeError:
        count = 0
    if isinstance(value, bool) or not 1 <= count <= MOST_RANKS:
        raise ValueError(f"parallel({value!r}): give a number of ranks from 1 to {MOST_RANKS}, or a list of them")
    return count


def ranks_of(item: pytest.Item) -> Optional[Ranks]:
    """None for a test that has nothing to do with MPI, as far as can be seen."""
    if (program := getattr(item, "holdfast_ranks", 0)) > 0:
        return Ranks(program, {})
    callspec = getattr(item, "callspec", None)
    ranks = callspec.params.get("comm") if callspec is not None else None
    if isinstance(ranks, Ranks):
        return ranks
    # It takes a communicator and does not say of whom: of itself.
    names = getattr(item, "fixturenames", ())
    if "comm" in names or "mpi_tmpdir" in names:
        info: Any = item._fixtureinfo  # type: ignore[attr-defined]
        definitions = info.name2fixturedefs.get("comm" if "comm" in names else "mpi_tmpdir", ())
        if definitions and getattr(definitions[-1].func, "__module__", "") == __name__:
            return Ranks(1, {})
    return Ranks(1, {}) if _imports_mpi(getattr(item, "module", None)) else None


def _imports_mpi(module: Any) -> bool:
    """Whether a test of this module may well use MPI, which is not initialised before a test is there that has ranks."""
    if module is None or "mpi4py.MPI" not in sys.modules:
        return False
    known = _importers.get(module.__name__)
    if known is None:
        known = any(_origin(value) in ("mpi4py", "mpi4py.MPI") for value in list(vars(module).values()))
        _importers[module.__name__] = known
    return known


def _origin(value: object) -> str:
    """Whose it is. Asks nothing of the object itself: a suite's globals may be proxies that raise."""
    kind = type(value)
    if issubclass(kind, types.ModuleType):
        return str(vars(value).get("__name__", ""))
    return str(vars(value).get("__module__", "") if issubclass(kind, type) else getattr(kind, "__module__", ""))


# By module name: whether it has imported something of mpi4py.
_importers: dict[str, bool] = {}


@pytest.fixture
def comm(request: pytest.FixtureRequest) -> Generator[Any, None, None]:
    """The communicator of the test's ranks, which nobody else has (`@holdfast.mark.parallel(n)`: its size is n)."""
    from holdfast import mpi

    wanted = getattr(request, "param", 1)
    process = mpi.of_this_process()
    if process is None:
        yield _without_engine(int(wanted))
        return
    communicator = process.communicator()
    yield communicator
    process.free(communicator)


def _without_engine(wanted: int) -> Any:
    """In plain pytest."""
    MPI = pytest.importorskip("mpi4py.MPI", reason="mpi4py is not installed")
    if MPI.COMM_WORLD.size != wanted:
        pytest.skip(f"{wanted} MPI rank(s) are needed, and this process is one of {MPI.COMM_WORLD.size}; run it with --holdfast")
    return MPI.COMM_WORLD


@pytest.fixture
def mpi_tmpdir(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of the test that is the same one on all of its ranks."""
    from holdfast import mpi

    process = mpi.of_this_process()
    if process is None:
        return tmp_path_factory.mktemp("mpi")
    # Beside those of the slots, each of which has one below the run's.
    folder = tmp_path_factory.getbasetemp().parent / process.name
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder
