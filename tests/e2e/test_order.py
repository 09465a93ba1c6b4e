"""What runs when and beside what: history, --hf-dist, tokens, cores, memory, serial."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

HEADER = """
import os, pathlib, pytest, time
def note(text):
    with open("order", "a") as file: file.write(text + "\\n")
def wait_for(name):
    deadline = time.monotonic() + 20
    while not pathlib.Path(name).exists():
        assert time.monotonic() < deadline, f"{name} did not appear"
        time.sleep(0.005)
"""
THREE = (
    HEADER
    + """
def test_short(): note("short")
def test_long(): note("long"); time.sleep(0.3)
def test_middle(): note("middle"); time.sleep(0.1)
"""
)


def order(path: Path) -> list[str]:
    found = (path / "order").read_text().split("\n")[:-1]
    (path / "order").unlink()
    return found


def test_longest_first_once_it_is_known(suite: Any, tmp_path: Path) -> None:
    suite.write(test_it=THREE)
    assert suite.run("--hf-slots=1").code == 0
    assert order(tmp_path) == ["short", "long", "middle"]
    assert suite.run("--hf-slots=1").code == 0
    assert order(tmp_path) == ["long", "middle", "short"]
    # An order that the user asked for stays.
    assert suite.run("--hf-slots=1", "--ff").code == 0
    assert order(tmp_path) == ["short", "long", "middle"]
    assert suite.run("--hf-slots=1", "--hf-history=none").code == 0
    assert order(tmp_path) == ["short", "long", "middle"]


def test_the_order_of_a_shuffling_plugin_stays(suite: Any, tmp_path: Path) -> None:
    suite.write(
        test_it=THREE,
        conftest="""
class Randomly:
    def pytest_collection_modifyitems(self, items): items.reverse()
def pytest_configure(config): config.pluginmanager.register(Randomly(), "random_order")
""",
    )
    for _ in range(2):
        assert suite.run("--hf-slots=1").code == 0
        assert order(tmp_path) == ["middle", "long", "short"]


def test_a_broken_history_is_moved_aside_and_the_run_goes_on(suite: Any, tmp_path: Path) -> None:
    suite.write(test_it=THREE)
    (tmp_path / "h.db").write_bytes(b"nonsense " * 100)
    run = suite.run("--hf-slots=1", "--hf-history=h.db")
    assert run.code == 0, run.output
    assert "h.db.broken" in run.output
    assert (tmp_path / "h.db.broken").read_bytes() == b"nonsense " * 100
    assert "h.db.broken" not in suite.run("--hf-slots=1", "--hf-history=h.db").output


def test_two_runs_at_once_share_a_history(suite: Any, tmp_path: Path) -> None:
    suite.write(test_it=THREE)
    runs = [suite.start("--hf-slots=1", "--hf-history=h.db", f"--hf-journal=j{i}.db", f"--hf-log=l{i}") for i in range(2)]
    ended: list[Any] = []
    threads = [threading.Thread(target=lambda p=p: ended.append(suite.finish(p))) for p in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [run.code for run in ended] == [0, 0], ended[0].output
    assert sqlite3.connect(tmp_path / "h.db").execute("SELECT count(*), min(tests) FROM runs").fetchone() == (2, 3)


SLOTS = (
    HEADER
    + """
@pytest.mark.parametrize("i", range(4))
@pytest.mark.xdist_group("odd")
def test_group(i, worker_id): note(f"{__name__} group {worker_id}"); time.sleep(0.02)
@pytest.mark.parametrize("i", range(4))
def test_rest(i, worker_id): note(f"{__name__} rest {worker_id}"); time.sleep(0.02)
"""
)


@pytest.mark.parametrize("isolation", ["test", "worker"])
def test_what_stays_together_stays_on_one_slot(suite: Any, tmp_path: Path, isolation: str) -> None:
    suite.write(test_a=SLOTS, test_b=SLOTS, test_c=SLOTS)
    common = ("--hf-slots=3", f"--hf-isolate={isolation}", "--hf-history=none")
    assert suite.run(*common, "--hf-dist=file").code == 0
    lines = [line.split() for line in order(tmp_path)]
    for name in "abc":
        assert len({worker for module, _, worker in lines if module == f"test_{name}"}) == 1
    assert len({worker for _, _, worker in lines}) > 1
    assert suite.run(*common, "--hf-dist=group").code == 0
    lines = [line.split() for line in order(tmp_path)]
    assert len({worker for _, kind, worker in lines if kind == "group"}) == 1
    assert len({worker for _, kind, worker in lines if kind == "rest"}) > 1
    assert suite.run(*common, "--hf-dist=sequential").code == 0
    lines = [line.split() for line in order(tmp_path)]
    assert len({worker for _, _, worker in lines}) == 1
    assert [module for module, _, _ in lines] == ["test_a"] * 8 + ["test_b"] * 8 + ["test_c"] * 8


TOKENS = (
    HEADER
    + """
@pytest.mark.holdfast(exclusive="port:8080")
@pytest.mark.parametrize("i", range(4))
def test_port(i):
    fd = os.open("port", os.O_CREAT | os.O_EXCL)   # Fails if another one is at it.
    time.sleep(0.05)
    os.unlink("port")
@pytest.mark.holdfast(shared=["db"])
@pytest.mark.parametrize("i", range(2))
def test_reads(i):
    pathlib.Path(f"reader{i}").touch()
    wait_for(f"reader{1 - i}")                     # Passes only if both run at the same time.
    assert not pathlib.Path("writing").exists()
@pytest.mark.holdfast(exclusive=["db"])
def test_writes():
    pathlib.Path("writing").touch()
    time.sleep(0.1)
    os.unlink("writing")
"""
)


@pytest.mark.parametrize("isolation", ["test", "worker"])
def test_tokens(suite: Any, isolation: str) -> None:
    suite.write(test_it=TOKENS)
    run = suite.run("--hf-slots=4", f"--hf-isolate={isolation}")
    assert run.code == 0, run.output
    assert set(run.verdicts.values()) == {"passed"} and not any(run.notes.values())


BESIDE = (
    HEADER
    + """
import uuid
def beside(me):
    mine = pathlib.Path("running") / uuid.uuid4().hex
    mine.touch()
    time.sleep(0.1)
    found = len(list(mine.parent.iterdir()))
    mine.unlink()
    return found
@pytest.mark.parametrize("i", range(6))
def test_other(i): beside(i)
@pytest.mark.MARK
@pytest.mark.parametrize("i", range(3))
def test_marked(i): assert beside(i) == 1
"""
)


@pytest.mark.parametrize("mark", ["serial", "holdfast(serial=True)"])
def test_serial_runs_alone(suite: Any, tmp_path: Path, mark: str) -> None:
    suite.write(test_it=BESIDE.replace("MARK", mark))
    (tmp_path / "running").mkdir()
    run = suite.run("--hf-slots=3")
    assert run.code == 0, run.output


def machine(what: str) -> int:
    out = subprocess.check_output([sys.executable, "-m", "holdfast", what], text=True)
    return int(out.split()[0])


def test_memory_is_not_booked_twice(suite: Any, tmp_path: Path) -> None:
    most = int(machine("memory") * 0.7)
    suite.write(test_it=BESIDE.replace("MARK", f"holdfast(memory={most})").replace("def test_other", "def unused"))
    (tmp_path / "running").mkdir()
    run = suite.run("--hf-slots=3")
    assert run.code == 0, run.output


def test_what_can_never_run_is_said(suite: Any) -> None:
    suite.write(
        test_it="""
import pytest
@pytest.mark.holdfast(cores=100_000)
def test_wide(): pass
@pytest.mark.holdfast(memory="900T")
def test_fat(): pass
def test_fine(): pass
"""
    )
    run = suite.run("--hf-slots=2")
    assert run.code == 1
    assert run.short() == {"test_wide": "error", "test_fat": "error", "test_fine": "passed"}
    assert "this test can never run here: it asks for 100000 cores" in run.output


@pytest.mark.parametrize("isolation", ["test", "worker"])
def test_more_than_the_declared_memory_is_oom_and_hits_nobody_else(suite: Any, isolation: str) -> None:
    suite.write(
        test_it="""
import pytest, subprocess, sys
def eat(size): return len(bytearray(b"x") * (size << 20))
@pytest.mark.holdfast(memory="64M")
def test_eats(): print("about to eat"); eat(400)
@pytest.mark.holdfast(memory="64M")
def test_its_child_eats():
    subprocess.run([sys.executable, "-c", "bytearray(b'x') * (400 << 20)"])
@pytest.mark.holdfast(memory="400M")
def test_within(): eat(100)
@pytest.mark.parametrize("i", range(4))
def test_other(i): eat(100)
"""
    )
    run = suite.run("--hf-slots=2", f"--hf-isolate={isolation}")
    if set(run.verdicts.values()) == {"passed"}:
        pytest.skip("this machine lets us make no control group with a memory limit, so `oom` cannot be proved here")
    assert run.code == 1
    bad = {name: verdict for name, verdict in run.short().items() if verdict != "passed"}
    assert bad == {"test_eats": "oom", "test_its_child_eats": "oom"}, run.output
    assert "oom in call: the kernel killed 1 of its processes at the 64 MiB that it declared" in run.output
    assert "about to eat" in run.output


def test_a_retry_for_memory_runs_alone(suite: Any, tmp_path: Path) -> None:
    suite.write(
        test_it=BESIDE.replace("MARK", "holdfast(memory='64M')").replace(
            "def test_marked(i): assert beside(i) == 1",
            "def test_marked(i):\n"
            "    first = not pathlib.Path(f'tried{i}').exists()\n"
            "    pathlib.Path(f'tried{i}').touch()\n"
            "    if first: bytearray(b'x') * (400 << 20)\n"
            "    else: assert beside(i) == 1",
        )
    )
    (tmp_path / "running").mkdir()
    run = suite.run("--hf-slots=3", "--hf-retry=oom:1")
    if not any("flaky" in notes for notes in run.notes.values()):
        pytest.skip("this machine lets us make no control group with a memory limit, so `oom` cannot be proved here")
    assert run.code == 0, run.output
    assert [notes for name, notes in run.notes.items() if "marked" in name] == [["flaky"]] * 3


def test_what_takes_much_longer_than_ever_is_noted(suite: Any, tmp_path: Path) -> None:
    suite.write(test_it=HEADER + "def test_it(): time.sleep(float(os.environ.get('NAP', 0)))\ndef test_other(): pass")
    assert "slow" not in suite.run().output
    suite.env["NAP"] = "1.2"
    run = suite.run()
    assert run.code == 0
    assert "slow: test_it.py::test_it" in run.output
    assert "1.2 s, in earlier runs about 0.0 s" in run.output
    assert "slow: test_it.py::test_other" not in run.output
    (verdict,) = [v for v in run.events if v["event"] == "verdict" and v["id"] == "test_it.py::test_it"]
    assert verdict["notes"] == ["slow"]
