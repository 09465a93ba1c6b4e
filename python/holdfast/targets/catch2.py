"""Catch2, v2 and v3: which one it is, a program says (`--libidentify`); v2 tells its tests in lines, tag by tag, v3 as XML."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Optional
from xml.etree import ElementTree

from holdfast.targets.ask import Answer, ask, last_words
from holdfast.targets.model import NoTarget, Program, Test, Told
from holdfast.targets.xml_report import begun_last, told_by, told_each_by

__all__ = ["batch_of", "begun_last", "is_in", "report_options", "tests_of", "together", "told", "told_each"]
KIND = "Catch2"
SKIP_CODES = (0, 4)  # 4 (v3): all were.
_TAG = re.compile(r"\[([^\]]*)\]")
# Of a test specification; a backslash takes its meaning away (Catch2's command-line documentation). A dash begins an option.
_SPECIAL = re.compile(r'([\\,\[\]"~*;]|^-)')
_MOST_TAGS = 100
_EXCLUDE = "exclude:"  # Of this nothing takes the meaning away.


def is_in(program: Program) -> bool:
    """v2's and v3's option is there where the library is; symbols of its name space are where v3 is linked dynamically."""
    return program.find(b"list-test-names-only") >= 0 or program.find(b"_ZN5Catch") >= 0


def tests_of(path: str, seconds: float) -> list[Test]:
    """Raises NoTarget."""
    answer = ask([path, "--libidentify"], "its version (--libidentify)", seconds)
    found = re.search(rb"^framework:\s*Catch.*\nversion:\s*(\d+)\.", answer.output, re.MULTILINE)
    if found is None:
        raise NoTarget(f"does not say which Catch2 it has: does its main() take Catch's options?{last_words(answer)}")
    return _new(path, seconds) if int(found[1]) >= 3 else _old(path, seconds)


def report_options(file: str) -> list[str]:
    return ["--reporter", "xml", "--out", file]


def told(file: Path) -> Optional[Told]:
    """None where it has not written its report to the end."""
    return told_by(file, "OverallResult", "success")


def told_each(file: Path) -> Optional[dict[str, Told]]:
    return told_each_by(file, "OverallResult", "success")


def together(tests: Sequence[Test]) -> list[str]:
    return [tests[0].command[0], ",".join(test.command[1] for test in tests)]


def batch_of(test: Test) -> Optional[str]:
    # The one whose name cannot be told exactly may be several.
    return test.command[0] if len(test.command) == 2 and not test.command[1].startswith("*") else None


def _new(path: str, seconds: float) -> list[Test]:
    answer = ask([path, "--list-tests", "--reporter", "xml", "--order", "decl"], "its tests (--list-tests)", seconds)
    try:
        return [_test(path, one) for one in ElementTree.fromstring(answer.output).iter("TestCase")]
    except (ElementTree.ParseError, ValueError) as problem:
        raise _not_told(problem, answer) from None


def _test(path: str, one: ElementTree.Element) -> Test:
    name = one.findtext("Name") or ""
    labels = tuple(_TAG.findall(one.findtext("Tags") or ""))
    return _made(path, name, one.findtext("SourceInfo/File") or "", int(one.findtext("SourceInfo/Line") or 0), labels)


def _old(path: str, seconds: float) -> list[Test]:
    tests = _names_of_old(path, seconds)
    labels: dict[str, list[str]] = {}
    for tag in _tags_of_old(path, seconds):
        for name, _, _ in _names_of_old(path, seconds, f"[{tag}]"):
            labels.setdefault(name, []).append(tag)
    return [_made(path, name, file, line, tuple(labels.get(name, ()))) for name, file, line in tests]


def _names_of_old(path: str, seconds: float, *only: str) -> list[tuple[str, str, int]]:
    """With file and line. Each is on a line of its own; where tags are listed with them, long ones are broken."""
    # It ends with the number of its tests.
    answer = ask([path, "--list-test-names-only", "--verbosity", "high", *only], "its tests (--list-test-names-only)", seconds)
    found = []
    for line in answer.output.decode(errors="surrogateescape").splitlines():
        name, _, place = line.rpartition("\t@")
        file, _, number = place.rpartition(":")
        if not name or not number.isdecimal():
            raise _not_told(ValueError(line[:100]), answer)
        found.append((name, file, int(number)))
    return found


def _tags_of_old(path: str, seconds: float) -> list[str]:
    """None where there are so many that asking for the tests of each would take too long."""
    answer = ask([path, "--list-tags"], "its tags (--list-tags)", seconds)
    tags = sorted(set(_TAG.findall(answer.output.decode(errors="surrogateescape"))))
    return tags if len(tags) <= _MOST_TAGS else []


def _made(path: str, name: str, file: str, line: int, labels: tuple[str, ...]) -> Test:
    specification = _SPECIAL.sub(r"\\\1", name)
    if name.startswith(_EXCLUDE):
        specification = "*" + specification[1:]
    return Test(name, (path, specification), file=file, line=line, labels=labels)


def _not_told(problem: Exception, answer: Answer) -> NoTarget:
    return NoTarget(f"has told its tests in a form that is not Catch2's: {problem!r}{last_words(answer)}")
