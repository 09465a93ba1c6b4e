"""Marks for a suite whose tests have been measured: how much GPU memory each needs, so that they can share GPUs (docs/gpus.md).

Prints, for each test that has had a GPU, its id and the mark to put above it. What a test has needed at most in earlier runs, and a
tenth more, rounded up to whole GiB.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from holdfast.cli.files import Mistake, open_history

_GIB = 1 << 30


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--history", type=Path, metavar="FILE", help="default: .holdfast/history.db here or above")
    parser.add_argument("part", nargs="?", default="", help="only tests with this in their id")


def run(options: argparse.Namespace) -> int:
    db = open_history(options.history)
    rows = db.execute("SELECT id, vram FROM tests WHERE vram > 0 AND instr(id, ?) ORDER BY id", (options.part,)).fetchall()
    if not rows:
        raise Mistake("no test that the history knows has been seen with memory of a GPU; run the suite once, with gpus=1 marks")
    for row in rows:
        print(f'@pytest.mark.holdfast(vram="{-(-row["vram"] * 11 // (10 * _GIB))}GiB")  # {row["id"]}: {row["vram"] / _GIB:.1f} GiB')
    return 0
