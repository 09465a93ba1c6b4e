"""From what the engine says of a test to the reports that pytest's hooks are given. Pure: no socket, no terminal."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

import pytest

from holdfast import native, ranks
from holdfast.compat import benchmark
from holdfast.diagnose import describe
from holdfast.relay import report_from
from holdfast.wire import Frame

# How many of the tests that ran before are named in a report; all are in the ledger.
_COMPANY = 10
# Of the output of a phase, in characters; as engine/run/slot.h.
_OUTPUT = 64 << 10
PYTEST_VERDICTS = frozenset(("passed", "failed", "error", "skipped", "xfailed", "xpassed"))
GOOD = frozenset(("passed", "skipped", "xfailed", "xpassed"))
# Letter and word on the terminal.
SHOWN = {
    "crashed": ("C", "CRASHED"),
    "timeout": ("T", "TIMEOUT"),
    "exited": ("Q", "EXITED"),
    "oom": ("M", "OOM"),
    "error": ("E", "ERROR"),
    "lost": ("L", "LOST"),
    "infra": ("I", "INFRA"),
}


@dataclass
class Gateway:
    id: str


@dataclass(eq=False)
class WorkerNode:
    """What plugins that know xdist read from `report.node`."""

    gateway: Gateway
    workerinput: dict[str, Any] = field(default_factory=dict)
    workerinfo: dict[str, Any] = field(default_factory=dict)


@dataclass
class Item:
    """A collected test, as the controller knows it."""

    index: int
    nodeid: str
    location: tuple[str, Optional[int], str]


@dataclass
class Presented:
    """What to pass to the hooks, in order."""

    reports: list[Any] = field(default_factory=list)
    warnings: list[Frame] = field(default_factory=list)
    internal_errors: list[str] = field(default_factory=list)


def present(config: pytest.Config, item: Item, result: Frame, items: Sequence[Item] = ()) -> Presented:
    """`items`: all of the run, to name those that ran before this one in its process."""
    presented = Presented()
    keywords: list[str] = []
    for raw in result["reports"]:
        if "warning" in raw:
            presented.warnings.append(raw["warning"])
        elif "benchmarks" in raw:
            benchmark.take(config, raw["benchmarks"])
        elif "internal" in raw:
            presented.internal_errors.append(str(raw["internal"]))
        elif "data" in raw:
            report = _report_of(config, raw)
            if report is not None:
                presented.reports.append(report)
        elif all(key in raw for key in ("when", "duration", "start", "stop")):
            keywords = raw.get("keywords", keywords)
            presented.reports.append(_short_report(item, raw, keywords))
    if result["verdict"] == "skipped" and not presented.reports:
        presented.reports = [_skip_report(item, result)]
    if _needs_own_report(result):
        presented.reports = _with_own_report(item, result, presented.reports)
    if len(result["detail"].get("ranks", ())) > 1:
        _add_ranks(config, result["detail"], presented.reports)
    _add_notes(result, presented.reports, [earlier_attempt(earlier, items) for earlier in result["detail"].get("earlier", [])])
    return presented


def _report_of(config: pytest.Config, raw: Frame) -> Any:
    """None for what is no report: the test itself has written into our socket. (Its hooks may raise anything, then.)"""
    try:
        return report_from(config, raw) if isinstance(raw["data"], dict) else None
    except Exception:
        return None


def _add_ranks(config: pytest.Config, detail: Frame, reports: list[Any]) -> None:
    """What the other ranks of the test said, where it has failed."""
    failing = next((report for report in reports if report.outcome == "failed"), None)
    if failing is None:
        return

    def reports_of(entry: Frame) -> list[Any]:
        return list(filter(None, (_report_of(config, raw) for raw in entry["reports"] if "data" in raw)))

    def text_of(entry: Frame) -> str:
        if entry["verdict"] not in PYTEST_VERDICTS:
            return explain(headline_of(entry["verdict"], entry), entry, [])
        return "\n".join(report.longreprtext for report in reports_of(entry) if report.outcome == "failed")

    def sections_of(entry: Frame) -> list[tuple[str, str]]:
        kept = {section: None for report in reports_of(entry) for section in report.sections}
        return [*kept, *_sections(entry, str(entry.get("phase", "call")))]

    summary = ranks.summary(detail, lambda entry: headline_of(entry["verdict"], entry))
    added = [("Holdfast: ranks", summary), *ranks.others(detail, text_of), *ranks.outputs(detail, sections_of)]
    failing.sections = [*failing.sections, *added]
    crash = getattr(failing.longrepr, "reprcrash", None)
    if crash is not None:
        crash.message = f"{ranks.prefix(detail)}{crash.message}"


def _short_report(item: Item, raw: Frame, keywords: list[str]) -> pytest.TestReport:
    return pytest.TestReport(
        nodeid=item.nodeid,
        location=item.location,
        keywords=dict.fromkeys(keywords, 1),
        outcome="passed",
        longrepr=None,
        when=raw["when"],
        duration=raw["duration"],
        start=raw["start"],
        stop=raw["stop"],
    )


def _skip_report(item: Item, result: Frame) -> Any:
    """Of a test that the engine did not run."""
    path, line, _ = item.location
    return _report(item, "setup", "skipped", (path, (line or 0) + 1, f"Skipped: {result['detail'].get('problem', '')}"), [], 0.0)


def _needs_own_report(result: Frame) -> bool:
    if result["verdict"] not in PYTEST_VERDICTS or result["detail"].get("left"):
        return True
    # An error that no report of the test explains: it broke the protocol, or ran nothing.
    return result["verdict"] == "error" and not any("data" in raw for raw in result["reports"])


def _with_own_report(item: Item, result: Frame, reports: list[Any]) -> list[Any]:
    """setup, call and teardown as pytest expects them, with the phase that died as the failing one."""
    detail = result["detail"]
    phase = str(detail.get("phase", "call"))
    when = {"start": "setup", "setup": "setup", "call": "call"}.get(phase, "teardown")
    headline = headline_of(result["verdict"], detail)
    # The last output is part of the report itself, so that it is in JUnit too, whatever its settings for output.
    kept, interrupted = _divided(reports, when, replaced=result["verdict"] != "error" or bool(detail.get("left")))
    output = _sections(detail, when) + _captured(interrupted)
    text = headline if detail.get("left") else explain(headline, detail, output)
    # The phase's own words come from its interruption (SIGINT at the deadline) or are of a part of it (a subtest).
    said = [report for report in interrupted if report.outcome == "failed" and report.longrepr]
    sections = [("Holdfast: what the phase itself said", str(report.longrepr)) for report in said]
    by_phase = [getattr(report, "when", "") for report in kept]
    before = ["setup", "call", "teardown"][: ["setup", "call", "teardown"].index(when)]
    whole: list[Any] = []
    for earlier in before:
        found = [r for r, phase_of in zip(kept, by_phase) if phase_of == earlier]
        # Passed without output: such reports travel with the last one, which this test could not send.
        whole += found or [_report(item, earlier, "passed", None, [], 0.0)]
    failing = _report(item, when, "failed", _longrepr(item, text, headline), sections, float(result["duration"]))
    failing.holdfast_verdict = result["verdict"]  # type: ignore[attr-defined]
    whole.append(failing)
    if when != "teardown":
        later = [r for r, phase_of in zip(kept, by_phase) if phase_of == "teardown"]
        whole += later or [_report(item, "teardown", "passed", None, output, 0.0)]
    return whole


def _divided(reports: list[Any], when: str, *, replaced: bool) -> tuple[list[Any], list[Any]]:
    """Those that stay, and those of the phase that gets a report of its own."""
    of_phase = [report for report in reports if replaced and getattr(report, "when", "") == when]
    return [report for report in reports if report not in of_phase], of_phase


def _captured(reports: list[Any]) -> list[tuple[str, str]]:
    """What they had captured, each once: a report has the output of earlier phases, too."""
    found = {(str(title), str(text)[-_OUTPUT:]): None for report in reports for title, text in report.sections}
    return [section for section in found if section[0].startswith("Captured")]


def _report(item: Item, when: Any, outcome: Any, longrepr: Any, sections: list[tuple[str, str]], duration: float) -> pytest.TestReport:
    return pytest.TestReport(
        nodeid=item.nodeid,
        location=item.location,
        keywords={},
        outcome=outcome,
        longrepr=longrepr,
        when=when,
        sections=list(sections),
        duration=duration,
    )


def _longrepr(item: Item, text: str, headline: str) -> Any:
    """A representation that carries its one-line message, for the short summary and for junitxml."""
    from _pytest._code.code import ReprEntryNative, ReprExceptionInfo, ReprFileLocation, ReprTraceback

    path, line, _ = item.location
    entries = [ReprEntryNative([text + "\n"])]
    return ReprExceptionInfo(
        reprtraceback=ReprTraceback(entries, None, "native"),
        reprcrash=ReprFileLocation(path, (line or 0) + 1, headline),
    )


def headline_of(verdict: str, detail: Frame) -> str:
    """One line: what happened, where, and the hardest fact about it."""
    phase = detail.get("phase", "call")
    if verdict == "crashed":
        if detail.get("zygote_died"):
            return f"crashed in {phase}: killed together with its zygote (did something kill the test's parent process?)"
        return f"crashed in {phase}: {detail.get('signal')}{_signal_facts(detail)}"
    if verdict == "timeout":
        stopped = ", the process was stopped (SIGSTOP)" if detail.get("was_stopped") else ""
        return f"timeout in {phase}: not finished after {detail.get('limit', 0):g} s{stopped}"
    if verdict == "oom" and detail.get("kernel"):
        return f"oom in {phase}: killed for want of memory; {detail['kernel']}"
    if verdict == "oom":
        limit, peak = (int(detail.get(key, 0)) / (1 << 20) for key in ("memory_limit", "memory_peak"))
        killed = f"the kernel killed {detail.get('memory_kills')} of its processes"
        return f"oom in {phase}: {killed} at the {limit:.0f} MiB that it declared (peak {peak:.0f} MiB)"
    if verdict == "exited":
        code = detail.get("code", 0)
        if detail.get("mpi_abort") is not None:
            return f"exited in {phase}: MPI_Abort({detail['mpi_abort']})"
        how = "closed its socket, or was replaced by another program (exec), and ended" if detail.get("hung_up") else "ended"
        if detail.get("program"):
            return f"exited in {phase}: the program ended with exit status {code} and did not say what became of its test"
        return f"exited in {phase}: the process {how} with exit status {code} before the test was over"
    return f"{verdict}: {detail.get('problem') or 'the process ended its test without a report'}"


def _signal_facts(detail: Frame) -> str:
    facts = []
    if detail.get("si_code_name"):
        facts.append(str(detail["si_code_name"]))
    elif "si_code" in detail:
        facts.append(f"si_code {detail['si_code']}")
    if "address" in detail:
        facts.append(f"address {detail['address']}")
    if detail.get("sender"):
        facts.append(f"sent by process {detail['sender']}")
    return f" ({', '.join(facts)})" if facts else ""


def explain(headline: str, detail: Frame, output: list[tuple[str, str]]) -> str:
    """The text of a report: what happened, the stacks, the last output."""
    python, natives = split_stacks(str(detail.get("stacks") or ""))
    if "stacks" not in detail:
        return headline  # It was not run.
    of_program = detail.get("program") or _OF_PROGRAMS in str(detail["stacks"])
    nothing = [] if of_program else ["(no Python stack: the process died, or hung, without running faulthandler's handler)"]
    parts = [headline, *([python] if python else nothing), *natives]
    parts += processes_of(detail)
    if detail.get("usage"):
        parts.append(used(detail["usage"]))
    parts += [f"{title}:\n{text.rstrip()}" for title, text in output]
    return "\n\n".join(parts)


def used(usage: Frame) -> str:
    """One line: what a test has used."""
    parts = [f"{usage['user'] + usage['system']:.2f} s CPU ({usage['user']:.2f} user, {usage['system']:.2f} system)"]
    parts += [
        f"{name} {_size(usage[key])}"
        for key, name in (("peak", "peak memory"), ("vram", "peak GPU memory"), ("read", "read"), ("written", "written"))
        if usage.get(key)
    ]
    parts += [f"{usage[key]} {key}" for key in ("processes", "threads", "files") if key in usage]
    return "Used: " + ", ".join(parts)


def _size(count: int) -> str:
    return f"{count / (1 << 20):.0f} MiB" if count >= 1 << 20 else f"{count / 1024:.0f} KiB"


def processes_of(detail: Frame) -> list[str]:
    """What each process of a hanging test was doing at the deadline."""
    found = [
        describe({**process, "python": without_runner_frames(process.get("python", ""))}) for process in detail.get("processes", [])
    ]
    return ["\n".join(["At the deadline, before anything was killed:", *found])] if found else []


# Frames of pytest and of ours, below the user's code in every stack that faulthandler writes.
_RUNNER = re.compile(r'^  File ".*(/_pytest/|/pluggy/|/holdfast/\w+\.py|/pytest/__main__\.py|/bin/(py\.)?test"|<frozen runpy>).*')


# In a stack of a process that waits for the program which is its test: of that alone there is something to say.
_OF_PROGRAMS = "/holdfast/targets/running.py"


def split_stacks(stacks: str) -> tuple[str, list[str]]:
    """Of what a process has written when it died: the Python stacks without the runner's frames, and native ones."""
    blocks = stacks.strip().split("\n\n")
    natives = [native.show(block.strip()) for block in blocks if block.lstrip().startswith(native.HEADING)]
    return without_runner_frames(
        "\n\n".join(block for block in blocks if not block.lstrip().startswith(native.HEADING)).strip()
    ), natives


def without_runner_frames(stacks: str) -> str:
    """Each thread's stack without the runner's frames at its bottom, which are the same in all of them."""
    kept: list[str] = []
    for block in stacks.split("\n\n"):
        if _OF_PROGRAMS in block:
            continue
        lines = block.split("\n")
        while len(lines) > 2 and _RUNNER.match(lines[-1]):
            lines.pop()
        kept.append("\n".join(lines))
    return "\n\n".join(kept)


def _sections(detail: Frame, when: str) -> list[tuple[str, str]]:
    named = (("out", f"Captured stdout {when}"), ("err", f"Captured stderr {when}"), ("stream", "Uncaptured output"))
    return [(title, str(detail[key])) for key, title in named if detail.get(key)]


def _add_notes(result: Frame, reports: list[Any], earlier: list[str]) -> None:
    """Verdict and notes where plugins find them: user properties (JUnit) and a section on the last report."""
    if not reports:
        return
    last = reports[-1]
    properties = []
    if result["verdict"] not in PYTEST_VERDICTS:
        properties.append(("holdfast_verdict", result["verdict"]))
    if result["notes"]:
        properties.append(("holdfast_notes", ",".join(result["notes"])))
    if result["attempts"] > 1:
        properties.append(("holdfast_attempts", str(result["attempts"])))
    properties += [(f"holdfast_attempt_{number}", text) for number, text in enumerate(earlier, 1)]
    last.sections = [*last.sections, *((f"Holdfast: attempt {number}", text) for number, text in enumerate(earlier, 1))]
    last.user_properties = [*last.user_properties, *properties]
    # pytest shows the sections of the report that has failed.
    where = next((report for report in reports if report.outcome == "failed"), last)
    if passes := result["detail"].get("passes"):
        where.sections = [*where.sections, ("Holdfast: again and again", f"it passed {passes} time(s) before that")]
    findings = result["detail"].get("findings")
    if findings and (findings.get("errors") or result["verdict"] not in GOOD):
        where.sections = [*where.sections, (f"Holdfast: {findings['tool']}", findings["text"])]
    leaked = leaks_of(result)
    if leaked:
        last.sections = [*last.sections, ("Holdfast: left behind", "\n".join(leaked))]


def earlier_attempt(earlier: Frame, items: Sequence[Item]) -> str:
    """A line or a few: how an attempt that was not the last one ended, in what company, and what it said."""
    detail = earlier["detail"]
    ran_before = detail.get("before") or []
    why = "" if earlier["cause"] != "judged again" else f" after {len(ran_before)} other test(s) in the same process"
    said = "; ".join(detail.get("gpu_evidence", ())) if earlier["verdict"] == "infra" else ""
    said = said or headline_of(earlier["verdict"], detail) if earlier["verdict"] not in PYTEST_VERDICTS else _said(earlier["reports"])
    lines = [f"{earlier['verdict']}{why}: {said}" if said else f"{earlier['verdict']}{why}"]
    if ran_before:
        names = [items[index].nodeid for index in ran_before[-_COMPANY:] if index < len(items)]
        more = f"{len(ran_before) - len(names)} more, then " if len(ran_before) > len(names) else ""
        lines.append(f"before it: {more}{', '.join(names)}")
    return "\n".join(lines)


def _said(reports: list[Frame]) -> str:
    """The message of the first failure among serialised reports."""
    for report in reports:
        longrepr = report.get("data", {}).get("longrepr") if report.get("data", {}).get("outcome") == "failed" else None
        if longrepr:
            # Of an exception the first line says most, of other texts the last.
            text = message_of(longrepr)
            return text.split("\n")[0] if isinstance(longrepr, dict) else text.strip().split("\n")[-1]
    return ""


def message_of(longrepr: Any) -> str:
    """Of pytest's three serialised forms: a traceback, where and why a test was skipped, a text."""
    if isinstance(longrepr, dict):
        crash = longrepr.get("reprcrash") or {}
        return str(crash.get("message", ""))
    return str(longrepr[-1] if isinstance(longrepr, (list, tuple)) else longrepr)


def leaks_of(result: Frame) -> list[str]:
    # Ledgers of earlier versions know processes only.
    return [leak.get("text") or f"process {leak['pid']}: {leak['command']}" for leak in result["detail"].get("leaked", [])]


def module_report(result: Frame) -> pytest.CollectReport:
    """The report of a module that died while it was imported."""
    headline = headline_of(result["verdict"], result["detail"])
    item = Item(-1, result["id"], (result["id"], None, result["id"]))
    output = _sections(result["detail"], "collect")
    report = pytest.CollectReport(
        nodeid=result["id"],
        outcome="failed",
        longrepr=_longrepr(item, explain(headline, result["detail"], output), headline),
        result=[],
    )
    report.holdfast_verdict = result["verdict"]  # type: ignore[attr-defined]
    return report
