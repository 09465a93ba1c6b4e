"""What a ledger says: the whole run in a few lines, or everything about one test."""

from __future__ import annotations

import argparse
import datetime
import json
import sqlite3
from pathlib import Path
from typing import Any

from holdfast import ranks
from holdfast.cli import paint
from holdfast.cli.files import GOOD_IN_SQL, Mistake, open_ledger
from holdfast.cli.json_report import document
from holdfast.present import PYTEST_VERDICTS, headline_of, leaks_of, processes_of, split_stacks, used


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("ledger", type=Path)
    parser.add_argument("test", nargs="?", help="a test, or a part of its id")
    parser.add_argument("--format", choices=("text", "json"), default="text", help="json: as holdfast run --format json")
    paint.argument(parser)


def run(options: argparse.Namespace) -> int:
    db = open_ledger(options.ledger)
    painted = paint.Paint(options.color)
    rows = find_tests(db, options.test) if options.test else None
    if options.format == "json":
        print(json.dumps(document(db, rows=rows), indent=2))
        return 0
    if rows is not None:
        for row in rows:
            _show_test(db, row, painted)
        return 0
    _show_run(db, painted)
    return 0


def _show_run(db: sqlite3.Connection, painted: paint.Paint) -> None:
    for key, value in db.execute("SELECT key, value FROM run ORDER BY key"):
        print(f"{key}: {value}")
    for at, kind, detail in db.execute("SELECT at, kind, detail FROM events ORDER BY at"):
        print(f"{_when(at)} {kind} {detail}".rstrip())
    counts = db.execute("SELECT ifnull(verdict, 'without a verdict') AS v, count(*) FROM tests GROUP BY v ORDER BY v").fetchall()
    print(", ".join(f"{count} {verdict}" for verdict, count in counts))
    rows = db.execute(
        "SELECT id, ifnull(verdict, 'no verdict') AS verdict, notes, duration, attempts FROM tests"
        f" WHERE verdict IS NULL OR verdict NOT IN ({GOOD_IN_SQL}) OR notes != '[]' OR attempts > 1"
        " ORDER BY idx"
    )
    for row in rows:
        notes = f" {' '.join(json.loads(row['notes'] or '[]'))}" if (row["notes"] or "[]") != "[]" else ""
        tries = f", {row['attempts']} attempts" if row["attempts"] > 1 else ""
        print(f"  {painted(row['verdict'], paint.of_verdict(row['verdict']))}{notes}{tries}: {row['id']}")


def find_tests(db: sqlite3.Connection, part: str) -> list[sqlite3.Row]:
    """The test of that id, or else all whose id has it as a part. Raises Mistake if there is none, or too many."""
    rows = db.execute("SELECT * FROM tests WHERE id = ?", (part,)).fetchall()
    rows = rows or db.execute("SELECT * FROM tests WHERE instr(id, ?) ORDER BY idx LIMIT 21", (part,)).fetchall()
    if not rows:
        raise Mistake(f"no test of this run has {part!r} in its id")
    if len(rows) > 20:
        raise Mistake(f"more than 20 tests have {part!r} in their ids; give a longer part")
    return rows


def _when(at: float) -> str:
    return datetime.datetime.fromtimestamp(at).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


def _show_test(db: sqlite3.Connection, test: sqlite3.Row, painted: paint.Paint) -> None:
    notes = " ".join(json.loads(test["notes"] or "[]"))
    verdict = test["verdict"] or "none"
    print(f"{painted(test['id'], 'bold')}\n  verdict: {painted(verdict, paint.of_verdict(verdict))}{f' ({notes})' if notes else ''}")
    for row in db.execute("SELECT * FROM attempts WHERE test = ? ORDER BY rowid", (test["idx"],)):
        _show_attempt(db, row)


def _show_attempt(db: sqlite3.Connection, row: sqlite3.Row) -> None:
    ended = f"{row['ended'] - row['started']:.3f} s" if row["ended"] else "never ended"
    cause = f", then {row['cause']}" if row["cause"] else ""
    detail: dict[str, Any] = json.loads(row["detail"] or "{}")
    slot = f"slot {row['slot']}" + (f" on node {detail['node']}" if "node" in detail else "")
    print(f"\n  attempt {row['number']}: {row['verdict'] or 'no verdict'}{cause}; {slot}, {_when(row['started'])}, {ended}")
    if row["verdict"] and row["verdict"] not in PYTEST_VERDICTS:
        _block("", headline_of(row["verdict"], detail))
    for report in json.loads(row["reports"] or "[]"):
        _show_report(report)
    _show_ranks(detail)
    if detail.get("stacks"):
        python, natives = split_stacks(detail["stacks"])
        _block("stacks", "\n\n".join([python, *natives]).strip())
    for text in processes_of(detail):
        title, _, rest = text.partition("\n")
        _block(title.rstrip(":"), rest)
    for key, title in (("out", "last stdout"), ("err", "last stderr"), ("stream", "uncaptured output")):
        if detail.get(key):
            _block(title, detail[key])
    if detail.get("findings"):
        _block(detail["findings"]["tool"], detail["findings"]["text"])
    if detail.get("usage"):
        _block("", used(detail["usage"]))
        _show_samples(detail["usage"].get("samples") or [])
    for text in leaks_of({"detail": detail}):
        _block("", f"left behind: {text}")
    if detail.get("before"):
        names = dict(db.execute("SELECT idx, id FROM tests").fetchall())
        _block(f"ran before it in the same process ({len(detail['before'])})", "\n".join(names[i] for i in detail["before"]))


def _show_ranks(detail: dict[str, Any]) -> None:
    """How the ranks of an MPI test ended; what the rank said that is shown first is shown already."""
    entries = detail.get("ranks") or []
    if len(entries) < 2:
        return
    _block("ranks", ranks.summary(detail, lambda entry: headline_of(entry["verdict"], entry)))
    for number, entry in enumerate(entries):
        if number == detail.get("rank"):
            continue
        for report in entry["reports"]:
            if "data" in report:
                _block("", f"rank {number}:")
                _show_report(report)


def _show_samples(samples: list[list[float]]) -> None:
    rows = [
        f"{at:8.1f} s {cpu:8.2f} s {memory / (1 << 20):8.0f} MiB {processes:4} {threads:4} {files:4}"
        for at, cpu, memory, processes, threads, files in samples
    ]
    if rows:
        _block("over time (CPU, memory, processes, threads, files)", "\n".join(rows))


def _show_report(report: dict[str, Any]) -> None:
    data = report.get("data")
    if data is None:
        if "when" in report:
            _block("", f"{report['when']}: passed, {report['duration']:.3f} s")
        return
    _block("", f"{data.get('when')}: {data.get('outcome')}, {data.get('duration', 0):.3f} s")
    longrepr = data.get("longrepr")
    if isinstance(longrepr, dict):
        crash = longrepr.get("reprcrash") or {}
        _block("", f"{crash.get('path')}:{crash.get('lineno')}: {crash.get('message')}")
    elif longrepr:
        _block("", str(longrepr))
    for title, text in data.get("sections") or []:
        _block(title, text)


def _block(title: str, text: str) -> None:
    if title:
        print(f"    {title}:")
    for line in text.rstrip("\n").split("\n"):
        print(f"    {'  ' if title else ''}{line}")
