"""2,000 trivial tests of GoogleTest, a process each, two at a time: `holdfast run` beside a loop of posix_spawn and wait, xargs, and ctest.

    python bench/native.py [TESTS]

Prints seconds and the ratio to the loop. One run: the machines are noisy, so only the ratios mean something.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SLOTS = 2


def main(argv: Sequence[str]) -> int:
    count = int(argv[0]) if argv else 2000
    with tempfile.TemporaryDirectory(prefix="holdfast-bench-") as name:
        folder = Path(name)
        program = build(folder, count)
        tests = [f"S.T{number}" for number in range(count)]
        ways = {
            "posix_spawn and wait": lambda: loop(program, tests),
            "xargs -P2": lambda: xargs(program, tests),
            "ctest -j2": lambda: ctest(folder, program, tests),
            "holdfast run, a process a test": lambda: holdfast(folder, program),
            "holdfast run, batches (--hf-isolate=worker)": lambda: holdfast(folder, program, "--hf-isolate=worker"),
        }
        floor = 0.0
        for title, way in ways.items():
            begun = time.perf_counter()
            way()
            seconds = time.perf_counter() - begun
            floor = floor or seconds
            print(f"{title:42} {seconds:6.2f} s  {seconds / floor:5.2f}", flush=True)
    return 0


def build(folder: Path, count: int) -> Path:
    source, program = folder / "many.cc", folder / "many"
    source.write_text("#include <gtest/gtest.h>\n" + "".join(f"TEST(S, T{number}) {{}}\n" for number in range(count)))
    subprocess.run(["g++", "-O0", "-o", program, source, "-lgtest", "-lgtest_main", "-pthread"], check=True)
    return program


def loop(program: Path, tests: Sequence[str]) -> None:
    def one(test: str) -> None:
        files = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_WRONLY, 0) for fd in (1, 2)]
        pid = os.posix_spawn(program, [str(program), f"--gtest_filter={test}"], os.environ, file_actions=files)
        assert os.waitpid(pid, 0)[1] == 0

    with ThreadPoolExecutor(SLOTS) as pool:
        list(pool.map(one, tests))


def xargs(program: Path, tests: Sequence[str]) -> None:
    words = "".join(f"--gtest_filter={test}\n" for test in tests)
    command = ["xargs", f"-P{SLOTS}", "-n1", str(program)]
    subprocess.run(command, input=words, text=True, stdout=subprocess.DEVNULL, check=True)


def ctest(folder: Path, program: Path, tests: Sequence[str]) -> None:
    text = "".join(f'add_test("{test}" "{program}" "--gtest_filter={test}")\n' for test in tests)
    (folder / "CTestTestfile.cmake").write_text(text)
    subprocess.run(["ctest", "--test-dir", folder, f"-j{SLOTS}"], stdout=subprocess.DEVNULL, check=True)


def holdfast(folder: Path, program: Path, *options: str) -> None:
    command = [sys.executable, "-m", "holdfast", "run", f"--hf-slots={SLOTS}", "-q", *options, "--", str(program)]
    subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL, check=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
