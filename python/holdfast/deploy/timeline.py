"""What happened to a deployment and when: a line of JSON each, written at once, so that it is there also after a kill."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any


class Timeline:
    """`timeline.jsonl` in a folder; {"at": UTC, "what": ..., evidence}."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "timeline.jsonl"
        self.entries: list[dict[str, Any]] = []

    def note(self, what: str, **evidence: Any) -> None:
        entry = {"at": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds"), "what": what, **evidence}
        self.entries.append(entry)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps(entry, default=str) + "\n")
