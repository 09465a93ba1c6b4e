"""`holdfast list`: real programs of each framework, CTest, commands and pytest, and what is none of these."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from native_programs import SOURCES

LIMIT = 60

GOOGLETEST = [
    "ADeathTest.Dies", "Suite.Passes", "Suite.PassesToo", "Suite.DISABLED_Off", "Suite.Skips", "DISABLED_Whole.Off",
    "Typed/0.Works", "Typed/1.Works", *(f"In/Values.Value/{number}" for number in range(12)),
]  # fmt: skip
CATCH2 = [
    "plain", "plain and more", 'with, comma [and] "quotes" \\ back; $HOME', " begins with a space", "fails if it is to",
    "dies if it is to", "skips if it can", "~tilde*", "-v", "exclude:this",
    "typed - int", "typed - char",
]  # fmt: skip
DOCTEST = [
    "plain", "plain and more", 'with, comma [and] "quotes" \\ back & <xml>', "PLAIN AND MORE", "fails if it is to",
    "dies if it is to", "inner/plain", "alone", "off",
    "typed<int>", "typed<char>",
]  # fmt: skip
FRAMEWORKS = {"googletest": GOOGLETEST, "catch2": CATCH2, "catch2-v3": CATCH2, "doctest": DOCTEST}


def run(*words: object, folder: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "holdfast", "list", *map(str, words)], capture_output=True, text=True, timeout=LIMIT, check=False,
        cwd=folder, env={**os.environ, **environment},
    )  # fmt: skip


def suites(*words: object, **more: Any) -> list[dict[str, Any]]:
    done = run(*words, "--format", "json", **more)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)["targets"]
    return found


def known(word: object, **more: Any) -> dict[str, dict[str, Any]]:
    (suite,) = suites(word, **more)
    return {one["name"]: one for one in suite["tests"]}


def refused(*words: object, **more: Any) -> str:
    done = run(*words, **more)
    assert done.returncode == 4 and "Traceback" not in done.stderr, done.stderr
    return done.stderr


# ---- programs


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_program_tells_its_tests_and_each_runs_alone(programs, tmp_path, name):
    found = known(programs.path(name))
    # Templates are told in an order of their own.
    assert sorted(found) == sorted(FRAMEWORKS[name]) and list(found)[:3] == FRAMEWORKS[name][:3]
    text = (SOURCES / f"{name.removesuffix('-v3')}.cc").read_text().splitlines()
    for test, one in found.items():
        assert one["file"].endswith(".cc") and "TEST" in text[one["line"] - 1], one
        ran = tmp_path / "ran"
        done = subprocess.run(one["command"], env={**os.environ, "RAN": str(ran)}, capture_output=True, timeout=LIMIT, check=False)
        assert done.returncode == 0 and ran.read_text().splitlines() == [test], (one["command"], done.stdout, ran.read_text())
        ran.unlink()


def test_what_is_known_of_them(programs):
    assert [name for name, one in known(programs.path("googletest")).items() if one["disabled"]] == [
        "Suite.DISABLED_Off",
        "DISABLED_Whole.Off",
    ]
    assert [name for name, one in known(programs.path("doctest")).items() if one["disabled"]] == ["off"]
    assert known(programs.path("doctest"))["alone"]["labels"] == ["inner"]
    for name in ("catch2", "catch2-v3"):
        labels = {test: one["labels"] for test, one in known(programs.path(name)).items() if one["labels"]}
        assert labels == {"plain": ["net", "quick"], "typed - char": ["t"], "typed - int": ["t"]}


def test_libraries_that_are_linked_dynamically(programs, tmp_path):
    library, program = tmp_path / "libown.so", tmp_path / "dynamic"
    subprocess.run(
        ["g++", "-shared", "-fPIC", "-o", library, "-Wl,--whole-archive", *archives(), "-Wl,--no-whole-archive", "-pthread"], check=True
    )
    subprocess.run(["g++", "-o", program, SOURCES / "googletest.cc", f"-L{tmp_path}", "-lown", f"-Wl,-rpath,{tmp_path}"], check=True)
    assert b"gtest_list_tests" not in program.read_bytes()
    assert len(known(program)) == len(GOOGLETEST)
    library.unlink()
    assert "it has ended with 127; its last words: " in refused(program) and "libown.so" in refused(program)


def archives() -> list[str]:
    found = [
        subprocess.run(["g++", f"-print-file-name={name}"], capture_output=True, text=True, check=True)
        for name in ("libgtest.a", "libgtest_main.a")
    ]
    return [one.stdout.strip() for one in found]


def test_the_environment_of_others_does_not_matter(programs, tmp_path):
    others = {"GTEST_TOTAL_SHARDS": "3", "GTEST_SHARD_INDEX": "1", "GTEST_FILTER": "no*", "GTEST_OUTPUT": f"xml:{tmp_path}/x.xml"}
    assert len(known(programs.path("googletest"), **others)) == len(GOOGLETEST)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("does", "words"),
    [
        ("crash", "died of SIGABRT when it was asked for its tests (--gtest_list_tests); its last words: about to die"),
        ("sleep", "has not ended within 1 s after it was asked for its tests (--gtest_list_tests); its last words: asleep"),
        ("shut", "has closed its output and not ended"),
        ("ignore", "does not tell its tests as GoogleTest does: does its main() call InitGoogleTest?; it has ended with 0"),
    ],
)
def test_a_program_that_does_something_else(programs, does, words):
    said = refused(programs.path("odd"), "--limit", "1", DOES=does)
    assert f"holdfast list: {programs.path('odd')}: {words}" in said, said


def test_a_program_that_writes_without_end_is_heard(programs):
    assert list(known(programs.path("odd"), DOES="flood")) == ["Suite.Test"]


def test_what_cannot_be_run(programs, tmp_path):
    program = tmp_path / "program"
    shutil.copy(programs.path("googletest"), program)
    program.chmod(0o644)
    assert f"may not be run (Permission denied); chmod +x {program}" in refused(program)
    # For another machine.
    program.chmod(0o755)
    with program.open("r+b") as file:
        file.seek(18)
        file.write((183).to_bytes(2, "little"))
    assert f"is a program for aarch64, and this machine is {os.uname().machine}" in refused(program)
    program.write_bytes(b"")
    assert "is no test program" in refused(program)
    program.write_bytes(b"\x7fELF")
    assert "is a program without GoogleTest, Catch2 or doctest" in refused(program)
    program.write_text("#!/bin/sh\nexec true\n")
    assert f"is a script; say what it is: gtest:{program}" in refused(program)
    assert "does not tell its tests as GoogleTest does" in refused(f"gtest:{program}")
    assert "does not say which Catch2 it has" in refused(f"catch2:{program}")
    assert "in a form that is not doctest's" in refused(f"doctest:{program}")
    program.write_text(f'#!/bin/sh\nexec {programs.path("googletest")} "$@"\n')
    assert len(known(f"gtest:{program}")) == len(GOOGLETEST)
    assert "is a program (x86_64) without" in refused("/usr/bin/env") or os.uname().machine != "x86_64"
    assert "is not there" in refused(tmp_path / "nothing") and "is not there" in refused(tmp_path / "nothing.py::test_x")
    assert "is neither a file nor a folder" in refused("/dev/null")


# ---- CTest

CMAKE = """
cmake_minimum_required(VERSION 3.20)
project(t LANGUAGES NONE)
enable_testing()
add_test(NAME plain COMMAND true)
add_test(NAME "with space" COMMAND sh -c "echo \\"a;b\\"")
add_test(NAME props COMMAND sh -c "exit 3")
set_tests_properties(props PROPERTIES WILL_FAIL ON LABELS "a;b" TIMEOUT 5 PROCESSORS 2 RUN_SERIAL ON RESOURCE_LOCK "db;port"
  DEPENDS plain FIXTURES_REQUIRED F RESOURCE_GROUPS "2,gpus:2;gpus:1,crypto:3" PASS_REGULAR_EXPRESSION "x;y" FAIL_REGULAR_EXPRESSION z
  SKIP_RETURN_CODE 77 ENVIRONMENT "A=1;B=2" SKIP_REGULAR_EXPRESSION "s" ENVIRONMENT_MODIFICATION "PATH=path_list_prepend:/x"
  REQUIRED_FILES "/nofile")
add_test(NAME setup COMMAND true)
set_tests_properties(setup PROPERTIES FIXTURES_SETUP F)
add_test(NAME off COMMAND true)
set_tests_properties(off PROPERTIES DISABLED ON)
add_test(NAME missing COMMAND /nonexistent/program)
"""


@pytest.fixture
def build(tmp_path: Path) -> Path:
    (tmp_path / "CMakeLists.txt").write_text(CMAKE)
    subprocess.run(["cmake", "-S", tmp_path, "-B", tmp_path / "build"], check=True, capture_output=True, timeout=LIMIT)
    return tmp_path / "build"


def test_a_build_folder_of_ctest(build):
    found = known(build)
    assert list(found) == ["plain", "with space", "props", "setup", "off", "missing"]
    assert found["with space"]["command"][1:] == ["-c", 'echo "a;b"'] and found["plain"]["folder"] == str(build)
    one = found["props"]
    assert one["expected"] == {"will_fail": True, "skip_code": 77, "passes": ["x", "y"], "fails": ["z"], "skips": ["s"]}
    assert {name: one[name] for name in ("labels", "timeout", "cores", "serial", "locks", "after", "requires", "environment")} == {
        "labels": ["a", "b"], "timeout": 5.0, "cores": 2, "serial": True, "locks": ["db", "port"], "after": ["plain", "setup"],
        "requires": ["F"], "environment": ["A=1", "B=2"],
    }  # fmt: skip
    assert one["environment_changes"] == ["PATH=path_list_prepend:/x"] and one["needs_files"] == ["/nofile"]
    assert one["resource_groups"] == [[["gpus", 2]], [["gpus", 2]], [["gpus", 1], ["crypto", 3]]]
    assert found["setup"]["sets_up"] == ["F"] and found["off"]["disabled"]
    assert found["missing"]["problem"] == "its program is not there; build the project" and found["missing"]["command"] == []
    assert one["file"].endswith("CMakeLists.txt") and one["line"] == 7
    output = run(build).stdout.splitlines()
    assert output[0] == f"{build}: CTest, 6 tests, 1 disabled"
    assert "  props    (2 cores; GPUs: 3; at most 5 s; alone; locks db, port; after plain, setup)" in output


def test_what_is_no_build_folder(build, tmp_path):
    assert "CTestTestfile.cmake is missing" in refused(f"ctest:{tmp_path}")
    only = tmp_path / "bin"
    only.mkdir()
    (only / "python3").symlink_to(sys.executable)
    assert "there is no ctest in PATH" in refused(build, PATH=str(only))


# ---- commands


def test_commands(tmp_path):
    (tmp_path / "all.toml").write_text(
        """
[[test]]
name = "starts"
command = "sh -c 'exit 3'"
timeout = 3
memory = "2GiB"
gpus = 1
ranks = 4
cores = 2
labels = ["slow"]
locks = ["port:8080"]
serial = true
[[test]]
name = "a name, [with] \\"all\\""
command = ["./program", "a b"]
folder = "sub"
after = ["starts"]
environment = { A = "b c" }
disabled = true
"""
    )
    found = known(tmp_path / "all.toml")
    first, second = found.values()
    assert first["command"] == ["sh", "-c", "exit 3"] and first["memory"] == 2 << 30 and first["folder"] == str(tmp_path)
    assert (first["timeout"], first["gpus"], first["ranks"], first["cores"], first["serial"]) == (3.0, 1, 4, 2, True)
    assert second["folder"] == str(tmp_path / "sub") and second["environment"] == ["A=b c"] and second["after"] == ["starts"]
    assert 'a name, [with] "all"' in found and second["disabled"]
    (tmp_path / "all.txt").write_text('# a comment\n./check --fast "a b"\n\n  true\n')
    assert {name: one["command"] for name, one in known(tmp_path / "all.txt").items()} == {
        './check --fast "a b"': ["./check", "--fast", "a b"], "true": ["true"],
    }  # fmt: skip
    assert known("command:echo 'a b'")["echo 'a b'"]["command"] == ["echo", "a b"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[test]]\nname = 1\ncommand = 'a'", "test 1: name = 1: a text"),
        ('[[test]]\nname = "a"', "test 'a': command is missing"),
        ('[[test]]\ncommand = "a"', "test 1: name is missing"),
        ('[[test]]\nname = "a"\ncommand = "b"\ntimout = 3', "test 'a': there is no key 'timout'; did you mean 'timeout'?"),
        ('[[tests]]\nname = "a"', "there is no key 'tests'; did you mean 'test'?"),
        ("test = 3", "test is no list of tables"),
        ('[[test]]\nname = "a"\ncommand = []', "command = []: no command"),
        ('[[test]]\nname = "a"\ncommand = "\'"', "No closing quotation"),
        ('[[test]]\nname = "a"\ncommand = "b"\nmemory = "lots"', "an amount of memory, such as 300M or 2GiB"),
        ('[[test]]\nname = "a"\ncommand = "b"\nmemory = 5', "an amount of memory"),
        ('[[test]]\nname = "a"\ncommand = "b"\ncores = 0', "cores = 0: a whole number from 1 on"),
        ('[[test]]\nname = "a"\ncommand = "b"\nranks = true', "ranks = True: a whole number from 1 on"),
        ('[[test]]\nname = "a"\ncommand = "b"\ntimeout = -1', "timeout = -1: seconds, more than 0"),
        ('[[test]]\nname = "a"\ncommand = "b"\ntimeout = inf', "seconds, more than 0"),
        ('[[test]]\nname = "a"\ncommand = "b"\nserial = 1', "serial = 1: true or false"),
        ('[[test]]\nname = "a"\ncommand = "b"\nlabels = "x"', "a list of texts"),
        ('[[test]]\nname = "a"\ncommand = "b"\nenvironment = { A = 1 }', "a table of texts"),
        ('[[test]]\nname = "a"\ncommand = "b"\nafter = ["c"]', "after = 'c', and no test has that name"),
        ('[[test]]\nname = "a"\ncommand = "b"\n' * 2, "has two tests named 'a'"),
        ("[[test", "is no TOML"),
        (b"\xff\xfe", "is no text in UTF-8"),
    ],
)
def test_commands_that_cannot_be(tmp_path, text, words):
    file = tmp_path / "all.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    said = refused(file)
    assert f"holdfast list: {file}: " in said and words in said, said


def test_lines_that_cannot_be(tmp_path):
    (tmp_path / "all.txt").write_text("true\nsh -c 'x\n")
    assert "line 2: No closing quotation: sh -c 'x" in refused(tmp_path / "all.txt")
    (tmp_path / "all.cmds").write_text("true\n")
    assert "commands:" in refused(tmp_path / "all.cmds") and list(known(f"commands:{tmp_path / 'all.cmds'}")) == ["true"]
    assert "is no command: No closing quotation" in refused("command:'x")


# ---- pytest


def test_what_pytest_collects(tmp_path):
    (tmp_path / "test_a.py").write_text(
        "import pytest\n@pytest.mark.slow\n@pytest.mark.parametrize('a', ['x y', '[b]'])\ndef test_a(a): pass\ndef test_b(): pass\n"
    )
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = slow\naddopts = -v --holdfast\n")
    found = known(".", folder=tmp_path)
    assert list(found) == ["test_a.py::test_a[x y]", "test_a.py::test_a[[b]]", "test_a.py::test_b"]
    assert found["test_a.py::test_a[x y]"]["labels"] == ["parametrize", "slow"] and found["test_a.py::test_b"]["line"] == 5
    assert list(known("test_a.py::test_b", folder=tmp_path)) == ["test_a.py::test_b"]
    (tmp_path / "empty").mkdir()
    assert "has no tests that pytest collects" in refused(tmp_path / "empty")
    (tmp_path / "test_b.py").write_text("import no_such_module\n")
    assert "pytest cannot collect it; it has ended with 2" in refused(tmp_path)


# ---- all together


def test_several_at_once_and_what_is_wanted_of_them(programs, tmp_path):
    (tmp_path / "all.txt").write_text("true\n")
    done = run(tmp_path / "nothing", programs.path("googletest"), tmp_path / "all.txt", "--filter", "Suite.*", "--filter", "true")
    assert done.returncode == 4 and done.stderr == f"holdfast list: {tmp_path / 'nothing'}: is not there\n"
    assert done.stdout.splitlines() == [
        f"{programs.path('googletest')}: GoogleTest, 4 tests, 1 disabled", "  Suite.Passes", "  Suite.PassesToo",
        "  Suite.DISABLED_Off    (disabled)", "  Suite.Skips", f"{tmp_path / 'all.txt'}: commands, 1 test", "  true",
    ]  # fmt: skip
    assert [one["name"] for one in suites(programs.path("doctest"), "--label", "inner")[0]["tests"]] == ["inner/plain", "alone"]
    for words in (("--limit", "0"), ("--limit", "x"), ("--format", "xml"), ()):
        done = run(*([tmp_path / "all.txt", *words] if words else []))
        assert done.returncode == 4 and "Traceback" not in done.stderr, done.stderr


def test_a_reader_that_has_seen_enough(tmp_path):
    (tmp_path / "all.txt").write_text("".join(f"true {number}\n" for number in range(20000)))
    done = subprocess.run(
        f"{sys.executable} -m holdfast list {tmp_path / 'all.txt'} | head -n 1", shell=True, capture_output=True, text=True, timeout=LIMIT, check=False
    )  # fmt: skip
    assert done.stdout == f"{tmp_path / 'all.txt'}: commands, 20000 tests\n" and done.stderr == ""
