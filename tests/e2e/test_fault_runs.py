"""Tests that declare faults, and chaos for whole suites: `pytest --holdfast` with the shim, on simulated GPUs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from conftest import is_mapped, wait_until
from mpi_libraries import use

from holdfast import faults, simgpu

HERE = Path(__file__).parent
HEAD = """
import os, signal, subprocess, sys, time, pytest
from cuda_basics import *
from holdfast import faults
from holdfast.faults import gpu
hf = pytest.mark.holdfast
def alloc(): return int(driver.cuMemAlloc(64)[0])
"""


@pytest.fixture
def gpus(suite) -> Iterator[Any]:
    """The suite is on two simulated GPUs."""
    before = set(os.listdir("/dev/shm"))

    def left() -> list[str]:
        """Those of tests beside this one are in use, or gone soon."""
        new = [name for name in set(os.listdir("/dev/shm")) - before if name.startswith("holdfast-faults")]
        return [name for name in new if not is_mapped(f"/dev/shm/{name}")]

    with simgpu.running(simgpu.parse("2x80GiB")) as sim:
        suite.env = sim.environment(suite.env)
        suite.env["PYTHONPATH"] = f"{HERE / 'gpu'}:{suite.env.get('PYTHONPATH', '')}"
        yield suite
    wait_until(lambda: left() == [], "pages are left")


def test_a_declared_fault_is_armed_for_the_call_and_must_be_met(gpus):
    gpus.write(
        test_it=HEAD
        + """
@pytest.fixture
def ready():
    context()
    assert alloc() == 0  # Not in the setup,
    yield
    assert alloc() == 0  # nor in the teardown.

@hf(faults="out_of_memory,after_calls=1")
def test_met(ready): assert [alloc(), alloc()] == [0, 2]

@hf(faults="out_of_memory,after_calls=9")
def test_never(ready): assert alloc() == 0

@hf(faults=["lost,functions=sync", {"kind": "error", "code": 700, "functions": "ipc"}])
def test_half(ready): assert int(driver.cuCtxSynchronize()[0]) == 100; os._exit

@hf(faults=faults.Fault("error", code=2, functions="alloc", required=False))
def test_optional(): pass

@hf(faults="out_of_memory")
def test_fails(ready): assert alloc() == 0

@hf(faults="out_of_memory")
def test_skips(ready): pytest.skip("later")

def test_other(ready): assert alloc() == 0
"""
    )
    run = gpus.run("--hf-faults", "--junitxml=junit.xml")
    assert run.short() == {
        "test_met": "passed", "test_never": "failed", "test_half": "failed", "test_optional": "passed", "test_fails": "failed",
        "test_skips": "skipped", "test_other": "passed",
    }  # fmt: skip
    assert "out of memory was armed and never struck: 1 calls that it watches were let through" in run.output
    assert "error 700 was armed and never struck: no call that it watches was made" in run.output
    assert "During handling" not in run.output
    assert re.search(r"test_met: out of memory: struck 1 call, first cuMemAlloc, call 2 of process \d+, device 0", run.output)
    # In test_half the context is broken for good, so its teardown fails, too; which the fault that was not met does not hide.
    assert "3 test(s) met faults, 2 did not meet those that they declare" in run.output
    case = next(c for c in ElementTree.parse(gpus.root / "junit.xml").iter("testcase") if c.get("name") == "test_met")
    assert any(p.get("name") == "holdfast_fault" and "struck 1 call" in p.get("value") for p in case.iter("property"))


def test_a_test_that_dies_of_its_fault_says_what_it_was(gpus):
    gpus.write(
        test_it=HEAD
        + """
@hf(faults="xid=31,functions=cuCtxSynchronize")
def test_crash():
    context()
    if int(driver.cuCtxSynchronize()[0]): os.abort()

@hf(faults="hang,functions=sync", timeout=2)
def test_hang():
    context()
    driver.cuCtxSynchronize()

@hf(faults="hang,functions=sync")
def test_leaves():
    os._exit(7)
"""
    )
    run = gpus.run("--hf-faults", "--hf-grace=0.5")
    assert run.short() == {"test_crash": "crashed", "test_hang": "timeout", "test_leaves": "exited"}
    assert run.output.count("Holdfast: faults") == 3
    assert re.search(r"XID 31: struck 1 call, first cuCtxSynchronize, call 1 of process \d+, device 0\n +\S", run.output)
    assert re.search(r"^hang: struck 1 call", run.output, re.MULTILINE)
    assert "hang: not seen by any call (0 watched)" in run.output
    assert "_PyEval_EvalFrameDefault" in run.output and "more, of the interpreter" in run.output


def test_without_the_shim_such_a_test_does_not_pass(gpus):
    gpus.write(test_it=HEAD + "@hf(faults='lost', leaks='ignore')\ndef test_it(): pass\ndef test_other(): pass\n")
    run = gpus.run()
    assert run.short() == {"test_it": "error", "test_other": "passed"}
    assert "its faults need the shim in this process: add --hf-faults" in run.output
    plain = gpus.plain()
    assert plain.code == 1 and "1 passed, 1 error" in plain.output and "its faults need the shim" in plain.output


def test_the_ini_file_can_say_so_and_a_run_under_the_command_needs_nothing(gpus):
    gpus.write(test_it=HEAD + "@hf(faults='out_of_memory')\ndef test_it():\n    context()\n    assert alloc() == 2\n")
    gpus.file("pytest.ini", "[pytest]\nhf_faults = true\n")
    assert gpus.run().short() == {"test_it": "passed"}
    (gpus.root / "pytest.ini").unlink()
    with faults.lab() as lab:
        gpus.env = lab.environment(gpus.env)
        assert gpus.run().short() == {"test_it": "passed"}
        assert gpus.plain().code == 0


def test_the_command_line_survives_the_second_start(gpus):
    gpus.write(test_it="import sys\ndef test_a(): assert sys.flags.dev_mode\ndef test_b(): assert 0\n")
    plain = gpus.command("--hf-faults", "-k", "test_a or nothing", "--hf-slots=1")
    gpus.command = lambda *args, holdfast=True: [plain[0], "-X", "dev", *plain[1:]]  # type: ignore[method-assign]
    assert gpus.run().short() == {"test_a": "passed"}


def test_a_lab_for_processes_that_the_test_starts(gpus):
    gpus.write(
        test_it=HEAD
        + """
CHILD = "from cuda_basics import *; context(); print(int(driver.cuMemAlloc(64)[0]))"
def child(**more): return subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, **more).stdout.strip()

def test_child(fault_lab):
    assert child(env=fault_lab.environment()) == "0"
    with gpu.out_of_memory() as fault:
        assert child(env=fault_lab.environment()) == "2"
    assert fault.evidence().first.pid != os.getpid()

async def both():
    async with gpu.slow(0.01, functions="alloc"), gpu.out_of_memory(required=False):
        return child(env=faults.current().environment())

def test_async(fault_lab):
    import asyncio
    assert asyncio.run(both()) == "2"
"""
    )
    assert gpus.run().short() == {"test_child": "passed", "test_async": "passed"}
    assert gpus.plain().code == 0
    gpus.write(
        test_it=HEAD
        + """
def test_itself(fault_lab):
    context()
    with gpu.out_of_memory(): assert alloc() == 2
    assert alloc() == 0

@hf(faults="slow=0.01,functions=alloc")
def test_children_meet_it_too(fault_lab):
    child = subprocess.run([sys.executable, "-c", "from cuda_basics import *; context(); driver.cuMemAlloc(64)"])
    assert child.returncode == 0
    assert fault_lab.seen("cuMemAlloc") == 1
"""
    )
    assert gpus.run("--hf-faults").short() == {"test_itself": "passed", "test_children_meet_it_too": "passed"}


def test_in_a_worker_run_it_has_a_process_of_its_own(gpus):
    gpus.write(
        test_it=HEAD
        + """
@pytest.fixture(autouse=True)
def ready(): context()
def test_before(): assert alloc() == 0
@hf(faults="xid=31,functions=sync")
def test_breaks(): assert int(driver.cuCtxSynchronize()[0]) == 700
def test_after(): assert alloc() == 0
"""
    )
    run = gpus.run("--hf-faults", "--hf-isolate=worker", "--hf-slots=1", "--hf-strict")
    assert set(run.short().values()) == {"passed"} and len(run.verdicts) == 3


def test_a_fault_is_not_held_against_the_device(gpus):
    gpus.write(
        test_it=HEAD
        + """
@hf(gpus=1, faults="xid=48,functions=alloc")
def test_declared():
    context()
    ok(driver.cuMemAlloc(64))

@hf(gpus=1)
def test_other():
    context()
    ok(driver.cuMemAlloc(64))
"""
    )
    run = gpus.run("--hf-faults", "--hf-slots=1")
    assert run.short() == {"test_declared": "failed", "test_other": "passed"}
    assert "judged again" not in run.output
    gpus.file("chaos.toml", "[[fault]]\nkind = 'xid'\nxid = 48\nfunctions = 'alloc'\n")
    chaos = gpus.run("--hf-chaos=chaos.toml", "--hf-slots=1")
    assert set(chaos.short().values()) == {"failed"} and "judged again" not in chaos.output


def test_a_service_of_the_tests_own(gpus):
    gpus.write(
        test_it=HEAD
        + """
def test_stopped(fault_service):
    child = subprocess.Popen(["sleep", "600"])
    fault = fault_service.inject("process", pid=child.pid, action="stop")
    while not fault_service.verify(fault)["verified"]: pass
    assert fault_service.recover(fault)["verified"]
    child.kill()
    child.wait()
"""
    )
    run = gpus.run()
    assert run.short() == {"test_stopped": "passed"} and "leaked" not in run.output, run.output


def test_ranks_meet_faults(gpus, tmp_path_factory):
    simulated = gpus.env["LD_LIBRARY_PATH"]
    use(gpus, "mpich", tmp_path_factory.mktemp("mpi"))
    gpus.env["LD_LIBRARY_PATH"] += f":{simulated}"
    gpus.write(
        test_it=HEAD
        + """
import holdfast
@holdfast.mark.parallel(2)
@hf(faults="out_of_memory,rank=1,required=false")
def test_one(comm):
    context()
    assert alloc() == (2 if comm.rank == 1 else 0)

@holdfast.mark.parallel(2)
@hf(faults="out_of_memory")
def test_both(comm):
    context()
    assert comm.allgather(alloc()) == [2, 2]
"""
    )
    run = gpus.run("--hf-faults", "--hf-slots=2")
    assert run.short() == {"test_one[2]": "passed", "test_both[2]": "passed"}, run.output


CHAOS = """
seed = 7
tests = 0.5
pick = 1
[[fault]]
kind = "out_of_memory"
[[fault]]
kind = "error"
code = "ILLEGAL_ADDRESS"
functions = "alloc"
reach = "context"
"""
ALLOCATES = HEAD + "@pytest.mark.parametrize('i', range(24))\ndef test_it(i):\n    context()\n    assert alloc() == 0\n"


def test_chaos_is_drawn_by_a_seed_and_can_be_had_again(gpus):
    gpus.write(test_it=ALLOCATES)
    gpus.file("chaos.toml", CHAOS)
    first = gpus.run("--hf-chaos=chaos.toml", "--hf-slots=2")
    assert "holdfast: chaos by chaos.toml, seed 7" in first.output
    failed = sum(verdict == "failed" for verdict in first.verdicts.values())
    assert 4 <= failed <= 20
    assert f"{failed} test(s) met faults, 0 did not" in first.output
    assert "again with --hf-chaos=chaos.toml --hf-seed=7" in first.output
    assert "out of memory: struck 1 call" in first.output and "error ILLEGAL_ADDRESS: struck" in first.output
    again = gpus.run("--hf-chaos=chaos.toml", "--hf-slots=1")
    assert again.short() == first.short()
    other = gpus.run("--hf-chaos=chaos.toml", "--hf-seed=8")
    assert other.short() != first.short() and "seed 8" in other.output
    gpus.file("chaos.toml", CHAOS.replace("seed = 7\n", ""))
    drawn = gpus.run("--hf-chaos=chaos.toml")
    seed = re.search(r"--hf-seed=(\d+)", drawn.output).group(1)
    assert gpus.run("--hf-chaos=chaos.toml", f"--hf-seed={seed}").short() == drawn.short()


@pytest.mark.parametrize(
    ("args", "chaos", "text"),
    [
        (["--hf-chaos=none.toml"], "", "none.toml: .*No such file"),
        (["--hf-chaos=chaos.toml"], "[[fault", "chaos.toml: "),
        (["--hf-chaos=chaos.toml"], "seed = 1", r"chaos.toml: there is no \[\[fault\]\] in it"),
        (["--hf-chaos=chaos.toml"], CHAOS + "[[fault]]\nkind = 'losst'", "chaos.toml: fault 3: 'losst' is no kind of fault"),
        (["--hf-chaos=chaos.toml"], CHAOS + "[[fault]]\nkind = 'xid'", "fault 3: xid: give its xid, as in xid=48"),
        (["--hf-chaos=chaos.toml"], CHAOS + "[[fault]]\nkind = 'xid'\nxid = 7", "fault 3: xid: 7 can't be imitated"),
        (["--hf-chaos=chaos.toml"], CHAOS.replace("0.5", "0"), "tests is 0; give a share"),
        (["--hf-chaos=chaos.toml"], CHAOS.replace("pick = 1", "pick = 3"), "pick is 3; give how many of the 2 faults"),
        (["--hf-chaos=chaos.toml"], "tets = 0.5\n" + CHAOS, "'tets' is not known; seed, tests, pick"),
        (["--hf-chaos=chaos.toml", "--hf-isolate=worker"], CHAOS, "each test needs its own: leave out --hf-isolate"),
        (["--hf-seed=3"], "", "--hf-seed is for the draws of --hf-chaos=FILE"),
        (["--hf-chaos=chaos.toml", "--hf-seed=x"], CHAOS, "'x' is not a whole number"),
    ],
)  # fmt: skip
def test_chaos_that_cannot_be_is_refused(gpus, args, chaos, text):
    gpus.write(test_it="def test_it(): pass\n")
    gpus.file("chaos.toml", chaos)
    run = gpus.run(*args)
    assert run.code == 4 and re.search(text, run.output), run.output
    assert "Traceback" not in run.output


@pytest.mark.parametrize("option", ["--hf-faults", "--hf-chaos=chaos.toml"])
def test_without_the_engine_these_options_are_refused(gpus, option):
    gpus.write(test_it="def test_it(): pass\n")
    run = gpus.plain(option)
    assert run.code == 4 and "so it needs one a test: add --holdfast" in run.output


@pytest.mark.parametrize(
    ("mark", "text"),
    [
        ("faults='losst'", "faults that cannot be: 'losst' is no kind of fault"),
        ("faults=7", "7 is no fault; give text like"),
        ("faults={'xid': 3}", "has no `kind`; one out of lost"),
        ("faults='lost=3'", "lost has no value of its own"),
        ("faults='lost,device'", "'device' is not NAME=VALUE"),
        ("faults='lost,device=0,device=1'", "device is given twice"),
        ("faults='lost,divice=0'", "a fault has no 'divice'"),
        ("faults='error=2,functions=cuMemAloc'", "'cuMemAloc' is no function"),
        ("faults='lost', isolate='worker'", "has faults= and isolate='worker'; give isolate='test'"),
    ],
)
def test_a_mark_that_cannot_be_is_a_usage_error_that_names_the_test(gpus, mark, text):
    gpus.write(test_it=HEAD + f"@hf({mark})\ndef test_it(): pass\n")
    run = gpus.run("--hf-faults")
    assert run.code == 4 and "test_it.py::test_it: the holdfast mark" in run.output and text in run.output, run.output
    assert "Traceback" not in run.output


def test_the_command_shows_what_was_struck(gpus):
    import subprocess
    import sys

    def command(*words: str) -> Any:
        env = {**gpus.env, "PYTHONPATH": gpus.env["PYTHONPATH"] + ":" + os.environ.get("PYTHONPATH", "")}
        done = [sys.executable, "-m", "holdfast", "faults", *words]
        return subprocess.run(done, env=env, cwd=gpus.root, capture_output=True, text=True, timeout=60, check=False)

    program = [sys.executable, "-c", "from cuda_basics import *; context(); print(int(driver.cuMemAlloc(64)[0]))"]
    done = command("run", "--fault", "out_of_memory", "--report", "r.json", "--", *program)
    assert (done.returncode, done.stdout) == (0, "2\n")
    assert "fault 1 (out of memory, armed): 1 calls struck of 1 watched; first cuMemAlloc, call 1" in done.stderr
    assert '"struck": 1' in (gpus.root / "r.json").read_text()
    done = command("run", "--fault", "error=1,functions=ipc", "--page", "page", "--", *program)
    assert (done.returncode, done.stdout) == (1, "0\n") and "was armed and never struck" in done.stderr
    assert command("arm", "--page", "page", "lost,after_calls=5").stdout == "2\n"
    assert command("heal", "2", "--page", "page").returncode == 0
    status = command("status", "--page", "page").stdout
    assert "fault 2 (GPU lost (XID 79), healed): 0 calls struck" in status and "cuMemAlloc: 1 passed, 0 failed" in status
    for words, text in (
        (["run", "--fault", "losst", "--", "true"], "no kind of fault"),
        (["run", "--fault", "lost", "--", "/nowhere"], "/nowhere: No such file"),
        (["run", "--fault", "lost"], "the command goes behind --"),
        (["status"], "neither --page nor $HOLDFAST_FAULTS"),
        (["heal", "9", "--page", "page"], "there is no fault 9"),
        (["heal", "x", "--page", "page"], "'x' is not the number of a fault"),
        (["break"], "'break' is not known"),
        ([], "nothing to do"),
    ):
        done = command(*words)
        assert done.returncode == 4 and text in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert "79 fallen off the bus" in command("xids").stdout and "runtime alloc: cudaMalloc" in command("functions").stdout
