"""A plugin of pytest that writes down what was collected, as JSON, into the file that the environment names."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

FILE = "HOLDFAST_LIST"


@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    found = []
    for item in session.items:
        path, line, _ = item.reportinfo()
        found.append((item.nodeid, os.fspath(path), (line or 0) + 1, sorted({mark.name for mark in item.iter_markers()})))
    Path(os.environ[FILE]).write_text(json.dumps(found))
