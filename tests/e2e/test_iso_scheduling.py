"""The `iso_scheduling` fixture: setup and teardown exactly once, over however many processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

SUITE = """
import json, os, pathlib, pytest, signal, time
def note(text):
    with open("order", "a") as file: file.write(f"{os.getpid()} {text}\\n")

class TestSomething:
    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def distributed_setup_and_teardown(cls, iso_scheduling, request):
        with iso_scheduling.coordinate_setup_teardown(setup_request=request) as coordinator:
            value = coordinator.maybe_call_setup(cls.patch_system_under_test)
            assert value == {"port": 80}
            try:
                yield
            finally:
                coordinator.maybe_call_teardown(cls.revert_system_under_test)
    @classmethod
    def patch_system_under_test(cls, setup_context):
        (setup_context.client_dir / "made").write_text(str(os.getpid()))
        time.sleep(0.1)
        note("setup")
        return {"port": 80}
    @classmethod
    def revert_system_under_test(cls, teardown_context):
        assert (teardown_context.client_dir / "made").read_text()
        note("teardown")
    @pytest.mark.parametrize("i", range(12))
    def test_it(self, i):
        note("test")
        time.sleep(0.05)
        BODY
def test_after(): note("after")
"""


def noted(root: Path) -> list[str]:
    return [line.split()[1] for line in (root / "order").read_text().splitlines() if not line.endswith("after")]


def write(suite: Any, body: str = "pass") -> Any:
    return suite.write(test_it=SUITE.replace("BODY", body))


@pytest.mark.parametrize("isolation", ["test", "worker", "module", "class"])
@pytest.mark.parametrize("dist", ["isoscope", "dynamic"])
def test_exactly_once(suite: Any, tmp_path: Path, isolation: str, dist: str) -> None:
    run = write(suite).run("--hf-slots=3", f"--hf-isolate={isolation}", f"--hf-dist={dist}")
    assert set(run.verdicts.values()) == {"passed"}
    assert noted(tmp_path) == ["setup", *["test"] * 12, "teardown"]
    pids = {line.split()[0] for line in (tmp_path / "order").read_text().splitlines() if line.endswith("test")}
    expected = {"test": 12, "module": 1, "class": 1}
    assert len(pids) == expected[isolation] if isolation in expected else len(pids) > 1


def test_in_plain_pytest(suite: Any, tmp_path: Path) -> None:
    run = write(suite).plain()
    assert run.code == 0, run.output
    assert noted(tmp_path) == ["setup", *["test"] * 12, "teardown"]


def test_the_value_survives_the_process_that_made_it(suite: Any, tmp_path: Path) -> None:
    body = "if i == 0 and not os.path.exists('killed'): open('killed', 'w').close(); os.kill(os.getpid(), signal.SIGKILL)"
    run = write(suite, body).run("--hf-slots=2", "--hf-isolate=worker", "--hf-dist=isoscope")
    assert sorted(set(run.verdicts.values())) == ["crashed", "passed"]
    assert noted(tmp_path).count("setup") == 1
    assert noted(tmp_path)[-1] == "teardown"
    assert noted(tmp_path).count("teardown") == 1


def test_it_is_torn_down_if_everybody_who_could_has_died(suite: Any, tmp_path: Path) -> None:
    run = write(suite, "os.kill(os.getpid(), signal.SIGKILL)").run("--hf-slots=2", "--hf-isolate=worker", "--hf-dist=isoscope")
    assert sorted(set(run.verdicts.values())) == ["crashed", "passed"]
    assert noted(tmp_path).count("setup") == 1
    assert noted(tmp_path)[-1] == "teardown"
    assert noted(tmp_path).count("teardown") == 1


def test_a_failing_teardown_there_is_an_entry_of_its_own(suite: Any, tmp_path: Path) -> None:
    suite.write(test_it=SUITE.replace("BODY", "os.kill(os.getpid(), signal.SIGKILL)").replace('note("teardown")', "1 / 0"))
    run = suite.run("--hf-slots=1", "--hf-isolate=worker")
    assert run.verdicts["test_it.py::TestSomething (teardown)"] == "error"
    assert "ZeroDivisionError" in run.output


def test_it_is_torn_down_after_dash_x(suite: Any, tmp_path: Path) -> None:
    write(suite, "assert i != 3").run("--hf-slots=2", "--hf-isolate=worker", "--hf-dist=isoscope", "-x")
    assert noted(tmp_path).count("setup") == noted(tmp_path).count("teardown") == 1
    assert noted(tmp_path)[-1] == "teardown"


def test_a_failing_setup_is_tried_by_the_next_process(suite: Any, tmp_path: Path) -> None:
    broken = SUITE.replace("BODY", "pass").replace(
        'note("setup")', 'first = not os.path.exists("order"); note("setup"); assert not first, "no luck"'
    )
    run = suite.write(test_it=broken).run("--hf-slots=2", "--hf-isolate=worker", "--hf-dist=isoscope")
    assert noted(tmp_path).count("setup") == 2
    assert noted(tmp_path).count("teardown") == 1
    assert "passed" in run.verdicts.values()


def test_a_function_fixture_is_refused(suite: Any) -> None:
    run = suite.write(
        test_it="""
def test_it(iso_scheduling, request):
    with iso_scheduling.coordinate_setup_teardown(setup_request=request): pass
"""
    ).run()
    assert "coordinates fixtures of a class, module, package or session" in run.output
    assert run.code == 1
