"""Checks that the directories of the ini table `hf_guards` are guarded:

    holdfast check-guards [--require DIRECTORY ...] [-- PYTEST ARGUMENTS]

Collects the suite (without running it) and fails, with exit code 1, when a directory of the table is not there or has no tests, a
required one is not in the table, or a test has no deadline or one that is longer than its directory's.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

from holdfast.cli.files import Mistake

_MARK = "holdfast-guards: "


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--require", action="append", default=[], metavar="DIRECTORY", help="it must be guarded; relative to rootdir, may be repeated"
    )
    parser.add_argument("pytest", nargs="*", metavar="PYTEST ARGUMENT", help="what to collect (after --)")


def run(options: argparse.Namespace) -> int:
    env = {**os.environ, "HOLDFAST_PLAIN": "1", "HOLDFAST_CHECK_GUARDS": "\n".join(options.require)}
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "holdfast.cli.guards_plugin", *options.pytest]
    done = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    told = [line[len(_MARK) :] for line in done.stdout.splitlines() if line.startswith(_MARK)]
    if not told:
        raise Mistake(f"the suite could not be collected:\n{done.stdout}{done.stderr}".rstrip())
    summary, problems = told[-1], told[:-1]
    for problem in problems:
        print(problem)
    print(summary)
    return 1 if problems else 0
