"""What hangs is explained before it is killed: each process, what each of its threads waits for and who has the other end, its stacks."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

ARGUMENTS = ("--hf-slots=1", "--hf-timeout=2", "--hf-grace=0.5")

# ../shared/seeds/003: the parent does not look at the result of its wait, goes on, and blocks on what the child holds.
SEED = """
import multiprocessing, os, time
import pytest

def child(theirs, ours):
    theirs.recv()                     # line 6: it waits for a word that the parent never sends

class Resource:
    def __init__(self): self.reader, self.writer = os.pipe()
    def close(self):
        os.close(self.writer)
        os.read(self.reader, 1)       # line 12: until the child lets go of the writing end, too

@pytest.fixture
def resource():
    made = Resource()
    yield made
    made.close()

def test_ipc(resource):
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=child, args=(theirs, ours))
    process.start()
    process.join(timeout=0.1)         # and does not look at what came of it
"""


def report(run: Any, name: str) -> str:
    """The part of the output about one test."""
    found = re.search(
        rf"^_+ (?:ERROR at \w+ of )?{re.escape(name)} _+$(.*?)(?=^_{{10}}|^={{10}})", run.output, re.MULTILINE | re.DOTALL
    )
    assert found is not None, run.output
    return found[1]


def test_the_deadlock_of_the_seed_names_the_child_and_the_line(suite: Any) -> None:
    suite.write(test_it=SEED)
    began = time.monotonic()
    run = suite.run(*ARGUMENTS)
    assert time.monotonic() - began < 30
    assert run.short() == {"test_ipc": "timeout"}
    text = report(run, "test_ipc")
    assert "timeout in teardown" in text
    assert 'test_it.py", line 12 in close' in text, "the line that the parent waits in"
    parent = re.search(
        r"thread (\d+) \(\S+\) waits in read on descriptor \d+, pipe:\[\d+\], its writing end is held by process (\d+)", text
    )
    assert parent is not None, text
    child = re.search(
        rf"^process {parent[2]} \(state S\): a fork of process {parent[1]}\n(.*?)(?=^process|\Z)", text, re.MULTILINE | re.DOTALL
    )
    assert child is not None, text
    assert 'test_it.py", line 6 in child' in child[1], "the line that the child waits in"
    assert re.search(r"waits in read on descriptor \d+, socket:\[\d+\], the other side is held by itself", child[1]), child[1]


def test_locks_files_children_and_sockets(suite: Any) -> None:
    suite.write(
        test_it="""
import fcntl, os, socket, subprocess, sys, threading, time

def test_thread_lock():
    lock = threading.Lock()
    lock.acquire()
    threading.Thread(target=lock.acquire, daemon=True).start()
    lock.acquire()

def test_file_lock(tmp_path):
    reader, writer = os.pipe()
    if os.fork() == 0:
        mine = open(tmp_path / "lock", "w")
        fcntl.flock(mine, fcntl.LOCK_EX)
        os.write(writer, b"x")
        time.sleep(3600)
    os.read(reader, 1)
    mine = open(tmp_path / "lock", "w")
    fcntl.flock(mine, fcntl.LOCK_EX)

def test_wait():
    pid = subprocess.Popen(["sleep", "3607"]).pid
    os.waitpid(pid, 0)

def test_server():
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.accept()

def test_client():
    server = socket.create_server(("127.0.0.1", 0))
    if os.fork() == 0:
        connection, _ = server.accept()
        time.sleep(3600)
    client = socket.create_connection(server.getsockname())
    client.recv(1)

def test_loop():
    while True: pass
"""
    )
    run = suite.run(*ARGUMENTS)
    assert set(run.verdicts.values()) == {"timeout"}, run.output
    for name, what in {
        "test_thread_lock": r"waits in futex for a lock or condition\n.*thread \d+ \(\S+\) waits in futex",
        "test_file_lock": r"waits in flock for the lock on \S+/lock, which process \d+ \(a fork of process \d+\) holds",
        "test_wait": r"waits in wait4 for its child, process \d+ \(sleep 3607\)",
        "test_server": r"waits in (accept4? on|poll on) descriptor \d+, socket:\[\d+\], listening on 127\.0\.0\.1:\d+",
        "test_client": r"socket:\[\d+\], connected to 127\.0\.0\.1:\d+, the other side is held by process \d+",
        "test_loop": r"\(state R\): .*\n  thread \d+ \(\S+\) runs",
    }.items():
        text = report(run, name)
        assert re.search(what, text), f"{name}:\n{text}"
        assert re.search(r"Used: \d+\.\d+ s CPU", text), text


def test_python_children_that_are_no_forks(suite: Any) -> None:
    """Their stacks need a tool from outside."""
    suite.write(
        test_it="""
import subprocess, sys
def test_it():
    child = subprocess.Popen([sys.executable, "-c", "import time\\ndef inner_place():\\n    time.sleep(3600)\\ninner_place()"])
    child.wait()
"""
    )
    run = suite.run(*ARGUMENTS)
    assert run.short() == {"test_it": "timeout"}
    text = report(run, "test_it")
    has_tool = shutil.which("py-spy") or os.access(Path(sys.executable).parent / "py-spy", os.X_OK)
    assert has_tool, "py-spy is missing: ./test installs it"
    assert "inner_place" in text.split("At the deadline")[1].split("Python stacks")[1], text


@pytest.mark.skipif(shutil.which("eu-stack") is None, reason="eu-stack is missing: apt-get install elfutils")
def test_native_stacks_end_at_the_interpreter(suite: Any) -> None:
    suite.write(test_it="import time\ndef test_it(): time.sleep(3600)\n")
    text = report(suite.run(*ARGUMENTS), "test_it")
    assert re.search(r"Native stacks:\n\s+TID \d+\n(.*\n)*?.*nanosleep.*\n(.*\n)*?\s+\.\.\. of the interpreter", text), text


def test_it_works_without_any_tool(suite: Any, tmp_path: Path) -> None:
    """And says what is missing."""
    (tmp_path / "bin").mkdir()
    suite.write(test_it="import subprocess\ndef test_it(): subprocess.run(['/bin/sleep', '3600'])\n")
    venv = tmp_path / "python"
    # An interpreter beside which there are no programs.
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    site = next(path for path in sys.path if path.endswith("site-packages"))
    extra = [path for path in (os.environ.get("PYTHONPATH"), site) if path]
    suite.env["PYTHONPATH"] = os.pathsep.join(extra)
    suite.env["PATH"] = str(tmp_path / "bin")
    command = suite.command(*ARGUMENTS)
    process = subprocess.Popen(
        [str(venv / "bin" / "python"), *command[1:]],
        cwd=tmp_path,
        env=suite.env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    run = suite.finish(process)
    assert run.short() == {"test_it": "timeout"}
    text = report(run, "test_it")
    assert "waits in" in text and "missing: native stack: neither eu-stack (elfutils) nor gdb is installed" in text, text


def test_a_module_that_hangs_while_it_is_imported(suite: Any) -> None:
    suite.write(
        test_it="""
import os
reader, writer = os.pipe()
os.read(reader, 1)
""",
        test_good="def test_good(): pass\n",
    )
    run = suite.run("--hf-slots=1", "--hf-deadlines=collect:1")
    assert run.verdicts == {"test_it.py": "timeout", "test_good.py::test_good": "passed"}
    assert re.search(r"waits in read on descriptor \d+, pipe:\[\d+\], its writing end is held by itself", run.output), run.output


def test_processes_are_in_the_ledger(suite: Any, tmp_path: Path) -> None:
    suite.write(test_it="import subprocess\ndef test_it(): subprocess.run(['sleep', '3608'])\n")
    suite.run(*ARGUMENTS, "--hf-journal=run.db")
    shown = subprocess.run(
        [sys.executable, "-m", "holdfast", "show", "run.db", "test_it"], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout
    assert "At the deadline, before anything was killed" in shown and "sleep 3608" in shown
    assert "Used: " in shown


def test_diagnose_by_hand() -> None:
    child = subprocess.Popen(["sleep", "3609"])
    try:
        done = subprocess.run(
            [sys.executable, "-m", "holdfast", "diagnose", str(child.pid)], capture_output=True, text=True, check=True
        )
        assert f"process {child.pid} (state S): sleep 3609" in done.stdout
        assert "waits in clock_nanosleep (it sleeps)" in done.stdout
        assert child.poll() is None
    finally:
        child.kill()
        child.wait()
    gone = subprocess.run([sys.executable, "-m", "holdfast", "diagnose", str(child.pid)], capture_output=True, text=True, check=False)
    assert gone.returncode == 4 and f"there is no process {child.pid}" in gone.stderr


# ---- killed for want of memory


def memory_group() -> Path:
    """A control group of 300 MiB, for a run."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "memory":
            group = Path("/sys/fs/cgroup/memory") / path.lstrip("/") / f"hf-e2e-{os.getpid()}"
            try:
                group.mkdir()
                (group / "memory.limit_in_bytes").write_text(str(300 << 20))
                return group
            except OSError as problem:
                pytest.skip(f"no memory control group can be made here: {problem}")
    pytest.skip("there is no memory controller of version 1 here")


def test_the_kernel_kills_for_want_of_memory(suite: Any) -> None:
    group = memory_group()
    suite.write(
        test_it="""
def test_greedy():
    kept = []
    while True: kept.append(bytearray(10 << 20))
def test_modest(): bytearray(10 << 20)
def test_killed():
    import os
    os.kill(os.getpid(), 9)
"""
    )
    try:
        run = suite.run("--hf-slots=1", preexec_fn=lambda: (group / "cgroup.procs").write_text(str(os.getpid())))
    finally:
        # The last of its processes needs a moment to leave it.
        for _ in range(500):
            try:
                group.rmdir()
                break
            except OSError:
                time.sleep(0.01)
    assert run.short() == {"test_greedy": "oom", "test_modest": "passed", "test_killed": "crashed"}, run.output
    said = r"oom in call: killed for want of memory; (the kernel's log: .*Killed process \d+|the control group of this run has counted)"
    assert re.search(said, run.output), run.output


# ---- what a test has used


def test_usage_is_in_the_log_and_the_history(suite: Any, tmp_path: Path) -> None:
    suite.write(
        test_it="""
import os, subprocess, threading, time
def test_busy(tmp_path):
    thread = threading.Thread(target=time.sleep, args=(1.2,))
    thread.start()
    child = subprocess.Popen(["sleep", "1"])
    data = bytearray(64 << 20)
    with open(tmp_path / "x", "wb") as file:
        file.write(data)
        os.fsync(file.fileno())
    end = time.process_time() + 0.5
    while time.process_time() < end: pass
    child.wait()
    thread.join()
def test_quick(): pass
"""
    )
    for isolation in ("test", "worker"):
        run = suite.run("--hf-slots=1", f"--hf-isolate={isolation}")
        usage = {e["id"].partition("::")[2]: e["usage"] for e in run.events if e["event"] == "verdict"}
        busy = usage["test_busy"]
        assert busy["user"] + busy["system"] > 0.4 > usage["test_quick"]["user"]
        assert busy["threads"] >= 3 and busy["processes"] == 2 and busy["files"] > 3
        assert busy["memory"] > 64 << 20
        if isolation == "test":
            assert busy["peak"] > 64 << 20
        assert "threads" not in usage["test_quick"]
    shown = subprocess.run(
        [sys.executable, "-m", "holdfast", "history"], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout
    assert re.search(r"most CPU time\n\s+0\.\d+ s  test_it.py::test_busy", shown), shown
