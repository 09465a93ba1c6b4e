"""Test programs of each framework, built once a session."""

from __future__ import annotations

import os
import subprocess
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

SOURCES = Path(__file__).parent / "native"
CATCH2_V3 = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "holdfast" / "catch2-3.13.0"
_LIMIT = 300


class Programs:
    """`programs.path(name)` waits until that one is built; two at a time are."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._pool = ThreadPoolExecutor(2)
        self._built: dict[str, Future[Path]] = {}

    def path(self, name: str) -> Path:
        """googletest, ends, odd, batch (all of GoogleTest), catch2, catch2-v3, doctest; ranks-openmpi, ranks-mpich, rankstest-...
        (of MPI)."""
        if name not in self._built:
            self._built[name] = self._pool.submit(self._build, name)
        return self._built[name].result()

    def _build(self, name: str) -> Path:
        made = self.folder / name
        source, _, variant = name.partition("-")
        compiler = f"mpicxx.{variant}" if source.startswith("ranks") else "g++"
        command = [compiler, "-std=c++17", "-g1", "-o", str(made), str(SOURCES / f"{source}.cc")]
        if source in ("googletest", "ends", "odd", "batch", "rankstest"):
            command += ["-lgtest", *([] if source in ("odd", "rankstest") else ["-lgtest_main"]), "-pthread"]
        if name == "catch2-v3":
            if not (CATCH2_V3 / "complete").exists():
                pytest.skip("NOT RUN: Catch2 v3 is missing; tools/catch2.sh PIP fetches it")
            command += ["-DAMALGAMATED", f"-I{CATCH2_V3}", str(CATCH2_V3 / "catch_amalgamated.cpp")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT, check=False)
        assert done.returncode == 0, done.stderr[-4000:]
        return made
