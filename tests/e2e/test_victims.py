"""Every victim gets the verdict that it must get, at any number of slots, and the innocent ones pass."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

VICTIMS = Path(__file__).parents[1] / "victims"
EXPECTED: dict[str, Any] = json.loads((VICTIMS / "expected.json").read_text())


def expectation(nodeid: str) -> dict[str, Any]:
    found = EXPECTED.get(nodeid) or EXPECTED.get(nodeid.partition("[")[0] + "[*]")
    assert found is not None, f"{nodeid} is not expected at all"
    return found if isinstance(found, dict) else {"verdict": found}


@pytest.mark.parametrize(("slots", "isolation"), [(1, "test"), (2, "test"), (8, "test"), (2, "worker")])
def test_every_victim_gets_its_verdict(suite: Any, slots: int, isolation: str, tmp_path: Path) -> None:
    for path in VICTIMS.glob("test_*.py"):
        suite.file(path.name, path.read_text())
    suite.file("pytest.ini", "[pytest]\n")
    run = suite.run(f"--hf-slots={slots}", f"--hf-isolate={isolation}", "--hf-timeout=3", "--hf-grace=1", "--junitxml=junit.xml")
    assert run.code == 1, run.output
    verdicts = run.verdicts
    failures = {
        case.get("classname", "") + "." + case.get("name", ""): ET.tostring(case, "unicode")
        for case in ET.parse(tmp_path / "junit.xml").iter("testcase")
    }
    for nodeid, verdict in verdicts.items():
        expected = expectation(nodeid)
        allowed = expected["verdict"] if isinstance(expected["verdict"], list) else [expected["verdict"]]
        assert verdict in allowed, f"{nodeid}: {verdict}, expected one of {allowed}\n{run.output}"
        if "leaked" in expected.get("notes", []):
            assert "leaked" in run.notes[nodeid], nodeid
        for text in expected.get("says", []):
            name = nodeid.rpartition("::")[2] if "::" in nodeid else nodeid.removesuffix(".py")
            report = next((xml for key, xml in failures.items() if key.endswith(name)), "")
            assert text in report, f"{nodeid}: the report lacks {text!r}:\n{report}"
    plain_ids = {nodeid for nodeid in EXPECTED if "[*]" not in nodeid}
    assert plain_ids <= set(verdicts), plain_ids - set(verdicts)
    assert sum("test_odd_ids" in nodeid for nodeid in verdicts) == 9
    assert not (tmp_path / "pwned").exists()
