"""A run as one JSON document, from its ledger: `holdfast run --format json`, `holdfast show --format json` (docs/native.md)."""

from __future__ import annotations

import json
import sqlite3
from typing import Any, Optional

from holdfast.present import PYTEST_VERDICTS, headline_of, message_of

# Of the document; grows where something of it changes its meaning.
FORMAT = 1


def document(
    db: Optional[sqlite3.Connection], exit_code: Optional[int] = None, rows: Optional[list[sqlite3.Row]] = None
) -> dict[str, Any]:
    """Without `db`: a run that never began. `exit_code`: where this process has seen its end; `rows`: only these tests."""
    found: dict[str, Any] = {"format": FORMAT, "run": {}, "counts": {}, "tests": []}
    if exit_code is not None:
        found["exit_code"] = exit_code
    if db is None:
        return found
    found["run"] = {row["key"]: row["value"] for row in db.execute("SELECT key, value FROM run ORDER BY key")}
    counts = db.execute("SELECT ifnull(verdict, 'none'), count(*) FROM tests GROUP BY verdict ORDER BY verdict")
    found["counts"] = dict(counts.fetchall())
    tests = db.execute("SELECT * FROM tests ORDER BY idx").fetchall() if rows is None else rows
    attempts: dict[int, list[dict[str, Any]]] = {row["idx"]: [] for row in tests}
    for row in db.execute("SELECT * FROM attempts ORDER BY rowid"):
        if row["test"] in attempts:
            attempts[row["test"]].append(_attempt(row))
    found["tests"] = [_test(row, attempts[row["idx"]]) for row in tests]
    return found


def _test(row: sqlite3.Row, attempts: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": row["id"],
        "verdict": row["verdict"],
        "notes": json.loads(row["notes"] or "[]"),
        "duration": row["duration"],
        "message": attempts[-1]["message"] if attempts else "",
        "attempts": attempts,
    }


def _attempt(row: sqlite3.Row) -> dict[str, Any]:
    detail = json.loads(row["detail"] or "{}")
    reports = json.loads(row["reports"] or "[]")
    return {
        "number": row["number"],
        "verdict": row["verdict"],
        "cause": row["cause"],
        "slot": row["slot"],
        "started": row["started"],
        "ended": row["ended"],
        "message": _message(str(row["verdict"] or ""), detail, reports),
        "detail": detail,
        "reports": reports,
    }


def _message(verdict: str, detail: dict[str, Any], reports: list[dict[str, Any]]) -> str:
    """One text that says what happened; empty for what is good."""
    if verdict and (verdict not in PYTEST_VERDICTS or "problem" in detail):
        return headline_of(verdict, detail)
    for report in reports:
        data = report.get("data") or {}
        longrepr = data.get("longrepr")
        if data.get("outcome") in ("failed", "skipped") and longrepr:
            return message_of(longrepr)
    return ""
