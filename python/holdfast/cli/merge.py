"""Makes one file of several: ledgers (.db) or JUnit files (.xml) of runs that shared a suite.

    holdfast merge whole.db shard0.db shard1.db
    holdfast merge whole.xml shard0.xml shard1.xml

A test that is in several of them keeps all its attempts; the verdict of the last file given counts.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import xml.etree.ElementTree as ET
from pathlib import Path

from holdfast.cli.files import LEDGER_ID, LEDGER_VERSION, Mistake, open_ledger

# As in engine/journal/ledger.cc: verdicts of what is not a collected test are numbered from here.
_EXTRA = 1 << 40


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("result", type=Path, help="the file to write; must not exist yet")
    parser.add_argument("part", type=Path, nargs="+")


def run(options: argparse.Namespace) -> int:
    if options.result.exists():
        raise Mistake(f"{options.result} exists; remove it, or give another name")
    if not options.result.parent.is_dir():
        raise Mistake(f"there is no folder {options.result.parent}")
    if options.result.suffix == ".xml":
        count = merge_junit(options.result, options.part)
    else:
        count = merge_ledgers(options.result, options.part)
    print(f"{options.result}: {count} tests of {len(options.part)} files")
    return 0


def merge_ledgers(result: Path, paths: list[Path]) -> int:
    parts = [open_ledger(path) for path in paths]
    temporary = result.with_name(result.name + ".part")
    temporary.unlink(missing_ok=True)
    db = sqlite3.connect(temporary)
    try:
        for (statement,) in parts[0].execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL"):
            db.execute(statement)
        db.execute(f"PRAGMA application_id={LEDGER_ID}")
        db.execute(f"PRAGMA user_version={LEDGER_VERSION}")
        numbers: dict[str, int] = {}
        for path, part in zip(paths, parts):
            _add_ledger(db, part, numbers, path)
        db.commit()
    except sqlite3.Error as problem:
        temporary.unlink(missing_ok=True)
        raise Mistake(f"the ledgers cannot be merged: {problem}") from None
    finally:
        db.close()
    temporary.rename(result)
    return len(numbers)


def _add_ledger(db: sqlite3.Connection, part: sqlite3.Connection, numbers: dict[str, int], path: Path) -> None:
    db.executemany("INSERT OR IGNORE INTO run(key, value) VALUES(?, ?)", part.execute("SELECT key, value FROM run").fetchall())
    db.executemany(
        "INSERT INTO events(at, kind, detail) VALUES(?, ?, ?)", part.execute("SELECT at, kind, detail FROM events").fetchall()
    )
    db.execute("INSERT INTO events(at, kind, detail) VALUES(strftime('%s', 'now'), 'merged', ?)", (path.name,))
    here: dict[int, int] = {}
    for test in part.execute("SELECT * FROM tests ORDER BY idx").fetchall():
        base = _EXTRA if test["idx"] >= _EXTRA else 0
        number = numbers.setdefault(test["id"], base + len(numbers))
        here[test["idx"]] = number
        db.execute("INSERT OR IGNORE INTO tests(idx, id) VALUES(?, ?)", (number, test["id"]))
        if test["verdict"] is not None:
            db.execute(
                "UPDATE tests SET verdict=?, notes=?, duration=?, attempts=attempts+? WHERE idx=?",
                (test["verdict"], test["notes"], test["duration"], test["attempts"], number),
            )
    for row in part.execute("SELECT * FROM attempts ORDER BY rowid").fetchall():
        detail = json.loads(row["detail"] or "{}")
        if detail.get("before"):
            # They name tests by number.
            detail["before"] = [here[index] for index in detail["before"]]
        db.execute(
            "INSERT INTO attempts(test, number, slot, started, ended, verdict, cause, detail, reports)"
            " VALUES(?, (SELECT count(*) + 1 FROM attempts WHERE test=?), ?, ?, ?, ?, ?, ?, ?)",
            (here[row["test"]], here[row["test"]], *(row[k] for k in ("slot", "started", "ended", "verdict", "cause")),
             json.dumps(detail), row["reports"]),
        )  # fmt: skip


def merge_junit(result: Path, paths: list[Path]) -> int:
    """All suites under one <testsuites>, with sums where the files have them."""
    whole = ET.Element("testsuites")
    for path in paths:
        try:
            root = ET.parse(path).getroot()
        except (OSError, ET.ParseError) as problem:
            raise Mistake(f"{path} cannot be read as JUnit XML: {problem}") from None
        if root.tag not in ("testsuites", "testsuite"):
            raise Mistake(f"{path} is no JUnit file: its root is <{root.tag}>")
        whole.extend([root] if root.tag == "testsuite" else root.findall("testsuite"))
    for name in ("tests", "failures", "errors", "skipped"):
        whole.set(name, str(sum(int(suite.get(name, "0")) for suite in whole)))
    whole.set("time", f"{sum(float(suite.get('time', '0')) for suite in whole):.3f}")
    ET.ElementTree(whole).write(result, encoding="utf-8", xml_declaration=True)
    return len(list(whole.iter("testcase")))
