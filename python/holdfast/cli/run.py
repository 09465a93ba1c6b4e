"""Runs native suites (GoogleTest, Catch2, doctest, CTest, commands) and pytest's in one run (docs/native.md).

    holdfast run [OPTIONS] -- TARGET...

OPTIONS are those of `pytest --holdfast`.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from holdfast.cli.files import Mistake
from holdfast.targets import ctest
from holdfast.targets.find import COMMAND, kind_of
from holdfast.targets.model import NoTarget


def run(argv: Sequence[str]) -> int:
    """The exit code of pytest. Raises Mistake."""
    if argv[:1] in (["-h"], ["--help"]):
        print(__doc__)
        return 0
    options, targets = _divide(argv)
    with tempfile.TemporaryDirectory(prefix="holdfast-commands-") as folder:
        native: dict[str, tuple[str, str, str]] = {}
        paths = [_path(word, native, Path(folder)) for word in targets]
        import pytest

        # pytest would rather have imported us itself.
        quiet = "ignore:Module already imported so cannot be rewritten:pytest.PytestAssertRewriteWarning"
        given = ["--holdfast", "-W", quiet, "-p", "holdfast.targets.plugin", f"--hf-native={json.dumps(native)}"]
        if not any(option.startswith("--rootdir") for option in options):
            given.append(f"--rootdir={os.getcwd()}")
        return int(pytest.main([*given, *options, *paths]))


def _divide(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    words = list(argv)
    if "--" in words:
        at = words.index("--")
        options, targets = words[:at], words[at + 1 :]
    else:
        options, targets = [], words
        if wrong := next((word for word in words if word.startswith("-")), None):
            raise Mistake(f"{wrong}: options come first, then --, then the targets: holdfast run [OPTIONS] -- TARGET...")
    if not targets:
        raise Mistake("there is no target; holdfast run [OPTIONS] -- TARGET... (holdfast list TARGET... shows what each has)")
    return options, targets


def _path(word: str, native: dict[str, tuple[str, str, str]], folder: Path) -> str:
    """What pytest is given for a target."""
    base, colons, name = word.partition("::")
    try:
        kind, rest = kind_of(base if colons and Path(base).exists() else word)
    except NoTarget as problem:
        raise Mistake(f"{word}: {problem}") from None
    if kind == "pytest":
        return word.removeprefix("pytest:")
    path = Path(rest).absolute()
    title = rest
    if kind == COMMAND:
        path = folder / str(len(native))
        path.touch()
        title = COMMAND
    if kind == "ctest":
        path = path / ctest.FILE
    if str(path) in native:
        raise Mistake(f"{word}: is given twice")
    native[str(path)] = (kind, rest, title)
    return f"{path}{colons}{name}" if rest == base else str(path)
