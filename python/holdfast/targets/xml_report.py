"""What Catch2's and doctest's XML have in common: assertions that failed, as text."""

from __future__ import annotations

import html
import re
from collections import Counter
from pathlib import Path
from typing import Optional
from xml.etree import ElementTree

from holdfast.targets.model import Told


def told_by(file: Path, result: str, good: str) -> Optional[Told]:
    """None where it has not been written to the end. `result`: the element that ends each test, whose attribute `good` says whether it
    has passed."""
    cases = _cases_in(file)
    return _told(cases, result, good) if cases is not None else None


def told_each_by(file: Path, result: str, good: str) -> Optional[dict[str, Told]]:
    """By name, of several that one process has run. Those that share a name are left out."""
    cases = _cases_in(file)
    if cases is None:
        return None
    names = Counter(case.get("name", "") for case in cases)
    return {name: _told([case], result, good) for case in cases if names[name := case.get("name", "")] == 1}


def begun_last(file: Path, _output: str) -> Optional[str]:
    """Of a report that may break off."""
    try:
        found = re.findall(r'<TestCase [^>]*?name="([^"]*)"', file.read_text(errors="surrogateescape"))
    except OSError:
        return None
    return html.unescape(found[-1]) if found else None


def _told(cases: list[ElementTree.Element], result: str, good: str) -> Told:
    passed = bool(cases) and all(_is_good(case, result, good) for case in cases)
    skips = [_text_of(skip) for case in cases for skip in case.iter("Skip")] if passed else []
    failures = tuple(text for case in cases for text in _failures_of(case))
    return Told(len(cases), passed, failures, "; ".join(skips) if skips else None)


def _is_good(case: ElementTree.Element, result: str, good: str) -> bool:
    """doctest before 2.4.7 says only how many assertions have failed."""
    end = case.find(result)
    if end is None or good in end.attrib:
        return end is not None and end.get(good) == "true"
    return end.get("failures") == "0" and not _failures_of(case)


def _cases_in(file: Path) -> Optional[list[ElementTree.Element]]:
    """The tests that have run."""
    try:
        root = ElementTree.fromstring(file.read_bytes())
    except (OSError, ElementTree.ParseError):
        return None
    return [one for one in root.iter("TestCase") if one.get("skipped") != "true"]


def _failures_of(case: ElementTree.Element) -> tuple[str, ...]:
    """In their order; of nested sections, too. What is said twice (around sections) comes once."""
    found = dict.fromkeys(text for one in case.iter() if (text := _text(one)) is not None)
    return tuple(found)


def _text_of(element: Optional[ElementTree.Element]) -> str:
    return " ".join("".join(element.itertext()).split()) if element is not None else ""


def _text(one: ElementTree.Element) -> Optional[str]:
    place = f"{one.get('filename')}:{one.get('line')}: " if one.get("filename") else ""
    if one.tag == "Expression" and one.get("success") == "false":
        thrown = one.find("Exception")
        became = f"threw {_text_of(thrown)}" if thrown is not None else f"was {_text_of(one.find('Expanded'))}"
        return f"{place}{one.get('type')}( {_text_of(one.find('Original'))} ) {became}"
    if one.tag in ("Exception", "FatalErrorCondition"):
        return f"{place}{'threw' if one.tag == 'Exception' else 'died of'} {_text_of(one)}"
    if one.tag == "Failure" or (one.tag == "Message" and "ERROR" in (one.get("type") or "")):
        return f"{place}{_text_of(one)}"
    return None
