"""What processes that hang are doing: state, what each thread waits for and who has the other end, Python and native stacks.

    holdfast diagnose PID [PID ...]

Takes two seconds at most, and changes nothing. Stacks come from py-spy or pystack, eu-stack or gdb, as far as they are installed and
we have the right to trace.
"""

from __future__ import annotations

import argparse
import os

from holdfast.cli.files import Mistake
from holdfast.diagnose import describe, diagnose


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pid", type=int, nargs="+", metavar="PID")


def run(options: argparse.Namespace) -> int:
    for pid in options.pid:
        if not os.path.isdir(f"/proc/{pid}"):
            raise Mistake(f"there is no process {pid}")
    latest = {process["pid"]: process for process in diagnose(options.pid)}
    for process in latest.values():
        print(describe(process))
    return 0
