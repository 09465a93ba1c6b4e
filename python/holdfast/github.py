"""On GitHub Actions: annotations at the failing lines, and a summary of the step.

Formats: workflow commands (`::error file=...,line=...::...`) and the Markdown file that GITHUB_STEP_SUMMARY names.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Optional

# GitHub shows ten annotations of a kind for a step.
_ANNOTATIONS = 10
# Rows of a table in the summary, which may be 1 MiB.
_ROWS = 200


@dataclass(frozen=True)
class Finding:
    """A test that someone should look at."""

    nodeid: str
    kind: str  # Its verdict, or a note.
    message: str
    path: str = ""
    line: int = 0


def finding_of(nodeid: str, verdict: str, reports: Sequence[Any]) -> Optional[Finding]:
    """Of a test with these reports; None if all of them are fine."""
    for report in reports:
        if not report.failed:
            continue
        crash = getattr(report.longrepr, "reprcrash", None)
        path, line, _ = getattr(report, "location", None) or ("", None, "")
        if crash is not None:
            return Finding(nodeid, verdict, str(crash.message), path or str(crash.path), int(crash.lineno or 0))
        return Finding(nodeid, verdict, str(report.longrepr), path, (line or 0) + 1)
    return None


def is_here() -> bool:
    return os.environ.get("GITHUB_ACTIONS") == "true"


def write(reporter: Any, failures: Sequence[Finding], notes: Sequence[Finding], counts: dict[str, int]) -> None:
    for level, findings in (("error", failures), ("notice", notes)):
        for finding in findings[:_ANNOTATIONS]:
            reporter.write_line(_command(level, finding))
    path = os.environ.get("GITHUB_STEP_SUMMARY")
    if not path:
        return
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.write(markdown(failures, notes, counts))
    except OSError as problem:
        reporter.write_line(f"holdfast: GITHUB_STEP_SUMMARY cannot be written: {problem.strerror}")


def _command(level: str, finding: Finding) -> str:
    place = f"file={_property(finding.path)},line={finding.line}," if finding.path else ""
    return f"::{level} {place}title={_property(f'{finding.kind}: {finding.nodeid}')}::{_data(finding.message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def markdown(failures: Sequence[Finding], notes: Sequence[Finding], counts: dict[str, int]) -> str:
    lines = ["### Tests", "", ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items())) or "none", ""]
    for title, findings in (("Failures", failures), ("Worth a look", notes)):
        if not findings:
            continue
        lines += [f"#### {title}", "", "| test | | |", "|---|---|---|"]
        lines += [
            f"| {_cell(f.nodeid)} | {f.kind} | {_cell(f.message.splitlines()[0] if f.message else '')} |" for f in findings[:_ROWS]
        ]
        if len(findings) > _ROWS:
            lines.append(f"| and {len(findings) - _ROWS} more | | |")
        lines.append("")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    """As code, so that nothing in it is taken for Markdown or HTML."""
    return "`" + text.replace("`", "'").replace("|", "\\|")[:300] + "`" if text else ""
