"""Real suites give the same (id, outcome) with and without --holdfast. The large ones are in tests/real/compare.py (see docs)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

RECORDER = """
import json, os
seen = {}
def pytest_configure(config):
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Recorder())
class Recorder:
    def pytest_runtest_logreport(self, report):
        seen.setdefault(report.nodeid, []).append([report.when, report.outcome, hasattr(report, "wasxfail")])
    def pytest_sessionfinish(self):
        with open(os.environ["RECORD"], "w") as file:
            json.dump(seen, file)
"""


def outcomes(tmp_path: Path, target: str, *args: str) -> dict[str, list[Any]]:
    (tmp_path / "suite_recorder.py").write_text(RECORDER)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    env = {**os.environ, "PYTHONPATH": str(tmp_path), "RECORD": str(tmp_path / "record.json"), "OPENBLAS_NUM_THREADS": "1"}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "suite_recorder",
        "-p",
        "no:cacheprovider",
        "-c",
        "pytest.ini",
        *args,
        target,
    ]
    subprocess.run(command, cwd=tmp_path, env=env, stdout=subprocess.DEVNULL, timeout=600, check=False)
    return {nodeid: sorted(map(tuple, found)) for nodeid, found in json.loads((tmp_path / "record.json").read_text()).items()}


def test_numpy_linalg(tmp_path: Path) -> None:
    numpy = pytest.importorskip("numpy", reason="numpy is missing: ITS OWN SUITE IS NOT RUN")
    target = str(Path(numpy.__file__).parent / "linalg" / "tests")
    plain = outcomes(tmp_path, target)
    assert len(plain) > 400
    for slots in (1, 2, 4):
        assert outcomes(tmp_path, target, "--holdfast", f"--hf-slots={slots}") == plain, f"{slots} slots"
