"""What pytest collects in a folder, a file or a node id."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from holdfast.targets.ask import ask, last_words
from holdfast.targets.model import NoTarget, Test
from holdfast.targets.telling import FILE

KIND = "pytest"
_NO_TESTS = 5  # pytest's exit code.


def tests_of(word: str, seconds: float) -> list[Test]:
    """Raises NoTarget."""
    with tempfile.TemporaryDirectory(prefix="holdfast-list-") as folder:
        file = Path(folder) / "tests.json"
        command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "holdfast.targets.telling", word]
        answer = ask(command, "its tests (pytest --collect-only)", seconds, {FILE: str(file)}, whole=False)
        if answer.code == _NO_TESTS:
            raise NoTarget("has no tests that pytest collects")
        if answer.code != 0 or not file.exists():
            raise NoTarget(f"pytest cannot collect it{last_words(answer)}")
        return [Test(name, file=path, line=line, labels=tuple(marks)) for name, path, line, marks in json.loads(file.read_bytes())]
