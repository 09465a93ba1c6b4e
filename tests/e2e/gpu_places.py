"""Where tests on GPUs run: on simulated ones, and, by the same cases, on a real one where the machine has it."""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from typing import Optional

import pytest

#: Runs a test on one simulated GPU (or more) and on a real one. It needs a fixture that follows `place`.
on_both = pytest.mark.parametrize("place", ["simulated", "real"])


class RealGpu:
    """The first NVIDIA GPU of this machine. It has what tests use of `simgpu.Simgpu`."""

    def environment(self, base: Optional[Mapping[str, str]] = None) -> dict[str, str]:
        return dict(os.environ if base is None else base)

    @property
    def driver(self) -> str:
        """The file that programs are linked against."""
        code = "import ctypes; ctypes.CDLL('libcuda.so.1'); print(open('/proc/self/maps').read())"
        maps = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True).stdout
        found = re.search(r"\S+/libcuda\.so\S*", maps)
        assert found is not None, maps
        return found[0]


@functools.cache
def _devices() -> list[dict[str, object]]:
    done = subprocess.run(
        [sys.executable, "-m", "holdfast", "devices", "--json"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return [gpu for gpu in json.loads(done.stdout)["gpus"] if gpu["vendor"] == "nvidia" and not gpu["problem"]]


def real_gpu() -> RealGpu:
    """Skips the test where there is none. Tests hold up to 75 GiB and count on the rest being less."""
    if not _devices():
        pytest.skip("NOT RUN: no NVIDIA GPU on this machine")
    return RealGpu()
