"""Launchers of MPI programs at the beginning of a command: what they would launch."""

from __future__ import annotations

import shlex

import pytest

from holdfast.targets.launched import is_launcher, launched_by


@pytest.mark.parametrize(
    ("command", "ranks", "rest", "environment"),
    [
        ("mpiexec -n 4 ./prog -n 5 --mca a b", 4, "./prog -n 5 --mca a b", ()),
        ("/opt/mpi/bin/mpirun --np=3 --bind-to core ./prog", 3, "./prog", ()),
        (
            "mpirun.openmpi -np 2 --oversubscribe -x A=b=c -x HOME --mca btl self,sm ./prog",
            2,
            "./prog",
            ("A=b=c", "OMPI_MCA_btl=self,sm"),
        ),
        ("mpiexec.hydra -genv A b -l -n 2 ./prog x", 2, "./prog x", ("A=b",)),
        ("srun --ntasks=2 --overlap ./prog", 2, "./prog", ()),
        ("mpirun ./prog", 6, "./prog", ()),
    ],
)
def test_what_is_launched(command, ranks, rest, environment):
    found = launched_by(shlex.split(command), 6)
    assert found is not None
    assert (found.ranks, found.command, found.environment) == (ranks, tuple(shlex.split(rest)), environment)
    assert found.launcher == command.split()[0]


@pytest.mark.parametrize(
    "command",
    [
        "./prog -n 4", "", "mpirunner -n 2 ./prog", "mpirun --hostfile hosts -n 2 ./prog", "mpirun -n 2 ./a : -n 1 ./b", "mpirun -n two ./prog",
        "mpirun -n 2", "mpirun -n", "mpirun -x", "srun -c 2 ./prog", "mpirun --unheard-of -n 2 ./prog", "mpirun -n 0 ./prog", "mpirun --oversubscribe=1 ./prog",
        "mpirun -n ² ./prog",
    ],
)  # fmt: skip
def test_what_is_left_as_it_is(command):
    assert launched_by(shlex.split(command), 6) is None


def test_no_number_anywhere():
    assert launched_by(["mpirun", "./prog"], 0) is None


def test_names_of_launchers():
    assert all(is_launcher(word) for word in ("mpiexec", "/usr/bin/mpirun.openmpi", "orterun", "prterun", "mpiexec.hydra", "srun"))
    assert not any(is_launcher(word) for word in ("mpicc", "./run", "mpirun-all"))
