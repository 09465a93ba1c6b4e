"""Options and hooks that must behave as in plain pytest: the same command with and without --holdfast, compared."""

from __future__ import annotations

import re
from typing import Any

import pytest

SUITE = {
    "test_a": """
import pytest, warnings
def test_pass(): pass
def test_fail(): assert 0
@pytest.mark.skip(reason="not now")
def test_skip(): pass
@pytest.mark.xfail(reason="known")
def test_xfail(): assert 0
@pytest.mark.xfail
def test_xpass(): pass
@pytest.mark.xfail(strict=True)
def test_xpass_strict(): pass
@pytest.fixture
def broken(): raise RuntimeError("broken fixture")
def test_setup_error(broken): pass
@pytest.fixture
def breaks_later():
    yield
    raise RuntimeError("broken teardown")
def test_teardown_error(breaks_later): pass
def test_both(breaks_later): assert 0
def test_warns(): warnings.warn("careful now")
""",
    "test_b": """
import pytest, unittest
@pytest.mark.parametrize("v", ["a b", "semi;colon", "a::b", "[x]", "x" * 100])
def test_param(v): pass
class TestClass:
    def test_method(self): pass
class TestUnit(unittest.TestCase):
    def setUp(self): self.x = 1
    def test_unit(self): self.assertEqual(self.x, 1)
    @unittest.skip("unit skip")
    def test_unit_skipped(self): pass
    @unittest.expectedFailure
    def test_expected(self): self.fail("as expected")
""",
}


def summary(output: str) -> str:
    """The counts of the last line, without the time."""
    line = [line for line in output.splitlines() if re.search(r"\bin \d", line)][-1]
    return re.sub(r" in [\d.]+s.*", "", line).strip("= ")


def assert_same(suite: Any, *args: str, **options: Any) -> Any:
    plain, run = suite.plain(*args, **options), suite.run(*args, **options)
    assert run.code == plain.code, run.output + plain.output
    assert summary(run.output) == summary(plain.output), run.output + plain.output
    return run


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["-k", "pass or param"],
        ["-k", "nothing_like_this"],
        ["-m", "skip"],
        ["--deselect", "test_a.py::test_fail"],
        ["test_a.py::test_pass", "test_b.py::TestClass::test_method"],
        ["test_b.py", "-k", "colon"],
        ["-W", "error"],
        ["--runxfail"],
        ["-p", "no:warnings"],
        ["--capture=sys"],
        ["--capture=no"],
        ["--capture=tee-sys"],
        ["--tb=no", "-rA"],
    ],
)
def test_same_counts_and_exit_code(suite: Any, args: list[str]) -> None:
    suite.write(**SUITE)
    assert_same(suite, *args)


@pytest.mark.parametrize("args", [["--co"], ["--co", "-q"], ["--co", "-qq"], ["--co", "-v"], ["--co", "-k", "param"]])
def test_collect_only_prints_the_same(suite: Any, args: list[str]) -> None:
    suite.write(**SUITE)
    plain, run = suite.plain(*args), suite.run(*args)

    def tree(output: str) -> list[str]:
        return [re.sub(r" in [\d.]+s", "", line) for line in output.splitlines() if not line.startswith(("plugins:", "holdfast"))]

    assert tree(run.output) == tree(plain.output)
    assert run.code == plain.code


def test_collect_only_survives_a_fatal_module(suite: Any) -> None:
    suite.write(test_a="def test_one(): pass", test_b="import os; os.abort()")
    run = suite.run("--co", "-q")
    assert "test_a.py::test_one" in run.output


def test_unknown_path_is_the_same_usage_error(suite: Any) -> None:
    plain, run = suite.plain("nowhere.py"), suite.run("nowhere.py")
    assert run.code == plain.code == 4
    assert "file or directory not found: nowhere.py" in run.output
    assert "Traceback" not in run.output


def test_addopts_options_of_conftest_and_a_subdirectory(suite: Any, tmp_path: Any) -> None:
    suite.file("pytest.ini", f"[pytest]\naddopts = --holdfast --hf-slots=2 --hf-log={suite.log} --own=ini\n")
    suite.file("conftest.py", "def pytest_addoption(parser): parser.addoption('--own')\n")
    suite.file("sub/conftest.py", "import pytest\n@pytest.fixture\ndef here(): return 'sub'\n")
    suite.file("sub/test_it.py", "def test_it(here, pytestconfig): assert (here, pytestconfig.getoption('own')) == ('sub', 'ini')\n")
    run = suite.plain(cwd=tmp_path / "sub")
    assert run.code == 0, run.output
    assert run.verdicts == {"sub/test_it.py::test_it": "passed"}
    run = suite.plain("--rootdir", str(tmp_path / "sub"), "sub")
    assert run.verdicts == {"test_it.py::test_it": "passed"}


def test_ini_twins(suite: Any) -> None:
    suite.file("pytest.ini", "[pytest]\nholdfast = true\nhf_slots = 1\nhf_timeout = 0.5\nhf_grace = 0.5\n")
    suite.write(test_it="import time\ndef test_hang(): time.sleep(3600)\n")
    run = suite.plain()
    assert "holdfast" in run.output
    assert "1 slot(s)" in run.output
    assert "timeout in call: not finished after 0.5 s" in run.output


def test_last_failed_failed_first_new_first_and_stepwise(suite: Any) -> None:
    suite.file("pytest.ini", "[pytest]\n")
    suite.write(test_it="def test_a(): pass\ndef test_b(): assert 0\ndef test_c(): pass\n")
    suite.run()
    run = suite.run("--lf")
    assert list(run.short()) == ["test_b"]
    assert "run-last-failure: rerun previous 1 failure" in run.output
    run = suite.run("--ff", "--hf-slots=1")
    assert list(run.short()) == ["test_b", "test_a", "test_c"]
    assert '"test_it.py::test_c"' in (suite.root / ".pytest_cache/v/cache/nodeids").read_text()
    run = suite.run("--sw", "--hf-slots=1")
    assert list(run.short()) == ["test_a", "test_b"]
    run = suite.run("--sw", "--hf-slots=1")
    assert list(run.short()) == ["test_b"]
    assert "skipping 1 already passed" in run.output


def test_a_module_that_failed_to_import_and_is_mended_leaves_the_cache(suite: Any) -> None:
    suite.file("pytest.ini", "[pytest]\n")
    suite.write(test_it="import nonsense_that_is_not_there")
    assert suite.run().code == 2
    suite.write(test_it="def test_a(): pass\n")
    run = suite.run("--lf")
    assert run.short() == {"test_a": "passed"}
    assert "no previously failed" in suite.run("--lf").output


def test_report_hooks_properties_logs_and_sections_arrive(suite: Any) -> None:
    suite.file(
        "conftest.py",
        """
import pytest
def pytest_report_header(config): return "own header"
def pytest_report_collectionfinish(config, items): return f"own line about {len(items)} items"
def pytest_report_teststatus(report):
    if report.when == "call" and report.passed: return "passed", "y", "YES"
@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    report.extra_of_ours = ["kept", item.name]
def pytest_runtest_logreport(report):
    if hasattr(report, "node") and report.when == "call":
        print("controller saw", report.extra_of_ours, report.user_properties, sorted(report.keywords)[:1])
def pytest_terminal_summary(terminalreporter):
    terminalreporter.write_line("own summary")
""",
    )
    suite.write(
        test_it="""
import logging, warnings
def test_it(record_property):
    record_property("answer", 42)
    logging.getLogger("mine").warning("log line")
    print("printed")
    warnings.warn("warned")
def test_fails():
    logging.getLogger("mine").error("log of the failed")
    assert 0
"""
    )
    run = suite.run("-s")
    for text in (
        "own header",
        "own line about 2 items",
        "own summary",
        "controller saw ['kept', 'test_it'] [('answer', 42)]",
        "log of the failed",
        "UserWarning: warned",
    ):
        assert text in run.output
    assert "1 warning" in run.output


def test_verbose_quiet_durations_and_short_summary(suite: Any) -> None:
    suite.write(test_it="import time\ndef test_slow(): time.sleep(0.05)\ndef test_fail(): assert 0\n")
    run = suite.run("-v", "--durations=1", "--durations-min=0.01")
    assert re.search(r"\[gw\d\] \[ *\d+%\] PASSED test_it.py::test_slow", run.output)
    assert "slowest 1 durations" in run.output
    assert re.search(r"0\.\d+s call +test_it.py::test_slow", run.output)
    assert "FAILED test_it.py::test_fail - assert 0" in run.output
    assert "test_slow" not in suite.run("-q").output


def test_output_with_s_has_a_prefix(suite: Any) -> None:
    suite.write(
        test_it="import os\ndef test_it():\n    print('by python')\n    os.write(1, b'by native\\n')\n    os.write(2, b'partial')\n"
    )
    run = suite.run("-s", "--hf-slots=1")
    assert "[gw0] by python\n" in run.output
    assert "[gw0] by native\n" in run.output
    assert "[gw0] partial" in run.output


def test_maxfail_stops(suite: Any) -> None:
    suite.write(test_it="import pytest\n@pytest.mark.parametrize('i', range(50))\ndef test_it(i): assert i != 3\n")
    run = suite.run("-x", "--hf-slots=1")
    assert run.code == 1
    assert "stopping after 1 failures" in run.output
    assert len(run.verdicts) < 50


def test_session_exit_inside_a_test(suite: Any) -> None:
    suite.write(test_it="import pytest\ndef test_a(): pass\ndef test_b(): pytest.exit('enough', returncode=7)\ndef test_c(): pass\n")
    plain, run = suite.plain(), suite.run("--hf-slots=1")
    assert run.code == plain.code == 7
    assert "enough" in run.output
    assert run.short() == {"test_a": "passed"}


def test_tmp_path_is_below_basetemp(suite: Any, tmp_path: Any) -> None:
    suite.write(
        test_it="""
import pytest
@pytest.mark.parametrize("i", range(8))
def test_it(tmp_path, i, worker_id):
    (tmp_path / "file").write_text(str(i))
    assert f"popen-{worker_id}" in str(tmp_path)
"""
    )
    run = suite.run("--basetemp", str(tmp_path / "base"), "--hf-slots=2")
    assert set(run.verdicts.values()) == {"passed"}
    assert len(list((tmp_path / "base").rglob("file"))) == 8
