"""Each plugin is run together with Holdfast and compared with plain pytest. Only the plugin under test is loaded."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass
class Run:
    code: int
    output: str
    outcomes: dict[str, list[str]]


class Project:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "COV_"))}
        self.env["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
        self.env.pop("CI", None)

    def write(self, **files: str) -> None:
        for name, text in files.items():
            (self.root / f"{name}.py").write_text(text)

    def run(self, plugins: list[str], *args: str) -> Run:
        report = self.root / "junit-of-this-run.xml"
        report.unlink(missing_ok=True)
        loaded = [part for plugin in plugins for part in ("-p", plugin)]
        command = [sys.executable, "-m", "pytest", *loaded, f"--junitxml={report}", *args]
        done = subprocess.run(
            command, cwd=self.root, env=self.env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False
        )
        outcomes: dict[str, list[str]] = {}
        for case in ET.parse(report).iter("testcase") if report.exists() else ():
            tags = sorted(child.tag for child in case if child.tag in ("failure", "error", "skipped"))
            outcomes.setdefault(f"{case.get('classname')}.{case.get('name')}", []).append(",".join(tags))
        return Run(done.returncode, done.stdout + done.stderr, outcomes)

    def holdfast(self, plugins: list[str], isolation: str, *args: str) -> Run:
        return self.run(["holdfast.plugin", *plugins], "--holdfast", "--hf-slots=2", f"--hf-isolate={isolation}", *args)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.fixture(params=["test", "worker"])
def isolation(request: pytest.FixtureRequest) -> str:
    return str(request.param)
