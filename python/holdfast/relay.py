"""Reports and warnings as JSON and back. What a value cannot be turned into becomes its repr; a report never fails a run."""

from __future__ import annotations

import builtins
import sys
import warnings
from typing import Any, Optional

import pytest

from holdfast.wire import Frame, encode, plain

# A string longer than this is cut in the middle: output and representations of a test must not make a frame too large.
TEXT_LIMIT = 2 << 20
# All of one report, well under the frame limit of a test (16 MiB).
REPORT_LIMIT = 12 << 20

_PLAIN_ATTRIBUTES: frozenset[str] = frozenset()


def plain_attributes() -> frozenset[str]:
    """The attributes of a TestReport to which no plugin has added anything."""
    global _PLAIN_ATTRIBUTES
    if not _PLAIN_ATTRIBUTES:
        sample = pytest.TestReport(nodeid="a", location=("a", 0, "a"), keywords={}, outcome="passed", longrepr=None, when="call")
        _PLAIN_ATTRIBUTES = frozenset(vars(sample))
    return _PLAIN_ATTRIBUTES


def is_plain_pass(report: pytest.TestReport) -> bool:
    """True for a report that says nothing but that a phase passed: it is sent in a few words."""
    return (
        type(report) is pytest.TestReport
        and report.outcome == "passed"
        and not report.sections
        and not report.user_properties
        and report.longrepr is None
        and vars(report).keys() <= plain_attributes()
    )


def short_report(report: pytest.TestReport, keywords: Optional[list[str]]) -> Frame:
    data: Frame = {
        "when": report.when,
        "duration": report.duration,
        "start": getattr(report, "start", 0),
        "stop": getattr(report, "stop", 0),
    }
    if keywords is not None:
        data["keywords"] = keywords
    return data


def full_report(config: pytest.Config, report: Any) -> Frame:
    """Everything pytest's own serialisation keeps, within bounds."""
    data = config.hook.pytest_report_to_serializable(config=config, report=report)
    if data is None:
        data = {"$report_type": "TestReport", "nodeid": str(report.nodeid), "outcome": str(report.outcome)}
    data = cut_texts(plain(data))
    if len(encode(data)) > REPORT_LIMIT:
        data["sections"] = [["Holdfast", "the captured output was too large to keep with this report"]]
    if len(encode(data)) > REPORT_LIMIT:
        data["longrepr"] = cut_text(str(data.get("longrepr")), TEXT_LIMIT)
        data["user_properties"] = []
    return {"data": data}


def cut_text(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n[... {len(text) - 2 * half} characters left out by holdfast ...]\n{text[-half:]}"


def cut_texts(value: Any) -> Any:
    if isinstance(value, str):
        return cut_text(value, TEXT_LIMIT)
    if isinstance(value, dict):
        return {key: cut_texts(item) for key, item in value.items()}
    if isinstance(value, list):
        return [cut_texts(item) for item in value]
    return value


def collect_report_data(config: pytest.Config, report: pytest.CollectReport) -> Frame:
    """A failed or skipped collection whole; of a passed one only what the cache plugin asks for."""
    if report.passed:
        children = [c.nodeid for c in report.result if isinstance(c, pytest.Item)] if _was_failing(config, report) else []
        return {"id": report.nodeid, "passed": True, "children": children}
    return {"id": report.nodeid, "passed": False, **full_report(config, report)}


def _was_failing(config: pytest.Config, report: pytest.CollectReport) -> bool:
    plugin = config.pluginmanager.get_plugin("lfplugin")
    known = getattr(plugin, "lastfailed", None) or {}
    return any(str(nodeid) == report.nodeid for nodeid in known)


def report_from(config: pytest.Config, data: Frame) -> Any:
    """The report of full_report(), with the tuples that JSON has made lists of; None if no plugin knows its type."""
    report = config.hook.pytest_report_from_serializable(config=config, data=data["data"])
    if report is None:
        return None
    if isinstance(report.longrepr, list):
        report.longrepr = tuple(report.longrepr)
    if isinstance(getattr(report, "location", None), list):
        report.location = tuple(report.location)
    report.sections = [tuple(section) for section in report.sections]
    if hasattr(report, "user_properties"):
        report.user_properties = [tuple(p) if isinstance(p, list) else p for p in report.user_properties]
    return report


# ---- warnings


def warning_data(message: warnings.WarningMessage, when: str, nodeid: str, location: Any) -> Frame:
    category = message.category
    return {
        "message": cut_text(str(message.message), 100_000),
        "category": [category.__module__, category.__qualname__],
        "bases": [base.__name__ for base in category.__mro__ if base.__module__ == "builtins"],
        "filename": str(message.filename),
        "lineno": message.lineno,
        "line": message.line,
        "when": when,
        "nodeid": nodeid,
        "location": list(location) if location else None,
    }


def warning_from(data: Frame) -> warnings.WarningMessage:
    """Rebuilds a warning without importing anything: a category that this process has not loaded gets a stand-in of its name."""
    category = _category(data)
    return warnings.WarningMessage(
        message=category(data["message"]),
        category=category,
        filename=data["filename"],
        lineno=data["lineno"],
        line=data.get("line"),
    )


def publish_warning(config: pytest.Config, data: Frame) -> None:
    """Tells the controller's plugins of a warning that was recorded elsewhere."""
    config.hook.pytest_warning_recorded.call_historic(
        kwargs={
            "warning_message": warning_from(data),
            "when": data["when"],
            "nodeid": data["nodeid"],
            "location": tuple(data["location"]) if data.get("location") else None,
        }
    )


def _category(data: Frame) -> type[Warning]:
    module, name = data["category"]
    found = getattr(sys.modules.get(module), name, None)
    # Built-in categories take a message; one with a constructor of its own might not.
    if isinstance(found, type) and issubclass(found, Warning) and found.__init__ is Warning.__init__:
        return found
    for base in data.get("bases", []):
        parent = getattr(builtins, base, None)
        if isinstance(parent, type) and issubclass(parent, Warning):
            return type(name, (parent,), {"__module__": module})
    return type(name, (Warning,), {"__module__": module})
