"""The heat equation at rest on a square, by Jacobi's method, on any number of MPI ranks.

The grid is cut into strips of rows, one a rank. Before each sweep neighbours exchange the rows next to their border (the halo).
"""

import numpy as np


class Strip:
    """The rows of one rank, with a row of halo above and below. The outermost rows and columns of the whole grid are fixed: 1 on
    top, 0 elsewhere."""

    def __init__(self, comm, size):
        self.comm = comm
        inner = size - 2
        self.rows = [inner // comm.size + (rank < inner % comm.size) for rank in range(comm.size)]
        self.grid = np.zeros((self.rows[comm.rank] + 2, size))
        if comm.rank == 0:
            self.grid[0] = 1.0

    def exchange(self):
        """Fills the halo with what the neighbours have."""
        above, below = self.comm.rank - 1, self.comm.rank + 1
        # Both directions at once, so that nobody waits for somebody who waits.
        if below < self.comm.size:
            self.grid[-1] = self.comm.sendrecv(self.grid[-2].copy(), below, source=below)
        if above >= 0:
            self.grid[0] = self.comm.sendrecv(self.grid[1].copy(), above, source=above)

    def sweep(self):
        """One step; returns by how much any point of the whole grid has changed at most."""
        self.exchange()
        old = self.grid[1:-1, 1:-1].copy()
        self.grid[1:-1, 1:-1] = (self.grid[:-2, 1:-1] + self.grid[2:, 1:-1] + self.grid[1:-1, :-2] + self.grid[1:-1, 2:]) / 4
        mine = float(np.abs(self.grid[1:-1, 1:-1] - old).max(initial=0.0))
        from mpi4py import MPI

        return self.comm.allreduce(mine, op=MPI.MAX)

    def gather(self):
        """The inner rows of all ranks, on rank 0; None elsewhere."""
        parts = self.comm.gather(self.grid[1:-1])
        return np.vstack(parts) if parts is not None else None


def solve(comm, size, tolerance=1e-6, most=10_000):
    strip = Strip(comm, size)
    for sweeps in range(1, most + 1):
        if strip.sweep() < tolerance:
            return strip, sweeps
    raise RuntimeError(f"not at rest after {most} sweeps")
