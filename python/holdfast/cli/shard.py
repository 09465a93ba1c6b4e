"""Prints the tests of one of N equal parts of a suite, one id a line, for CI machines that share it:

    holdfast shard --count 4 --index 0 -- tests > shard.txt
    pytest --holdfast @shard.txt

The parts take equally long by the history, and all machines that have the same history and the same suite get the same parts.
"""

from __future__ import annotations

import argparse
import heapq
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Optional

from holdfast.cli.files import Mistake, find_history, open_history


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--count", type=int, required=True, metavar="N", help="number of parts")
    parser.add_argument("--index", type=int, required=True, metavar="K", help="which part, from 0 to N-1")
    parser.add_argument("--history", type=Path, metavar="FILE", help="default: .holdfast/history.db here or above, if there is one")
    parser.add_argument("--by", choices=("test", "file"), default="test", help="what stays together (test)")
    parser.add_argument(
        "--ids", type=Path, metavar="FILE", help="the suite's ids, one a line (-: standard input), instead of collecting"
    )
    parser.add_argument("pytest", nargs="*", metavar="PYTEST ARGUMENT", help="what to collect (after --)")


def run(options: argparse.Namespace) -> int:
    if options.count < 1:
        raise Mistake(f"--count={options.count}: there must be at least one part")
    if not 0 <= options.index < options.count:
        raise Mistake(f"--index={options.index}: the parts are numbered 0 to {options.count - 1}")
    ids = _read_ids(options.ids) if options.ids else _collect(options.pytest)
    if not ids:
        raise Mistake("no test was collected")
    for nodeid in parts(ids, _durations(options.history), options.count, by_file=options.by == "file")[options.index]:
        print(nodeid)
    return 0


def parts(ids: list[str], durations: dict[str, float], count: int, by_file: bool = False) -> list[list[str]]:
    """Longest processing time first: every group to the part that has the least so far; ties by id, so that it is the same everywhere.
    Inside a part the suite's order is kept."""
    known = [durations[nodeid] for nodeid in ids if nodeid in durations]
    # Without any history every test counts as one.
    usual = sum(known) / len(known) if known else 1.0
    groups: dict[str, float] = {}
    for nodeid in ids:
        # What runs in no time still costs something.
        groups[_group(nodeid, by_file)] = groups.get(_group(nodeid, by_file), 0.0) + max(durations.get(nodeid, usual), 1e-4)
    loads = [(0.0, index) for index in range(count)]
    part_of: dict[str, int] = {}
    for name, seconds in sorted(groups.items(), key=lambda entry: (-entry[1], entry[0])):
        load, index = heapq.heappop(loads)
        part_of[name] = index
        heapq.heappush(loads, (load + seconds, index))
    result: list[list[str]] = [[] for _ in range(count)]
    for nodeid in ids:
        result[part_of[_group(nodeid, by_file)]].append(nodeid)
    return result


def _group(nodeid: str, by_file: bool) -> str:
    return nodeid.split("::")[0] if by_file else nodeid


def _durations(path: Optional[Path]) -> dict[str, float]:
    try:
        path = path or find_history()
    except Mistake:
        return {}
    try:
        return dict(open_history(path).execute("SELECT id, duration FROM tests").fetchall())
    except sqlite3.Error as problem:
        raise Mistake(f"{path}: {problem}") from None


def _read_ids(path: Path) -> list[str]:
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text()
    except OSError as problem:
        raise Mistake(f"{path} cannot be read: {problem.strerror}") from None
    return [line.strip() for line in text.splitlines() if line.strip()]


def _collect(args: list[str]) -> list[str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "holdfast.cli.ids", "--collect-only", "-qq", *args]
    done = subprocess.run(command, env={**os.environ, "HOLDFAST_PLAIN": "1"}, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 5):
        raise Mistake(f"collecting failed (exit status {done.returncode}):\n{done.stdout}{done.stderr}".rstrip())
    mark = "holdfast-id "
    return [line[len(mark) :] for line in done.stdout.splitlines() if line.startswith(mark)]
