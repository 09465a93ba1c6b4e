"""Commands that begin with a launcher of MPI programs, as CTest's often do: what it would launch, for our own ranks."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

_LAUNCHERS = ("mpiexec", "mpirun", "orterun", "prterun", "srun")
_RANKS = ("-n", "-np", "--np", "--n", "-c", "--ntasks")
# What they would do about CPUs, users and words is ours to decide; with how many words these take.
_OURS = {
    "--oversubscribe": 0, "-oversubscribe": 0, "--allow-run-as-root": 0, "--use-hwthread-cpus": 0, "-q": 0, "--quiet": 0, "-l": 0,
    "--tag-output": 0, "--nooversubscribe": 0, "--bind-to": 1, "-bind-to": 1, "--map-by": 1, "-map-by": 1, "--rank-by": 1,
    "--report-bindings": 0, "--overlap": 0, "--label": 0, "--display-map": 0,
}  # fmt: skip


@dataclass(frozen=True)
class Launched:
    ranks: int
    command: tuple[str, ...]
    environment: tuple[str, ...]  # NAME=value, that the launcher was to give to each.
    launcher: str


def is_launcher(word: str) -> bool:
    """mpirun.openmpi, mpiexec.hydra, /opt/mpi/bin/mpiexec: whatever stands behind the point."""
    return os.path.basename(word).partition(".")[0] in _LAUNCHERS


def launched_by(command: Sequence[str], processors: int) -> Optional[Launched]:
    """`processors`: the number of ranks where the command says none. None where there is no launcher, or one that is told something
    that only it can do (hosts, several programs, files of options): then it is to do so."""
    if not command or not is_launcher(command[0]):
        return None
    ranks = 0
    environment: list[str] = []
    rest = list(command[1:])
    while rest and rest[0].startswith("-"):
        option, joined, value = rest.pop(0).partition("=")
        words = [value] if joined else []
        wanted = _arguments(option, os.path.basename(command[0]))
        if wanted is None:
            return None
        while len(words) < wanted and rest:
            words.append(rest.pop(0))
        if len(words) != wanted:
            return None
        if option in _RANKS:
            ranks = int(words[0]) if words[0].isascii() and words[0].isdigit() else 0
            if ranks == 0:
                return None
        else:
            environment += _environment(option, words)
    if not rest or ":" in rest:
        return None
    ranks = ranks or processors
    return Launched(ranks, tuple(rest), tuple(environment), command[0]) if ranks > 0 else None


def _arguments(option: str, launcher: str) -> Optional[int]:
    """None for an option that is not ours to follow."""
    if option == "-c" and launcher.startswith("srun"):
        return None  # CPUs of each, there.
    if option in _RANKS or option in ("-x",):
        return 1
    if option in ("--mca", "-mca", "--gmca", "-gmca", "-env", "-genv"):
        return 2
    return _OURS.get(option)


def _environment(option: str, words: Sequence[str]) -> list[str]:
    if option in ("-env", "-genv"):
        return [f"{words[0]}={words[1]}"]
    if option.lstrip("-") in ("mca", "gmca"):
        return [f"OMPI_MCA_{words[0]}={words[1]}"]
    if option == "-x" and "=" in words[0]:
        return [words[0]]  # Without a value it means what all have anyway.
    return []
