"""Runs native suites (GoogleTest, Catch2, doctest, CTest, commands) and pytest's in one run (docs/native.md).

Options come first, then --, then the targets: holdfast run --hf-slots=4 -- build/unit_tests build/ checks.toml tests/
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, TextIO

from holdfast.cli.files import Mistake, open_ledger
from holdfast.cli.json_report import document
from holdfast.targets import ctest
from holdfast.targets.find import COMMAND, kind_of
from holdfast.targets.model import NoTarget

if TYPE_CHECKING:
    import pytest


# Those of pytest that make sense for any suite; pytest --help has all.
_PYTESTS: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (("-k",), "EXPRESSION", "only tests whose names match: 'ledger and not slow'"),
    (("-m",), "EXPRESSION", "only tests whose labels, tags or marks match"),
    (("-x", "--exitfirst"), "", "ends with the first failure"),
    (("--maxfail",), "N", "ends after so many failures"),
    (("--lf", "--last-failed"), "", "only what failed the last time"),
    (("--ff", "--failed-first"), "", "first what failed the last time"),
    (("-v", "--verbose"), "", "a line for each test"),
    (("-q", "--quiet"), "", "fewer words"),
    (("-r",), "CHARS", "what the summary lists: (f)ailed, (E)rror, (s)kipped, (p)assed, (P)assed with output, (a)ll but passed, (A)ll"),
    (("-s",), "", "does not capture output"),
    (("--junitxml",), "FILE", "a report in JUnit's form"),
    (("--color",), "yes|no|auto", "auto: in a terminal, without NO_COLOR"),
    (("--hf-build-config",), "NAME", ctest.CONFIGURATION),
    (("--continue-on-collection-errors",), "", "runs the others where a target cannot tell its tests"),
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """For help and completion: pytest parses them."""
    from holdfast import options

    for names, metavar, text in _PYTESTS:
        if metavar:
            parser.add_argument(*names, metavar=metavar, help=text)
        else:
            parser.add_argument(*names, action="store_true", help=text)
    parser.add_argument("--format", choices=("text", "json"), help="json: one document about the run; what people read goes to stderr")
    options.add_options(_OurOptions(parser))  # type: ignore[arg-type]
    parser.add_argument("targets", nargs="+", metavar="TARGET", help="as holdfast list takes them")


class _OurOptions:
    """Takes what a plugin says to pytest's parser."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._parser = parser

    def getgroup(self, *_words: str) -> _OurOptions:
        return self

    def addoption(self, name: str, **given: Any) -> None:
        if name != "--holdfast":
            self._parser.add_argument(name, **given)

    def addini(self, *_words: Any, **_given: Any) -> None:
        pass


def run(argv: Sequence[str]) -> int:
    """The exit code of pytest. Raises Mistake."""
    if argv[:1] in (["-h"], ["--help"]):
        parser = argparse.ArgumentParser(
            "holdfast run", "holdfast run [OPTIONS] -- TARGET...", __doc__, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        arguments(parser)
        parser.print_help()
        return 0
    options, targets = _divide(argv)
    form, options = _format(options)
    if form == "json":
        with _words_to_stderr() as output:
            try:
                found = _document(options, targets)
            except Mistake as mistake:
                print(f"holdfast run: {mistake}", file=sys.stderr)
                found = {**document(None, 4), "ledger": None, "error": str(mistake)}
        print(json.dumps(found), file=output)
        output.close()
        return int(found["exit_code"])
    return _run(options, targets)[1]


def _document(options: Sequence[str], targets: Sequence[str]) -> dict[str, Any]:
    ledger, code = _run(options, targets)
    db = open_ledger(ledger) if ledger is not None and ledger.exists() else None
    return {**document(db, code), "ledger": str(ledger) if db is not None else None}


def _run(options: Sequence[str], targets: Sequence[str]) -> tuple[Optional[Path], int]:
    """The run's ledger, if it has come to have one, and the exit code."""
    with tempfile.TemporaryDirectory(prefix="holdfast-commands-") as folder:
        native: dict[str, tuple[str, str, str]] = {}
        given: set[str] = set()
        paths = [_path(word, native, given, Path(folder)) for word in targets]
        import pytest

        # pytest would rather have imported us itself.
        quiet = "ignore:Module already imported so cannot be rewritten:pytest.PytestAssertRewriteWarning"
        own = ["--holdfast", "-W", quiet, "-p", "holdfast.targets.plugin", f"--hf-native={json.dumps(native)}"]
        if not any(option.startswith("--rootdir") for option in options):
            own.append(f"--rootdir={os.getcwd()}")
        witness = _Witness()
        code = int(pytest.main([*own, *options, *paths], plugins=[witness]))
        return witness.ledger, code


class _Witness:
    """A plugin that remembers which ledger the run has."""

    ledger: Optional[Path] = None

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        controller: Any = session.config.pluginmanager.get_plugin("holdfast-controller")
        if controller is not None:
            self.ledger = Path(controller.settings.journal)


@contextlib.contextmanager
def _words_to_stderr() -> Generator[TextIO, None, None]:
    """Yields what was standard output. What plugins and tests print without being captured goes to people, too."""
    sys.stdout.flush()
    output = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    yield output
    sys.stdout.flush()


def _format(options: Sequence[str]) -> tuple[str, list[str]]:
    """`--format json` or `--format=json`, and the others. Raises Mistake."""
    form, rest = "text", list(options)
    for at, option in enumerate(options):
        name, joined, value = option.partition("=")
        if name == "--format":
            form = value if joined else next(iter(options[at + 1 :]), "")
            del rest[at : at + (1 if joined else 2)]
            break
    if form not in ("text", "json"):
        raise Mistake(f"--format {form}: give text or json")
    return form, rest


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


def _path(word: str, native: dict[str, tuple[str, str, str]], given: set[str], folder: Path) -> str:
    """What pytest is given for a target. `given`: for the targets before it."""
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
    whole = str(path)
    chosen = f"{whole}{colons}{name}" if rest == base else whole
    # Several tests of one target are chosen by several words.
    twice = {chosen, whole} & given or (chosen == whole and whole in native)
    if twice or native.setdefault(whole, (kind, rest, title)) != (kind, rest, title):
        raise Mistake(f"{word}: is given twice")
    given.add(chosen)
    return chosen
