"""Opens ledgers and histories, for reading only, and refuses what is none."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Optional

from holdfast.present import GOOD

# As in engine/journal/ledger.h and history.h.
LEDGER_ID, LEDGER_VERSION = 0x48465354, 1
HISTORY_ID, HISTORY_VERSION = 0x48464849, 3

# The verdicts with which a run succeeds, for `verdict IN (...)`.
GOOD_IN_SQL = ", ".join(f"'{verdict}'" for verdict in sorted(GOOD))


class Mistake(Exception):
    """Something is wrong with what the user gave; the text says what, and what to do."""


def open_ledger(path: Path) -> sqlite3.Connection:
    return _open(path, "ledger", LEDGER_ID, LEDGER_VERSION)


def open_history(path: Optional[Path]) -> sqlite3.Connection:
    """Without a path: `.holdfast/history.db` here or in a folder above."""
    return _open(path or find_history(), "history", HISTORY_ID, HISTORY_VERSION)


def find_history() -> Path:
    here = Path.cwd()
    for folder in (here, *here.parents):
        found = folder / ".holdfast" / "history.db"
        if found.exists():
            return found
    raise Mistake("there is no .holdfast/history.db here or above; run `pytest --holdfast` first, or give the file")


def _open(path: Path, kind: str, application: int, version: int) -> sqlite3.Connection:
    if not path.is_file():
        raise Mistake(f"there is no {kind} {path}")
    try:
        db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        db.row_factory = sqlite3.Row
        found = (db.execute("PRAGMA application_id").fetchone()[0], db.execute("PRAGMA user_version").fetchone()[0])
    except sqlite3.Error as problem:
        raise Mistake(f"{path} is not a {kind}: {problem}") from None
    if found[0] != application:
        raise Mistake(f"{path} is not a {kind} of holdfast")
    if found[1] != version:
        raise Mistake(f"{path} is a {kind} of format version {found[1]}, this holdfast reads {version}")
    return db
