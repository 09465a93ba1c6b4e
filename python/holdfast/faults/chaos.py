"""`--hf-chaos=FILE`: faults for all tests of a suite, drawn by a seed and the test's id, so the same whenever it is run again.

seed = 7          # otherwise drawn anew and shown; --hf-seed is stronger
tests = 0.2       # the share of tests that get any (all)
pick = 1          # how many of the faults such a test gets (all)

[[fault]]
kind = "out_of_memory"
probability = 0.01
"""

from __future__ import annotations

import random
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from holdfast.faults.errors import BadFault
from holdfast.faults.fault import Fault
from holdfast.faults.kinds import read


@dataclass(frozen=True)
class Chaos:
    faults: tuple[Fault, ...]
    seed: int
    tests: float
    pick: int

    def faults_for(self, nodeid: str) -> list[Fault]:
        # Not hash(): that differs from process to process.
        draw = random.Random(f"{self.seed}/{nodeid}")
        if draw.random() >= self.tests:
            return []
        chosen = sorted(draw.sample(range(len(self.faults)), min(self.pick, len(self.faults))))
        return [self.faults[i].with_(seed=zlib.crc32(f"{self.seed}/{nodeid}/{i}".encode(errors="surrogatepass"))) for i in chosen]


def load(path: Path, seed: Optional[int]) -> Chaos:
    """`seed`: instead of the file's. Raises BadFault."""
    faults, other = read(path)
    known: dict[str, Any] = {"seed": 0, "tests": 1.0, "pick": len(faults)}
    for key in other:
        if key not in known:
            raise BadFault(f"{path}: {key!r} is not known; {', '.join(known)} and [[fault]] are")
    known.update(other)
    if not _is(known["seed"], int) or known["seed"] < 0:
        raise BadFault(f"{path}: seed is {known['seed']!r}; give a whole number from 0 on")
    if not (_is(known["tests"], int, float) and 0 < known["tests"] <= 1):
        raise BadFault(f"{path}: tests is {known['tests']!r}; give a share above 0 and up to 1")
    if not _is(known["pick"], int) or not 1 <= known["pick"] <= len(faults):
        raise BadFault(f"{path}: pick is {known['pick']!r}; give how many of the {len(faults)} faults a test gets")
    checked = []
    for number, fault in enumerate(faults, 1):
        try:
            # Not every test comes by every fault.
            optional = fault.with_(required=False)
            optional.check()
        except BadFault as problem:
            raise BadFault(f"{path}: fault {number}: {problem}") from None
        checked.append(optional)
    return Chaos(tuple(checked), known["seed"] if seed is None else seed, float(known["tests"]), known["pick"])


def file_seed(path: Path) -> Optional[int]:
    """What the file says of it. Raises BadFault."""
    seed = read(path)[1].get("seed")
    return seed if _is(seed, int) else None


def _is(value: Any, *kinds: type) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool)
