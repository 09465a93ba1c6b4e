"""GoogleTest: a program tells its tests as JSON (since 1.10; `--gtest_list_tests --gtest_output=json:FILE`)."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

from holdfast.targets.ask import ask, last_words
from holdfast.targets.model import NoTarget, Program, Test, Told

KIND = "GoogleTest"
NO_REASON = "GTEST_SKIP()"
SKIP_CODES = (0,)  # Where the setup of its suite has failed, a test is skipped, too, and the exit code says so.
_QUESTION = "its tests (--gtest_list_tests)"
_DISABLED = "DISABLED_"


def is_in(program: Program) -> bool:
    """The option is there where the library is; its symbols are where it is linked dynamically."""
    return program.find(b"gtest_list_tests") >= 0 or program.find(b"_ZN7testing8internal") >= 0


def tests_of(path: str, seconds: float) -> list[Test]:
    """Raises NoTarget."""
    with tempfile.TemporaryDirectory(prefix="holdfast-list-") as folder:
        file = Path(folder) / "tests.json"
        answer = ask([path, "--gtest_list_tests", f"--gtest_output=json:{file}"], _QUESTION, seconds, whole=False)
        try:
            said = json.loads(file.read_bytes())
            return [_test(path, suite, one) for suite in said["testsuites"] for one in suite["testsuite"]]
        except FileNotFoundError:
            why = "does not tell its tests as GoogleTest does: does its main() call InitGoogleTest?"
            raise NoTarget(why + last_words(answer)) from None
        except (ValueError, KeyError, TypeError) as problem:
            raise NoTarget(f"has told its tests in a form that is not GoogleTest's: {problem!r}{last_words(answer)}") from None


def report_options(file: str) -> list[str]:
    return [f"--gtest_output=json:{file}"]


def told(file: Path) -> Optional[Told]:
    """None where it has not written its report to the end."""
    try:
        return _told([one for suite in json.loads(file.read_bytes())["testsuites"] for one in suite["testsuite"]])
    except _NOT_WRITTEN:
        return None


def told_each(file: Path) -> Optional[dict[str, Told]]:
    """By name, of several that one process has run."""
    try:
        suites = json.loads(file.read_bytes())["testsuites"]
        return {f"{suite['name']}.{one['name']}": _told([one]) for suite in suites for one in suite["testsuite"]}
    except _NOT_WRITTEN:
        return None


def together(tests: Sequence[Test]) -> list[str]:
    """What runs them one after the other in one process."""
    return [tests[0].command[0], "--gtest_filter=" + ":".join(test.name for test in tests)]


def batch_of(test: Test) -> Optional[str]:
    """Tests with the same answer can be run together; None for one that cannot. A name that was found twice says nothing."""
    return test.command[0] if test.command[1:] == (f"--gtest_filter={test.name}",) else None


def begun_last(_file: Path, output: str) -> Optional[str]:
    """By its own words. A test can say them, too: what they name is run again by itself."""
    found = _RUNS.findall(output)
    return found[-1] if found else None


def why_skipped(name: str, output: str) -> str:
    """In the output of version 1.12 and earlier, whose reports do not say. Empty for no reason."""
    return output.rpartition(f"[ RUN      ] {name}\n")[2].partition("\n[")[0].partition(": Skipped\n")[2].strip()


_RUNS = re.compile(r"^\[ RUN      \] (\S+)$", re.MULTILINE)
_NOT_WRITTEN = (OSError, ValueError, KeyError, TypeError, AttributeError)


def _told(cases: list[dict[str, Any]]) -> Told:
    failures = tuple(failure["failure"].replace("\n", ": ", 1) for one in cases for failure in one.get("failures", ()))
    # Tests that its filter leaves out are not told.
    skips = [one for one in cases if one.get("result") == "SKIPPED"]
    words = [skip.get("message", "") for one in skips for skip in one.get("skipped", ())]
    skipped = ("; ".join(words) or NO_REASON) if skips and not failures else None
    seconds = sum(float(str(one.get("time", "0s")).rstrip("s")) for one in cases)
    return Told(len(cases), not failures, failures, skipped, seconds)


def _test(path: str, suite: dict[str, str], one: dict[str, str]) -> Test:
    # Names are C++ identifiers and slashes (with those of parameters: letters, digits, underscores), so a filter needs no escapes.
    name = f"{suite['name']}.{one['name']}"
    disabled = any(part.startswith(_DISABLED) for part in name.replace(".", "/").split("/"))
    command = [path, f"--gtest_filter={name}", *(["--gtest_also_run_disabled_tests"] if disabled else [])]
    return Test(name, tuple(command), file=one.get("file", ""), line=int(one.get("line", 0)), disabled=disabled)
