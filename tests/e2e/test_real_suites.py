"""A real suite gives the same (id, phase, outcome) with and without --holdfast. More of them: tests/real/compare.py."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "real"))
import compare


def test_pythons_own_tests_of_faulthandler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They replace the handlers that our reports depend on."""
    tests = pytest.importorskip(
        "test.test_faulthandler", reason="PYTHON'S OWN TESTS ARE MISSING (libpython3-testsuite): NOT RUN"
    ).__file__
    monkeypatch.setattr(compare, "PLACE", tmp_path)
    (tmp_path / "suite_recorder.py").write_text(compare.RECORDER)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    plain, *ours = (
        compare.outcomes(Path(sys.executable), tmp_path, tests, "-c", "pytest.ini", *args)[0]
        for args in ((), ("--holdfast", "--hf-slots=2"), ("--holdfast", "--hf-slots=2", "--hf-isolate=worker"))
    )
    assert isinstance(plain, dict) and len(plain) > 30
    assert ours == [plain, plain]


def test_numpy_linalg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numpy = pytest.importorskip("numpy", reason="numpy is missing: ITS OWN SUITE IS NOT RUN")
    monkeypatch.setattr(compare, "PLACE", tmp_path)
    (tmp_path / "suite_recorder.py").write_text(compare.RECORDER)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    tests = str(Path(numpy.__file__).parent / "linalg" / "tests")

    def outcomes(*args: str) -> object:
        return compare.outcomes(Path(sys.executable), tmp_path, tests, "-c", "pytest.ini", *args)[0]

    plain = outcomes()
    assert isinstance(plain, dict)
    assert len(plain) > 400
    for slots in (1, 2, 4):
        assert outcomes("--holdfast", f"--hf-slots={slots}") == plain, f"{slots} slots"
