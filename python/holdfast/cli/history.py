"""What earlier runs have taught: the last runs, and the slowest, flakiest and biggest tests; or one test's trend."""

from __future__ import annotations

import argparse
import datetime
import sqlite3
from pathlib import Path

from holdfast.cli.files import GOOD_IN_SQL, Mistake, open_history

_BAD = f"NOT IN ({GOOD_IN_SQL})"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--history", type=Path, metavar="FILE", help="default: .holdfast/history.db here or above")
    parser.add_argument("--top", type=int, default=10, metavar="N", help="how many tests of each kind (10)")
    parser.add_argument("test", nargs="?", help="a test, or a part of its id: its result in each of the last runs")


def run(options: argparse.Namespace) -> int:
    db = open_history(options.history)
    if options.test:
        return _trend(db, options.test)
    _runs(db)
    limit = (max(1, options.top),)
    _table(
        "slowest",
        db.execute("SELECT printf('%.2f s', duration), id FROM tests ORDER BY duration DESC LIMIT ?", limit).fetchall(),
    )
    _table(
        "biggest (memory beyond what its process began with)",
        db.execute(
            "SELECT printf('%.0f MiB', memory/1048576.0), id FROM tests WHERE memory >= 1048576 ORDER BY memory DESC LIMIT ?", limit
        ).fetchall(),
    )
    _table(
        "most GPU memory",
        db.execute(
            "SELECT printf('%.1f GiB', vram/1073741824.0), id FROM tests WHERE vram > 0 ORDER BY vram DESC LIMIT ?", limit
        ).fetchall(),
    )
    _table(
        "most CPU time",
        db.execute("SELECT printf('%.2f s', cpu), id FROM tests WHERE cpu >= 0.01 ORDER BY cpu DESC LIMIT ?", limit).fetchall(),
    )
    _table(
        "most written to storage",
        db.execute(
            "SELECT printf('%.1f MiB', written/1048576.0), id FROM tests WHERE written >= 1048576 ORDER BY written DESC LIMIT ?", limit
        ).fetchall(),
    )
    _table("flakiest (flaky or polluted, or both good and bad, in the runs that are kept)", _flakiest(db, limit[0]))
    _table("slower than before (last run against the median of the earlier ones)", _slower(db, limit[0]))
    return 0


def _runs(db: sqlite3.Connection) -> None:
    rows = db.execute(
        f"SELECT r.run, r.started, r.seconds, r.slots, r.tests, sum(t.verdict {_BAD}) AS bad, sum(t.notes != '[]') AS noted"
        " FROM runs r JOIN results t USING(run) GROUP BY r.run ORDER BY r.run DESC LIMIT 10"
    ).fetchall()
    if not rows:
        raise Mistake("the history holds no run yet")
    print("last runs")
    for row in rows:
        when = datetime.datetime.fromtimestamp(row["started"]).strftime("%Y-%m-%d %H:%M")
        counts = f"{row['tests']} tests in {row['seconds']:.1f} s on {row['slots']} slot(s)"
        print(f"  {when}  {counts}, {row['bad']} bad, {row['noted']} noted")


def _flakiest(db: sqlite3.Connection, limit: int) -> list[tuple[str, str]]:
    rows = db.execute(
        f"""SELECT t.id, count(*) AS runs, sum(r.verdict {_BAD}) AS bad,
                   sum(r.notes LIKE '%flaky%' OR r.notes LIKE '%polluted%') AS noted
            FROM results r JOIN tests t USING(test) GROUP BY t.test
            HAVING noted > 0 OR (bad > 0 AND bad < runs) ORDER BY noted + min(bad, runs - bad) DESC, t.id LIMIT ?""",
        (limit,),
    )
    return [(f"{row['bad']} bad, {row['noted']} noted of {row['runs']}", row["id"]) for row in rows]


def _slower(db: sqlite3.Connection, limit: int) -> list[tuple[str, str]]:
    """Tests whose last duration is twice the median of at least three earlier ones, and more than 50 ms longer."""
    durations: dict[str, list[float]] = {}
    for row in db.execute("SELECT t.id, r.duration FROM results r JOIN tests t USING(test) ORDER BY r.run"):
        durations.setdefault(row["id"], []).append(row["duration"])
    found = []
    for nodeid, (*before, last) in durations.items():
        if len(before) < 3:
            continue
        middle = sorted(before)[len(before) // 2]
        if last > 2 * middle and last - middle > 0.05:
            found.append((last / max(middle, 1e-9), f"{middle:.2f} s -> {last:.2f} s", nodeid))
    return [(text, nodeid) for _, text, nodeid in sorted(found, reverse=True)[:limit]]


def _table(title: str, rows: list[tuple[str, str]]) -> None:
    if not rows:
        return
    print(f"\n{title}")
    width = max(len(row[0]) for row in rows)
    for first, second in rows:
        print(f"  {first:>{width}}  {second}")


def _trend(db: sqlite3.Connection, part: str) -> int:
    tests = db.execute("SELECT test, id, runs FROM tests WHERE id = ? OR instr(id, ?) ORDER BY id = ? DESC, id", (part,) * 3).fetchall()
    if not tests:
        raise Mistake(f"no test in the history has {part!r} in its id")
    exact = [test for test in tests if test["id"] == part]
    for test in exact or tests[:20]:
        print(f"{test['id']} ({test['runs']} runs)")
        for row in db.execute(
            "SELECT started, verdict, notes, duration, memory, cpu FROM results JOIN runs USING(run) WHERE test = ? ORDER BY run",
            (test["test"],),
        ):
            when = datetime.datetime.fromtimestamp(row["started"]).strftime("%Y-%m-%d %H:%M")
            notes = "" if row["notes"] == "[]" else f"  {row['notes']}"
            memory = f"  {row['memory'] / 1048576:.0f} MiB" if row["memory"] >= 1048576 else ""
            print(f"  {when}  {row['verdict']:<8} {row['duration']:8.3f} s  {row['cpu']:7.3f} s CPU{memory}{notes}")
    if not exact and len(tests) > 20:
        print(f"and {len(tests) - 20} more tests; give a longer part of the id")
    return 0
