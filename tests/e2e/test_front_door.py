"""`holdfast` by itself: its help, completions, man page, colours, and a run as one JSON document."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest
from test_run_native import Native, native

from holdfast.__main__ import COMMANDS
from holdfast.cli.completion import SHARE
from holdfast.cli.parser import ENGINE
from holdfast.engine_path import find_engine

__all__ = ["native"]
LIMIT = 60


def holdfast(native: Native, *words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "holdfast", *map(str, words)], cwd=native.root, env={**native.env, **environment}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=LIMIT, check=False,
    )  # fmt: skip


# ---- help


def test_help_knows_every_command(native):
    for words, code in ((["--help"], 0), (["-h"], 0), ([], 4)):
        done = holdfast(native, *words)
        assert done.returncode == code, done
        listed = set(re.findall(r"^    ([a-z-]+)\b", done.stdout, re.MULTILINE))
        assert listed >= {*COMMANDS, *ENGINE}


def test_a_command_that_is_not_there(native):
    done = holdfast(native, "rnu", "--", "x")
    assert (done.returncode, done.stdout) == (4, "") and done.stderr == "holdfast: there is no command 'rnu'; did you mean 'run'?\n"


@pytest.mark.parametrize("command", sorted(ENGINE))
def test_what_is_said_of_the_engines_commands_is_true(command):
    """They are written down twice: there, where they are read, and in cli/parser.py."""
    done = subprocess.run([find_engine(), command, "--help"], capture_output=True, text=True, timeout=LIMIT, check=True)
    options = set(re.findall(r"^  +(?:-h,)?(--[a-z-]+)", done.stdout, re.MULTILINE)) - {"--help"}
    assert options == {option for option, _, _ in ENGINE[command][1]}


# ---- completions, man page


def test_bash_completes(native):
    script = holdfast(native, "completion", "bash")
    assert script.returncode == 0
    (native.root / "script").write_text(script.stdout)
    (native.root / "a-target.toml").touch()
    ask = """
source ./script
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_shtab_holdfast holdfast "${COMP_WORDS[COMP_CWORD]}" ""
printf '%s\\n' "${COMPREPLY[@]}"
"""

    def completed(*words: str) -> set[str]:
        command = ["bash", "-c", ask, "-", "holdfast", *words]
        done = subprocess.run(command, cwd=native.root, capture_output=True, text=True, timeout=LIMIT, check=True)
        return set(done.stdout.split())

    assert completed("co") == {"completion", "config"}
    assert completed("run", "--hf-re") == {"--hf-retry", "--hf-resume", "--hf-repeat-until"}
    assert completed("list", "--format", "js") == {"json"}
    assert completed("list", "a-t") == {"a-target.toml"}


@pytest.mark.parametrize(("shell", "check"), [("bash", "-n"), ("zsh", "-n"), ("fish", "-n")])
def test_completions_are_scripts_of_their_shell(shell, check):
    if shutil.which(shell) is None:
        pytest.skip(f"NOT RUN: {shell} is not installed")
    subprocess.run([shell, check, SHARE / f"completion.{shell}"], timeout=LIMIT, check=True)


def test_the_man_page_has_all_commands():
    text = (SHARE / "holdfast.1").read_text()
    plain = re.sub(r"\\(f[A-Z]|(?=-))", "", text)
    assert plain.startswith(".TH HOLDFAST") and "holdfast - runs test suites" in plain
    assert all(f"holdfast {name}" in plain for name in (*COMMANDS, *ENGINE))


# ---- colours


def test_colours_are_for_terminals(native):
    (native.root / "x.toml").write_text('[[test]]\nname = "off"\ncommand = "false"\ndisabled = true')
    plain = holdfast(native, "list", "x.toml").stdout
    assert "\x1b" not in plain
    painted = holdfast(native, "list", "--color=yes", "x.toml", NO_COLOR="1").stdout
    assert "\x1b[33m    (disabled)\x1b[0m" in painted and re.sub(r"\x1b\[\d+m", "", painted) == plain
    assert holdfast(native, "list", "x.toml", FORCE_COLOR="1").stdout == painted
    for environment in ({"NO_COLOR": "1"}, {"PY_COLORS": "0"}):
        assert holdfast(native, "list", "x.toml", FORCE_COLOR="1", **environment).stdout == plain
    assert holdfast(native, "list", "--color=no", "x.toml", FORCE_COLOR="1").stdout == plain


def test_colours_of_a_run_are_pytests(native):
    (native.root / "x.toml").write_text('[[test]]\nname = "off"\ncommand = "false"')
    assert "\x1b[31m" in holdfast(native, "run", "--color=yes", "--", "x.toml").stdout
    assert "\x1b" not in holdfast(native, "run", "--", "x.toml", NO_COLOR="1", FORCE_COLOR="1").stdout
    ledger = next((native.root / ".holdfast").glob("run-*.db"))
    assert "\x1b[31mfailed\x1b[0m" in holdfast(native, "show", "--color=yes", ledger).stdout
    assert "\x1b" not in holdfast(native, "show", ledger).stdout


# ---- JSON


def test_a_run_as_one_document(native, programs, tmp_path):
    (native.root / "x.toml").write_text(
        '[[test]]\nname = "fine"\ncommand = "true"\n[[test]]\nname = "too big"\ncommand = "true"\ncores = 4096'
    )
    native.write(test_it="def test_says():\n    assert 1 == 2, 'why'\n")
    words = ("run", "--format", "json", "--hf-timeout=3", "--", programs.path("ends"), "x.toml", "test_it.py")
    done = holdfast(native, *words, RAN=str(tmp_path / "ran"))
    said: dict[str, Any] = json.loads(done.stdout)
    assert (said["format"], said["exit_code"], done.returncode) == (1, 1, 1)
    assert "test session starts" in done.stderr
    tests = {test["id"].rpartition("::")[2]: test for test in said["tests"]}
    assert said["counts"] == Counter(test["verdict"] for test in said["tests"]) and said["counts"].keys() >= {"crashed", "exited"}
    assert tests["fine"]["verdict"] == "passed" and tests["fine"]["message"] == "" and tests["fine"]["duration"] > 0
    assert tests["Ends.Segv"]["message"].startswith("crashed in call: SIGSEGV")
    assert tests["Ends.Hangs"]["message"] == "timeout in call: not finished after 3 s"
    assert tests["test_says"]["message"] == "AssertionError: why\nassert 1 == 2"
    assert tests["Ends.Skipped"]["message"] == "Skipped: has no time"
    assert "4096 cores" in tests["too big"]["message"]
    assert tests["Ends.Leaves"]["notes"] == ["leaked"] and tests["Ends.Leaves"]["attempts"][0]["detail"]["leaked"]
    # From its ledger the same, but for the end that only the run has seen.
    shown = json.loads(holdfast(native, "show", "--format=json", said["ledger"]).stdout)
    assert shown == {key: value for key, value in said.items() if key not in ("exit_code", "ledger")}
    one = json.loads(holdfast(native, "show", "--format=json", said["ledger"], "fine").stdout)
    assert [test["id"] for test in one["tests"]] == [tests["fine"]["id"]]


def test_a_run_that_never_began_as_a_document(native):
    (native.root / "x.toml").write_text('[[test]]\nname = "fine"\ncommand = "true"')
    done = holdfast(native, "run", "--format=json", "--hf-slots=none", "--", "x.toml")
    assert json.loads(done.stdout) == {"format": 1, "run": {}, "counts": {}, "tests": [], "exit_code": 4, "ledger": None}
    assert done.returncode == 4 and "is not a number of slots" in done.stderr
    done = holdfast(native, "run", "--format=json", "--", "x.toml", "nowhere")
    said = json.loads(done.stdout)
    assert done.returncode == said["exit_code"] == 4 and said["tests"] == [] and said["ledger"] is None
    assert said["error"].startswith("nowhere: ") and done.stderr == f"holdfast run: {said['error']}\n"


def test_a_form_that_is_not_there(native):
    done = holdfast(native, "run", "--format", "xml", "--", "x.toml")
    assert done.returncode == 4 and "--format xml: give text or json" in done.stderr
    done = holdfast(native, "run", "--format")
    assert done.returncode == 4
