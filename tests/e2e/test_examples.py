"""The examples do what they say."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from holdfast import simgpu

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run(suite: Any, name: str, *args: str) -> Any:
    shutil.copytree(EXAMPLES / name, suite.root / name)
    shutil.copy(EXAMPLES / "pytest.ini", suite.root)
    return suite.run("--hf-slots=2", *args, name)


def test_crashing(suite: Any) -> None:
    verdicts = run(suite, "crashing", "--hf-timeout=2", "--hf-grace=1").short()
    assert sorted(verdicts.values()) == ["crashed", "exited", "passed", "passed", "passed", "timeout"]


@pytest.mark.parametrize("dist", ["dynamic", "isoscope"])
def test_shared(suite: Any, dist: str) -> None:
    suite.env["EXAMPLE_CRASH"] = "1"
    done = run(suite, "shared", f"--hf-dist={dist}", "-v")
    assert sorted(done.verdicts.values()) == ["crashed"] + ["passed"] * 10
    assert "11 test(s): shared/test_shared.py (module: orders)" in done.output
    assert "2 test(s): shared/test_shared.py::TestPrices (class: setup_class)" in done.output


def test_resources(suite: Any) -> None:
    if shutil.which("redis-server") is None:
        pytest.skip("NOT RUN: redis-server is not installed")
    pytest.importorskip("redis", reason="NOT RUN: PyPI's redis is not installed")
    suite.env["EXAMPLE_CRASH"] = "1"
    done = run(suite, "resources", "-v")
    bad = {nodeid.rpartition("::")[2]: verdict for nodeid, verdict in done.verdicts.items() if verdict != "passed"}
    assert bad == {
        "test_a_crash_leaves_the_server_alone": "crashed",
        "test_who_stops_the_server_is_told_so_and_nobody_else_is": "failed",
    }, done.output
    assert len(done.verdicts) == 22
    made = [event for event in done.events if event["event"] == "resource" and event["what"] == "making"]
    # For each of the three attempts of the one that stops it; and for a test that was hit twice beside it, and comes after it alone.
    assert len(made) in (3, 4), done.output
    plain = suite.plain("-x", "--deselect=resources/test_resources.py::test_who_stops", "-k", "database_of_its_own", "resources")
    assert plain.code == 0, plain.output


def test_hanging(suite: Any) -> None:
    done = run(suite, "hanging", "--hf-timeout=3", "--hf-grace=1")
    verdicts = done.short()
    assert verdicts.pop("test_forgets_to_look_at_the_result") == "timeout", done.output
    assert set(verdicts.values()) == {"passed"} and len(verdicts) == 5
    assert "in close" in done.output and "in child" in done.output and "its writing end is held by process" in done.output
    assert [name.rpartition("::")[2] for name, notes in sorted(done.notes.items()) if notes == ["leaked"]] == [
        "test_forgets_to_look_at_the_result",
        "test_leaves_a_file",
        "test_leaves_a_socket",
        "test_leaves_a_thread",
    ]


def test_gpus(suite: Any) -> None:
    pytest.importorskip("cuda.bindings", reason="NOT RUN: PyPI's cuda-bindings is not installed")
    with simgpu.running(simgpu.parse("2x80GiB")) as sim:
        suite.env = sim.environment(suite.env)
        done = run(suite, "gpus")
    bad = {name: verdict for name, verdict in done.short().items() if verdict != "passed"}
    assert bad == {"test_wild_access": "failed"}, done.output
    assert len(done.verdicts) == 6
    assert "test_wild_access is judged again on another device" in done.output


def test_mpi(suite: Any) -> None:
    pytest.importorskip("mpi4py", reason="NOT RUN: mpi4py is not installed")
    if shutil.which("mpirun.openmpi") is None:
        pytest.skip("NOT RUN: Open MPI is not installed")
    shutil.copytree(EXAMPLES / "mpi", suite.root / "mpi")
    done = suite.run("--hf-slots=4", "--hf-timeout=5", "--hf-grace=1", "mpi")
    bad = {name: verdict for name, verdict in done.short().items() if verdict != "passed"}
    assert bad == {
        "test_wrong_the_bottom_is_hot[4]": "failed",
        "test_wrong_everybody_waits_for_the_rank_above[4]": "timeout",
        "test_wrong_one_rank_dies[2]": "crashed",
        "test_wrong_one_rank_gives_up[2]": "exited",
    }, done.output
    assert "ranks 0-2: waited in MPI_Barrier at test_jacobi.py" in done.output


def test_faults(suite: Any) -> None:
    pytest.importorskip("cuda.bindings", reason="NOT RUN: PyPI's cuda-bindings is not installed")
    with simgpu.running(simgpu.parse("1x80GiB")) as sim:
        suite.env = sim.environment(suite.env)
        done = run(suite, "faults", "--hf-faults")
    assert sorted(done.short().values()) == ["passed"] * 4, done.output
    assert "2 test(s) met faults, 0 did not" in done.output
