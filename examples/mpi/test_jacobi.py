"""The solver on 1, 2 and 4 ranks. Four tests are wrong on purpose, to show how that looks:

pytest --holdfast --hf-slots=4 --hf-timeout=3 --hf-grace=1 examples/mpi
"""

import ctypes

import numpy as np
import pytest
from jacobi import Strip, solve

import holdfast

parallel = holdfast.mark.parallel


@parallel([1, 2, 4])
def test_rows_are_shared_out(comm):
    strip = Strip(comm, 33)
    assert comm.allreduce(strip.grid.shape[0] - 2) == 31


@parallel([2, 4])
def test_the_halo_is_the_neighbours_border(comm):
    strip = Strip(comm, 18)
    strip.grid[1:-1] = comm.rank
    strip.exchange()
    if comm.rank > 0:
        assert (strip.grid[0] == comm.rank - 1).all()
    if comm.rank < comm.size - 1:
        assert (strip.grid[-1] == comm.rank + 1).all()


@parallel([1, 2, 4])
def test_the_middle_is_a_quarter(comm):
    """By symmetry: four such squares, one with each side hot, add up to a square that is hot all over."""
    strip, _ = solve(comm, 9, tolerance=1e-5)
    whole = strip.gather()
    if comm.rank == 0:
        assert whole[3, 4] == pytest.approx(0.25, abs=1e-3)


@parallel(4)
def test_ranks_make_no_difference(comm):
    strip, sweeps = solve(comm, 12, tolerance=1e-3)
    alone, same = solve(comm.Split(comm.rank), 12, tolerance=1e-3)
    whole = comm.bcast(strip.gather())
    assert sweeps == same
    assert np.allclose(whole, alone.grid[1:-1])


# ---- wrong on purpose --------------------------------------------------------------------------------------------------------


@parallel(4)
def test_wrong_the_bottom_is_hot(comm):
    """It is not: only the last rank, which has the bottom, can know."""
    strip, _ = solve(comm, 8, tolerance=1e-2)
    if comm.rank == comm.size - 1:
        assert strip.grid[-2, 4] > 0.5
    comm.Barrier()


@parallel(4)
def test_wrong_everybody_waits_for_the_rank_above(comm):
    """The halo without thinking: receive first, and nobody ever sends."""
    above = (comm.rank - 1) % comm.size
    comm.send(comm.recv(source=above), (comm.rank + 1) % comm.size)


@parallel(2)
def test_wrong_one_rank_dies(comm):
    if comm.rank == 1:
        ctypes.string_at(0)
    comm.Barrier()


@parallel(2)
def test_wrong_one_rank_gives_up(comm):
    if comm.rank == 1:
        comm.Abort(3)
    comm.Barrier()
