"""@holdfast.resource: made once in a process of its own, checked between uses, made again when it died, torn down once."""

from __future__ import annotations

import re
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

# `server` is a process that listens; what is built on it asks it something.
CONFTEST = """
import holdfast, os, pathlib, pytest, socket, subprocess, sys, time
ROOT = pathlib.Path(__file__).resolve().parent
def note(text):
    with open(ROOT / "order", "a") as file: file.write(text + "\\n")
SERVER = '''
import socket, sys
sock = socket.socket(); sock.bind(("127.0.0.1", 0)); sock.listen(50)
print(sock.getsockname()[1], flush=True)
while True:
    peer, _ = sock.accept()
    if peer.recv(10) == b"die": sys.exit()
    peer.sendall(b"fine"); peer.close()
'''
def ask(port, what=b"how"):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.sendall(what)
        return sock.recv(10)
def start():
    process = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True)
    return process, int(process.stdout.readline())
"""
SERVER = """
@holdfast.resource(%s)
def server():
    process, port = start()
    note("setup server")
    yield {"port": port, "keeper": os.getpid(), "pid": process.pid}
    if (ROOT / "slow").exists(): time.sleep(0.5)
    process.kill(); process.wait()
    note("teardown server")
"""
USERS = """
import pytest
from conftest import ask, note
@pytest.mark.parametrize("i", range(10))
def test_it(server, i):
    note("test")
    assert ask(server["port"]) == b"fine"
"""


@pytest.fixture
def shared(suite: Any) -> Any:
    suite.file("pytest.ini", "[pytest]\n")

    def write(arguments: str = "", more: str = "", **files: str) -> Any:
        suite.file("conftest.py", CONFTEST + SERVER % arguments + more)
        return suite.write(**files)

    return write


def noted(root: Path) -> list[str]:
    return (root / "order").read_text().split("\n")[:-1]


def happened(run: Any, resource: str) -> list[str]:
    return [event["what"] for event in run.events if event["event"] == "resource" and event["id"] == resource]


@pytest.mark.parametrize("isolation", ["test", "module", "worker"])
@pytest.mark.parametrize("slots", [1, 3])
def test_made_once_and_torn_down_once(shared: Any, isolation: str, slots: int) -> None:
    suite = shared(test_a=USERS, test_b=USERS, test_c="def test_without(): pass\n")
    run = suite.run(f"--hf-slots={slots}", f"--hf-isolate={isolation}", "-v")
    assert run.code == 0, run.output
    order = noted(suite.root)
    assert (order[0], order[-1]) == ("setup server", "teardown server")
    assert Counter(order) == {"setup server": 1, "test": 20, "teardown server": 1}
    assert "20 test(s): server (resource: run)" in run.output
    assert not suite.survivors()


def test_an_ordinary_fixture_without_holdfast(shared: Any) -> None:
    suite = shared(test_a=USERS, test_b=USERS)
    run = suite.plain()
    assert run.code == 0, run.output
    assert noted(suite.root) == ["setup server", *["test"] * 20, "teardown server"]


def test_its_process_is_no_test_s(shared: Any) -> None:
    suite = shared(test_a="import os\ndef test_a(server):\n    assert server['keeper'] not in (os.getpid(), os.getppid())\n")
    run = suite.run()
    assert run.code == 0, run.output
    assert run.notes["test_a.py::test_a"] == []  # Its server is nobody's leak.


# ---- how long it lives


def test_a_session_s_ends_with_its_last_user(shared: Any) -> None:
    late = "from conftest import ROOT\ndef test_late():\n    while 'teardown' not in (ROOT / 'order').read_text(): pass\n"
    suite = shared("scope='session'", test_a=USERS, test_b=late)
    assert suite.run("--hf-slots=1", "--hf-dist=sequential", "--hf-timeout=20").code == 0


def test_a_run_s_lives_to_the_end(shared: Any) -> None:
    early = "from conftest import note\nimport time\ndef test_early(): note('early')\n"
    suite = shared(test_a=early, test_b=USERS, test_c=early)
    assert suite.run("--hf-slots=1", "--hf-dist=sequential").code == 0
    assert noted(suite.root)[-2:] == ["early", "teardown server"]


def test_a_module_s_is_another_one_in_each(shared: Any) -> None:
    more = """
@holdfast.resource(scope="module")
def queue(request, server):
    note("setup " + request.node.name)
    yield f"{request.node.name} {server['port']}"
    assert ask(server["port"]) == b"fine"
    note("teardown " + request.node.name)
"""
    test = "def test_a(queue, server): assert queue == f'{__name__}.py {server[\"port\"]}'\ndef test_b(queue): pass\n"
    suite = shared("scope='session'", more, test_a=test, test_b=test)
    run = suite.run("--hf-slots=2")
    assert run.code == 0, run.output
    order = noted(suite.root)
    names = ["setup test_a.py", "teardown test_a.py", "setup test_b.py", "teardown test_b.py"]
    assert sorted(order[1:-1]) == sorted(names)
    assert (order[0], order[-1]) == ("setup server", "teardown server")  # After what was built on it.


def test_scopes_built_on_one_are_torn_down_before_it(shared: Any) -> None:
    more = """
@pytest.fixture(scope="module")
def table(server):
    note("setup table")
    yield server["port"]
    assert ask(server["port"]) == b"fine"
    note("teardown table")
"""
    test = "from conftest import ask\nimport pytest\n@pytest.mark.parametrize('i', range(6))\ndef test_a(table, i): assert ask(table)\n"
    suite = shared("scope='session'", more, test_a=test)
    run = suite.run("--hf-slots=2")
    assert run.code == 0, run.output
    assert noted(suite.root) == ["setup server", "setup table", "teardown table", "teardown server"]


def test_overridden_in_a_folder(shared: Any) -> None:
    suite = shared(test_a="def test_a(server): assert 'more' not in server\n")
    suite.file("sub/conftest.py", "import holdfast\n@holdfast.resource\ndef server(server):\n    yield {**server, 'more': 1}\n")
    suite.file("sub/test_b.py", "def test_b(server): assert server['more'] and server['port']\n")
    run = suite.run("--hf-slots=2")
    assert run.code == 0, run.output
    assert happened(run, "server") == happened(run, "sub::server") == ["making", "ready", "teardown", "over"]


def test_of_a_test_module_and_by_usefixtures(shared: Any) -> None:
    test = """
import holdfast, pytest
from conftest import note
@holdfast.resource
def mine(tmp_path_factory):
    path = tmp_path_factory.mktemp("mine") / "file"
    path.write_text("x")
    return str(path)
@holdfast.resource(autouse=True)
def everybody_s():
    note("everybody's")
    yield
def test_a(mine): assert open(mine).read() == "x"
@pytest.mark.usefixtures("mine")
class TestB:
    def test_b(self): pass
"""
    suite = shared(test_a=test)
    run = suite.run("--hf-slots=2")
    assert run.code == 0, run.output
    assert happened(run, "test_a.py::mine")[:2] == ["making", "ready"]
    assert noted(suite.root) == ["everybody's"]


# ---- leases


COUNTING = """
import pytest, time
from conftest import ROOT, note
@pytest.mark.parametrize("i", range(8))
def test_it(server, i):
    mine = ROOT / f"using-{i}"
    mine.touch()
    note(f"{len(list(ROOT.glob('using-*')))}")
    deadline = time.monotonic() + 0.1
    while time.monotonic() < deadline: pass
    mine.unlink()
"""


@pytest.mark.parametrize(("lease", "most"), [("'exclusive'", 1), ("2", 2)])
def test_no_more_at_a_time_than_its_lease(shared: Any, lease: str, most: int) -> None:
    suite = shared(f"lease={lease}", test_a=COUNTING)
    run = suite.run("--hf-slots=4")
    assert run.code == 0, run.output
    assert max(int(line) for line in noted(suite.root) if line.isdigit()) <= most


# ---- when it dies


def test_users_of_one_that_died_are_judged_again(shared: Any) -> None:
    # The first user kills the server, once; those that come before the next check find it dead.
    test = USERS + "\ndef test_z(server): pass\n"
    kill = """
import os
from conftest import ROOT, ask
def test_kills(server):
    if not (ROOT / "killed").exists():
        (ROOT / "killed").touch()
        ask(server["port"], b"die")
"""
    suite = shared(test_a=kill, test_b=test)
    run = suite.run("--hf-slots=1", "--hf-dist=sequential")
    assert run.code == 0, run.output
    assert set(run.verdicts.values()) == {"passed"}
    assert "which it had started, has ended; it is made again for the" in run.output
    assert noted(suite.root).count("setup server") == 2
    assert noted(suite.root).count("teardown server") == 2  # Its process lived, and tidied up.
    again = [event for event in run.events if event["event"] == "verdict" and event["attempts"] == 2]
    assert len(again) == 1
    assert again[0]["notes"] == []


def test_who_breaks_it_each_time_is_named_and_nobody_else(shared: Any) -> None:
    kill = """
from conftest import ask
def test_kills(server):
    ask(server["port"], b"die")
    ask(server["port"])
"""
    suite = shared(test_a=USERS, test_b=kill, test_c=kill.replace("kills", "kills_too"), test_d=USERS)
    run = suite.run("--hf-slots=2")
    assert run.code == 1
    failed = {nodeid for nodeid, verdict in run.verdicts.items() if verdict != "passed"}
    assert failed == {"test_b.py::test_kills", "test_c.py::test_kills_too"}, run.output
    assert {nodeid for nodeid, notes in run.notes.items() if "broke" in notes} == failed
    assert "broke: test_b.py::test_kills" in run.output
    assert "resource server did not work any more after it, each time" in run.output


def test_a_check_of_one_s_own(shared: Any) -> None:
    more = """
def answers(value): return not (ROOT / "broken").exists()
@holdfast.resource(check=answers)
def thing():
    note("setup thing")
    yield 1
    (ROOT / "broken").unlink(missing_ok=True)
    note("teardown thing")
"""
    test = """
from conftest import ROOT
import pytest
@pytest.mark.parametrize("i", range(3))
def test_it(thing, i):
    if i == 1 and not (ROOT / "once").exists():
        (ROOT / "once").touch(); (ROOT / "broken").touch()
        assert False
"""
    suite = shared("", more, test_a=test)
    run = suite.run("--hf-slots=1")
    assert run.code == 0, run.output
    assert "resource thing: its check says that it does not work" in run.output
    assert noted(suite.root) == ["setup thing", "teardown thing"] * 2


@pytest.mark.parametrize(
    ("check", "words"),
    [
        ("1 / 0", "its check raised ZeroDivisionError"),
        ("os._exit(3)", "its process has ended"),
        ("os.kill(os.getpid(), 9)", "its process has ended"),
    ],
)
def test_a_check_that_goes_wrong(shared: Any, check: str, words: str) -> None:
    more = f"""
def check(value): {check}
@holdfast.resource(check=check)
def thing(): return 1
"""
    suite = shared("", more, test_a="def test_it(thing): assert False\n")
    run = suite.run("--hf-slots=1")
    # Three attempts, three times it did not work any more: then it is the test's doing, or at least not the run's.
    assert run.verdicts == {"test_a.py::test_it": "failed"}, run.output
    assert words in run.output
    assert "Traceback" not in run.output


def test_killed_between_two_uses(shared: Any) -> None:
    more = """
@pytest.fixture(scope="module")
def table(server):
    note("setup table")
    return server["port"]
"""
    test = """
from conftest import ROOT, ask
import os, pytest, signal, time
@pytest.mark.parametrize("i", range(6))
def test_a(server, table, i):
    assert ask(table) == b"fine" and table == server["port"]
    if i == 2 and not (ROOT / "killed").exists():
        (ROOT / "killed").touch()
        os.kill(server["keeper"], signal.SIGKILL)
        with pytest.raises(OSError):  # The engine has seen it, and killed the server.
            for _ in range(1000):
                ask(table)
                time.sleep(0.01)
"""
    suite = shared("", more, test_a=test)
    for isolation in ("test", "worker"):
        for name in ("killed", "order"):
            (suite.root / name).unlink(missing_ok=True)
        run = suite.run("--hf-slots=1", f"--hf-isolate={isolation}")
        assert run.code == 0, run.output
        assert set(run.verdicts.values()) == {"passed"}
        assert "resource server: its process has ended; it is made again" in run.output
        order = noted(suite.root)
        assert order.count("setup server") == 2
        assert order.count("setup table") == 2  # Once for each server.
        assert not suite.survivors()


def test_one_that_dies_of_itself_is_given_up(shared: Any) -> None:
    more = """
@holdfast.resource(scope="session")
def frail():
    return os.getpid()
"""
    test = """
import os, pytest, signal
@pytest.mark.parametrize("i", range(10))
def test_it(frail, i):
    os.kill(frail, signal.SIGKILL)
    assert False
"""
    suite = shared("", more, test_a=test, test_b="def test_other(): pass\n")
    run = suite.run("--hf-slots=1")
    assert run.code == 1
    assert Counter(run.short().values()) == {"failed": 3, "error": 7, "passed": 1}, run.output
    assert happened(run, "frail").count("making") == 9  # Three times for each of three tests.
    assert "resource frail is gone: its process has ended, and so it went three times in a row" in run.output


# ---- when it cannot be made


def test_a_setup_that_raises_is_the_error_of_its_users_alone(shared: Any) -> None:
    more = "@holdfast.resource\ndef bad(): raise RuntimeError('no such luck')\n@holdfast.resource\ndef upon(bad): return 1\n"
    suite = shared("", more, test_a="def test_a(bad): pass\ndef test_b(upon): pass\ndef test_c(server): pass\n")
    run = suite.run("--hf-slots=2")
    assert run.short() == {"test_a": "error", "test_b": "error", "test_c": "passed"}, run.output
    assert "resource bad could not be made" in run.output
    assert "resource upon could not be made" in run.output
    assert run.output.count("RuntimeError: no such luck") >= 2
    assert happened(run, "bad") == ["making", "failed", "teardown", "over"]


def test_a_setup_that_skips_skips_its_users(shared: Any) -> None:
    more = "@holdfast.resource\ndef absent(): pytest.skip('no server is installed')\n"
    suite = shared("", more, test_a="def test_a(absent): pass\n")
    for run in (suite.run("-rs"), suite.plain("-rs")):
        assert run.code == 0, run.output
        assert "1 skipped" in run.output
        assert "no server is installed" in run.output


@pytest.mark.parametrize(
    ("body", "verdict"),
    [("os.abort()", "crashed"), ("os._exit(0)", "exited"), ("time.sleep(3600)", "timeout")],
)
def test_a_setup_that_ends_its_process(shared: Any, body: str, verdict: str) -> None:
    more = f"@holdfast.resource\ndef bad():\n    {body}\n"
    suite = shared("", more, test_a="def test_a(bad): pass\ndef test_b(bad): pass\ndef test_c(server): pass\n")
    run = suite.run("--hf-slots=2", "--hf-timeout=1", "--hf-grace=1")
    verdicts = run.verdicts
    assert verdicts.pop("bad (resource)") == verdict
    assert verdicts == {"test_a.py::test_a": "error", "test_a.py::test_b": "error", "test_a.py::test_c": "passed"}
    assert "its setup has ended its process, see `bad (resource)`" in run.output
    assert not suite.survivors()


@pytest.mark.parametrize(
    ("body", "verdict"),
    [("assert False, 'too late'", "error"), ("os.abort()", "crashed"), ("time.sleep(3600)", "timeout")],
)
def test_a_teardown_that_goes_wrong(shared: Any, body: str, verdict: str) -> None:
    more = f"@holdfast.resource\ndef bad():\n    yield 1\n    {body}\n"
    suite = shared("", more, test_a="def test_a(bad, server): pass\n")
    run = suite.run("--hf-slots=2", "--hf-timeout=1", "--hf-grace=1")
    assert run.code == 1
    assert run.verdicts == {"test_a.py::test_a": "passed", "bad (resource)": verdict}, run.output
    assert noted(suite.root)[-1] == "teardown server"
    assert "too late" in run.output or verdict != "error"


def test_a_process_that_the_teardown_leaves_is_killed_and_named(shared: Any) -> None:
    more = "@holdfast.resource\ndef careless():\n    subprocess.Popen(['sleep', '3600'])\n    yield 1\n"
    suite = shared("", more, test_a="def test_a(careless): pass\n")
    run = suite.run()
    assert run.code == 0
    assert re.search(r"resource careless: its teardown left behind: process \d+.*sleep 3600", run.output), run.output
    assert not suite.survivors()


# ---- whoever dies


WAITING = USERS + "\ndef test_waits(server):\n    import time\n    note('waiting')\n    time.sleep(3600)\n"


@pytest.mark.parametrize("who", ["engine", "controller", "both"])
def test_torn_down_when_the_run_is_killed(shared: Any, until: Any, tree: Any, kill: Any, who: str) -> None:
    suite = shared(test_a=WAITING)
    suite.file("slow", "")  # Time enough to be killed in.
    process = suite.start("--hf-slots=2", "--hf-journal=j.db")
    until(lambda: (suite.root / "order").exists() and "waiting" in noted(suite.root), "the test did not begin")
    engine = tree(process).engine
    if who in ("controller", "both"):
        kill(process.pid)
    if who in ("engine", "both"):
        kill(engine)
    suite.finish(process)
    until(lambda: not suite.survivors(), "processes are left after the kill")
    assert noted(suite.root).count("teardown server") == 1
    assert noted(suite.root)[-1] == "teardown server"


@pytest.mark.parametrize("times", [1, 2])
def test_torn_down_after_ctrl_c(shared: Any, until: Any, times: int) -> None:
    suite = shared(test_a=WAITING)
    process = suite.start("--hf-slots=2", "--hf-grace=2")
    until(lambda: (suite.root / "order").exists() and "waiting" in noted(suite.root), "the test did not begin")
    for _ in range(times):
        process.send_signal(signal.SIGINT)
    run = suite.finish(process)
    assert run.code == 2, run.output
    assert noted(suite.root).count("teardown server") == 1
    assert not suite.survivors()


def test_torn_down_after_the_first_failure(shared: Any) -> None:
    slow = "\ndef slow(value): time.sleep(0.5)\n@holdfast.resource(check=slow)\ndef other(): return 1\n"
    # Nothing begins while it is not known yet whether the failure counts.
    suite = shared("", slow, test_a="def test_a(server, other): assert False\n" + USERS)
    run = suite.run("-x", "--hf-slots=1")
    assert run.code == 1
    assert noted(suite.root) == ["setup server", "teardown server"]


def test_a_resumed_run_makes_it_for_what_is_left_and_only_then(shared: Any) -> None:
    suite = shared(test_a=USERS, test_b="def test_b(): pass\n")
    assert suite.run("--hf-journal=j.db").code == 0
    (suite.root / "order").unlink()
    run = suite.run("--hf-journal=j.db", "--hf-resume")
    assert run.code == 0, run.output
    assert not (suite.root / "order").exists()


# ---- other ways to run, and what is wrong


def test_in_cold_processes(shared: Any) -> None:
    thread = "import threading, time\nthreading.Thread(target=time.sleep, args=(3600,), daemon=True).start()\n"
    suite = shared(test_a=USERS.replace("range(10)", "range(3)"), test_b=thread + "def test_b(): pass\n")
    run = suite.run("--hf-slots=2")
    assert run.code == 0, run.output
    assert "cold processes" in run.output
    assert Counter(noted(suite.root)) == {"setup server": 1, "test": 3, "teardown server": 1}


def test_only_what_is_used_is_made(shared: Any) -> None:
    test = "import pytest\n@pytest.mark.skip\ndef test_a(server): pass\ndef test_b(): pass\n"
    suite = shared(test_a=test, test_b=USERS)
    assert suite.run("test_a.py").code == 0
    assert suite.run("--setup-plan").code == 0
    assert suite.run("--co", "-q").code == 0
    assert suite.run("-k", "test_b.py and not test_it").code in (0, 5)
    assert not (suite.root / "order").exists()


def test_fixtures_are_listed_with_their_place_and_words(shared: Any) -> None:
    more = "@holdfast.resource\ndef told():\n    'What it is for.'\n    return 1\n"
    suite = shared("", more, test_a="def test_a(told): pass\n")
    run = suite.run("--fixtures", "-v")
    line = (CONFTEST + SERVER % "" + more).split("\n").index("def told():") + 1
    assert re.search(rf"told \[session scope\] -- conftest.py:{line - 1}|told \[session scope\] -- conftest.py:{line}", run.output), (
        run.output
    )
    assert "What it is for." in run.output


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        ("@holdfast.resource(scope='class')\ndef x(): pass", "scope='class'; give one out of run, session, module"),
        ("@holdfast.resource(lease=0)\ndef x(): pass", "lease=0; give 'shared', 'exclusive' or the number"),
        ("@holdfast.resource(check=3)\ndef x(): pass", "check=3; give a function"),
        ("@holdfast.resource\nasync def x(): pass", "x is asynchronous"),
        ("class TestX:\n    @holdfast.resource\n    def x(self): pass", "x is a method"),
        ("@holdfast.resource\nclass X: pass", "is no function"),
    ],
)
@pytest.mark.parametrize("holdfast", [True, False])
def test_wrong_declarations(suite: Any, declared: str, words: str, holdfast: bool) -> None:
    suite.write(test_a=f"import holdfast\n{declared}\ndef test_a(): pass\n")
    run = suite.run(holdfast=holdfast)
    assert run.code == 2, run.output
    assert words in run.output


@pytest.mark.parametrize("holdfast", [True, False])
@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("return object()", "it is handed to other processes, so it must be what JSON can hold"),
        ("return (1, 2)", "it is handed to other processes, so it must be what JSON can hold"),
        ("if False: yield", "has not yielded a value"),
    ],
)
def test_wrong_values(shared: Any, body: str, words: str, holdfast: bool) -> None:
    suite = shared("", f"@holdfast.resource\ndef bad():\n    {body}\n", test_a="def test_a(bad): pass\n")
    run = suite.run(holdfast=holdfast)
    assert run.code == 1
    assert words in run.output
    assert "1 error" in run.output


def test_asked_for_at_run_time(shared: Any) -> None:
    suite = shared(test_a="def test_a(request): request.getfixturevalue('server')\n")
    run = suite.run()
    assert run.short() == {"test_a": "failed"}
    assert "name it as an argument" in run.output
    assert suite.plain().code == 0


def test_a_function_s_fixture_is_too_narrow(shared: Any) -> None:
    suite = shared("", "@holdfast.resource\ndef bad(tmp_path): return 1\n", test_a="def test_a(bad): pass\n")
    for run in (suite.run(), suite.plain()):
        assert run.code == 1
        assert "ScopeMismatch" in run.output
