"""30,000 tests in 3,000 classes, one class at a time over all slots: checks the five guarantees of --hf-dist=isoscope from a log.

    python tests/real/large_isoscope.py [--slots 2] [--isolate test] [--classes 3000]

Needs a Python environment with holdfast. Writes below build/real/isoscope/.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

PLACE = Path(__file__).resolve().parents[2] / "build" / "real" / "isoscope"
CLASSES, TESTS = 10, 10  # A file, and a class.
CONFTEST = """
import os, pytest
LOG = os.open(os.environ["ISOSCOPE_LOG"], os.O_WRONLY | os.O_APPEND)
def note(text): os.write(LOG, (text + "\\n").encode())
@pytest.fixture(scope="class")
def around(request):
    note(f"setup {request.node.nodeid}")
    yield
    note(f"teardown {request.node.nodeid}")
@pytest.fixture(autouse=True)
def each(request, around):
    note(f"test {request.node.parent.nodeid}")
    yield
    note(f"end {request.node.parent.nodeid}")
"""


def write(files: int) -> None:
    shutil.rmtree(PLACE, ignore_errors=True)
    PLACE.mkdir(parents=True)
    (PLACE / "conftest.py").write_text(CONFTEST)
    (PLACE / "pytest.ini").write_text("[pytest]\n")
    tests = "".join(f"    def test_{i}(self): pass\n" for i in range(TESTS))
    for number in range(files):
        (PLACE / f"test_{number:03}.py").write_text("".join(f"class Test{c}:\n{tests}" for c in range(CLASSES)))


def check(lines: list[str], once: bool) -> list[str]:
    """What is wrong. `once`: each class is set up by one process."""
    problems = []
    done: set[str] = set()
    open_class, setups, running, ended = "", 0, 0, 0
    for line in lines:
        what, _, name = line.partition(" ")
        if name != open_class:
            if setups or running:
                problems.append(f"{line} while {open_class} is not over")
            if name in done:
                problems.append(f"{line} after its end")
            open_class, ended = name, 0
        if what == "setup":
            setups += 1
            if once and setups > 1:
                problems.append(f"{line} a second time")
        elif what == "test":
            running += 1
            if not setups:
                problems.append(f"{line} before its setup")
        elif what == "end":
            running -= 1
            ended += 1
        else:
            setups -= 1
            if once and (running or ended != TESTS):
                problems.append(f"{line} while {running} tests run, after {ended}")
            if not setups and ended == TESTS:
                done.add(name)
    return problems


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slots", default="2")
    parser.add_argument("--isolate", default="test")
    parser.add_argument("--classes", type=int, default=3000)
    options = parser.parse_args()
    write(options.classes // CLASSES)
    log = PLACE / "log"
    log.touch()
    begun = time.monotonic()
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--holdfast",
        "--hf-dist=isoscope",
        f"--hf-slots={options.slots}",
    ]
    done = subprocess.run(
        [*command, f"--hf-isolate={options.isolate}"],
        cwd=PLACE,
        env={**os.environ, "ISOSCOPE_LOG": str(log)},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = log.read_text().splitlines()
    problems = check(lines, options.isolate == "test")
    tests = sum(line.startswith("test ") for line in lines)
    setups = sum(line.startswith("setup ") for line in lines)
    print(done.stdout.splitlines()[-1])
    print(f"{tests} tests, {setups} setups, {time.monotonic() - begun:.0f} s, exit {done.returncode}, {len(problems)} violations")
    for problem in problems[:10]:
        print(f"  {problem}")
    return 1 if problems or done.returncode or tests != options.classes * TESTS else 0


if __name__ == "__main__":
    sys.exit(main())
