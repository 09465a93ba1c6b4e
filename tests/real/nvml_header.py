"""Compares what we have written down of NVML (engine/inventory/gpu_nvml.cc, shim/simgpu/nvml.c) with the header that PyPI has.

python tests/real/nvml_header.py        downloads nvidia-nvml-dev, which is not redistributed, into a temporary folder
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "nvidia-nvml-dev"
# Size, and the offset of the last field, as a compiler lays out our structures.
CHECKS = """
#include <cstddef>
#include "nvml.h"
static_assert(sizeof(nvmlMemory_t) == 24 && offsetof(nvmlMemory_t, used) == 16);
static_assert(sizeof(nvmlPciInfo_t) == 68 && offsetof(nvmlPciInfo_t, busId) == 36);
static_assert(sizeof(nvmlProcessInfo_t) == 24 && offsetof(nvmlProcessInfo_t, computeInstanceId) == 20);
static_assert(sizeof(nvmlEventData_t) == 32 && offsetof(nvmlEventData_t, computeInstanceId) == 28);
static_assert(NVML_ERROR_INSUFFICIENT_SIZE == 7 && NVML_ERROR_FUNCTION_NOT_FOUND == 13 && NVML_ERROR_GPU_IS_LOST == 15);
static_assert(NVML_ERROR_TIMEOUT == 10 && NVML_ERROR_NOT_SUPPORTED == 3 && NVML_ERROR_DRIVER_NOT_LOADED == 9);
static_assert(NVML_MEMORY_ERROR_TYPE_UNCORRECTED == 1 && NVML_VOLATILE_ECC == 0);
static_assert(nvmlEventTypeSingleBitEccError == 1 && nvmlEventTypeDoubleBitEccError == 2 && nvmlEventTypeXidCriticalError == 8);
"""


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, PACKAGE], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            (name,) = [name for name in archive.namelist() if name.endswith("/nvml.h")]
            (Path(folder) / "nvml.h").write_bytes(archive.read(name))
        source = Path(folder) / "check.cc"
        source.write_text(CHECKS)
        subprocess.run(["c++", "-std=c++20", "-fsyntax-only", str(source)], check=True)
    print(f"agrees with {wheel.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
