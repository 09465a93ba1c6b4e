"""The plugins that suites already use: the same outcomes as in plain pytest, and what the plugin itself makes is the same too."""

from __future__ import annotations

import html
import json
import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest

CODE = """
def covered(x):
    if x > 3:
        return "more"
    return "less"

def never():
    return 1

def in_crash(x):
    y = x + 1
    return y
"""
COV_TESTS = """
import os, code_under_test, pytest
@pytest.fixture(scope="module")
def shared():
    yield code_under_test.covered(1)
@pytest.mark.parametrize("i", range(6))
def test_it(i, shared): assert code_under_test.covered(i)
def test_fails(): assert code_under_test.covered(9) == "less"
"""


def lines(path: Path) -> dict[str, Any]:
    files = json.loads((path / "coverage.json").read_text())["files"]
    return {name: entry["executed_lines"] for name, entry in files.items()}


@pytest.mark.parametrize("branch", [[], ["--cov-branch"]])
def test_cov(project: Any, isolation: str, tmp_path: Path, branch: list[str]) -> None:
    project.write(code_under_test=CODE, test_it=COV_TESTS, conftest="import code_under_test\n")
    args = ["--cov=.", "--cov-report=json", *branch]
    plain = project.run(["pytest_cov"], *args)
    expected = lines(tmp_path)
    ours = project.holdfast(["pytest_cov"], isolation, *args)
    assert (ours.code, ours.outcomes) == (plain.code, plain.outcomes), ours.output
    assert lines(tmp_path) == expected
    assert not list(tmp_path.glob(".coverage.*")), "data files are left"


def test_cov_of_a_worker_that_dies(project: Any, tmp_path: Path) -> None:
    project.write(
        code_under_test=CODE,
        test_it="import os, time, code_under_test\n"
        "def test_one(): assert code_under_test.covered(9)\n"
        "def test_waits(): time.sleep(2.1)\n"
        "def test_crash(): os.abort()\n",
    )
    ours = project.holdfast(["pytest_cov"], "worker", "--hf-slots=1", "--cov=.", "--cov-report=json")
    assert ours.code == 1, ours.output
    assert 4 in lines(tmp_path)["code_under_test.py"]  # From the process that died.


def test_html(project: Any, isolation: str, tmp_path: Path) -> None:
    project.write(
        test_it="""
import os, pytest
@pytest.mark.parametrize("i", range(5))
def test_it(i): print("words of", i)
def test_fails(): assert 0
def test_crashes(): os.abort()
@pytest.mark.skip
def test_skipped(): pass
"""
    )
    ours = project.holdfast(["pytest_html.plugin", "pytest_metadata.plugin"], isolation, "--html=r.html", "--self-contained-html")
    assert ours.code == 1, ours.output
    text = (tmp_path / "r.html").read_text()
    found = re.search(r'data-jsonblob="([^"]*)"', text)
    assert found is not None
    blob = json.loads(found.group(1).replace("&#34;", '"').replace("&quot;", '"').replace("&#39;", "'").replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))  # fmt: skip
    results = {nodeid: [r["result"] for r in entries] for nodeid, entries in blob["tests"].items()}
    assert [r for entry in results.values() for r in entry].count("Passed") == 5
    assert results["test_it.py::test_crashes"] == ["Failed"]
    assert "SIGABRT" in json.dumps(blob["tests"]["test_it.py::test_crashes"])


def test_html_and_ranks(project: Any, tmp_path: Path) -> None:
    """As pytest_parallel promises: one entry a test, with what each rank said, and the same in JUnit's."""
    pytest.importorskip("mpi4py", reason="mpi4py is not installed: ranks in pytest-html's report are not tested")
    project.write(
        test_ranks="""
import holdfast
@holdfast.mark.parallel([1, 2])
def test_good(comm): pass
@holdfast.mark.parallel(2)
def test_bad(comm):
    print("words of rank", comm.rank)
    assert comm.rank == 0, "the second"
"""
    )
    ours = project.holdfast(["pytest_html.plugin", "pytest_metadata.plugin"], "test", "--html=r.html", "--self-contained-html")
    assert ours.code == 1 and len(ours.outcomes) == 3, ours.output
    found = re.search(r'data-jsonblob="([^"]*)"', (tmp_path / "r.html").read_text())
    assert found is not None
    blob = json.loads(html.unescape(found.group(1)))
    results = {nodeid: [entry["result"] for entry in entries] for nodeid, entries in blob["tests"].items()}
    assert results == {
        "test_ranks.py::test_good[1]": ["Passed"],
        "test_ranks.py::test_good[2]": ["Passed"],
        "test_ranks.py::test_bad[2]": ["Failed"],
    }
    log = blob["tests"]["test_ranks.py::test_bad[2]"][0]["log"]
    assert "the second" in log and "words of rank 1" in log and "words of rank 0" in log and "rank 0: passed" in log, log


RERUNS = """
import pathlib, pytest
def count(name):
    with open(name, "a") as file: file.write("x")
    return len(pathlib.Path(name).read_text())
@pytest.fixture(scope="module")
def shared(): yield 1
def test_second(shared): assert count("second") >= 2
def test_never(shared): assert count("never") < 0
def test_fine(shared): pass
@pytest.mark.flaky(reruns=1)
def test_marked(shared): assert count("marked") >= 2
"""


@pytest.mark.parametrize("with_xdist", [False, True])
def test_rerunfailures(project: Any, isolation: str, tmp_path: Path, with_xdist: bool) -> None:
    plugins = ["pytest_rerunfailures", *(["xdist.plugin"] if with_xdist else [])]
    project.write(test_it=RERUNS)
    plain = project.run(plugins, "--reruns=2")
    tries = {name: (tmp_path / name).read_text() for name in ("second", "never", "marked")}
    for name in tries:
        (tmp_path / name).unlink()
    ours = project.holdfast(plugins, "test", "--reruns=2") if isolation == "test" else project.holdfast(plugins, "worker", "--reruns=2")
    assert (ours.code, ours.outcomes) == (plain.code, plain.outcomes), ours.output
    assert re.search(r"4 rerun", plain.output) and re.search(r"\d rerun", ours.output)
    if isolation == "test":
        assert {name: (tmp_path / name).read_text() for name in tries} == tries


ASYNC = """
import asyncio, pytest
@pytest.fixture
async def value():
    await asyncio.sleep(0)
    yield 1
    await asyncio.sleep(0)
@pytest.mark.parametrize("i", range(3))
async def test_async(i, value): await asyncio.sleep(0); assert value == 1
async def test_fails(value): await asyncio.sleep(0); assert value == 2
def test_sync(): pass
"""


def test_asyncio(project: Any, isolation: str) -> None:
    project.write(test_it=ASYNC)
    plain = project.run(["pytest_asyncio.plugin"], "--asyncio-mode=auto")
    ours = project.holdfast(["pytest_asyncio.plugin"], isolation, "--asyncio-mode=auto")
    assert plain.code == 1 and (ours.code, ours.outcomes) == (plain.code, plain.outcomes), ours.output


def test_asyncio_with_a_loop_for_the_module(project: Any, isolation: str) -> None:
    project.write(
        test_it="""
import asyncio, pytest, pytest_asyncio
pytestmark = pytest.mark.asyncio(loop_scope="module")
@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def loop(): yield asyncio.get_running_loop()
@pytest.mark.parametrize("i", range(4))
async def test_same(i, loop): assert asyncio.get_running_loop() is loop
"""
    )
    ours = project.holdfast(["pytest_asyncio.plugin"], isolation)
    assert ours.code == 0 and len(ours.outcomes) == 4, ours.output


def test_anyio(project: Any, isolation: str) -> None:
    project.write(test_it=ASYNC.replace("import asyncio, pytest", "import anyio as asyncio, pytest\npytestmark = pytest.mark.anyio"))
    plain = project.run(["anyio.pytest_plugin"])
    ours = project.holdfast(["anyio.pytest_plugin"], isolation)
    assert plain.code == 1 and (ours.code, ours.outcomes) == (plain.code, plain.outcomes), ours.output


def test_async_fixtures_of_a_module(project: Any, isolation: str) -> None:
    """Made once for all tests; their event loop does not survive a fork, so the tests share the process that has it."""
    project.write(
        test_asyncio="""
import os, pytest, pytest_asyncio
pytestmark = pytest.mark.asyncio(loop_scope="module")
@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def made():
    with open("made", "a") as file: file.write("a")
    yield os.getpid()
    with open("gone", "a") as file: file.write("a")
@pytest.mark.parametrize("i", range(3))
async def test_it(made, i): assert made == os.getpid()
""",
        test_anyio="""
import os, pytest
pytestmark = pytest.mark.anyio
@pytest.fixture(scope="module")
def anyio_backend(): return "asyncio"
@pytest.fixture(scope="module")
async def made(anyio_backend):
    with open("made", "a") as file: file.write("b")
    yield os.getpid()
    with open("gone", "a") as file: file.write("b")
@pytest.mark.parametrize("i", range(3))
async def test_it(made, i): assert made == os.getpid()
""",
    )
    ours = project.holdfast(["pytest_asyncio.plugin", "anyio.pytest_plugin"], isolation)
    assert ours.code == 0 and len(ours.outcomes) == 6, ours.output
    if isolation == "test":
        for name in ("made", "gone"):
            assert sorted((project.root / name).read_text()) == ["a", "b"]


def test_mock(project: Any, isolation: str) -> None:
    project.write(
        test_it="""
import os, pytest
def test_mocked(mocker):
    mocker.patch("os.getcwd", return_value="elsewhere")
    assert os.getcwd() == "elsewhere"
def test_unmocked(): assert os.getcwd() != "elsewhere"
def test_fails(mocker):
    stub = mocker.stub()
    stub(1)
    stub.assert_called_once_with(2)
"""
    )
    plain = project.run(["pytest_mock"])
    ours = project.holdfast(["pytest_mock"], isolation)
    assert plain.code == 1 and (ours.code, ours.outcomes) == (plain.code, plain.outcomes), ours.output


def test_hypothesis_keeps_its_examples(project: Any, isolation: str, tmp_path: Path) -> None:
    project.write(
        test_it="""
import pytest
from hypothesis import given, settings, strategies as st
@pytest.mark.parametrize("n", range(6))
@given(st.integers())
def test_fails(n, x):
    with open(f"tried{n}", "a") as file: file.write(f"{x}\\n")
    assert x < 1000 + n
@given(st.text())
def test_passes(x): assert x == x
"""
    )
    plugin = ["_hypothesis_pytestplugin"]
    first = project.holdfast(plugin, isolation, "-p", "no:randomly")
    assert first.code == 1 and sum(bool(o[0]) for o in first.outcomes.values()) == 6, first.output
    assert (tmp_path / ".hypothesis").exists()
    for path in tmp_path.glob("tried*"):
        path.unlink()
    second = project.holdfast(plugin, isolation)
    assert second.outcomes == first.outcomes
    # The failing example of the first run is the first to be tried: the database was written, and is readable.
    for n in range(6):
        assert int((tmp_path / f"tried{n}").read_text().split()[0]) >= 1000 + n


def test_subtests_of_pytest(project: Any, isolation: str) -> None:
    project.write(
        test_it="""
import unittest
def test_parts(subtests):
    for i in range(4):
        with subtests.test(msg="part", i=i): assert i != 2
class TestUnit(unittest.TestCase):
    def test_parts(self):
        for i in range(3):
            with self.subTest(i=i): self.assertNotEqual(i, 1)
"""
    )
    plain = project.run([])
    ours = project.holdfast([], isolation)
    assert plain.code == 1 and (ours.code, ours.outcomes) == (plain.code, plain.outcomes), ours.output


def test_django(project: Any, isolation: str, tmp_path: Path) -> None:
    project.write(
        settings="""
SECRET_KEY = "x"
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "main.sqlite3", "TEST": {"NAME": "test.sqlite3"}}}
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
""",
        test_it="""
import pytest
from django.contrib.auth.models import User
@pytest.mark.django_db
@pytest.mark.parametrize("i", range(4))
def test_alone(i):
    assert User.objects.count() == 0
    User.objects.create(username=f"u{i}")
@pytest.mark.django_db(transaction=True)
def test_transaction():
    User.objects.create(username="t")
def test_forbidden():
    User.objects.count()
def test_client(client, settings):
    settings.ROOT_URLCONF = "test_it"
urlpatterns = []
""",
    )
    (tmp_path / "pytest.ini").write_text("[pytest]\nDJANGO_SETTINGS_MODULE = settings\n")
    plain = project.run(["pytest_django.plugin"])
    ours = project.holdfast(["pytest_django.plugin"], isolation)
    assert plain.code == 1 and (ours.code, ours.outcomes) == (plain.code, plain.outcomes), ours.output


SHUFFLED = """
import pytest, random
@pytest.mark.parametrize("i", range(12))
def test_it(i):
    with open("order", "a") as file: file.write(f"{__name__} {i} {random.random()}\\n")
"""


@pytest.mark.parametrize("seed", ["-p", "--randomly-seed=7", "--randomly-seed=last"])
def test_randomly(project: Any, isolation: str, tmp_path: Path, seed: str) -> None:
    project.write(test_a=SHUFFLED, test_b=SHUFFLED)
    args = ("-p", "no:nothing") if seed == "-p" else (seed,)
    first = project.holdfast(["pytest_randomly"], isolation, "--hf-slots=1", *args)
    assert first.code == 0, first.output
    order = (tmp_path / "order").read_text()
    (tmp_path / "order").unlink()
    used = re.search(r"--randomly-seed=(\d+)", first.output)
    assert used is not None, first.output
    plain = project.run(["pytest_randomly"], f"--randomly-seed={used.group(1)}")
    assert plain.code == 0
    # The seed that is shown is the one that is used, for the order and for random numbers in tests, also with a history.
    assert (tmp_path / "order").read_text() == order


def test_benchmark_runs_alone_and_shows_its_table(project: Any, isolation: str, tmp_path: Path) -> None:
    project.write(
        test_it="""
import pytest, time
@pytest.mark.parametrize("i", range(2))
def test_fast(benchmark, i): assert benchmark(lambda: sum(range(100))) == 4950
def test_pedantic(benchmark): benchmark.pedantic(time.sleep, args=(0.001,), rounds=3)
def test_other(): pass
"""
    )
    ours = project.holdfast(["pytest_benchmark.plugin"], isolation, "--benchmark-json=b.json", "--benchmark-max-time=0.1")
    assert ours.code == 0, ours.output
    assert "benchmark: 3 tests" in ours.output and "test_pedantic" in ours.output
    assert "disabled" not in ours.output
    found = {bench["name"]: bench for bench in json.loads((tmp_path / "b.json").read_text())["benchmarks"]}
    assert set(found) == {"test_fast[0]", "test_fast[1]", "test_pedantic"}
    assert found["test_pedantic"]["stats"]["rounds"] == 3
    only = project.holdfast(["pytest_benchmark.plugin"], isolation, "--benchmark-only", "--benchmark-max-time=0.1")
    assert only.code == 0 and only.outcomes["test_it.test_other"] == ["skipped"], only.output


def test_allure(project: Any, isolation: str, tmp_path: Path) -> None:
    project.write(
        test_it="""
import allure, pytest
@allure.feature("things")
@pytest.mark.parametrize("i", range(4))
def test_it(i):
    with allure.step("a step"): pass
    allure.attach("body", name="text")
def test_fails(): assert 0
@pytest.mark.skip
def test_skipped(): pass
"""
    )

    def results(folder: str) -> dict[str, Any]:
        found = [json.loads(path.read_text()) for path in (tmp_path / folder).glob("*-result.json")]
        names = [entry["fullName"] + str(entry.get("parameters")) for entry in found]
        # A failure in a worker is judged again: Allure shows the first one as a retry.
        assert isolation == "worker" or len(names) == len(set(names)), f"{folder}: a test has several results"
        return {
            name: [entry["status"], len(entry.get("steps", [])), len(entry.get("attachments", []))] for name, entry in zip(names, found)
        }

    plain = project.run(["allure_pytest.plugin"], "--alluredir=plain")
    ours = project.holdfast(["allure_pytest.plugin"], isolation, "--alluredir=ours", "--clean-alluredir")
    assert plain.code == 1 and (ours.code, ours.outcomes) == (plain.code, plain.outcomes), ours.output
    assert results("ours") == results("plain")


def test_timeout_of_pytest_timeout(project: Any, isolation: str) -> None:
    project.write(
        test_it="""
import pytest, time
@pytest.mark.timeout(0.5)
def test_slow(): time.sleep(3600)
@pytest.mark.timeout(60)
def test_fine(): pass
"""
    )
    plain = project.run(["pytest_timeout"])
    ours = project.holdfast(["pytest_timeout"], isolation)
    assert plain.code == 1 and (ours.code, ours.outcomes) == (plain.code, plain.outcomes), ours.output
    assert "Timeout" in ours.output and "TIMEOUT" not in ours.output


def test_xdists_own_workers_are_refused(project: Any) -> None:
    project.write(test_it="def test_it(): pass")
    ours = project.holdfast(["xdist.plugin"], "test", "-n2")
    assert ours.code == 4 and "use --hf-slots=N instead of -n N" in ours.output
    fine = project.holdfast(["xdist.plugin"], "test")
    assert fine.code == 0, fine.output


def test_conftest_files_may_give_xdists_workers_something(project: Any, isolation: str) -> None:
    project.write(
        conftest="def pytest_configure_node(node): node.workerinput['mine'] = node.gateway.id",
        test_it="def test_it(request): assert request.config.workerinput['mine'] == 'gw0'",
    )
    ours = project.holdfast(["xdist.plugin"], isolation)
    assert ours.code == 0, ours.output


def test_history_is_whole_after_all_that(project: Any, tmp_path: Path) -> None:
    project.write(test_it=ASYNC)
    project.holdfast(["pytest_asyncio.plugin"], "worker", "--asyncio-mode=auto")
    db = sqlite3.connect(tmp_path / ".holdfast" / "history.db")
    assert db.execute("SELECT count(*) FROM tests").fetchone() == (5,)
