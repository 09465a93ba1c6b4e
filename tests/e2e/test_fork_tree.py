"""Fixtures of sessions, packages, modules and classes are set up once, before the tests that use them, and torn down once after."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

HEADER = """
import os, pathlib, pytest, signal, time, unittest
ROOT = pathlib.Path(__file__).resolve().parent
while not (ROOT / "pytest.ini").exists(): ROOT = ROOT.parent
def note(text):
    with open(ROOT / "order", "a") as file: file.write(f"{os.getpid()} {text}\\n")
"""


@pytest.fixture
def tree(suite: Any) -> Any:
    suite.file("pytest.ini", "[pytest]\n")

    def write(**files: str) -> Any:
        for name, text in files.items():
            suite.file(name.replace("__", "/") + ".py", HEADER + text)
        return suite

    return write


def noted(root: Path) -> list[str]:
    return [line.split(" ", 1)[1] for line in (root / "order").read_text().splitlines()]


def pids(root: Path, what: str) -> list[str]:
    return [line.split(" ", 1)[0] for line in (root / "order").read_text().splitlines() if line.split(" ", 1)[1].startswith(what)]


def assert_once_around(order: list[str], scope: str, tests: str) -> None:
    """One setup, then all tests, then one teardown."""
    assert order.count(f"setup {scope}") == 1, order
    assert order.count(f"teardown {scope}") == 1, order
    inside = [i for i, line in enumerate(order) if line.startswith(tests)]
    assert inside
    assert order.index(f"setup {scope}") < min(inside), order
    assert max(inside) < order.index(f"teardown {scope}"), order


def assert_like_plain(suite: Any, *args: str) -> Any:
    """The run, after it was compared with plain pytest's."""
    ours = suite.run(*args)
    order = (suite.root / "order").read_text() if (suite.root / "order").exists() else ""
    plain = suite.plain(*(arg for arg in args if not arg.startswith("--hf")))
    (suite.root / "order").write_text(order)
    assert last_line(ours) == last_line(plain), ours.output + plain.output
    assert ours.code == plain.code
    return ours


def last_line(run: Any) -> Counter[str]:
    words = run.output.strip().splitlines()[-1].strip("= ").rpartition(" in ")[0]
    return Counter(words.split(", "))


EVERYTHING = """
@pytest.fixture(scope="module")
def db():
    note("setup db")
    yield {"uses": 0}
    note("teardown db")
@pytest.mark.parametrize("i", range(8))
def test_db(db, i, worker_id):
    note(f"test db {worker_id}")
    db["uses"] += 1
    assert db["uses"] == 1, "each test has its own copy"
    # Until every slot has one of them: a slow one must find something left.
    slots, deadline = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")), time.monotonic() + 20
    while len({line.split()[-1] for line in (ROOT / "order").read_text().splitlines() if " test db " in line}) < slots:
        assert time.monotonic() < deadline, "not on all slots"
        time.sleep(0.01)
class TestX:
    @classmethod
    def setup_class(cls): note("setup x"); cls.value = 1
    @classmethod
    def teardown_class(cls): note("teardown x"); assert cls.value == 1
    def test_a(self): note("test x"); assert self.value == 1; type(self).value = 2
    def test_b(self): note("test x"); assert self.value == 1; type(self).value = 2
    def test_c(self, db): note("test x")
class TestU(unittest.TestCase):
    @classmethod
    def setUpClass(cls): note("setup u"); cls.value = 1
    @classmethod
    def tearDownClass(cls): note("teardown u")
    def test_a(self): note("test u"); assert self.value == 1
    def test_b(self): note("test u")
class TestDefault(unittest.TestCase):
    def test_a(self): pass
"""
XUNIT = """
def setup_module(module): note("setup module"); module.value = 5
def teardown_module(): note("teardown module")
def test_a(): note("test module"); assert value == 5
def test_b(): note("test module"); assert value == 5
"""
SESSION = """
@pytest.fixture(scope="session", autouse=True)
def whole():
    note("setup whole")
    yield
    note("teardown whole")
@pytest.fixture(scope="session")
def rare(whole):
    note("setup rare")
    yield 7
    note("teardown rare")
"""
PACKAGE = """
@pytest.fixture(scope="package")
def pack():
    note("setup pack")
    yield
    note("teardown pack")
"""
IN_PACKAGE = """
def test_a(pack): note("test pack")
def test_b(pack, rare): note("test pack rare"); assert rare == 7
"""


@pytest.mark.parametrize("slots", [1, 2, 4])
def test_every_level_is_set_up_once_and_torn_down_once(tree: Any, tmp_path: Path, slots: int) -> None:
    suite = tree(
        conftest=SESSION,
        test_all=EVERYTHING,
        test_xunit=XUNIT,
        pack____init__="",
        pack__conftest=PACKAGE,
        pack__test_one=IN_PACKAGE,
        pack__test_two=IN_PACKAGE,
    )
    run = suite.run(f"--hf-slots={slots}")
    order = noted(tmp_path)
    for scope in ("db", "x", "u", "module", "pack"):
        assert_once_around(order, scope, f"test {scope}")
    assert_once_around(order, "whole", "test")
    assert_once_around(order, "rare", "test pack rare")
    tests = pids(tmp_path, "test")
    assert len(set(tests)) == len(tests), "each test has a process of its own"
    assert len({line for line in order if line.startswith("test db")}) == min(slots, 8), "on all slots"
    assert set(run.verdicts.values()) == {"passed"}


def test_all_tests_of_a_class_share_its_setup_whatever_else_they_use(tree: Any, tmp_path: Path) -> None:
    tree(
        test_it="""
@pytest.fixture(scope="module")
def db(): note("setup db"); yield; note("teardown db")
class TestC:
    @classmethod
    def setup_class(cls): note("setup c")
    @classmethod
    def teardown_class(cls): note("teardown c")
    def test_without(self): note("test c")
    def test_with(self, db): note("test c db")
    def test_without_again(self): note("test c")
"""
    ).run("--hf-slots=2")
    assert_once_around(noted(tmp_path), "c", "test c")
    assert_once_around(noted(tmp_path), "db", "test c db")


def test_parametrized_fixtures_are_set_up_once_a_parameter(tree: Any, tmp_path: Path) -> None:
    suite = tree(
        test_it="""
@pytest.fixture(scope="module", params=["one", "two"])
def kind(request):
    note(f"setup {request.param}")
    yield request.param
    note(f"teardown {request.param}")
@pytest.fixture(scope="module")
def on_top(kind):
    note(f"setup on {kind}")
    yield kind * 2
    note(f"teardown on {kind}")
@pytest.fixture(scope="module")
def apart(): note("setup apart"); yield; note("teardown apart")
def test_a(kind): note(f"test {kind}")
def test_b(kind, apart): note(f"test {kind} apart")
def test_c(on_top, kind): note(f"test {kind} on"); assert on_top == kind * 2
def test_d(): pass
"""
    )
    assert_like_plain(suite, "--hf-slots=2")
    order = noted(tmp_path)
    for kind in ("one", "two"):
        assert_once_around(order, kind, f"test {kind}")
        assert order.count(f"setup on {kind}") == order.count(f"teardown on {kind}") == 1
        assert order.index(f"teardown on {kind}") < order.index(f"teardown {kind}")
    assert_once_around(order, "apart", "test one apart")
    assert_once_around(order, "apart", "test two apart")


def test_run_time_requests_finalizers_and_overriding_are_as_in_pytest(tree: Any, tmp_path: Path) -> None:
    suite = tree(
        conftest="""
@pytest.fixture(scope="module")
def base(): note("setup base"); yield "base"; note("teardown base")
@pytest.fixture(scope="module")
def late(): note("setup late"); yield "late"; note("teardown late")
""",
        test_it="""
@pytest.fixture(scope="module")
def base(base, request, tmp_path_factory):
    note("setup over")
    request.addfinalizer(lambda: note("final over"))
    directory = tmp_path_factory.mktemp("made")
    (directory / "file").write_text("x")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FROM_SCOPE", "yes")
        yield base + "+", directory
    note("teardown over")
def test_a(base): note("test a"); assert base[0] == "base+" and (base[1] / "file").read_text() == "x"
def test_b(base, monkeypatch): note("test b"); assert os.environ["FROM_SCOPE"] == "yes"
def test_c(request): note("test c"); assert request.getfixturevalue("late") == "late"
def test_d(base, request): note("test d"); assert request.getfixturevalue("late") == "late"
""",
    )
    assert_like_plain(suite, "--hf-slots=2")
    order = noted(tmp_path)
    assert order.count("setup base") == order.count("setup over") == order.count("final over") == 1
    assert order.index("teardown over") < order.index("final over") < order.index("teardown base")
    # What nobody could know of beforehand is set up, and torn down, in the process of the test that asks for it.
    assert order.count("setup late") == order.count("teardown late") == 2


def test_setup_and_teardown_errors_are_those_of_pytest(tree: Any, tmp_path: Path) -> None:
    suite = tree(
        test_setup="""
@pytest.fixture(scope="module")
def bad(): note("setup bad"); print("said in setup"); raise ValueError("no database")
def test_a(bad): pass
def test_b(bad): pass
def test_c(): pass
""",
        test_teardown="""
@pytest.fixture(scope="module")
def late(): yield; note("teardown late"); print("said at the end"); raise ValueError("cannot close")
def test_a(late): pass
def test_b(late): pass
""",
        test_skip="""
@pytest.fixture(scope="module")
def skipping(): note("setup skipping"); pytest.skip("no such thing here")
def test_a(skipping): pass
def test_b(skipping): pass
""",
        test_class="""
class TestC:
    @classmethod
    def setup_class(cls): raise RuntimeError("no class")
    def test_a(self): pass
    def test_b(self): pass
""",
    )
    run = assert_like_plain(suite, "--hf-slots=2")
    for once in ("setup bad", "teardown late", "setup skipping"):
        assert noted(tmp_path).count(once) == 1
    assert run.output.count("ValueError: no database") >= 2
    assert run.output.count("said in setup") == 3, "the line of the source twice, and the output once"
    assert "cannot close" in run.output
    assert "said at the end" in run.output
    verdicts = run.verdicts
    assert verdicts["test_setup.py::test_c"] == "passed"
    assert sorted(verdicts[f"test_teardown.py::test_{x}"] for x in "ab") == ["error", "passed"]


def test_every_error_of_a_teardown_is_told(tree: Any, tmp_path: Path) -> None:
    suite = tree(
        test_it="""
@pytest.fixture(scope="module", params=["one"])
def kind(request): yield request.param; note("teardown kind"); pytest.fail("the kind stays")
@pytest.fixture(scope="module")
def first(): yield; note("teardown first"); raise ValueError("the first stays")
@pytest.fixture(scope="module")
def second(request): yield; note("teardown second"); raise KeyError("the second stays")
def test_a(first, second, kind): pass
def test_late(request, first): request.getfixturevalue("late")
@pytest.fixture(scope="module")
def late(): yield; note("teardown late"); pytest.fail("what came late stays")
"""
    )
    run = suite.run("--hf-slots=1")
    assert sorted(noted(tmp_path)) == ["teardown first", "teardown kind", "teardown late", "teardown second"]
    for text in ("the kind stays", "the first stays", "the second stays", "what came late stays"):
        assert text in run.output, text


def test_what_only_skipped_tests_use_is_not_set_up(tree: Any, tmp_path: Path) -> None:
    suite = tree(
        test_it="""
@pytest.fixture(scope="module", autouse=True)
def costly(): note("setup costly"); yield
@pytest.mark.skip
def test_a(): pass
@pytest.mark.skipif(True, reason="never")
def test_b(): pass
@pytest.mark.xfail(run=False)
def test_c(): pass
"""
    )
    assert_like_plain(suite)
    assert not (tmp_path / "order").read_text()


@pytest.mark.parametrize(
    ("how", "verdict"),
    [("os.kill(os.getpid(), signal.SIGSEGV)", "crashed"), ("time.sleep(60)", "timeout"), ("os._exit(3)", "exited")],
)
@pytest.mark.parametrize("slots", [1, 2])
def test_an_end_in_setup_is_charged_once(tree: Any, how: str, verdict: str, slots: int) -> None:
    suite = tree(
        test_bad=f"""
@pytest.fixture(scope="module")
def bad(): print("before the end", flush=True); {how}
@pytest.mark.parametrize("i", range(5))
def test_bad(bad, i): pass
def test_other(): pass
""",
        test_good="def test_it(): pass\n",
    )
    run = suite.run(f"--hf-slots={slots}", "--hf-timeout=1", "--hf-grace=1")
    verdicts = run.short()
    assert verdicts.pop("test_other") == verdicts.pop("test_it") == "passed"
    assert Counter(verdicts.values()) == {verdict: 1, "error": 4}
    assert f"{verdict} in setup" in run.output or verdict == "exited"
    assert "before the end" in run.output
    culprit = next(name for name, word in verdicts.items() if word == verdict)
    assert f"its setup ended its process, see test_bad.py::{culprit}" in run.output
    assert run.code == 1


@pytest.mark.parametrize(("how", "verdict"), [("os.kill(os.getpid(), signal.SIGSEGV)", "crashed"), ("time.sleep(60)", "timeout")])
def test_an_end_in_teardown_has_a_verdict_of_its_own(tree: Any, how: str, verdict: str) -> None:
    suite = tree(
        test_bad=f"""
@pytest.fixture(scope="module")
def bad():
    yield
    {how}
def test_a(bad): pass
def test_b(bad): pass
"""
    )
    run = suite.run("--hf-slots=2", "--hf-timeout=1", "--hf-grace=1")
    assert run.verdicts == {"test_bad.py::test_a": "passed", "test_bad.py::test_b": "passed", "test_bad.py (module: bad)": verdict}
    assert "2 passed" in run.output
    assert run.code == 1


def test_teardown_runs_once_whatever_the_tests_do(tree: Any, tmp_path: Path) -> None:
    suite = tree(
        test_it="""
@pytest.fixture(scope="module")
def db(): note("setup db"); yield; note("teardown db")
def test_fine(db): note("test")
def test_fails(db): note("test"); assert 0
def test_skips(db): note("test"); pytest.skip("x")
def test_crashes(db): note("test"); os.kill(os.getpid(), signal.SIGSEGV)
def test_hangs(db): note("test"); time.sleep(60)
def test_exits(db): note("test"); os._exit(0)
"""
    )
    run = suite.run("--hf-slots=2", "--hf-timeout=1", "--hf-grace=1")
    assert_once_around(noted(tmp_path), "db", "test")
    assert sorted(run.verdicts.values()) == ["crashed", "exited", "failed", "passed", "skipped", "timeout"]


def test_what_a_hanging_test_has_started_is_killed_beside_its_scope(tree: Any, tmp_path: Path) -> None:
    run = tree(
        test_it="""
import subprocess
@pytest.fixture(scope="module")
def db(): note("setup db"); process = subprocess.Popen(["sleep", "600"]); yield process; process.kill(); process.wait(); note("teardown db")
def test_hangs(db):
    note("test")
    for number in (signal.SIGINT, signal.SIGTERM): signal.signal(number, signal.SIG_IGN)
    subprocess.Popen(["sleep", "601"])
    while True: time.sleep(1)
def test_other(db): note("test"); assert db.poll() is None
"""
    ).run("--hf-slots=1", "--hf-timeout=1", "--hf-grace=0.2")
    assert run.short() == {"test_hangs": "timeout", "test_other": "passed"}
    assert_once_around(noted(tmp_path), "db", "test")
    assert run.notes["test_it.py::test_hangs"] == [], "it went with the test"


INTERRUPTED = """
@pytest.fixture(scope="module")
def db(): note("setup db"); yield; time.sleep(0.1); note("teardown db")
class TestC:
    @classmethod
    def setup_class(cls): note("setup class")
    @classmethod
    def teardown_class(cls): note("teardown class")
    def test_first(self, db): note("test"); assert 0
    @pytest.mark.parametrize("i", range(20))
    def test_more(self, db, i): note("test"); time.sleep(0.2)
"""


def test_teardown_runs_after_dash_x(tree: Any, tmp_path: Path) -> None:
    run = tree(test_it=INTERRUPTED).run("--hf-slots=2", "-x")
    assert_once_around(noted(tmp_path), "db", "test")
    assert_once_around(noted(tmp_path), "class", "test")
    assert noted(tmp_path).index("teardown class") < noted(tmp_path).index("teardown db")
    assert "1 failed" in run.output
    assert run.code == 1


def test_teardown_runs_after_ctrl_c(tree: Any, tmp_path: Path, until: Any) -> None:
    suite = tree(test_it=INTERRUPTED.replace("assert 0", "pass").replace("sleep(0.2)", "sleep(1)"))
    process = suite.start("--hf-slots=2")
    until(lambda: (tmp_path / "order").exists() and noted(tmp_path).count("test") > 2)
    process.send_signal(signal.SIGINT)
    run = suite.finish(process)
    assert run.code == 2
    assert_once_around(noted(tmp_path), "db", "test")
    assert_once_around(noted(tmp_path), "class", "test")


CANNOT_BE_FORKED = {
    "a thread": "import threading; thread = threading.Thread(target=threading.Event().wait, daemon=True, name='pump'); thread.start()",
    "an event loop": "import asyncio; loop = asyncio.new_event_loop()",
    "multiprocessing": "import multiprocessing; child = multiprocessing.get_context('fork').Process(target=time.sleep, args=(600,), daemon=True); child.start()",
    "an epoll set": "import select; polled = select.epoll()",
    "a connection": "import socket; pair = socket.socketpair()",
}


@pytest.mark.parametrize("what", CANNOT_BE_FORKED)
def test_what_cannot_be_forked_runs_in_one_worker(tree: Any, tmp_path: Path, what: str) -> None:
    suite = tree(
        test_it=f"""
@pytest.fixture(scope="session")
def above(): note("setup above"); yield; note("teardown above")
@pytest.fixture(scope="module")
def first(above): note("setup first"); yield; note("teardown first")
@pytest.fixture(scope="module")
def held(first):
    {CANNOT_BE_FORKED[what]}
    note("setup held")
    yield locals()
    note("teardown held")
@pytest.mark.parametrize("i", range(6))
def test_held(held, i): note("test held"); assert len(held) > 0; time.sleep(0.02)
@pytest.mark.parametrize("i", range(3))
def test_above(above, i): note("test above")
def test_plain(): note("plain")
"""
    )
    run = assert_like_plain(suite, "--hf-slots=2")
    order = noted(tmp_path)
    assert_once_around(order, "held", "test held")
    assert_once_around(order, "above", "test")
    assert order.index("teardown held") < order.index("teardown above")
    assert len(set(pids(tmp_path, "test held"))) == 1
    assert len(set(pids(tmp_path, "test above"))) == 3
    assert "6 tests run one after the other in one process, since what held has set up does not survive a fork" in run.output


def test_a_crash_in_such_a_worker_costs_one_test(tree: Any, tmp_path: Path) -> None:
    run = tree(
        test_it=f"""
@pytest.fixture(scope="session")
def above(): note("setup above"); yield; note("teardown above")
@pytest.fixture(scope="module")
def held(above): {CANNOT_BE_FORKED["a thread"]}; note("setup held"); yield; note("teardown held")
def test_a(held): note("test")
def test_b(held): note("test"); os.kill(os.getpid(), signal.SIGSEGV)
def test_c(held): note("test")
def test_d(held): note("test"); assert 0
"""
    ).run("--hf-slots=1")
    assert run.short() == {"test_a": "passed", "test_b": "crashed", "test_c": "passed", "test_d": "failed"}
    assert noted(tmp_path).count("setup held") == 2
    assert_once_around(noted(tmp_path), "above", "test")


def test_the_isolate_mark_insists_on_a_process_a_test(tree: Any, tmp_path: Path) -> None:
    tree(
        test_it=f"""
pytestmark = pytest.mark.holdfast(isolate="test")
@pytest.fixture(scope="module")
def held(): {CANNOT_BE_FORKED["a thread"]}; note("setup held"); yield; note("teardown held")
@pytest.mark.parametrize("i", range(3))
def test_held(held, i): note("test")
"""
    ).run("--hf-slots=1")
    assert len(set(pids(tmp_path, "test"))) == 3


def test_a_process_that_a_fixture_starts_is_no_test_s(tree: Any, tmp_path: Path) -> None:
    run = tree(
        test_it="""
import subprocess
@pytest.fixture(scope="module")
def server():
    process = subprocess.Popen(["sleep", "600"])
    yield process
    process.kill(); process.wait()
@pytest.mark.parametrize("i", range(4))
def test_it(server, i):
    os.kill(server.pid, 0)
    assert server.poll() is None and server.returncode is None
    with pytest.raises(subprocess.TimeoutExpired): server.wait(0.05)
@pytest.fixture(scope="module")
def another(): process = subprocess.Popen(["sleep", "602"]); yield process; process.wait()
def test_it_may_end(another):
    another.terminate()
    another.wait(20)
    assert another.poll() is not None
@pytest.fixture(scope="module")
def forgotten(): return subprocess.Popen(["sleep", "601"])
def test_forgets(forgotten): pass
"""
    ).run("--hf-slots=2")
    assert set(run.verdicts.values()) == {"passed"}
    assert all(not notes for notes in run.notes.values())
    assert "its teardown left behind: process" in run.output
    assert "sleep 601" in run.output
    assert "sleep 600" not in run.output


def test_a_worker_s_id_is_its_slot_s(tree: Any, tmp_path: Path) -> None:
    run = tree(
        test_it="""
@pytest.fixture(scope="module")
def db(worker_id): return worker_id
@pytest.mark.parametrize("i", range(8))
def test_it(db, worker_id, i):
    assert worker_id == os.environ["PYTEST_XDIST_WORKER"]
    note(worker_id); time.sleep(0.05)
"""
    ).run("--hf-slots=2")
    assert set(run.verdicts.values()) == {"passed"}
    assert set(noted(tmp_path)) == {"gw0", "gw1"}


def test_a_scope_whose_process_was_killed_is_set_up_again(tree: Any, tmp_path: Path) -> None:
    run = tree(
        test_it="""
@pytest.fixture(scope="module")
def db(): note("setup db"); yield; note("teardown db")
def test_a(db): pass
def test_b(db): os.kill(os.getppid(), signal.SIGKILL); time.sleep(5)
def test_c(db): pass
def test_d(db): pass
"""
    ).run("--hf-slots=1")
    assert run.short() == {"test_a": "passed", "test_b": "crashed", "test_c": "passed", "test_d": "passed"}
    assert noted(tmp_path) == ["setup db", "setup db", "teardown db"]
    assert "the process in which it was set up has ended" in run.output


def test_a_retry_sets_the_scope_up_again(tree: Any, tmp_path: Path) -> None:
    run = tree(
        test_it="""
@pytest.fixture(scope="module")
def db():
    note("setup db")
    if (ROOT / "order").read_text().count("setup") == 1: os.kill(os.getpid(), signal.SIGSEGV)
    yield
    note("teardown db")
@pytest.mark.parametrize("i", range(4))
def test_it(db, i): note("test")
"""
    ).run("--hf-slots=2", "--hf-retry=crashed:1")
    assert set(run.verdicts.values()) == {"passed"}
    assert noted(tmp_path).count("setup db") == 2
    assert noted(tmp_path).count("teardown db") == 1
    assert sum("flaky" in notes for notes in run.notes.values()) == 1


def test_a_killed_run_is_resumed_with_scopes(tree: Any, tmp_path: Path, until: Any) -> None:
    suite = tree(
        test_it="""
@pytest.fixture(scope="module")
def db(): note("setup db"); yield; note("teardown db")
@pytest.mark.parametrize("i", range(10))
def test_it(db, i): note(f"test {i}"); time.sleep(0.1)
"""
    )
    process = suite.start("--hf-slots=2", "--hf-journal=ledger.db")
    until(lambda: (tmp_path / "order").exists() and len(noted(tmp_path)) > 4)
    process.kill()
    suite.finish(process)
    run = suite.run("--hf-slots=2", "--hf-journal=ledger.db", "--hf-resume")
    assert set(run.verdicts.values()) == {"passed"}
    assert len(run.verdicts) == 10
    assert noted(tmp_path).count("teardown db") == 1
    assert noted(tmp_path)[-1] == "teardown db"


def test_durations_count_a_scope_once(tree: Any) -> None:
    run = tree(
        test_it="""
@pytest.fixture(scope="module")
def slow(): time.sleep(0.5); yield; time.sleep(0.3)
@pytest.mark.parametrize("i", range(4))
def test_it(slow, i): pass
"""
    ).run("--hf-slots=2", "--durations=0", "--durations-min=0.2", "-vv")
    lines = [line.split()[:2] for line in run.output.splitlines() if " setup " in line or " teardown " in line]
    assert [what for _, what in lines if what in ("setup", "teardown")] == ["setup", "teardown"], run.output
    assert float(lines[0][0].rstrip("s")) >= 0.5
    listed = next(line for line in run.output.splitlines() if line.endswith("4 test(s): test_it.py (module: slow)"))
    assert 0.5 <= float(listed.split("s ")[0]) < 60


def test_what_a_fixture_says_is_shown_with_the_first_failure(tree: Any) -> None:
    run = tree(
        test_it="""
import logging
@pytest.fixture(scope="module")
def db(): print("said in the fixture"); logging.getLogger().setLevel(10); logging.warning("logged in the fixture"); yield
def test_a(db): print("said in the test"); assert 0
"""
    ).run()
    part = run.output.partition("Captured stdout setup")[2]
    assert part.index("said in the fixture") < part.index("Captured log setup") < part.index("logged in the fixture")
    assert part.index("Captured stdout call") < part.index("said in the test")


def test_setup_show_shows_each_scope_once(tree: Any) -> None:
    run = tree(
        test_it="""
@pytest.fixture(scope="module")
def db(): yield
@pytest.fixture
def each(db): yield
def test_a(each): pass
def test_b(each): pass
"""
    ).run("--setup-show", "--hf-slots=1")
    assert run.output.count("SETUP    M db") == run.output.count("TEARDOWN M db") == 1
    assert run.output.count("SETUP    F each") == 2
