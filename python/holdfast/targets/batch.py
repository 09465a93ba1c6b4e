"""Quick tests of one program in one process (isolation `worker`).

A pass counts where the whole process has ended with 0, and only then. A test that fails there is judged again by the engine, in a
process of its own. Where the process dies, the test that it had begun last is taken to have died, and judged again; all others run by
themselves, as they do where the process takes longer than quick tests would.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Callable, Optional

from holdfast.targets.model import Test, Told
from holdfast.targets.notes import memory_file
from holdfast.targets.running import REPORTS, Outcome, OutOfTime, outcome_of, run_program, with_reason

# Seconds. What takes longer is not quick.
LIMIT = 1.0
# Characters of names in a command: the kernel takes 128 KiB of one word.
_MOST = 64 << 10


@dataclasses.dataclass(frozen=True)
class End:
    """Of a process with several tests. Those without an outcome are to run by themselves."""

    tests: frozenset[str] = frozenset()
    outcomes: dict[str, Outcome] = dataclasses.field(default_factory=dict)
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    too_slow: bool = False


def key_of(kind: str, test: Test) -> Optional[object]:
    """Tests with the same one can share a process; None for one that cannot."""
    return REPORTS[kind].batch_of(test) if kind in REPORTS and not (test.problem or test.disabled or test.ranks) else None


def fitting(tests: Sequence[Test]) -> Sequence[Test]:
    """As many from the first on as one command has room for."""
    room = _MOST
    for number, test in enumerate(tests):
        room -= len(os.fsencode(test.name)) * 2 + 1
        if room < 0:
            return tests[:number]
    return tests


def run_batch(kind: str, tests: Sequence[Test], limit: float, output: Callable[[], str]) -> End:
    """Of tests with the same key. `output`: as in running.run()."""
    framework = REPORTS[kind]
    all_ = frozenset(test.name for test in tests)
    with memory_file("holdfast-report") as number:
        file = Path(f"/proc/{os.getpid()}/fd/{number}")
        begun = time.monotonic()
        try:
            ended = run_program([*framework.together(tests), *framework.report_options(str(file))], tests[0], limit)
        except OutOfTime:
            return End(all_, too_slow=True)
        except OSError:
            return End(all_)  # It will be said of each.
        took = time.monotonic() - begun
        told = framework.told_each(file)
        if os.WIFSIGNALED(ended.status) or told is None:
            return End(all_, _died(framework, file, tests, ended, output))
        wanted = {test.name: told[test.name] for test in tests if test.name in told}
        found = {name: with_reason(framework, name, outcome_of(one), output) for name, one in wanted.items()}
        if ended.status != 0 or set(told) - set(wanted):
            found = {name: outcome for name, outcome in found.items() if outcome.verdict == "failed"}
        return End(all_, found, _shares(wanted, took))


def _died(framework: ModuleType, file: Path, tests: Sequence[Test], ended: Outcome, output: Callable[[], str]) -> dict[str, Outcome]:
    last = framework.begun_last(file, output())
    return {test.name: ended for test in tests if test.name == last}


def _shares(told: dict[str, Told], took: float) -> dict[str, float]:
    """Seconds of each: what it says itself, and of the rest (the start of the process) the same for all."""
    own = {name: one.seconds or 0.0 for name, one in told.items()}
    rest = max(0.0, took - sum(own.values())) / max(1, len(own))
    return {name: seconds + rest for name, seconds in own.items()}
