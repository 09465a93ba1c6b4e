"""Finds the smallest set of earlier tests that makes a polluted test fail, by bisection in fresh processes.

Reads from the ledger what had run before it in its worker. Every trial is a new plain pytest process in the suite's root directory;
arguments for it (options, not tests) can follow after --.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Callable

from holdfast.cli.files import Mistake, open_ledger
from holdfast.cli.show import find_tests


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("ledger", type=Path)
    parser.add_argument("test", help="a test, or a part of its id that no other test has")
    parser.add_argument(
        "--timeout", type=float, default=600, metavar="SECONDS", help="for one trial, which then counts as failed (600)"
    )
    parser.add_argument("pytest", nargs="*", metavar="PYTEST ARGUMENT", help="options for every trial (after --)")


def run(options: argparse.Namespace) -> int:
    db = open_ledger(options.ledger)
    tests = find_tests(db, options.test)
    if len(tests) > 1:
        raise Mistake(
            f"{len(tests)} tests have {options.test!r} in their ids; give a longer part:\n" + "\n".join(t["id"] for t in tests)
        )
    test = tests[0]
    before = _ran_before(db, test)
    root = db.execute("SELECT value FROM run WHERE key = 'rootdir'").fetchone()[0]
    trials = Trials(root, test["id"], options.timeout, options.pytest)
    print(f"{test['id']}: {len(before)} test(s) ran before it")
    if trials.fails([]):
        print("it also fails when it runs alone: nothing pollutes it")
        return 1
    if not trials.fails(before):
        print("it passes even after all of them: the cause is not (only) in those tests, or not in their order")
        return 1
    culprits = smallest(before, trials.fails)
    print(f"it fails after ({trials.count} trials):")
    for nodeid in culprits:
        print(f"  {nodeid}")
    return 0


def _ran_before(db: sqlite3.Connection, test: sqlite3.Row) -> list[str]:
    for (detail,) in db.execute("SELECT detail FROM attempts WHERE test = ? AND detail IS NOT NULL ORDER BY rowid", (test["idx"],)):
        numbers = json.loads(detail).get("before")
        if numbers:
            names = dict(db.execute("SELECT idx, id FROM tests").fetchall())
            return [names[number] for number in numbers]
    raise Mistake(f"{test['id']} did not fail in a worker that had run other tests before (see `holdfast show`)")


def smallest(items: Sequence[str], fails: Callable[[list[str]], bool]) -> list[str]:
    """A subset, in order, that fails; nothing of it can be left out where more tests never mend what some of them break. All of
    `items` must fail, none of them pass. About log2(items) trials for each of the subset."""
    needed: list[str] = []
    rest = list(items)
    while rest and (not needed or not fails(needed)):
        # With those that are needed it passes after so many of the rest, and fails after so many.
        passes, high = 0, len(rest)
        while high - passes > 1:
            middle = (passes + high) // 2
            if fails([*rest[:middle], *needed]):
                high = middle
            else:
                passes = middle
        needed.insert(0, rest[high - 1])
        rest = rest[: high - 1]
    return needed


class Trials:
    def __init__(self, root: str, test: str, limit: float, arguments: Sequence[str]) -> None:
        self.root = root
        self.test = test
        self.limit = limit
        self.arguments = list(arguments)
        self.count = 0

    def fails(self, before: list[str]) -> bool:
        """Whether the test fails, or its process dies, when these run before it. Raises Mistake if it is not even reached."""
        self.count += 1
        with tempfile.TemporaryDirectory(prefix="holdfast-") as folder:
            record = Path(folder) / "record"
            # By a file: ids may be too many for a command line.
            order = Path(folder) / "order"
            order.write_text("\n".join([*before, self.test]))
            env = {**os.environ, "HOLDFAST_PLAIN": "1", "HOLDFAST_RECORD": str(record), "HOLDFAST_ORDER": str(order)}
            files = list(dict.fromkeys(nodeid.split("::")[0] for nodeid in [*before, self.test]))
            command = [
                sys.executable,
                "-m",
                "pytest",
                "-q",
                "-p",
                "no:cacheprovider",
                "-p",
                "holdfast.cli.trial",
                *self.arguments,
                *files,
            ]
            try:
                done = subprocess.run(
                    command,
                    cwd=self.root,
                    env=env,
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    text=True,
                    timeout=self.limit,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                return True
            said = record.read_text().splitlines() if record.exists() else []
        if f"begin {self.test}" not in said:
            raise Mistake(
                f"the test was not reached in a trial (exit status {done.returncode}):\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
            )
        return f"passed {self.test}" not in said
