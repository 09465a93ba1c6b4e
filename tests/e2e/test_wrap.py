"""--hf-wrap: each test's process under a tool, its children not; what the tool finds belongs to the test."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

BAD = """
import ctypes, subprocess
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
def test_good(): subprocess.run(["true"], check=True)
def test_bad():
    place = libc.malloc(64)
    libc.free(place)
    ctypes.string_at(place, 8)
"""


def needs(tool: str) -> None:
    if shutil.which(tool) is None:
        pytest.fail(f"{tool} is missing: ./test installs it")


def test_valgrind(suite: Any) -> None:
    needs("valgrind")
    suite.write(test_it=BAD)
    run = suite.run("--hf-slots=2", "--hf-wrap=valgrind", "--hf-strict", "--hf-timeout=10")
    assert run.short() == {"test_good": "passed", "test_bad": "error"}, run.output
    assert "valgrind has found 1 error(s)" in run.output
    assert re.search(r"==\d+== Invalid read of size 8", run.output)
    assert run.notes["test_it.py::test_bad"] == ["findings"]


def test_strace_sees_the_test_and_not_its_children(suite: Any, tmp_path: Path) -> None:
    needs("strace")
    suite.write(
        test_it="""
import ctypes, os, subprocess, time
def test_fails():
    os.access("/of-the-test", os.F_OK)
    subprocess.run(["test", "-e", "/of-the-child"])
    assert 0
def test_crashes():
    os.access("/before-the-crash", os.F_OK)
    ctypes.string_at(0)
def test_hangs(): time.sleep(3600)
def test_exits(): os._exit(0)
@__import__("pytest").mark.timeout(1)
def test_slow(): time.sleep(1.5)
"""
    )
    run = suite.run(
        "--hf-slots=2", "--hf-wrap=strace -f -e trace=access,faccessat,faccessat2,stat,newfstatat", "--hf-timeout=1", "--hf-grace=1"
    )
    assert run.short() == {
        "test_fails": "failed",
        "test_crashes": "crashed",
        "test_hangs": "timeout",
        "test_exits": "exited",
        # Its deadline is scaled, too.
        "test_slow": "passed",
    }, run.output
    assert not any(notes for notes in run.notes.values()), run.notes
    assert "SIGSEGV (SEGV_MAPERR" in run.output
    assert 'test_it.py", line 10 in test_hangs' in run.output, "the stacks are the test's, not the tool's"
    plain = suite.run("--hf-slots=2", "--hf-wrap=strace -e trace=access,faccessat,faccessat2,stat,newfstatat", "-k", "fails")
    assert re.search(r'^\w+\(.*"/of-the-test"', plain.output, re.MULTILINE), plain.output
    assert not re.search(r'^\w+\(.*"/of-the-child"', plain.output, re.MULTILINE)


def test_compute_sanitizer_is_asked_for_the_application_only(suite: Any, tmp_path: Path) -> None:
    """By a stand-in, which records how it is called, behaves as documented (it starts the program as its child, writes a log and keeps
    the program's exit code), and finds an error where the test says so."""
    tool = tmp_path / "bin" / "compute-sanitizer"
    tool.parent.mkdir()
    tool.write_text(
        f"""#!/bin/sh
echo "$@" > {tmp_path}/called
[ "$1" = --target-processes ] && [ "$2" = application-only ] && [ "$3" = --log-file ] || exit 99
log=$4
shift 4
echo "========= COMPUTE-SANITIZER" > $log
"$@"
code=$?
errors=$(cat {tmp_path}/errors 2>/dev/null || echo 0)
[ $errors = 0 ] || echo "========= Invalid __global__ write of size 4 bytes" >> $log
echo "========= ERROR SUMMARY: $errors errors" >> $log
exit $code
"""
    )
    tool.chmod(0o755)
    suite.env["PATH"] = f"{tool.parent}:{suite.env['PATH']}"
    suite.write(
        test_it=f"""
import time
from holdfast.children import child_timeout_sec
def test_finds(): open("{tmp_path}/errors", "w").write("2"); assert child_timeout_sec() == 120
def test_hangs(): time.sleep(3600)
"""
    )
    run = suite.run("--hf-slots=1", "--hf-wrap=compute-sanitizer", "--hf-timeout=1", "--hf-grace=1")
    assert run.short() == {"test_finds": "passed", "test_hangs": "timeout"}, run.output
    assert run.notes["test_it.py::test_finds"] == ["findings"]
    assert "compute-sanitizer: 2 error(s)" in run.output
    assert 'test_it.py", line 5 in test_hangs' in run.output
    assert " --target-processes application-only --log-file " in " " + (tmp_path / "called").read_text()


def test_any_command(suite: Any, tmp_path: Path) -> None:
    script = tmp_path / "wrapper"
    script.write_text('#!/bin/sh\nlog=$1\nshift\necho my words > $log\nexport WRAPPED=yes\nexec "$@"\n')
    script.chmod(0o755)
    suite.write(test_it="import os\ndef test_it(): assert os.environ['WRAPPED'] == 'no'\n")
    run = suite.run(f"--hf-wrap={script} {{log}}")
    assert run.short() == {"test_it": "failed"} and "'yes' == 'no'" in run.output and "my words" in run.output


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("--hf-wrap=no-such-tool-here", "there is no program 'no-such-tool-here' on PATH"),
        ("--hf-wrap='", "is no command line"),
        ("--hf-wrap-scale=-3", "seconds are not possible"),
    ],
)
def test_wrong_tools(suite: Any, option: str, says: str) -> None:
    suite.write(test_it="def test_it(): pass\n")
    run = suite.run(option)
    assert run.code == 4 and says in run.output and "Traceback" not in run.output, run.output
