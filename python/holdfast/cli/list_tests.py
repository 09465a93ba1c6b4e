"""The tests of test programs (GoogleTest, Catch2, doctest), CTest build folders, files of commands, and pytest (docs/native.md)."""

from __future__ import annotations

import argparse
import dataclasses
import fnmatch
import json
import sys
from collections.abc import Sequence

from holdfast.cli import paint
from holdfast.targets.ctest import CONFIGURATION
from holdfast.targets.find import SECONDS, suites
from holdfast.targets.model import Suite, Test


def arguments(parser: argparse.ArgumentParser) -> None:
    kinds = "gtest, catch2, doctest, ctest, commands, pytest, command"
    parser.add_argument(
        "targets", nargs="+", metavar="TARGET", help="a test program, a CTest build folder, a file of commands, a folder, file or "
        f"node id of pytest; or KIND:TARGET ({kinds})",
    )  # fmt: skip
    parser.add_argument("--filter", action="append", metavar="PATTERN", help="only tests of that name, with * and ?; may be repeated")
    parser.add_argument("--label", action="append", metavar="NAME", help="only tests with that label, tag or mark; may be repeated")
    parser.add_argument("--format", choices=("text", "json"), default="text", help="json: everything that is known")
    parser.add_argument("--build-config", default="", metavar="NAME", help=CONFIGURATION)
    paint.argument(parser)
    parser.add_argument("--limit", type=_limit, default=SECONDS, metavar="SECONDS", help="for a target to tell its tests (%(default)g)")


def run(options: argparse.Namespace) -> int:
    """0; 4 where a target could not tell its tests: the others are listed all the same."""
    found = [_chosen(suite, options) for suite in suites(options.targets, options.limit, options.build_config)]
    if options.format == "json":
        print(json.dumps({"targets": [dataclasses.asdict(suite) for suite in found]}, indent=2))
    else:
        for suite in found:
            if not suite.problem:
                print("\n".join(_lines(suite, paint.Paint(options.color))))
    sys.stdout.flush()
    for suite in found:
        if suite.problem:
            print(f"holdfast list: {suite.target}: {suite.problem}", file=sys.stderr)
    return 4 if any(suite.problem for suite in found) else 0


def _limit(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r}: seconds, more than 0")
    return value


def _chosen(suite: Suite, options: argparse.Namespace) -> Suite:
    def wanted(test: Test) -> bool:
        named = not options.filter or any(fnmatch.fnmatchcase(test.name, pattern) for pattern in options.filter)
        return named and (not options.label or any(label in test.labels for label in options.label))

    return dataclasses.replace(suite, tests=tuple(test for test in suite.tests if wanted(test)))


def _lines(suite: Suite, painted: paint.Paint) -> Sequence[str]:
    disabled = sum(test.disabled for test in suite.tests)
    count = f"{len(suite.tests)} test{'' if len(suite.tests) == 1 else 's'}" + (f", {disabled} disabled" if disabled else "")
    tests = (f"  {test.name}{painted(_about(test), *_colour(test))}" for test in suite.tests)
    return [painted(f"{suite.target}: {suite.kind}, {count}", "bold"), *tests]


def _colour(test: Test) -> Sequence[str]:
    return ["red"] if test.problem else ["yellow"] if test.disabled else []


def _about(test: Test) -> str:
    """What makes it need more than a slot, or not run."""
    parts = []
    if test.problem:
        parts.append(test.problem)
    if test.disabled:
        parts.append("disabled")
    parts += [f"{test.ranks} rank{'' if test.ranks == 1 else 's'}"] if test.ranks else []
    parts += [f"{test.cores} cores{' each' if test.ranks else ''}"] if test.cores > 1 else []
    parts += [f"GPUs: {test.all_gpus}"] if test.all_gpus else []
    parts += [f"at most {test.timeout:g} s"] if test.timeout is not None else []
    parts += ["alone"] if test.serial else []
    parts += [f"locks {', '.join(test.locks)}"] if test.locks else []
    parts += [f"after {', '.join(test.after)}"] if test.after else []
    return f"    ({'; '.join(parts)})" if parts else ""
