"""Wrong options and hostile surroundings: one clear message, the documented exit code, no traceback of ours, nothing lost."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def small(suite: Any) -> Any:
    return suite.write(test_it="import pytest\n@pytest.mark.parametrize('i', range(5))\ndef test_it(i): pass\n")


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("--hf-slots=0", "0 slots are not possible; give 1 to"),
        ("--hf-slots=many", "'many' is not a number of slots"),
        ("--hf-slots=-3", "-3 slots are not possible"),
        ("--hf-timeout=-1", "-1 seconds are not possible"),
        ("--hf-timeout=soon", "'soon' is not a number of seconds"),
        ("--hf-timeout=nan", "nan seconds are not possible"),
        ("--hf-deadlines=lunch:3", "'lunch:3' is not PHASE:SECONDS"),
        ("--hf-deadlines=setup", "'setup' is not PHASE:SECONDS"),
        ("--hf-isolate=none-of-these", "'none-of-these' is not an isolation"),
        ("--hf-nonsense", "unrecognized arguments: --hf-nonsense"),
        ("--pdb --hf-slots=2", "--pdb and --trace need the terminal for one test at a time; add --hf-slots=1"),
        ("--hf-resume", "there is no ledger in"),
    ],
)
def test_option_values(small: Any, option: str, says: str) -> None:
    run = small.run(*option.split())
    assert run.code == 4, run.output
    assert says in run.output
    assert "Traceback" not in run.output
    assert not run.events


def test_bad_ini_value(small: Any) -> None:
    small.file("pytest.ini", "[pytest]\nhf_slots = lots\n")
    run = small.run()
    assert run.code == 4
    assert "pytest.ini: hf_slots: 'lots' is not a number of slots" in run.output


@pytest.mark.parametrize(
    ("journal", "says"),
    [
        ("nowhere/j.db", "write the ledger"),
        (".", "is not one, and is left alone"),
        ("text.txt", "is not one, and is left alone"),
        ("other.db", "another program's SQLite file"),
        ("future.db", "format version 99"),
    ],
)
def test_a_ledger_that_cannot_be_used(small: Any, journal: str, says: str) -> None:
    import sqlite3

    small.file("text.txt", "not a database, but long enough to look at")
    for name, pragma in (
        ("other.db", "PRAGMA user_version=1"),
        ("future.db", "PRAGMA application_id=1212568404; PRAGMA user_version=99"),
    ):
        db = sqlite3.connect(small.root / name)
        db.execute("CREATE TABLE t(x)")
        db.executescript(pragma)
        db.close()
    run = small.run(f"--hf-journal={journal}")
    assert run.code == 4, run.output
    assert says in run.output
    assert "Traceback" not in run.output
    assert (small.root / "text.txt").read_text().startswith("not a database")


def test_a_ledger_in_use(suite: Any, until: Any) -> None:
    suite.write(test_it="import pathlib, time\ndef test_it():\n    pathlib.Path('begun').touch()\n    time.sleep(3600)\n")
    first = suite.start("--hf-journal=j.db")
    until(lambda: (suite.root / "begun").exists())
    second = suite.run("--hf-journal=j.db")
    assert second.code == 4
    assert "another run is writing it" in second.output
    first.terminate()
    assert suite.finish(first).code == 128 + 15


def test_an_earlier_ledger_is_kept_aside(small: Any) -> None:
    small.run("--hf-journal=j.db")
    small.run("--hf-journal=j.db")
    assert (small.root / "j.db.1").exists()


def test_log_that_cannot_be_written(small: Any) -> None:
    run = small.run("--hf-log=nowhere/log.jsonl")
    assert run.code == 4
    assert "write the log" in run.output


@pytest.mark.parametrize("state", ["missing", "not executable", "broken"])
def test_the_engine_binary(small: Any, state: str) -> None:
    path = small.root / "engine"
    if state != "missing":
        path.write_text("#!/nonexistent/interpreter\n")
    if state == "broken":
        path.chmod(0o755)
    small.env["HOLDFAST_ENGINE"] = str(path)
    run = small.run()
    assert run.code == (12 if state == "broken" else 4), run.output
    assert {"missing": "is missing", "not executable": "is not executable", "broken": "the engine ended with exit status 127"}[
        state
    ] in run.output
    assert "Traceback" not in run.output


def limit_files(count: int) -> Any:
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (count, count))


@pytest.mark.parametrize("count", [12, 20, 30, 45])
def test_few_descriptors(small: Any, count: int) -> None:
    run = small.finish(small.start("--hf-slots=8", preexec_fn=limit_files(count)))
    # Enough for some slots: all is well. Too few for the engine, or for pytest itself: said in a line. Never a hang.
    assert run.code in (0, 1, 4, 11, 12), run.output
    if run.code == 0:
        assert len(run.verdicts) == 5
    else:
        assert "descriptors" in run.output or "open files" in run.output, run.output


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="DISK FULL IS NOT TESTED: needs root and mount")
def test_disk_full(suite: Any, tmp_path: Path) -> None:
    suite.write(
        test_it="""
import pathlib, pytest
@pytest.mark.parametrize("i", range(300))
def test_it(i): print("x" * 2000); assert i < 0
"""
    )
    full = tmp_path / "full"
    full.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=192k", "none", str(full)], check=False).returncode != 0:
        pytest.skip("DISK FULL IS NOT TESTED: mounting a tmpfs is not allowed here")
    try:
        run = suite.run(f"--hf-journal={full}/j.db", "--hf-slots=1", "--tb=no")
        assert run.code == 12, run.output
        assert "full" in run.output
        assert "Traceback" not in run.output
        # What had a verdict was shown; nothing was shown that is not recorded.
        assert 0 < len(run.verdicts) < 300
        assert f"{len(run.verdicts)} failed" in run.output
    finally:
        subprocess.run(["umount", str(full)], check=False)
