"""CTest: what a build folder has, as JSON (`ctest --show-only=json-v1`), with the properties that say how to run it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

from holdfast.targets.ask import ask, last_words
from holdfast.targets.launched import Launched, launched_by
from holdfast.targets.model import Expected, NoTarget, Test

KIND = "CTest"
FILE = "CTestTestfile.cmake"
# Of the option that names one.
CONFIGURATION = "of CTest folders that have several: Debug, Release, ..."


def is_in(folder: Path) -> bool:
    return (folder / FILE).is_file()


def tests_of(folder: str, seconds: float, configuration: str) -> list[Test]:
    """`configuration`: of a folder that has several (Ninja Multi-Config). Raises NoTarget."""
    if not is_in(Path(folder)):
        raise NoTarget(f"is no folder that CMake has built with tests ({FILE} is missing); configure with enable_testing(), and build")
    program = shutil.which("ctest")
    if program is None:
        raise NoTarget("has tests of CTest, and there is no ctest in PATH; install CMake")
    only = ["-C", configuration] if configuration else []
    answer = ask([program, "--test-dir", folder, *only, "--show-only=json-v1"], "its tests (ctest --show-only)", seconds)
    try:
        said = json.loads(answer.output)
        tests = [_test(one, said["backtraceGraph"]) for one in said["tests"]]
    except (ValueError, KeyError, TypeError, IndexError) as problem:
        raise NoTarget(f"ctest has told its tests in another form than json-v1: {problem!r}{last_words(answer)}") from None

    known = _configurations(Path(folder))
    if known and configuration.lower() not in (name.lower() for name in known):
        wrong = f"has no configuration {configuration!r}" if configuration else "has several configurations"
        names = ", ".join(known)
        raise NoTarget(f"{wrong}; say which with --hf-build-config=NAME (holdfast list: --build-config=NAME) out of {names}")
    return tests


def _configurations(folder: Path) -> list[str]:
    """Empty where it has one. CMake keeps what it was configured with in a file of lines NAME:TYPE=VALUE."""
    try:
        cache = (folder / "CMakeCache.txt").read_text(errors="replace")
    except OSError:
        return []
    several = re.search(r"^CMAKE_GENERATOR:INTERNAL=(Ninja Multi-Config|Xcode|Visual Studio.*)$", cache, re.MULTILINE)
    names = re.search(r"^CMAKE_CONFIGURATION_TYPES:\w+=(.*)$", cache, re.MULTILINE)
    return names[1].split(";") if several and names else []


def _test(one: dict[str, Any], graph: dict[str, Any]) -> Test:
    # CTest itself reads numbers and switches; lists are lists.
    has = {entry["name"]: entry["value"] for entry in one.get("properties", [])}
    node = graph["nodes"][one["backtrace"]] if "backtrace" in one else {}
    groups = [[(need[".type"], int(need["slots"])) for need in group["requirements"]] for group in has.get("RESOURCE_GROUPS", [])]
    skip_code = has.get("SKIP_RETURN_CODE")
    processors = int(has.get("PROCESSORS", 1))
    # How each rank has ended is no word of these, which are about what the launcher makes of all.
    of_all = any(has.get(name) for name in ("WILL_FAIL", "PASS_REGULAR_EXPRESSION", "SKIP_REGULAR_EXPRESSION"))
    command = tuple(one.get("command", ()))
    launched = (None if of_all else launched_by(command, processors)) or Launched(0, command, (), "")
    return Test(
        one["name"],
        launched.command,
        folder=has.get("WORKING_DIRECTORY", ""),
        environment=(*has.get("ENVIRONMENT", ()), *launched.environment),
        environment_changes=tuple(has.get("ENVIRONMENT_MODIFICATION", ())),
        file=graph["files"][node["file"]] if "file" in node else "",
        line=node.get("line", 0),
        labels=tuple(has.get("LABELS", ())),
        disabled=bool(has.get("DISABLED", False)),
        problem="" if command else "its program is not there; build the project",
        timeout=float(has["TIMEOUT"]) if has.get("TIMEOUT") else None,
        cores=max(1, processors // max(1, launched.ranks)),
        ranks=launched.ranks,
        launcher=launched.launcher,
        serial=bool(has.get("RUN_SERIAL", False)),
        locks=tuple(has.get("RESOURCE_LOCK", ())),
        after=tuple(has.get("DEPENDS", ())),
        sets_up=tuple(has.get("FIXTURES_SETUP", ())),
        cleans_up=tuple(has.get("FIXTURES_CLEANUP", ())),
        requires=tuple(has.get("FIXTURES_REQUIRED", ())),
        needs_files=tuple(has.get("REQUIRED_FILES", ())),
        resource_groups=tuple(tuple(group) for group in groups),
        expected=Expected(
            will_fail=bool(has.get("WILL_FAIL", False)),
            skip_code=None if skip_code is None else int(skip_code),
            passes=tuple(has.get("PASS_REGULAR_EXPRESSION", ())),
            fails=tuple(has.get("FAIL_REGULAR_EXPRESSION", ())),
            skips=tuple(has.get("SKIP_REGULAR_EXPRESSION", ())),
        ),
    )
