"""doctest: a program tells its tests as XML. One that is asked with an option which it does not know runs all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Optional
from xml.etree import ElementTree

from holdfast.targets.ask import ask, last_words
from holdfast.targets.model import NoTarget, Program, Test, Told
from holdfast.targets.xml_report import begun_last, told_by, told_each_by

__all__ = ["batch_of", "begun_last", "is_in", "report_options", "tests_of", "together", "told", "told_each"]
KIND = "doctest"
SKIP_CODES = (0,)


def is_in(program: Program) -> bool:
    return program.find(b"list-test-cases") >= 0 and program.find(b"doctest") >= 0


def tests_of(path: str, seconds: float) -> list[Test]:
    """Raises NoTarget."""
    found = _listed(path, seconds, "--no-skip=true")
    # Older versions say which are skipped by leaving them out.
    run = {_place(one) for one in _listed(path, seconds) if one.get("skipped") != "true"}
    counts = Counter(one["name"] for one in found)
    places = Counter(_named(one, counts) for one in found)
    return [_test(path, one, counts, places, _place(one) not in run) for one in found]


def _listed(path: str, seconds: float, *options: str) -> list[dict[str, str]]:
    answer = ask([path, "--list-test-cases", *options, "--reporters=xml"], "its tests (--list-test-cases)", seconds)
    try:
        root = ElementTree.fromstring(answer.output)
        if root.tag != "doctest":
            raise ValueError(root.tag)
        found = [one.attrib for one in root.iter("TestCase")]
        for one in found:
            one["line"] = str(int(one["line"]))
            _place(one)
        return found
    except (ElementTree.ParseError, ValueError, KeyError) as problem:
        raise NoTarget(f"has told its tests in a form that is not doctest's: {problem!r}{last_words(answer)}") from None


def _place(one: dict[str, str]) -> tuple[str, str, str, str]:
    return one["name"], one["filename"], one["line"], one.get("testsuite", "")


def report_options(file: str) -> list[str]:
    return ["--reporters=xml", f"--out={file}"]


def told(file: Path) -> Optional[Told]:
    """None where it has not written its report to the end."""
    return told_by(file, "OverallResultsAsserts", "test_case_success")


def told_each(file: Path) -> Optional[dict[str, Told]]:
    return told_each_by(file, "OverallResultsAsserts", "test_case_success")


def together(tests: Sequence[Test]) -> list[str]:
    path, sensitive, _, *filters = tests[0].command
    names = ",".join(test.command[2].partition("=")[2] for test in tests)
    return [path, sensitive, f"--test-case={names}", *filters]


def batch_of(test: Test) -> Optional[tuple[str, ...]]:
    # Those of one file and one suite. What has more than its name as a name, or means others, too, is run by itself.
    exact = test.command[2:3] == (f"--test-case={_literal(test.name)}",) and not set("*?") & set(test.name)
    return (test.command[0], *test.command[3:]) if exact else None


def _named(one: dict[str, str], counts: Counter[str]) -> str:
    """doctest allows one name several times: then that of its suite goes before it."""
    return f"{one['testsuite']}/{one['name']}" if counts[one["name"]] > 1 and one.get("testsuite") else one["name"]


def _test(path: str, one: dict[str, str], counts: Counter[str], places: Counter[str], disabled: bool) -> Test:
    named = _named(one, counts)
    name = named if places[named] == 1 else f"{named} ({one['filename']}:{one['line']})"
    command = [path, "--case-sensitive=true", f"--test-case={_literal(one['name'])}", f"--source-file={_literal(one['filename'])}"]
    if suite := one.get("testsuite"):
        command.append(f"--test-suite={_literal(suite)}")
    elif counts[one["name"]] > 1:
        command.append("--test-suite-exclude=?*")
    command += ["--no-skip=true"] if disabled else []
    labels = (suite,) if (suite := one.get("testsuite")) else ()
    return Test(name, tuple(command), file=one["filename"], line=int(one["line"]), labels=labels, disabled=disabled)


def _literal(text: str) -> str:
    """A comma ends a filter, unless a backslash is before it. Of `*` and `?` nothing takes the meaning away."""
    return text.replace("\\", "\\\\").replace(",", "\\,")
