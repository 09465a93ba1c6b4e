"""What the faults of a run have done, for the closing section of the terminal; and what tests that have died say of theirs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from holdfast.faulted import FOLDER, PROPERTY, SEED, chaos_file
from holdfast.present import PYTEST_VERDICTS

_TESTS = 20


class FaultReport:
    def __init__(self, config: pytest.Config) -> None:
        self.folder = os.environ.get(FOLDER)
        file = chaos_file(config, config.option)
        self.chaos = os.path.relpath(file, config.invocation_params.dir) if file is not None else ""
        self.seed = os.environ.get(SEED, "")
        self.tests: list[tuple[str, list[str]]] = []

    def header(self) -> list[str]:
        return [f"holdfast: chaos by {self.chaos}, seed {self.seed}"] if self.chaos else []

    def add(self, nodeid: str, verdict: str, reports: Sequence[Any]) -> None:
        """Reads the page of a test whose process has died, which then becomes a section of its report."""
        lines = list(dict.fromkeys(str(text) for report in reports for name, text in report.user_properties if name == PROPERTY))
        if self.folder and verdict not in PYTEST_VERDICTS:
            from holdfast.faults import pages

            left = pages.left_by(Path(self.folder), nodeid)
            failed = next((report for report in reports if report.outcome == "failed"), None)
            if left and failed is not None:
                failed.sections = [*failed.sections, ("Holdfast: faults", "\n".join(left))]
                found = [line for line in left if not line.startswith(" ")]
                failed.user_properties = [*failed.user_properties, *((PROPERTY, line) for line in found)]
                lines += found
        if lines:
            self.tests.append((nodeid, lines))

    def write(self, reporter: Any) -> None:
        if not self.tests and not self.chaos:
            return
        reporter.section("faults")
        again = f"; again with --hf-chaos={self.chaos} --hf-seed={self.seed}" if self.chaos else ""
        struck = sum(any(": struck " in line for line in lines) for _, lines in self.tests)
        reporter.write_line(f"{struck} test(s) met faults, {len(self.tests) - struck} did not meet those that they declare{again}")
        shown = self.tests if reporter.verbosity > 0 else self.tests[:_TESTS]
        for nodeid, lines in shown:
            for line in lines:
                reporter.write_line(f"{nodeid}: {line}")
        if len(shown) < len(self.tests):
            reporter.write_line(f"and {len(self.tests) - len(shown)} more (-v shows all)")
