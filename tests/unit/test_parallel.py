"""The `parallel` mark, and which tests have something to do with MPI."""

from __future__ import annotations

import sys
import types

import pytest

import holdfast
from holdfast import parallel


def values(mark: pytest.MarkDecorator) -> list[int]:
    return [int(value) for value in mark.args[1]]


def test_a_number_a_list_and_what_numpy_counts_with() -> None:
    numpy = pytest.importorskip("numpy")
    assert values(holdfast.mark.parallel(3)) == [3]
    assert values(holdfast.mark.parallel((1, 4))) == [1, 4]
    assert values(holdfast.mark.parallel(range(1, 3))) == [1, 2]
    assert values(holdfast.mark.parallel(numpy.int64(2))) == [2]
    assert values(holdfast.mark.parallel(numpy.array([2, 3]))) == [2, 3]


@pytest.mark.parametrize("wrong", [0, -1, True, 1.5, "2", None, [1, 0], 5000])
def test_what_is_no_number_of_ranks(wrong: object) -> None:
    with pytest.raises(ValueError, match="give a number of ranks from 1 to 4096"):
        holdfast.mark.parallel(wrong)  # type: ignore[arg-type]


def test_what_each_rank_needs_goes_with_the_number() -> None:
    (ranks,) = holdfast.mark.parallel(2, cores=3, gpus=1).args[1]
    assert ranks == 2 and str(ranks) == "2" and ranks.each == {"cores": 3, "gpus": 1}


class Hostile:
    """A proxy without anything behind it, as web frameworks have them."""

    @property
    def __class__(self):
        raise RuntimeError("outside of a request")

    def __getattr__(self, name: str) -> object:
        raise RuntimeError("outside of a request")


def test_modules_that_use_mpi_are_found_by_what_they_have_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    mpi = types.ModuleType("mpi4py.MPI")
    communicator = type("Comm", (), {"__module__": "mpi4py.MPI"})
    monkeypatch.setitem(sys.modules, "mpi4py.MPI", mpi)
    for number, (known, expected) in enumerate(
        [(mpi, True), (communicator, True), (communicator(), True), (Hostile(), False), (types, False)]
    ):
        module = types.ModuleType(f"test_module_{number}")
        vars(module)["thing"] = known
        assert parallel._imports_mpi(module) is expected, known


@pytest.mark.parametrize("make", [lambda **each: holdfast.mark.parallel(2, **each), holdfast.mark.parallel_from_context])
def test_a_domain_of_its_own_keeps_other_tests_away(make):
    (ranks,) = make(exclusive_numa_domain="cpu", cores=2).args[1]
    assert ranks.each == {"serial": True, "cores": 2}
    with pytest.raises(ValueError, match=r"exclusive_numa_domain='core'\): give 'cpu' or 'node'"):
        make(exclusive_numa_domain="core")
