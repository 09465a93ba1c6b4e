"""Builds real native suites from Debian's sources (fmt: GoogleTest and CTest; nlohmann-json: doctest and CTest), runs them by themselves and by
`holdfast run`, and compares every (test, outcome).

    python tests/real/native_suites.py [SUITE ...]        with `own`: our own unit tests, by ctest and by us

Needs a Python environment with holdfast, and Debian's apt-get, cmake and ninja. Everything lies below build/real/native/.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Optional
from xml.etree import ElementTree

HERE = Path(__file__).resolve().parents[2]
PLACE = HERE / "build" / "real" / "native"
# name: (Debian's source package, what cmake is told, the folder of its test programs)
SUITES = {
    "fmt": ("fmtlib", ["-DFMT_DOC=OFF", "-DFMT_TEST=ON"], "bin"),
    "json": ("nlohmann-json3", ["-DJSON_BuildTests=ON", "-DJSON_FastTests=ON"], "tests"),
}
Outcomes = dict[str, str]


def fetch(package: str) -> Path:
    """Its sources, by apt-get and lists of our own: the machine's need not know of sources."""
    found = [path for path in PLACE.glob(f"{package}-*") if path.is_dir()]
    if found:
        return found[0]
    lists = PLACE / "lists"
    (lists / "partial").mkdir(parents=True, exist_ok=True)
    known = Path("/etc/apt/sources.list.d/debian.sources").read_text()
    # The first stanza is the distribution itself.
    (PLACE / "debian.sources").write_text(known.replace("Types: deb\n", "Types: deb-src\n"))
    options = [
        f"-oDir::State::Lists={lists}",
        f"-oDir::Etc::SourceList={PLACE / 'debian.sources'}",
        "-oDir::Etc::SourceParts=/dev/null",
    ]
    subprocess.run(["apt-get", *options, "update", "-qq"], check=True)
    subprocess.run(["apt-get", *options, "source", "-qq", "--download-only", package], cwd=PLACE, check=True)
    archive = next(PLACE.glob(f"{package}_*.orig.tar.*"))
    folder = PLACE / f"{package}-source"
    folder.mkdir()
    subprocess.run(["tar", "-xf", archive, "-C", folder, "--strip-components=1"], check=True)
    # Debian's patches: with them it is built with the GoogleTest of the machine.
    changes = next(PLACE.glob(f"{package}_*.debian.tar.*"))
    subprocess.run(["tar", "-xf", changes, "-C", folder], check=True)
    patches = folder / "debian" / "patches"
    for line in (patches / "series").read_text().splitlines() if (patches / "series").exists() else []:
        if line.strip() and not line.startswith("#"):
            subprocess.run(["patch", "-s", "-p1", "-d", folder, "-i", patches / line.split()[0]], check=True)
    return folder


def build(name: str) -> tuple[Path, list[Path]]:
    """Its build folder, and its test programs."""
    if name == "own":
        return HERE / "build" / "plain", [HERE / "build" / "plain" / "tests" / "unit" / "unit_tests"]
    package, options, programs = SUITES[name]
    folder = PLACE / f"{name}-build"
    if not (folder / "complete").exists():
        subprocess.run(["cmake", "-S", fetch(package), "-B", folder, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Debug", *options], check=True)
        subprocess.run(["ninja", "-C", folder, "--quiet"], check=True)
        (folder / "complete").touch()
    found = [path for path in sorted((folder / programs).iterdir()) if path.is_file() and os.access(path, os.X_OK)]
    return folder, [path for path in found if path.suffix not in (".so", ".a", ".cmake")]


def ctest(folder: Path) -> Outcomes:
    report = PLACE / "ctest.xml"
    subprocess.run(["ctest", "--test-dir", folder, "-j2", "--output-junit", report], stdout=subprocess.DEVNULL, check=False)
    words = {"run": "passed", "fail": "failed", "notrun": "skipped", "disabled": "skipped"}
    return {case.get("name", ""): words[case.get("status", "")] for case in ElementTree.parse(report).iter("testcase")}


def alone(program: Path, test: str = "") -> Outcomes:
    """All its tests in one process, or the one (of GoogleTest), by its own word. Empty for what is no test program of GoogleTest or
    doctest."""
    report = PLACE / "own-report"
    report.unlink(missing_ok=True)
    content = program.read_bytes()
    if b"gtest_list_tests" in content:
        command, read = [f"--gtest_output=json:{report}", *([f"--gtest_filter={test}"] if test else [])], _googletest
    elif b"list-test-cases" in content:
        command, read = ["--reporters=xml", f"--out={report}"], _doctest
    else:
        return {}
    command = [str(program), *command]
    subprocess.run(command, cwd=PLACE / "empty", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=900, check=False)
    return read(report)


def _googletest(report: Path) -> Outcomes:
    cases = [(suite["name"], one) for suite in json.loads(report.read_bytes())["testsuites"] for one in suite["testsuite"]]
    return {f"{suite}.{one['name']}": _word(one) for suite, one in cases}


def _word(one: dict[str, object]) -> str:
    if one.get("failures"):
        return "failed"
    return "passed" if one["status"] == "RUN" and one.get("result") != "SKIPPED" else "skipped"


def _doctest(report: Path) -> Outcomes:
    cases = list(ElementTree.parse(report).iter("TestCase"))
    run = {case.get("name", ""): case for case in cases if case.get("skipped") != "true"}
    good = {name for name, case in run.items() if _is_good(case)}
    return {name: "passed" if name in good else "failed" for name in run}


def _is_good(case: ElementTree.Element) -> bool:
    """Older versions have no word for it but the number of assertions that have failed, and what was thrown."""
    end = case.find("OverallResultsAsserts")
    if end is None or "test_case_success" in end.attrib:
        return end is not None and end.get("test_case_success") == "true"
    return end.get("failures") == "0" and case.find(".//Exception") is None


def ours(target: Path, *options: str) -> Outcomes:
    log = PLACE / "log.jsonl"
    log.unlink(missing_ok=True)
    command = [sys.executable, "-m", "holdfast", "run", f"--hf-log={log}", *(options or ("--hf-slots=2",)), "--", str(target)]
    subprocess.run(command, cwd=PLACE / "empty", stdout=subprocess.DEVNULL, check=False)
    events = [json.loads(line) for line in log.read_text().splitlines()]
    return {event["id"].partition("::")[2]: event["verdict"] for event in events if event["event"] == "verdict"}


def empty() -> None:
    """The folder where tests run has nothing of those before them."""
    shutil.rmtree(PLACE / "empty", ignore_errors=True)
    (PLACE / "empty").mkdir()


def _plain(name: str, known: Outcomes) -> str:
    """Of several tests of doctest with one name, the worst one's outcome counts."""
    for shorter in (name, re.sub(r" \(\S+:\d+\)( #\d+)?$", "", name), re.sub(r"^[^/]*/", "", name)):
        if shorter in known:
            return shorter
    return name


def compare(title: str, wanted: Outcomes, found: Outcomes, program: Optional[Path] = None) -> int:
    """What differs and has the same outcome by itself needs tests before it."""
    found = {_plain(name, wanted): verdict for name, verdict in sorted(found.items(), key=lambda one: one[1] == "failed")}
    # doctest's skipped ones are left out there; what ctest cannot run, since its fixture has failed, is an error to us.
    same = {("skipped", "error"), (None, "skipped")}
    known = ((name, wanted.get(name), found.get(name)) for name in {*wanted, *found})
    different = sorted(name for name, one, other in known if one != other and (one, other) not in same)
    needs = []
    for name in different if program is not None else ():
        empty()
        if alone(program, name).get(name) == found.get(name):
            needs.append(name)
    different = [name for name in different if name not in needs]
    said = f"; need tests before them, without us as well: {', '.join(needs)}" if needs else ""
    print(f"  {title}: {len(wanted)} tests, {len(different)} differ{said}", flush=True)
    for name in different[:5]:
        print(f"    {name}: {wanted.get(name)}, and {found.get(name)} by us")
    return len(different)


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suites", nargs="*", default=[*SUITES, "own"])
    PLACE.mkdir(parents=True, exist_ok=True)
    different = 0
    for name in parser.parse_args(argv).suites:
        folder, programs = build(name)
        print(name, flush=True)
        empty()
        begun = time.monotonic()
        wanted = ctest(folder)
        middle = time.monotonic()
        different += compare("the CTest folder", wanted, ours(folder))
        print(f"    ctest -j2 {middle - begun:.1f} s, holdfast run {time.monotonic() - middle:.1f} s", flush=True)
        for program in programs:
            empty()
            if wanted := alone(program):
                for title, options in (("", ()), (", in batches", ("--hf-isolate=worker",))):
                    empty()
                    different += compare(f"{program.name}{title}", wanted, ours(program, "--hf-slots=1", *options), program)
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
