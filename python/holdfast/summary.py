"""The closing section of the terminal: verdicts that pytest does not know, and every note with what it is about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from holdfast.github import Finding, finding_of
from holdfast.present import GOOD, SHOWN, Item, earlier_attempt, leaks_of
from holdfast.project import FILE
from holdfast.wire import Frame

# Lines about one test, and tests of one note; the rest is counted.
_LINES = 5
_TESTS = 50
# Shared fixtures whose setup and teardown together took so many seconds are listed, and so many of them; all with -v.
_SLOW_SCOPE = 1.0
_SCOPES = 20


class Summary:
    def __init__(self) -> None:
        self.verdicts: dict[str, int] = {}
        self.crashed: list[str] = []
        # What the engine says of the GPUs at the end (protocol/README.md, `gpus`).
        self.gpus: list[Frame] = []
        self.gpu_errors = 0
        self.gpu_retries = 0
        self.failures: list[Finding] = []
        self._noted: dict[str, list[tuple[str, list[str]]]] = {}
        # Seconds of setup and of teardown, tests, id.
        self._scopes: list[tuple[float, float, int, str]] = []

    def add_scope(self, frame: Frame) -> None:
        self._scopes.append((float(frame["setup"]), float(frame["teardown"]), int(frame["tests"]), str(frame["id"])))

    def write_scopes(self, reporter: Any) -> None:
        """What was set up once for several tests, and how long that took."""
        verbose = reporter.verbosity > 0
        shown = [scope for scope in self._scopes if verbose or scope[0] + scope[1] >= _SLOW_SCOPE]
        if not shown:
            return
        reporter.section("shared fixtures")
        shown.sort(key=lambda scope: -(scope[0] + scope[1]))
        for setup, teardown, tests, scope_id in shown[: None if verbose else _SCOPES]:
            reporter.write_line(f"{setup:.2f}s setup, {teardown:.2f}s teardown, {tests} test(s): {scope_id}")
        if len(shown) > _SCOPES and not verbose:
            reporter.write_line(f"and {len(shown) - _SCOPES} more (-v shows all)")

    def add_reports(self, result: Frame, reports: Sequence[Any]) -> None:
        """For GitHub's annotations: where it failed, and what it said."""
        finding = finding_of(result["id"], result["verdict"], reports)
        if finding is not None:
            self.failures.append(finding)

    def notes(self) -> list[Finding]:
        return [Finding(nodeid, note, "; ".join(lines)) for note, tests in sorted(self._noted.items()) for nodeid, lines in tests]

    def add(self, result: Frame, items: Sequence[Item]) -> None:
        verdict = result["verdict"]
        self.verdicts[verdict] = self.verdicts.get(verdict, 0) + 1
        if verdict == "crashed":
            self.crashed.append(result["id"])
        if verdict == "infra" or result["detail"].get("earlier") or result["detail"].get("gpu_evidence"):
            tried = [earlier for earlier in result["detail"].get("earlier", ()) if earlier["cause"] == "another device"]
            self.gpu_retries += len(tried)
            gpu = verdict == "infra" and "lost" not in result["detail"]
            self.gpu_errors += len(tried) + (gpu or "gpu_evidence" in result["detail"])
        for note in result["notes"]:
            self._noted.setdefault(note, []).append((result["id"], _about(note, result, items)))

    def only_infrastructure_failed(self) -> bool:
        return "infra" in self.verdicts and all(name in GOOD or name == "infra" for name in self.verdicts)

    def write(self, reporter: Any) -> None:
        special = {name: count for name, count in self.verdicts.items() if name in SHOWN and name != "error"}
        if not special and not self._noted:
            return
        reporter.section("holdfast")
        for name, count in sorted(special.items()):
            reporter.write_line(f"{name}: {count}")
        for note, tests in sorted(self._noted.items()):
            for nodeid, lines in tests[:_TESTS]:
                reporter.write_line(f"{note}: {nodeid}")
                for line in lines[:_LINES]:
                    reporter.write_line(f"    {line}")
                if len(lines) > _LINES:
                    reporter.write_line(f"    and {len(lines) - _LINES} more")
            if len(tests) > _TESTS:
                reporter.write_line(f"{note}: and {len(tests) - _TESTS} more test(s)")


def _about(note: str, result: Frame, items: Sequence[Item]) -> list[str]:
    if note == "leaked":
        return leaks_of(result)
    if note == "broke":
        return [f"resource {name} did not work any more after it, each time" for name in result["detail"].get("broke", [])]
    if note == "findings":
        found = result["detail"]["findings"]
        return [f"{found['tool']}: {found['errors']} error(s)"]
    if note == "slow" and "slow" in result["detail"]:
        return [f"{float(result['duration']):.1f} s; more than {float(result['detail']['slow']):g} s is slow ({FILE})"]
    if note == "slow":
        return [f"{float(result['duration']):.1f} s, in earlier runs about {float(result['detail']['usual']):.1f} s"]
    if note in ("polluted", "flaky", "infra"):
        return [line for earlier in result["detail"].get("earlier", []) for line in earlier_attempt(earlier, items).split("\n")]
    return []
