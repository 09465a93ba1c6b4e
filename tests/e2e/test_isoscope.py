"""--hf-dist=isoscope: one scope at a time over all slots. The five guarantees of pytest-xdist's proposed scheduler of that name:

set up exactly once; torn down exactly once; set up before its tests; torn down after them; the next one set up after that.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

HEADER = """
import os, time, pytest
def note(text):
    with open("order", "a") as file: file.write(text + "\\n")
@pytest.fixture(scope="module", autouse=True)
def around_module(request):
    name = request.module.__name__
    note(f"setup {name}")
    yield
    time.sleep(0.02)
    note(f"teardown {name}")
"""


def scope(tests: int, extra: str = "") -> str:
    """A module whose fixture and tests say when they run."""
    return (
        HEADER
        + f"""
@pytest.mark.parametrize("i", range({tests}))
def test_it(i, worker_id): note(f"test {{__name__}} {{worker_id}}"); time.sleep(0.02)
{extra}
"""
    )


CLASSES = """
class Base:
    @classmethod
    def setup_class(cls): note(f"setup {cls.__qualname__}")
    @classmethod
    def teardown_class(cls): note(f"teardown {cls.__qualname__}")
    @pytest.mark.parametrize("i", range(4))
    def test_in(self, i): note(f"test {type(self).__qualname__}"); time.sleep(0.01)
class TestOuter(Base):
    class TestInner:  # pytest calls the outer class's setup for it, too.
        @pytest.mark.parametrize("i", range(4))
        def test_in(self, i): note(f"test {type(self).__qualname__}"); time.sleep(0.01)
class TestLast(Base): pass
"""


def noted(root: Path) -> list[str]:
    return (root / "order").read_text().splitlines()


def assert_one_at_a_time(order: list[str], nested: tuple[str, ...] = ()) -> list[str]:
    """Holds the log against the guarantees; returns the scopes in the order in which they came."""
    scopes: list[str] = []
    current = ""
    for line in order:
        what, name = line.split()[:2]
        if name in nested:
            continue
        if what == "setup":
            assert not current, f"{name} is set up before {current} is torn down: {order}"
            assert name not in scopes, f"{name} is set up twice"
            current = name
            scopes.append(name)
        else:
            assert name == current, f"{line!r} while {current or 'nothing'} is set up"
            current = "" if what == "teardown" else current
    assert not current, f"{current} is never torn down"
    return scopes


@pytest.mark.parametrize("slots", [1, 2, 4])
@pytest.mark.parametrize("tests", [(1,), (1, 1, 1), (2, 3), (9, 1, 5), (8, 8)])
def test_one_scope_at_a_time(suite: Any, tmp_path: Path, slots: int, tests: tuple[int, ...]) -> None:
    suite.write(**{f"test_{i}": scope(n) for i, n in enumerate(tests)})
    run = suite.run("--hf-dist=isoscope", f"--hf-slots={slots}")
    assert set(run.verdicts.values()) == {"passed"}
    assert len(run.verdicts) == sum(tests)
    assert assert_one_at_a_time(noted(tmp_path)) == [f"test_{i}" for i in range(len(tests))]
    busiest = max(tests)
    if busiest >= 2 * slots:
        ids = {line.split()[2] for line in noted(tmp_path) if line.startswith("test ")}
        assert len(ids) == slots, "the tests of a scope run on all slots"


def test_classes_are_scopes_of_their_own(suite: Any, tmp_path: Path) -> None:
    suite.write(test_it=scope(5, CLASSES))
    run = suite.run("--hf-dist=isoscope", "--hf-slots=2")
    assert set(run.verdicts.values()) == {"passed"}
    order = noted(tmp_path)
    classes = [line for line in order if not line.split()[1].startswith("test_")]
    # The module's fixture is around all of them.
    assert assert_one_at_a_time(classes) == ["TestOuter", "TestOuter.TestInner", "TestLast"]
    assert order[0] == "setup test_it"
    assert order[-1] == "teardown test_it"


def test_a_failing_setup_or_teardown_stops_nothing(suite: Any, tmp_path: Path) -> None:
    failing = "@pytest.fixture(scope='module', autouse=True)\ndef bad(around_module):\n    {}\n"
    suite.write(
        test_0=scope(4, failing.format("raise ValueError('setup')")),
        test_1=scope(4, failing.format("yield\n    raise ValueError('teardown')")),
        test_2=scope(4),
    )
    run = suite.run("--hf-dist=isoscope", "--hf-slots=2")
    assert assert_one_at_a_time(noted(tmp_path)) == ["test_0", "test_1", "test_2"]
    by_file = {name: sorted(v for i, v in run.verdicts.items() if i.startswith(name)) for name in ("test_0", "test_1", "test_2")}
    assert by_file == {
        "test_0": ["error"] * 4,
        "test_1": ["error", "passed", "passed", "passed"],
        "test_2": ["passed"] * 4,
    }


def test_a_scope_that_is_empty_after_deselection_is_left_out(suite: Any, tmp_path: Path) -> None:
    suite.write(test_0=scope(2), test_1=scope(3).replace("test_it", "test_other"), test_2=scope(2))
    run = suite.run("--hf-dist=isoscope", "--hf-slots=2", "-k", "test_it")
    assert len(run.verdicts) == 4
    assert assert_one_at_a_time(noted(tmp_path)) == ["test_0", "test_2"]


def test_crashes_and_hangs_keep_the_order(suite: Any, tmp_path: Path) -> None:
    bad = """
import signal
def test_crash(): os.kill(os.getpid(), signal.SIGKILL)
def test_hang(): time.sleep(60)
"""
    suite.write(test_0=scope(4, bad), test_1=scope(4, bad))
    run = suite.run("--hf-dist=isoscope", "--hf-slots=2", "--hf-timeout=1", "--hf-grace=1")
    assert assert_one_at_a_time(noted(tmp_path)) == ["test_0", "test_1"]
    assert sorted(run.verdicts.values()) == ["crashed"] * 2 + ["passed"] * 8 + ["timeout"] * 2


def test_what_cannot_be_forked_keeps_the_order(suite: Any, tmp_path: Path) -> None:
    held = """
import threading
@pytest.fixture(scope="module", autouse=True)
def held(around_module):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
    yield
"""
    suite.write(test_0=scope(4, held), test_1=scope(4), test_2=scope(3, held))
    run = suite.run("--hf-dist=isoscope", "--hf-slots=2")
    assert set(run.verdicts.values()) == {"passed"}
    assert assert_one_at_a_time(noted(tmp_path)) == ["test_0", "test_1", "test_2"]


@pytest.mark.parametrize("isolation", ["module", "class"])
def test_a_process_a_scope_keeps_the_order(suite: Any, tmp_path: Path, isolation: str) -> None:
    suite.write(**{f"test_{i}": scope(4) for i in range(3)})
    run = suite.run("--hf-dist=isoscope", "--hf-slots=2", f"--hf-isolate={isolation}")
    assert set(run.verdicts.values()) == {"passed"}
    if isolation == "module":
        assert assert_one_at_a_time(noted(tmp_path)) == ["test_0", "test_1", "test_2"]


def test_scopes_overlap_otherwise(suite: Any, tmp_path: Path) -> None:
    suite.write(**{f"test_{i}": scope(8) for i in range(4)})
    run = suite.run("--hf-dist=scope", "--hf-slots=2")
    assert set(run.verdicts.values()) == {"passed"}
    order = noted(tmp_path)
    for i in range(4):
        assert order.count(f"setup test_{i}") == order.count(f"teardown test_{i}") == 1
    begun = [line.split()[1] for line in order if line.startswith("setup")]
    assert order.index(f"setup {begun[1]}") < order.index(f"teardown {begun[0]}")


def test_in_workers_a_scope_ends_before_the_next_begins(suite: Any, tmp_path: Path) -> None:
    suite.write(**{f"test_{i}": scope(6) for i in range(3)})
    run = suite.run("--hf-dist=isoscope", "--hf-slots=2", "--hf-isolate=worker")
    assert set(run.verdicts.values()) == {"passed"}
    order = noted(tmp_path)
    for name, later in (("test_0", "test_1"), ("test_1", "test_2")):
        last = max(i for i, line in enumerate(order) if line.split()[1] == name)
        assert last < min(i for i, line in enumerate(order) if line.split()[1] == later), order
