"""The GPUs of this machine, as tests would get them (docs/gpus.md)."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from typing import Any

from holdfast.cli.files import Mistake
from holdfast.engine_path import EngineMissing, find_engine

# Seconds; drivers that are not kept loaded take some.
_LIMIT = 20
_GIB = 1 << 30


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="everything that is known, for programs")


def run(options: argparse.Namespace) -> int:
    """0 also where there are none: that is an answer."""
    found = ask()
    if options.json:
        print(json.dumps(found, indent=2))
        return 0
    if not found["gpus"]:
        print("no GPUs")
    for gpu in found["gpus"]:
        print(_line(gpu))
        for pid, used in gpu["processes"]:
            print(f"      process {pid}: {used / _GIB:.1f} GiB")
    for problem in found["problems"]:
        print(f"holdfast devices: {problem}", file=sys.stderr)
    return 4 if found["visible_is_wrong"] else 0


def ask() -> Any:
    """What `holdfast gpus` of the engine says. Raises Mistake."""
    try:
        # A driver that hangs hangs that process only.
        done = subprocess.run([find_engine(), "gpus"], capture_output=True, text=True, timeout=_LIMIT, check=False)
        return json.loads(done.stdout)
    except EngineMissing as missing:
        raise Mistake(str(missing)) from None
    except subprocess.TimeoutExpired:
        raise Mistake(f"the GPUs' drivers do not answer within {_LIMIT} s") from None
    except ValueError:
        raise Mistake(f"looking at the GPUs failed (exit code {done.returncode}): {done.stderr.strip()[-300:]}") from None


def _line(gpu: Any) -> str:
    words = [gpu["name"] or "(no name)", gpu["uuid"]]
    if gpu["total"]:
        words.append(f"{gpu['used'] / _GIB:.1f} of {gpu['total'] / _GIB:.1f} GiB used")
    if gpu["arch"]:
        words.append(f"arch {gpu['arch']}")
    if gpu["numa"] >= 0:
        words.append(f"NUMA node {gpu['numa']}")
    if gpu["pci"]:
        words.append(f"PCI {gpu['pci']}")
    if gpu["parent"]:
        words.append(f"instance of {gpu['parent']}")
    if gpu["uncorrected"]:
        words.append(f"{gpu['uncorrected']} uncorrected ECC errors")
    if gpu["problem"]:
        words.append(f"CANNOT BE USED: {gpu['problem']}")
    if not gpu["visible"]:
        words.append("hidden by the environment")
    return f"{gpu['vendor']} {gpu['id']}: " + ", ".join(words)
