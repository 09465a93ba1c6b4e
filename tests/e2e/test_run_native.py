"""`holdfast run`: tests that are programs get verdicts like others, in one run with pytest's."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
from conftest import Run, Suite, wait_until

LIMIT = 60


class Native(Suite):
    """As a Suite, by `holdfast run`."""

    def command(self, *args: str, holdfast: bool = True) -> list[str]:
        return [sys.executable, "-m", "holdfast", "run", f"--hf-log={self.log}", "--hf-slots=2", *args]


@pytest.fixture
def native(suite: Suite) -> Native:
    made = Native(suite.root)
    made.env = {**suite.env, "COLUMNS": "400"}
    return made


def run(native: Native, *targets: object, options: tuple[str, ...] = (), **environment: str) -> Run:
    native.env.update(environment)
    return native.run(*options, "--", *map(str, targets))


def text_of(run: Run, test: str) -> str:
    """Its part of the report."""
    return run.output.partition(f"_ {test} _")[2].partition("\n____")[0].partition("\n====")[0]


# ---- programs


def test_each_way_to_end_has_its_verdict(native, programs, tmp_path):
    done = run(native, programs.path("ends"), options=("--hf-timeout=3", f"--junitxml={tmp_path}/x.xml"), RAN=str(tmp_path / "ran"))
    assert done.code == 1 and done.short() == {
        "Ends.Well": "passed", "Ends.Skipped": "skipped", "Ends.Failed": "failed", "Ends.Thrown": "failed", "Ends.Segv": "crashed",
        "Ends.Aborted": "crashed", "Ends.ExitZero": "exited", "Ends.Exit132": "exited", "Ends.Hangs": "timeout", "Ends.Leaves": "passed",
        "Ends.Floods": "failed", "Ends.Flaky": "failed",
    }, done.output  # fmt: skip
    for line in (
        "FAILED .*Ends.Failed - Failed: .*ends.cc:14: Expected equality of these values:",
        "CRASHED .*Ends.Segv - crashed in call: SIGSEGV",
        "CRASHED .*Ends.Aborted - crashed in call: SIGABRT",
        "EXITED .*Ends.ExitZero - exited in call: the program ended with exit status 0 and did not say what became of its test",
        "EXITED .*Ends.Exit132 - exited in call: the program ended with exit status 132 and",
        "TIMEOUT .*Ends.Hangs - timeout in call: not finished after 3 s",
    ):
        matches(line, done.output)
    died = text_of(done, "Ends.Aborted")
    assert "Native stack of the thread that died" in died and re.search(r"Ends_Aborted_Test.*ends.cc:\d+", died), died
    assert "before it died" in text_of(done, "Ends.Segv") and "no Python stack" not in text_of(done, "Ends.Segv")
    assert "for a reason" in text_of(done, "Ends.Failed") and "after a flood" in text_of(done, "Ends.Floods")
    hangs = text_of(done, "Ends.Hangs")
    assert "hangs now" in hangs and "--gtest_filter=Ends.Hangs" in hangs and "running.py" not in hangs.partition("At the deadline")[0]
    assert done.notes[next(name for name in done.notes if name.endswith("Ends.Leaves"))] == ["leaked"]
    assert not done.notes[next(name for name in done.notes if name.endswith("Ends.Hangs"))]
    cases = {case.get("name"): case for case in ElementTree.parse(tmp_path / "x.xml").iter("testcase")}
    assert "before it died" in "".join(cases["Ends.Segv"].itertext()) and cases["Ends.Skipped"].find("skipped") is not None


def matches(pattern: str, text: str) -> None:
    assert re.search(pattern, text), text


@pytest.mark.parametrize("name", ["catch2", "catch2-v3", "doctest"])
def test_what_other_frameworks_say(native, programs, name):
    program = programs.path(name)
    assert set(run(native, program).verdicts.values()) <= {"passed", "skipped"}
    done = run(native, program, FAIL="1")
    bad = {test: verdict for test, verdict in done.short().items() if verdict not in ("passed", "skipped")}
    assert done.code == 1 and bad == {"fails if it is to": "failed", "dies if it is to": "crashed"}, done.output
    assert "CHECK( x == 1 ) was 2 == 1" in text_of(done, "fails if it is to") and "CHECK_THROWS" in text_of(done, "fails if it is to")
    assert "dies if it is to - crashed in call: SIGABRT" in done.output
    if name == "catch2-v3":
        assert done.short()["skips if it can"] == "skipped" and "has no time" in run(native, program, options=("-rs",)).output


def test_doctest_as_it_was(native, programs, tmp_path):
    """Before 2.4.7 its report does not say which test has passed, and its list leaves out what is skipped."""
    script = tmp_path / "old.sh"
    script.write_text(
        f"""#!/bin/bash
        case "$*" in
        *--list-test-cases*)
            [[ "$*" == *--no-skip=true* ]] && filter='s/ skipped="true"//' || filter='/skipped="true"/d'
            {programs.path("doctest")} "$@" | sed "$filter" ;;
        *)
            {programs.path("doctest")} "$@"
            code=$?
            for word; do [[ $word == --out=* ]] && file=${{word#--out=}}; done
            text=$(sed 's/ test_case_success="[a-z]*"//' "$file")
            printf '%s\\n' "$text" > "$file"
            exit $code ;;
        esac
        """
    )
    script.chmod(0o755)
    new, old = run(native, programs.path("doctest")), run(native, f"doctest:{script}")
    assert old.short() == new.short() and "skipped" in old.short().values(), old.output
    bad = run(native, f"doctest:{script}", options=("-k", "fails or off"), FAIL="1").short()
    assert bad == {"fails if it is to": "failed", "off": "skipped"}


def test_names_options_and_retries_are_those_of_pytest(native, programs, tmp_path):
    program = programs.path("ends")
    done = run(native, program, options=("-k", "Flaky", "--hf-retry=failed:1"), RAN=str(tmp_path / "ran"))
    assert done.code == 0 and done.short() == {"Ends.Flaky": "passed"} and list(done.notes.values()) == [["flaky"]], done.output
    assert run(native, f"{program}::Ends.Well").short() == {"Ends.Well": "passed"}
    assert run(native, programs.path("doctest"), options=("-m", "inner")).short() == {"inner/plain": "passed", "alone": "passed"}
    done = run(native, program, options=("-k", "Well or Failed", "-x"), RAN=str(tmp_path / "ran"))
    assert done.code == 1
    done = run(native, program, options=("--lf", "-k", "Ends"), RAN=str(tmp_path / "ran"))
    assert done.short() == {"Ends.Failed": "failed"}, done.output


def test_a_program_has_the_environment_that_it_is_given(native, tmp_path):
    (tmp_path / "all.txt").write_text('sh -c \'test "$GTEST_DEATH_TEST_STYLE-$GTEST_TOTAL_SHARDS-$LD_PRELOAD-$MINE" = "fast---x y"\'\n')
    shards = {"GTEST_TOTAL_SHARDS": "2", "GTEST_SHARD_INDEX": "0"}
    assert run(native, "all.txt", GTEST_DEATH_TEST_STYLE="fast", MINE="x y", **shards).code == 0


def test_what_a_test_that_passed_has_said_is_there_for_who_asks(native, programs, tmp_path):
    target = f"{programs.path('ends')}::Ends.Well"
    assert "[ RUN      ] Ends.Well" not in run(native, target).output
    assert "[ RUN      ] Ends.Well" in run(native, target, options=("-rP",)).output
    assert "[ RUN      ] Ends.Well" in run(native, target, options=("-s",)).output
    run(native, target, options=(f"--junitxml={tmp_path}/x.xml", "-o", "junit_logging=all"))
    assert "[ RUN      ] Ends.Well" in (tmp_path / "x.xml").read_text()


def test_hooks_of_the_suite_are_called(native, tmp_path):
    (tmp_path / "conftest.py").write_text("def pytest_runtest_setup(item): open('set-up', 'a').write(item.name)\n")
    (tmp_path / "all.txt").write_text("true\n")
    assert run(native, "all.txt").code == 0 and (tmp_path / "set-up").read_text() == "true"


def test_a_killed_run_is_resumed(native, programs, tmp_path):
    (tmp_path / "all.txt").write_text("sh -c 'echo >> ran'\nsh -c 'while [ ! -e go ]; do sleep 0.01; done'\n")
    # What a killed process cannot take away goes with this test's folder.
    native.env["TMPDIR"] = str(tmp_path)
    process = native.start("--", "all.txt")
    wait_until(lambda: any(event["event"] == "verdict" for event in native.events()), "nothing has ended")
    process.kill()
    native.finish(process)
    wait_until(lambda: not native.survivors(), "something is left")
    (tmp_path / "go").touch()
    done = run(native, "all.txt", options=("--hf-resume",))
    assert done.code == 0 and len(done.verdicts) == 2 and (tmp_path / "ran").read_text() == "\n", done.output


# ---- CTest

CMAKE = """
cmake_minimum_required(VERSION 3.20)
project(t LANGUAGES NONE)
enable_testing()
function(one name)
  add_test(NAME ${name} COMMAND sh -c "echo ${name} >> ${CMAKE_BINARY_DIR}/order; ${ARGN}")
endfunction()
one(last true)
set_tests_properties(last PROPERTIES DEPENDS middle)
one(middle "exit 3")
set_tests_properties(middle PROPERTIES DEPENDS first)
one(first "sleep 0.2")
one(cleans true)
set_tests_properties(cleans PROPERTIES FIXTURES_CLEANUP F)
one(uses true)
set_tests_properties(uses PROPERTIES FIXTURES_REQUIRED F)
one(sets_up "sleep 0.1; exit \\$SETUP")
set_tests_properties(sets_up PROPERTIES FIXTURES_SETUP F)
one(will_fail "exit 1")
set_tests_properties(will_fail PROPERTIES WILL_FAIL ON)
one(skips "exit 77")
set_tests_properties(skips PROPERTIES SKIP_RETURN_CODE 77)
one(says "echo all good; exit 5")
set_tests_properties(says PROPERTIES PASS_REGULAR_EXPRESSION "all (good|well)")
one(says_not "echo nothing")
set_tests_properties(says_not PROPERTIES PASS_REGULAR_EXPRESSION "all (good|well)")
one(says_wrong "echo an error")
set_tests_properties(says_wrong PROPERTIES FAIL_REGULAR_EXPRESSION "error")
one(says_skip "echo not here")
set_tests_properties(says_skip PROPERTIES SKIP_REGULAR_EXPRESSION "not here")
one(variables "test $A-$B = 1-x:2 && test \\$(pwd) = /")
set_tests_properties(variables PROPERTIES ENVIRONMENT "A=1;B=2" ENVIRONMENT_MODIFICATION "B=path_list_prepend:x" WORKING_DIRECTORY /)
one(needs_file true)
set_tests_properties(needs_file PROPERTIES REQUIRED_FILES /no/such/file)
one(slow "sleep 60")
set_tests_properties(slow PROPERTIES TIMEOUT 1 LABELS "_odd;with space;a:b;quick")
one(off "exit 1")
set_tests_properties(off PROPERTIES DISABLED ON)
add_test(NAME missing COMMAND /no/such/program)
"""

CTEST = {
    "last": "passed", "middle": "failed", "first": "passed", "cleans": "passed", "uses": "passed", "sets_up": "passed",
    "will_fail": "passed", "skips": "skipped", "says": "passed", "says_not": "failed", "says_wrong": "failed", "says_skip": "skipped",
    "variables": "passed", "needs_file": "failed", "slow": "timeout", "off": "skipped", "missing": "failed",
}  # fmt: skip


@pytest.fixture
def build(tmp_path: Path) -> Path:
    (tmp_path / "CMakeLists.txt").write_text(CMAKE)
    subprocess.run(["cmake", "-S", tmp_path, "-B", tmp_path / "build"], check=True, capture_output=True, timeout=LIMIT)
    return tmp_path / "build"


def test_a_build_folder_of_ctest(native, build):
    done = run(native, "build", SETUP="0")
    assert done.code == 1 and done.short() == CTEST, done.output
    assert sorted(done.verdicts)[0] == "build::cleans"
    order = (build / "order").read_text().split()
    assert order.index("first") < order.index("middle") < order.index("last")
    assert order.index("sets_up") < order.index("uses") < order.index("cleans")
    # What was read to be matched is there to be seen.
    assert "\nnothing" in text_of(done, "says_not") and "\nan error" in text_of(done, "says_wrong")
    for words in ("matches 'error', which means", "/no/such/file is not there", "its program is not there; build the project"):
        assert words in done.output


CONFIGURATIONS = """
cmake_minimum_required(VERSION 3.20)
project(t CXX)
enable_testing()
file(WRITE ${CMAKE_BINARY_DIR}/main.cc "int main() { return CODE; }")
add_executable(one ${CMAKE_BINARY_DIR}/main.cc)
target_compile_definitions(one PRIVATE CODE=$<IF:$<CONFIG:Release>,0,1>)
add_test(NAME one COMMAND one)
"""


def test_a_build_folder_of_several_configurations(native, tmp_path):
    (tmp_path / "CMakeLists.txt").write_text(CONFIGURATIONS)
    configure = ["cmake", "-S", tmp_path, "-B", tmp_path / "build", "-G", "Ninja Multi-Config"]
    builds = (["cmake", "--build", tmp_path / "build", "--config", name] for name in ("Debug", "Release"))
    for command in (configure, *builds):
        subprocess.run(command, check=True, capture_output=True, timeout=LIMIT)
    for name, verdict in (("Release", "passed"), ("debug", "failed"), ("RelWithDebInfo", "failed")):
        done = run(native, "build", options=(f"--hf-build-config={name}",))
        assert done.short() == {"one": verdict}, done.output
    assert "its program is not there; build the project" in done.output
    for options, said in (((), "has several configurations;"), (("--hf-build-config=Fast",), "has no configuration 'Fast';")):
        done = run(native, "build", options=options)
        assert done.code == 2 and f"build: {said} say which with --hf-build-config=NAME" in done.output
        assert "out of Debug, Release, RelWithDebInfo" in done.output
    command = [sys.executable, "-m", "holdfast", "list", "--build-config=Release", "build"]
    listed = subprocess.run(command, cwd=tmp_path, env=native.env, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert listed.returncode == 0 and listed.stdout == "build: CTest, 1 test\n  one\n", listed


def test_what_is_selected_brings_its_fixtures(native, build):
    done = run(native, "build", options=("-k", "uses or first"), SETUP="0")
    assert done.short() == {"uses": "passed", "first": "passed", "sets_up": "passed", "cleans": "passed"}, done.output
    order = (build / "order").read_text().split()
    assert order.index("sets_up") < order.index("uses") < order.index("cleans")
    assert f"{len(CTEST) - 4} deselected / 4 selected" in done.output and "4 passed" in done.output
    done = run(native, "build::uses", "build::first", SETUP="0")
    assert done.short() == {"uses": "passed", "first": "passed", "sets_up": "passed", "cleans": "passed"}, done.output
    assert "4 passed" in done.output and "deselected" not in done.output
    done = run(native, "build", options=("-k", "sets_up or first"))
    assert set(done.short()) == {"sets_up", "first"}
    done = run(native, "build", options=("-k", "uses"), SETUP="1")
    assert done.short() == {"uses": "error", "sets_up": "failed", "cleans": "passed"}, done.output


def test_labels_select_whatever_their_names(native, build):
    for words, tests in (("quick", ["slow"]), ("_odd and not quick", []), ("_odd", ["slow"])):
        done = run(native, "build", options=("-m", words, "--collect-only", "-q", "--strict-markers"))
        assert [line for line in done.output.splitlines() if line.startswith("build::")] == [f"build::{test}" for test in tests], (
            done.output
        )
        assert "Traceback" not in done.output and "Unknown" not in done.output


def test_ctest_says_the_same(native, build):
    """But for what CTest calls failed in other words."""
    done = subprocess.run(
        ["ctest", "--test-dir", build, "--output-junit", build / "x.xml"], env={**native.env, "SETUP": "0"}, capture_output=True,
        timeout=LIMIT, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    status = {case.get("name"): case.get("status") for case in ElementTree.parse(build / "x.xml").iter("testcase")}
    assert {test for test, said in status.items() if said == "run"} == {test for test, verdict in CTEST.items() if verdict == "passed"}
    assert {test for test, said in status.items() if said in ("notrun", "disabled")} >= {"skips", "says_skip", "off"}


def test_resource_groups_are_leases_of_devices(native, tmp_path):
    cmake = """
cmake_minimum_required(VERSION 3.20)
project(t LANGUAGES NONE)
enable_testing()
add_test(NAME two COMMAND sh -c "env | grep ^CTEST_ | sort > ${CMAKE_BINARY_DIR}/two")
set_tests_properties(two PROPERTIES RESOURCE_GROUPS "gpus:3;gpus:1,crypto:2")
"""
    (tmp_path / "CMakeLists.txt").write_text(cmake)
    subprocess.run(["cmake", "-S", tmp_path, "-B", tmp_path / "build"], check=True, capture_output=True, timeout=LIMIT)
    command = [sys.executable, "-m", "holdfast", "simgpu", "--gpus", "2x80GiB", "--", *native.command("--", "build")]
    done = subprocess.run(command, cwd=tmp_path, env=native.env, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout + done.stderr
    first, first_gpus, second, second_gpus, count = (tmp_path / "build" / "two").read_text().splitlines()
    assert (count, first, second) == ("CTEST_RESOURCE_GROUP_COUNT=2", "CTEST_RESOURCE_GROUP_0=gpus", "CTEST_RESOURCE_GROUP_1=gpus")
    devices = [line.partition("=id:")[2].partition(",") for line in (first_gpus, second_gpus)]
    assert devices[0][2] == "slots:3" and devices[1][2] == "slots:1" and devices[0][0] != devices[1][0]


def test_without_its_fixture_a_test_is_an_error_and_does_not_run(native, build):
    done = run(native, "build", SETUP="1", options=("-k", "uses or sets_up or cleans"))
    assert done.short() == {"sets_up": "failed", "uses": "error", "cleans": "passed"}, done.output
    assert "build::sets_up has not passed, which sets up what it needs" in done.output
    assert (build / "order").read_text().split() == ["sets_up", "cleans"]


def test_tests_that_wait_for_each_other(native, tmp_path):
    text = "".join(f'[[test]]\nname = "{name}"\ncommand = "true"\nafter = ["{after}"]\n' for name, after in ("ab", "bc", "ca"))
    (tmp_path / "all.toml").write_text(text)
    done = run(native, "all.toml")
    assert done.code == 4 and "tests wait for each other: all.toml::" in done.output and "Traceback" not in done.output, done.output


# ---- commands, and all together


def test_commands_have_what_they_ask_for(native, tmp_path):
    (tmp_path / "all.toml").write_text(
        """
[[test]]
name = "one"
command = "sh -c 'mkdir lock && sleep 0.2 && rmdir lock'"
locks = ["lock"]
[[test]]
name = "two"
command = "sh -c 'mkdir lock && sleep 0.2 && rmdir lock'"
locks = ["lock"]
[[test]]
name = "variables"
command = ["sh", "-c", 'test "$A" = "b c" && test "$(basename "$PWD")" = sub']
folder = "sub"
environment = { A = "b c" }
[[test]]
name = "slow"
command = "sleep 60"
timeout = 1
[[test]]
name = "too big"
command = "true"
cores = 4096
[[test]]
name = "ranks"
command = "true"
ranks = 2
[[test]]
name = "nothing"
command = "./no-such-program"
[[test]]
name = "off"
command = "false"
disabled = true
"""
    )
    (tmp_path / "sub").mkdir()
    done = run(native, "all.toml")
    assert done.short() == {
        "one": "passed", "two": "passed", "variables": "passed", "slow": "timeout", "too big": "error", "nothing": "failed",
        "off": "skipped", "ranks": "error",
    }, done.output  # fmt: skip
    assert "rank 0 of 2 has not joined the others" in done.output
    assert "./no-such-program cannot be run: No such file or directory" in done.output and "it asks for 4096 cores" in done.output


def test_several_kinds_are_one_run(native, programs, tmp_path):
    native.write(test_py="import os\ndef test_in_python(): assert os.getpid()\n")
    (tmp_path / "readme.txt").write_text("true\n")
    done = run(native, f"{programs.path('ends')}::Ends.Well", "test_py.py", "readme.txt", "command:sh -c 'exit 0'", "command:false")
    assert done.code == 1 and sorted(done.short().items()) == [
        ("Ends.Well", "passed"), ("false", "failed"), ("sh -c 'exit 0'", "passed"), ("test_in_python", "passed"), ("true", "passed"),
    ], done.output  # fmt: skip
    assert "test_py.py::test_in_python" in done.verdicts and "readme.txt::true" in done.verdicts and "command::false" in done.verdicts
    assert (tmp_path / ".holdfast").is_dir() and "exit code 1" in done.output


def test_a_target_that_cannot_tell_its_tests_is_an_error_of_the_run(native, programs, tmp_path):
    (tmp_path / "all.txt").write_text("true\n")
    done = run(native, programs.path("odd"), "all.txt", DOES="crash")
    assert done.code in (1, 2) and "died of SIGABRT when it was asked for its tests" in done.output and "Traceback" not in done.output
    done = run(native, programs.path("odd"), "all.txt", DOES="crash", options=("--continue-on-collection-errors",))
    assert done.short()["true"] == "passed"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "there is no target"),
        (("--",), "there is no target"),
        (("-v", "all.txt"), "-v: options come first, then --, then the targets"),
        (("--", "nothing"), "nothing: is not there"),
        (("--", "all.txt", "./all.txt"), "is given twice"),
        (("--", "all.txt::one", "all.txt::one"), "is given twice"),
        (("--", "all.txt", "all.txt::one"), "is given twice"),
        (("--", "all.txt::one", "all.txt"), "is given twice"),
        (("--no-such-option", "--", "all.txt"), "unrecognized arguments: --no-such-option"),
        (("--", "command:'x"), "No closing quotation"),
        (("--", "/usr/bin/env"), "without GoogleTest, Catch2 or doctest"),
    ],
)
def test_what_cannot_be(native, tmp_path, words, said):
    (tmp_path / "all.txt").write_text("true\n")
    done = subprocess.run(
        [sys.executable, "-m", "holdfast", "run", *words],
        cwd=tmp_path,
        env=native.env,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 4 and said in done.stdout + done.stderr and "Traceback" not in done.stdout + done.stderr, done


def test_a_program_that_disappears_meanwhile(native, programs, tmp_path):
    import shutil

    shutil.copy(programs.path("ends"), tmp_path / "program")
    (tmp_path / "all.toml").write_text('[[test]]\nname = "removes"\ncommand = "rm program"\n')
    done = run(native, "all.toml", "program", options=("--hf-slots=1", "--hf-dist=sequential", "-k", "removes or Well"))
    assert done.short() == {"removes": "passed", "Ends.Well": "failed"}, done.output
    assert "program cannot be run: No such file or directory" in done.output


def test_help(native: Any) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "holdfast", "run", "--help"], env=native.env, capture_output=True, text=True, timeout=LIMIT, check=False
    )
    assert done.returncode == 0 and "holdfast run [OPTIONS] -- TARGET..." in done.stdout


def test_the_example(native, tmp_path):
    example = Path(__file__).parents[2] / "examples" / "native"
    for command in (["cmake", "-S", example, "-B", tmp_path / "build"], ["cmake", "--build", tmp_path / "build"]):
        subprocess.run(command, check=True, capture_output=True, timeout=LIMIT)
    done = run(native, "build/stack_test", "build", example / "checks.toml", options=("--hf-timeout=2", "--hf-slots=3"))
    assert done.code == 1 and done.short() == {
        "Stack.HasATop": "passed", "Stack.Fails": "failed", "Stack.Dies": "crashed", "Stack.Hangs": "timeout", "schema": "passed",
        "queries": "passed", "drop": "passed", "the compiler is there": "passed", "one at a time": "passed", "ring": "passed",
    }, done.output  # fmt: skip
    assert re.search(r"top\(.*stack_test.cc:10", text_of(done, "Stack.Dies")) and "the last one is on top" in done.output


def test_our_own_tests_come_to_the_same_by_ctest_and_by_us(native, tmp_path):
    near = [Path(os.environ["HOLDFAST_ENGINE"]).parent] if "HOLDFAST_ENGINE" in os.environ else []
    built = [*near, Path(__file__).resolve().parents[2] / "build" / "plain"]
    folder = next((path for path in built if (path / "tests" / "unit" / "unit_tests").exists()), None)
    if folder is None:
        pytest.skip("NOT RUN: our C++ tests are not built (HOLDFAST_TESTS)")
    report = tmp_path / "ctest.xml"
    command = ["ctest", "--test-dir", str(folder), "-j2", "--output-junit", str(report)]
    subprocess.run(command, capture_output=True, timeout=LIMIT * 4, check=False)
    words = {"run": "passed", "fail": "failed", "notrun": "skipped", "disabled": "skipped"}
    wanted = {case.get("name"): words[str(case.get("status"))] for case in ElementTree.parse(report).iter("testcase")}
    assert len(wanted) > 200
    by_folder = run(native, folder)
    assert by_folder.short() == wanted, by_folder.output
    for isolation in ("test", "worker"):
        by_program = run(native, folder / "tests" / "unit" / "unit_tests", options=(f"--hf-isolate={isolation}",))
        assert by_program.short() == wanted, by_program.output


def test_frames_of_a_program_that_is_called_by_a_word(native, programs, tmp_path):
    """backtrace_symbols_fd() names the program as it was called, which means something in its folder only."""
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "prog").symlink_to(programs.path("ends"))
    (tmp_path / "x.toml").write_text('[[test]]\nname = "dies"\ncommand = ["./prog", "--gtest_filter=Ends.Segv"]\nfolder = "below"')
    done = run(native, "x.toml")
    assert done.short() == {"dies": "crashed"} and re.search(r"Ends_Segv_Test::TestBody\(\) \(.*ends.cc:\d+\) in prog", done.output), (
        done.output
    )


def test_shards_of_googletest(native, programs, tmp_path):
    """Together they run what one run does, each test once, and as the program would divide them itself."""
    program = programs.path("googletest")
    (tmp_path / "x.txt").write_text("true\n")
    whole = run(native, program, "x.txt").short()
    parts = []
    for index in range(3):
        native.env.update(GTEST_TOTAL_SHARDS="3", GTEST_SHARD_INDEX=str(index), GTEST_SHARD_STATUS_FILE=str(tmp_path / "status"))
        part = run(native, program, "x.txt").short()
        assert part.pop("true") == "passed"
        subprocess.run(
            [program], env={**native.env, "RAN": str(tmp_path / f"ran{index}")}, stdout=subprocess.DEVNULL, timeout=LIMIT, check=True
        )
        own = {line.split()[0] for line in (tmp_path / f"ran{index}").read_text().splitlines()}
        assert own == {name for name in part if "DISABLED" not in name}
        parts.append(part)
    assert sum(len(part) for part in parts) == len(whole) - 1
    assert {name: verdict for part in parts for name, verdict in part.items()} == {
        name: whole[name] for name in whole if name != "true"
    }
    assert (tmp_path / "status").exists()


@pytest.mark.parametrize(
    ("total", "index", "said"),
    [
        ("3", "3", "GTEST_TOTAL_SHARDS=3, GTEST_SHARD_INDEX=3: give GTEST_TOTAL_SHARDS=N and GTEST_SHARD_INDEX=0 to N-1, or neither"),
        ("3", None, "GTEST_TOTAL_SHARDS=3: give"), (None, "0", "GTEST_SHARD_INDEX=0: give"), ("0", "0", "SHARDS=0"), ("x", "0", "SHARDS=x"),
    ],
)  # fmt: skip
def test_shards_that_are_none(native, programs, total, index, said):
    native.env.update({name: text for name, text in (("GTEST_TOTAL_SHARDS", total), ("GTEST_SHARD_INDEX", index)) if text is not None})
    done = run(native, programs.path("googletest"))
    assert done.code == 4 and said in done.output, done.output
