"""A suite written for pytest-fkit runs unchanged: its options, ini use, marks, FKIT_WORKER_ID and summary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

SUITE = """
import os, pathlib, pytest
def note(name): pathlib.Path(name).write_text(f"{os.getpid()} {os.environ.get('FKIT_WORKER_ID')}")
def test_fine(): note("fine")
def test_crashes(): os.abort()
@pytest.mark.fkit_skip
def test_skip_one(): note("one")
@pytest.mark.fkit_skip
def test_skip_two(): note("two")
@pytest.mark.fkit_multi_gpu
def test_gpus(): pass
@pytest.mark.fkit_serial
@pytest.mark.parametrize("i", range(3))
def test_serial(i):
    fd = os.open("lock", os.O_CREAT | os.O_EXCL)
    os.unlink("lock")
"""


@pytest.mark.parametrize("how", ["options", "addopts", "ini"])
def test_a_suite_of_pytest_fkit(suite: Any, tmp_path: Path, how: str) -> None:
    suite.write(test_it=SUITE)
    args = ["--fkit", "--fkit-timeout=30", "--fkit-workers=2"]
    if how == "addopts":
        suite.file("pytest.ini", f"[pytest]\naddopts = {' '.join(args)}\n")
    if how == "ini":
        suite.file("pytest.ini", "[pytest]\nfkit = true\nfkit_timeout = 30\nfkit_workers = 2\n")
    process = suite.start(f"--hf-log={suite.log}", "--strict-markers", *(args if how == "options" else []), holdfast=False)
    run = suite.finish(process)
    assert run.code == 1, run.output
    assert "2 slot(s)" in run.output
    assert run.short()["test_crashes"] == "crashed"
    assert [name for name, verdict in run.short().items() if verdict != "passed"] == ["test_crashes"]
    assert "1 test(s) CRASHED" in run.output and "  - test_it.py::test_crashes" in run.output
    pids = {name: (tmp_path / name).read_text().split() for name in ("fine", "one", "two")}
    assert {worker for _, worker in pids.values()} <= {"0", "1"}


def test_fkit_alone_is_one_worker(suite: Any, tmp_path: Path) -> None:
    suite.write(test_it=SUITE)
    run = suite.finish(suite.start("--fkit", f"--hf-log={suite.log}", holdfast=False))
    assert "1 slot(s)" in run.output
    one, two, fine = ((tmp_path / name).read_text() for name in ("one", "two", "fine"))
    assert one == two != fine and one.endswith(" 0")


def test_where_there_is_no_gpu_every_worker_does_without(suite: Any) -> None:
    suite.write(test_it="def test_one(): pass")
    run = suite.finish(suite.start("--fkit", "--fkit-gpus-per-worker=2", holdfast=False))
    assert run.code == 0 and "1 passed" in run.output


@pytest.mark.parametrize(
    "args, text",
    [
        (["--fkit-workers=0"], "--fkit-workers: 0 slots are not possible"),
        (["--fkit-timeout=soon"], "--fkit-timeout: 'soon' is not a number of seconds"),
        (["--fkit-gpus-per-worker=x"], "--fkit-gpus-per-worker: 'x' is not a number of GPUs"),
    ],
)
def test_wrong_values(suite: Any, args: list[str], text: str) -> None:
    suite.write(test_it="def test_one(): pass")
    run = suite.finish(suite.start("--fkit", *args, holdfast=False))
    assert run.code == 4 and text in run.output and "Traceback" not in run.output


PLUGIN = """
def pytest_addoption(parser): parser.getgroup("fkit").addoption("--fkit", action="store_true", default=False)
"""


def test_where_pytest_fkit_is_installed_its_names_are_its_own(suite: Any, tmp_path: Path) -> None:
    suite.write(test_it="def test_one(): pass", pytest_fkit=PLUGIN)
    suite.env["PYTHONPATH"] = str(tmp_path)
    plugin = ("-p", "pytest_fkit")
    run = suite.run(*plugin)
    assert run.code == 0 and "pytest-fkit is installed" in run.output
    alone = suite.finish(suite.start(*plugin, "--fkit", holdfast=False))
    assert alone.code == 0 and "slot(s)" not in alone.output
    both = suite.run(*plugin, "--fkit")
    assert both.code == 4 and "both want to run the tests" in both.output
