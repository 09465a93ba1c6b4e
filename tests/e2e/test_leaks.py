"""What a test leaves running is killed, named, and charged to that test."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


def test_children_daemons_and_grandchildren(suite: Any) -> None:
    suite.write(
        test_it="""
import os, subprocess, time
def test_child(): subprocess.Popen(["sleep", "3601"])
def test_daemon():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execvp("sleep", ["sleep", "3602"])
        os._exit(0)
    os.wait()
def test_grandchild(): subprocess.Popen(["sh", "-c", "sleep 3603 & sleep 3604"])
def test_clean(): subprocess.run(["true"])
"""
    )
    run = suite.run("--hf-slots=2")
    assert set(run.verdicts.values()) == {"passed"}
    noted = {nodeid.partition("::")[2]: notes for nodeid, notes in run.notes.items()}
    assert noted == {"test_child": ["leaked"], "test_daemon": ["leaked"], "test_grandchild": ["leaked"], "test_clean": []}
    for number in (3601, 3602, 3603, 3604):
        assert f"sleep {number}" in run.output


def test_a_helper_that_ends_by_itself_is_no_leak(suite: Any) -> None:
    suite.write(
        test_it="""
from multiprocessing import shared_memory
def test_it():
    segment = shared_memory.SharedMemory(create=True, size=10)
    segment.close()
    segment.unlink()
"""
    )
    run = suite.run()
    assert run.notes == {"test_it.py::test_it": []}


def test_leaks_are_in_junit(suite: Any, tmp_path: Any) -> None:
    suite.write(test_it="import subprocess\ndef test_it(): subprocess.Popen(['sleep', '3600'])\n")
    suite.run("--junitxml=junit.xml")
    xml = (tmp_path / "junit.xml").read_text()
    assert '<property name="holdfast_notes" value="leaked"' in xml


LEAKY = """
import ctypes, os, signal, socket, subprocess, sys, tempfile, threading, time
from multiprocessing import shared_memory
import pytest

kept = []

def test_thread(): threading.Thread(target=time.sleep, args=(3600,), daemon=True, name="patient").start()
def test_socket(): kept.append(socket.create_server(("127.0.0.1", 0)))
def test_temporary_file(): os.close(tempfile.mkstemp(prefix="hf-e2e-file")[0])
def test_temporary_directory():
    with open(tempfile.mkdtemp(prefix="hf-e2e-dir") + "/inside", "w"): pass
def test_shared_memory(): shared_memory.SharedMemory(create=True, size=4096).close()
def test_segment(): ctypes.CDLL(None).shmget(0, 8192, 0o1600)
def test_tidy(tmp_path):
    os.close(tempfile.mkstemp()[0] if False else tempfile.mkstemp(dir=tmp_path)[0])
    (tmp_path / "mine").write_text("x")
    with tempfile.TemporaryDirectory() as directory: open(directory + "/x", "w").close()
    with tempfile.NamedTemporaryFile(): pass
    with socket.create_server(("127.0.0.1", 0)): pass
    thread = threading.Thread(target=int)
    thread.start()
    thread.join()
    segment = shared_memory.SharedMemory(create=True, size=10)
    segment.close()
    segment.unlink()
    subprocess.run(["true"])
"""


def leaked(run: Any) -> dict[str, list[str]]:
    return {e["id"].partition("::")[2]: e.get("leaked", []) for e in run.events if e["event"] == "verdict"}


@pytest.mark.parametrize("isolation", ["test", "worker"])
def test_threads_sockets_files_and_shared_memory(suite: Any, isolation: str) -> None:
    suite.write(test_it=LEAKY)
    run = suite.run("--hf-slots=2", f"--hf-isolate={isolation}")
    assert set(run.verdicts.values()) == {"passed"}, run.output
    found = leaked(run)
    assert found.pop("test_tidy") == []
    for name, what in {
        "test_thread": r"thread patient, daemon: in run, .*threading.py:\d+",
        "test_socket": r"listening socket 127\.0\.0\.1:\d+",
        "test_temporary_file": r"temporary file (/\S*/hf-e2e-file\S*), 0 bytes",
        "test_temporary_directory": r"temporary directory (/\S*/hf-e2e-dir\S*)",
        "test_shared_memory": r"shared memory (/dev/shm/psm_\w+), 4096 bytes",
        "test_segment": r"System V shared memory segment \d+, 8192 bytes",
    }.items():
        (text,) = found.pop(name)
        match = re.fullmatch(what, text)
        assert match is not None, f"{name}: {text}"
        assert not match.groups() or not Path(match[1]).exists(), text
        assert text in run.output
    assert not found
    assert " 8192 " not in Path("/proc/sysvipc/shm").read_text()


@pytest.mark.parametrize("isolation", ["test", "module", "worker"])
def test_a_daemon_that_ends_is_gone_before_its_test(suite: Any, isolation: str) -> None:
    """Not a zombie of a process that has other things to do: init would have reaped it."""
    suite.write(
        test_it="""
import os, subprocess, time
def test_waits():
    pid = subprocess.run(["sh", "-c", "sleep 0.1 >/dev/null & echo $!"], stdout=subprocess.PIPE, check=True).stdout.strip().decode()
    deadline = time.monotonic() + 10
    while os.path.exists(f"/proc/{pid}"):
        assert time.monotonic() < deadline, open(f"/proc/{pid}/status").read()
        time.sleep(0.01)
"""
    )
    run = suite.run("--hf-slots=1", f"--hf-isolate={isolation}")
    assert run.short() == {"test_waits": "passed"}, run.output


@pytest.mark.parametrize("isolation", ["test", "worker"])
def test_the_fork_server_is_there_for_the_next_test(suite: Any, isolation: str) -> None:
    suite.write(
        test_it="""
import multiprocessing, pytest, time
from multiprocessing import util
@pytest.mark.parametrize("i", range(3))
def test_forks(i):
    process = multiprocessing.get_context("forkserver").Process(target=time.sleep, args=(0,))
    process.start()
    process.join()
    assert process.exitcode == 0
    open(f"folder-{i}", "w").write(util.get_temp_dir())
"""
    )
    run = suite.run("--hf-slots=1", f"--hf-isolate={isolation}", "--hf-strict")
    assert leaked(run) == {f"test_forks[{i}]": [] for i in range(3)} and run.code == 0, run.output
    assert "Traceback" not in run.output
    folders = {(suite.root / f"folder-{i}").read_text() for i in range(3)}
    assert len(folders) == (1 if isolation == "worker" else 3) and not any(Path(folder).exists() for folder in folders)


def test_a_file_whose_name_somebody_has_chosen_stays(suite: Any, tmp_path: Path) -> None:
    import uuid

    path = Path(tempfile.gettempdir()) / f"hf-e2e-{uuid.uuid4().hex}"
    suite.write(test_it=f"def test_it(): open({str(path)!r}, 'w').write('abc')\ndef test_again(): open({str(path)!r}).read()\n")
    try:
        run = suite.run("--hf-slots=1")
        assert leaked(run) == {"test_it": [f"file {path}, 3 bytes (not removed)"], "test_again": []}
        assert path.read_text() == "abc"
    finally:
        path.unlink()


@pytest.mark.parametrize("isolation", ["test", "worker"])
def test_what_a_crashed_test_has_left(suite: Any, isolation: str) -> None:
    suite.write(
        test_it="""
import ctypes, os, tempfile
from multiprocessing import resource_tracker, shared_memory
def test_it():
    segment = shared_memory.SharedMemory(create=True, size=4096)
    resource_tracker.unregister(segment._name, "shared_memory")
    tempfile.mkdtemp(prefix="hf-e2e-crash")
    ctypes.CDLL(None).shmget(0, 4096, 0o1600)
    if os.fork() == 0:
        tempfile.mkstemp(prefix="hf-e2e-child")
        os._exit(0)
    os.wait()
    ctypes.string_at(0)
"""
    )
    run = suite.run("--hf-slots=1", f"--hf-isolate={isolation}")
    assert run.short() == {"test_it": "crashed"}
    text = "\n".join(leaked(run)["test_it"])
    for what in ("hf-e2e-crash", "hf-e2e-child", "/dev/shm/psm_", "System V shared memory segment"):
        assert what in text
    for path in re.findall(r"(?:/tmp|/dev/shm)/\S+?(?=,|$)", text, re.MULTILINE):
        assert not Path(path).exists()


def test_shared_memory_of_others_is_left_alone(suite: Any) -> None:
    """Something new in /dev/shm may be another test's, or another program's."""
    suite.write(
        test_it="""
import subprocess
def test_it():
    subprocess.run(["sh", "-c", "echo x > /dev/shm/hf-e2e-foreign"], check=True)
"""
    )
    path = Path("/dev/shm/hf-e2e-foreign")
    try:
        run = suite.run("--hf-slots=1")
        assert leaked(run) == {"test_it": []}
        assert path.exists()
    finally:
        path.unlink(missing_ok=True)


def test_state_of_a_worker_is_put_back(suite: Any) -> None:
    suite.write(
        test_it="""
import os, signal
import pytest

@pytest.fixture(scope="module", autouse=True)
def shared():
    os.environ["OF_THE_MODULE"] = "1"
    yield
    del os.environ["OF_THE_MODULE"]

def test_spoils():
    os.environ["OF_THE_TEST"] = "2"
    del os.environ["HOME"]
    os.chdir("/")
    os.umask(0)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)

def test_finds_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("FOR_A_MOMENT", "3")
    monkeypatch.chdir(tmp_path)
    assert os.environ["OF_THE_MODULE"] == "1"
    assert "OF_THE_TEST" not in os.environ and os.environ["HOME"]
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
    assert os.umask(0o22) == 0o22
""",
        test_other="import os\ndef test_other(): assert 'OF_THE_MODULE' not in os.environ\n",
    )
    run = suite.run("--hf-slots=1", "--hf-isolate=worker", "--hf-strict")
    assert set(run.verdicts.values()) == {"passed"}, run.output
    found = leaked(run)
    assert found.pop("test_finds_nothing") == found.pop("test_other") == []
    text = "\n".join(found["test_spoils"])
    for what in (
        "environment variable OF_THE_TEST: nothing became '2'",
        "environment variable HOME: ",
        f"working directory: {suite.root} became /",
        "umask: 022 became 000",
        "handler of SIGUSR1: the default became ignored",
    ):
        assert what in text, text


def test_what_shared_fixtures_have_started_stays_in_a_worker(suite: Any) -> None:
    suite.write(
        test_it="""
import os, subprocess, tempfile, threading, time
import pytest

@pytest.fixture(scope="module")
def shared():
    process = subprocess.Popen(["sleep", "3600"])
    subprocess.run("setsid sleep 3600 >/dev/null 2>&1 & echo $! > pid", shell=True)
    directory = tempfile.mkdtemp()
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    yield process, directory
    stop.set()
    thread.join()
    process.kill()
    process.wait()
    os.rmdir(directory)
    os.kill(int(open("pid").read()), 9)

@pytest.mark.parametrize("n", range(3))
def test_it(shared, n):
    process, directory = shared
    assert process.poll() is None and os.path.isdir(directory)
    os.kill(int(open("pid").read()), 0)
"""
    )
    run = suite.run("--hf-slots=1", "--hf-isolate=worker")
    assert set(run.verdicts.values()) == {"passed"}, run.output
    assert set(map(tuple, leaked(run).values())) == {()}


def test_processes_of_a_worker_s_test_are_its_own(suite: Any) -> None:
    suite.write(
        test_it="""
import os, subprocess
def test_child(): subprocess.Popen(["sleep", "3605"])
def test_daemon(): subprocess.run("setsid sleep 3606 >/dev/null 2>&1 &", shell=True)
def test_innocent(): pass
"""
    )
    run = suite.run("--hf-slots=1", "--hf-isolate=worker")
    found = leaked(run)
    assert "sleep 3605" in found["test_child"][0] and "sleep 3606" in found["test_daemon"][0]
    assert found["test_innocent"] == []


def test_listening_daemons_say_where(suite: Any) -> None:
    suite.write(
        test_it="""
import os, socket, time
def test_it():
    reader, writer = os.pipe()
    if os.fork() == 0:
        server, local = socket.create_server(("127.0.0.1", 0)), socket.socket(socket.AF_UNIX)
        local.bind("\\0hf-e2e")
        local.listen()
        os.write(writer, b"x")
        time.sleep(3600)
    os.read(reader, 1)
"""
    )
    run = suite.run()
    assert re.search(r"\(listens on 127\.0\.0\.1:\d+, @hf-e2e\)", leaked(run)["test_it"][0]), run.output


@pytest.fixture
def ignored(suite: Any) -> Iterator[None]:
    """What is ignored stays, and goes then."""
    with tempfile.TemporaryDirectory(prefix="hf-e2e-") as folder:
        suite.env["TMPDIR"] = folder
        yield


@pytest.mark.parametrize("isolation", ["test", "worker"])
def test_leaks_can_fail_or_be_ignored(suite: Any, isolation: str, ignored: None) -> None:
    suite.write(
        test_it="""
import os, subprocess, tempfile
import pytest
def leave(): os.close(tempfile.mkstemp()[0]); subprocess.Popen(["sleep", "3600"])
def test_leaves(): leave()
@pytest.mark.holdfast(leaks="ignore")
def test_ignored(): leave()
@pytest.mark.holdfast(leaks="report")
def test_reported(): leave()
def test_fails():
    leave()
    assert 0
def test_clean(): pass
"""
    )
    run = suite.run("--hf-leaks=fail", f"--hf-isolate={isolation}", "--junitxml=junit.xml")
    assert run.code == 1
    assert run.short() == {
        "test_leaves": "error",
        "test_ignored": "passed",
        "test_reported": "passed",
        "test_fails": "failed",
        "test_clean": "passed",
    }
    assert "ERROR at teardown of test_leaves" in run.output
    assert re.search(r"it left 2 things behind: .*temporary file .*", run.output)
    assert [name for name, found in leaked(run).items() if found] == [
        name for name in leaked(run) if name in ("test_leaves", "test_reported", "test_fails")
    ]
    ignoring = suite.run("--hf-leaks=ignore", f"--hf-isolate={isolation}")
    assert [(name, len(found)) for name, found in leaked(ignoring).items() if found] == [("test_reported", 2)]
    wrong = suite.run("--hf-leaks=maybe")
    assert wrong.code == 4 and "'maybe' is none of report, fail, ignore" in wrong.output


def test_a_scope_s_own_leaks(suite: Any) -> None:
    suite.write(
        test_it="""
import tempfile
import pytest
@pytest.fixture(scope="module")
def shared(): return tempfile.mkdtemp(prefix="hf-e2e-scope")
def test_a(shared): tempfile.mkdtemp(dir=shared)
def test_b(shared): pass
"""
    )
    run = suite.run("--hf-slots=1")
    assert run.code == 0
    assert leaked(run) == {"test_a": [], "test_b": []}
    assert re.search(r"test_it.py .*: its teardown left behind: temporary directory \S*/hf-e2e-scope", run.output), run.output
    failing = suite.run("--hf-slots=1", "--hf-leaks=fail")
    assert failing.code == 1
    assert failing.short()["test_b"] == "passed"
