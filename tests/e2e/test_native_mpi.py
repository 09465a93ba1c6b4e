"""`holdfast run` of MPI programs: each rank is a process of the program, and finds the others by its own library's ways."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import Run
from mpi_libraries import left, use
from test_run_native import LIMIT, Native, native, run, text_of

__all__ = ["native"]
COMPILERS = {"openmpi": "mpicxx.openmpi", "mpich": "mpicxx.mpich"}


@pytest.fixture(params=list(COMPILERS))
def library(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def suite_of_ranks(native: Native, programs: Any, tmp_path_factory: pytest.TempPathFactory) -> Native:
    """What the libraries leave would be found in its own place for temporary files."""
    native.env.update(TMPDIR=str(tmp_path_factory.mktemp("mpi")), OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    return native


def program(programs: Any, library: str, source: str = "ranks") -> Path:
    if shutil.which(COMPILERS[library]) is None:
        pytest.skip(f"NOT RUN with {library}: {COMPILERS[library]} is missing")
    return programs.path(f"{source}-{library}")


def commands(native: Native, **tests: dict[str, Any]) -> Path:
    lines = []
    for name, keys in tests.items():
        lines += ["[[test]]", f'name = "{name}"', *(f"{key} = {toml(value)}" for key, value in keys.items())]
    file = native.root / "ranks.toml"
    file.write_text("\n".join(lines))
    return file


def toml(value: Any) -> str:
    """As JSON, but for tables."""
    return f"{{ {', '.join(f'{key} = {toml(one)}' for key, one in value.items())} }}" if isinstance(value, dict) else json.dumps(value)


def no_leftovers(native: Native, done: Run) -> None:
    assert not left(native), done.output
    assert not [notes for notes in done.notes.values() if "leaked" in notes], done.output


def test_each_rank_is_a_process_of_the_program(suite_of_ranks, programs, library):
    native, path = suite_of_ranks, str(program(programs, library))
    file = commands(
        native,
        three={"command": [path, "size", "3"], "ranks": 3},
        one={"command": [path, "size", "1"], "ranks": 1},
        more={"command": [path, "size", "9"], "ranks": 9},
        says={"command": [path, "return", "2"], "ranks": 3, "environment": {"GREETING": "hello"}},
    )
    done = run(native, file, options=("--hf-slots=3", "-rsP"))
    assert done.short() == {"three": "passed", "one": "passed", "more": "skipped", "says": "failed"}, done.output
    assert re.search(r"SKIPPED .*9 (MPI )?ranks", done.output), done.output
    said = text_of(done, "says")
    assert "exit code 5" in said and "rank 2: failed" in said and "ranks 0, 1: passed" in said, said
    for rank in range(3):
        assert f"rank {rank} of 3, sum 3, hello" in said
    no_leftovers(native, done)


def test_a_program_is_found_where_it_runs(suite_of_ranks, programs, library):
    """By a word that means nothing where the run was started; for a script, its launcher or the mpiexec in PATH would count."""
    native = suite_of_ranks
    (native.root / "below").mkdir()
    (native.root / "below" / "prog").symlink_to(program(programs, library))
    words = {"direct": ["./prog", "size", "2"], "by_another": ["env", "A=b", "./prog", "size", "2"]}
    file = commands(native, **{name: {"command": command, "ranks": 2, "folder": "below"} for name, command in words.items()})
    done = run(native, file)
    assert done.short() == {"direct": "passed", "by_another": "passed"}, done.output


def test_who_failed_first_and_who_waited_for_whom(suite_of_ranks, programs, library):
    native, path = suite_of_ranks, str(program(programs, library))
    file = commands(
        native,
        crashes={"command": [path, "crash"], "ranks": 2},
        aborts={"command": [path, "abort"], "ranks": 2},
        hangs={"command": [path, "hang"], "ranks": 2, "timeout": 6},
    )
    done = run(native, file, options=("--hf-grace=1",))
    verdicts = done.short()
    assert (verdicts["crashes"], verdicts["hangs"]) == ("crashed", "timeout"), done.output
    assert verdicts["aborts"] in ("failed", "exited")
    crashed = text_of(done, "crashes")
    assert "SIGSEGV (SEGV_MAPERR, address 0x8)" in crashed and "main (" in crashed and "ranks.cc:" in crashed, crashed
    for name in ("crashes", "aborts"):
        assert "rank 0: waited in MPI_Barrier when it was ended for the others' failure" in text_of(done, name), done.output
    assert "rank 1: called MPI_Abort(7)" in text_of(done, "aborts")
    hangs = text_of(done, "hangs")
    assert "rank 0: not finished after 6 s in MPI_Barrier" in hangs and "rank 1: not finished after 6 s\n" in hangs, hangs
    assert "ERROR at" not in done.output
    no_leftovers(native, done)


PYTHON = """
import holdfast

@holdfast.mark.parallel(2)
def test_python(comm):
    assert comm.size == 2 and comm.allreduce(comm.rank) == 1
"""


def test_each_library_and_mpi4py_in_one_run(suite_of_ranks, programs):
    native = suite_of_ranks
    paths = {name: str(program(programs, name)) for name in COMPILERS}
    folder = Path(native.env["TMPDIR"])
    use(native, "openmpi", folder)
    native.write(test_ranks=PYTHON)
    file = commands(native, **{name: {"command": [path, "size", "2"], "ranks": 2} for name, path in paths.items()})
    done = run(native, file, native.root / "test_ranks.py", options=("--hf-isolate=worker",))
    assert done.short() == {"openmpi": "passed", "mpich": "passed", "test_python[2]": "passed"}, done.output
    no_leftovers(native, done)


def test_ranks_of_a_script(suite_of_ranks, programs):
    """Python has no MPI in it, and what it will load nobody knows: the mpiexec in PATH says it."""
    native = suite_of_ranks
    program(programs, "openmpi")
    use(native, "openmpi", Path(native.env["TMPDIR"]))
    tools = native.root / "bin"
    tools.mkdir()
    (tools / "mpiexec").symlink_to(str(shutil.which("mpiexec.openmpi")))
    code = "from mpi4py import MPI; assert MPI.COMM_WORLD.allreduce(MPI.COMM_WORLD.rank) == 1"
    file = commands(native, script={"command": [sys.executable, "-c", code], "ranks": 2})
    done = run(native, file, PATH=f"{tools}:{native.env['PATH']}")
    assert done.short() == {"script": "passed"}, done.output
    no_leftovers(native, done)


def test_the_librarys_own_launcher_joins_them(suite_of_ranks, programs, library):
    native = suite_of_ranks
    paths = {name: str(program(programs, name)) for name in COMPILERS}
    other = next(name for name in COMPILERS if name != library)
    order = sorted(paths, key=lambda name: name != library)
    file = commands(native, **{name: {"command": [paths[name], "size", "2"], "ranks": 2} for name in order})
    done = run(native, file, options=("--hf-mpi=mpirun",))
    assert done.short() == {library: "passed", other: "failed"}, done.output
    assert "its MPI is " in text_of(done, other) and "run it by itself, or with --hf-mpi=auto" in text_of(done, other)


def test_ranks_that_have_not_joined_are_no_pass(suite_of_ranks, programs):
    native, path = suite_of_ranks, str(program(programs, "openmpi"))
    file = commands(
        native,
        none={"command": ["true"], "ranks": 2},
        alone={"command": [path, "size", "1"], "ranks": 2},
        one={"command": ["true"], "ranks": 1},
    )
    for manager in ("pmi", "pmix"):
        done = run(native, file, options=(f"--hf-mpi={manager}", "-k", "not alone" if manager == "pmix" else ""))
        expected = {"none": "error", "one": "passed", **({"alone": "error"} if manager == "pmi" else {})}
        assert done.short() == expected, done.output
        assert "rank 0 of 2 has not joined the others: is this a program of MPI" in text_of(done, "none")
        assert " 1 passed" in done.output


def test_a_program_without_mpi_where_nothing_tells(suite_of_ranks):
    native = suite_of_ranks
    tools = native.root / "bin"
    tools.mkdir()
    for tool in ("ldd", "sh", "true", "grep", "cat"):
        (tools / tool).symlink_to(str(shutil.which(tool)))
    file = commands(native, none={"command": ["true"], "ranks": 2})
    done = run(native, file, PATH=str(tools))
    assert done.short() == {"none": "failed"}
    assert "it asks for 2 MPI ranks, and there is no MPI library in true" in done.output and "--hf-mpi=pmix" in done.output


def test_two_that_would_start_ranks(suite_of_ranks):
    file = commands(suite_of_ranks, both={"command": ["mpirun", "-n", "2", "true"], "ranks": 2})
    done = run(suite_of_ranks, file)
    assert done.code == 2 and "test 'both': ranks = 2, and its command starts ranks itself; leave out mpirun" in done.output


CTEST = """
cmake_minimum_required(VERSION 3.18)
project(t LANGUAGES NONE)
enable_testing()
add_test(NAME open COMMAND {openmpi_run} -n 2 --oversubscribe --allow-run-as-root -x GREETING=hi {openmpi} size 2)
set_tests_properties(open PROPERTIES PROCESSORS 2 FAIL_REGULAR_EXPRESSION "rank 0 of 1")
add_test(NAME hydra COMMAND {mpich_run} -genv GREETING hi -np 2 {mpich} return 1)
set_tests_properties(hydra PROPERTIES PROCESSORS 4)
add_test(NAME as_it_is COMMAND {openmpi_run} -n 2 --oversubscribe --allow-run-as-root {openmpi} size 2)
set_tests_properties(as_it_is PROPERTIES PASS_REGULAR_EXPRESSION "rank 0 of 2")
add_test(NAME hosts COMMAND {openmpi_run} --host localhost:2 --allow-run-as-root -n 2 {openmpi} size 2)
"""


def test_launchers_of_ctest_are_replaced(suite_of_ranks, programs):
    native = suite_of_ranks
    launchers = {f"{name}_run": shutil.which(tool) for name, tool in (("openmpi", "mpirun.openmpi"), ("mpich", "mpiexec.hydra"))}
    cmake = CTEST.format(**{name: program(programs, name) for name in COMPILERS}, **launchers)
    (native.root / "CMakeLists.txt").write_text(cmake)
    subprocess.run(["cmake", "-S", ".", "-B", "build"], cwd=native.root, check=True, capture_output=True, timeout=LIMIT)
    listed = subprocess.run(
        [*native.command()[:3], "list", "--format", "json", "build"], cwd=native.root, env=native.env, capture_output=True, text=True, timeout=LIMIT, check=True
    )  # fmt: skip
    tests = {test["name"]: test for test in json.loads(listed.stdout)["targets"][0]["tests"]}
    assert {name: (test["ranks"], test["cores"]) for name, test in tests.items()} == {
        "open": (2, 1),
        "hydra": (2, 2),
        "as_it_is": (0, 1),
        "hosts": (0, 1),
    }
    done = run(native, "build", options=("--hf-slots=4",))
    assert done.short() == {"open": "passed", "hydra": "failed", "as_it_is": "passed", "hosts": "passed"}, done.output
    said = text_of(done, "hydra")
    assert "rank 1: failed" in said and "rank 0: passed" in said and "rank 0 of 2, sum 1, hi" in said
    no_leftovers(native, done)


def test_ranks_of_a_framework_by_pattern(suite_of_ranks, programs, library):
    native = suite_of_ranks
    path = program(programs, library, "rankstest")
    native.file("holdfast.toml", '[[tests]]\nmatch = "*::Ranks.*"\nranks = 3\n[[tests]]\nmatch = "*::Ranks.Pairs"\nranks = 2\n')
    done = run(native, path, options=("--hf-slots=3", "--hf-isolate=worker"))
    assert done.short() == {
        "Ranks.Three": "passed", "Ranks.Pairs": "passed", "Ranks.TheLastFails": "failed", "Ranks.DISABLED_Three": "skipped", "Alone.One": "passed",
    }, done.output  # fmt: skip
    said = text_of(done, "Ranks.TheLastFails")
    assert "rank 2: failed" in said and "ranks 0, 1: passed" in said and "not the last" in said, said
    no_leftovers(native, done)


def test_ranks_by_pattern_are_for_programs(native):
    native.write(test_it="def test(): pass\n")
    native.file("holdfast.toml", '[[tests]]\nmatch = "*"\nranks = 3\n')
    done = run(native, "test_it.py")
    assert done.code == 4 and "ranks are for programs (holdfast run), and test_it.py::test is none" in done.output
    native.file("holdfast.toml", '[[tests]]\nmatch = "*"\nranks = 0\n')
    assert "ranks: 0 is not possible; give a whole number of 1 to 4096" in run(native, "test_it.py").output
