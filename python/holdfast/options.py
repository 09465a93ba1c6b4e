"""The options that users see, and the one place where their values are checked. Each has an ini twin (`--hf-slots`, `hf_slots`)."""

from __future__ import annotations

import argparse
import errno
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Optional, Union

import pytest

from holdfast import backend, outer, project, wrap
from holdfast.compat import fkit, pytest_parallel
from holdfast.launchers import LAUNCHERS, NoLauncher, find_srun
from holdfast.wrap import Wrap

DEFAULT_TIMEOUT = 600.0
DEFAULT_GRACE = 5.0
PHASES = ("collect", "setup", "call", "teardown", "exit")
MAX_SLOTS = 4096
# What shares a process, and how the header says it.
ISOLATIONS = {
    "test": "a process per test",
    "class": "a process per class",
    "module": "a process per module",
    "worker": "a worker per slot",
}
RETRY_CAUSES = ("crashed", "timeout", "oom", "exited", "failed", "error")
MAX_RETRIES = 100


def slots(text: str) -> str:
    """`auto` or a number of at least 1; returned as text, for the engine to interpret."""
    if text == "auto":
        return text
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of slots; give 1 or more, or `auto`") from None
    if not 1 <= number <= MAX_SLOTS:
        raise argparse.ArgumentTypeError(f"{number} slots are not possible; give 1 to {MAX_SLOTS}, or `auto`")
    return str(number)


def gpus(text: str) -> int:
    """`auto` (-1: all that can be seen), `none` (0) or a number."""
    if text in ("auto", "none"):
        return -1 if text == "auto" else 0
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of GPUs; give one, `auto` or `none`")
    return int(text)


def gpus_per_slot(text: str) -> int:
    if not text.isdecimal() or int(text) > 64:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of GPUs; give 0 to 64")
    return int(text)


def no_gpu(text: str) -> tuple[str, float]:
    """`fail`, `skip` or `wait:SECONDS`."""
    if text in ("fail", "skip"):
        return text, 0.0
    kind, _, limit = text.partition(":")
    if kind != "wait" or not limit:
        raise argparse.ArgumentTypeError(f"{text!r} is not known; give fail, skip or wait:SECONDS")
    return kind, seconds(limit)


def seconds(text: str) -> float:
    """A finite number of seconds, 0 for none."""
    try:
        number = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds") from None
    if not 0 <= number < 1e9:
        raise argparse.ArgumentTypeError(f"{text} seconds are not possible; give 0 (no limit) or more")
    return number


def times(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= 1_000_000:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of runs; give 1 to 1000000")
    return int(text)


def duration(text: str) -> float:
    """30s, 10m, 2h, or seconds."""
    number, unit = (text[:-1], text[-1]) if text[-1:] in _UNITS else (text, "s")
    try:
        found = float(number) * _UNITS[unit]
    except ValueError:
        found = 0.0
    if not 0 < found < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is no time; give one as in 30s, 10m or 2h")
    return found


_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def deadlines(text: str) -> dict[str, float]:
    """`setup:30,exit:5` -> {"setup": 30.0, "exit": 5.0}."""
    found: dict[str, float] = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        phase, colon, value = part.partition(":")
        if not colon or phase not in PHASES:
            raise argparse.ArgumentTypeError(
                f"{part!r} is not PHASE:SECONDS with a phase out of {', '.join(PHASES)} (for example setup:30,exit:5)"
            )
        found[phase] = seconds(value)
    return found


def retries(text: str) -> dict[str, int]:
    """`crashed:1,oom:2` -> {"crashed": 1, "oom": 2}."""
    found: dict[str, int] = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        cause, colon, value = part.partition(":")
        if cause not in RETRY_CAUSES or not colon:
            raise argparse.ArgumentTypeError(
                f"{part!r} is not CAUSE:TIMES with a cause out of {', '.join(RETRY_CAUSES)} (for example crashed:1,failed:0)"
            )
        if not value.isdecimal() or int(value) > MAX_RETRIES:
            raise argparse.ArgumentTypeError(f"{value!r} is not a number of times; give 0 to {MAX_RETRIES}")
        found[cause] = int(value)
    return found


def seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 1 << 63:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 on")
    return int(text)


def one_of(*values: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in values:
            raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(values)}")
        return text

    return parse


def isolation(text: str) -> str:
    if text not in ISOLATIONS:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not an isolation; these are: " + ", ".join(f"`{name}` ({meaning})" for name, meaning in ISOLATIONS.items())
        )
    return text


@dataclass(frozen=True)
class _Option:
    name: str
    parse: Optional[Callable[[str], Any]]
    default: Any
    help: str
    metavar: Optional[str] = None

    @property
    def dest(self) -> str:
        return self.name.lstrip("-").replace("-", "_")


OPTIONS = (
    _Option("--hf-slots", slots, "auto", "tests at a time; auto: the CPUs that this process may use", "N|auto"),
    _Option(
        "--hf-isolate",
        isolation,
        "test",
        "what shares a process: nothing, a class, a module, or all that a slot runs",
        "test|class|module|worker",
    ),
    _Option(
        "--hf-dist",
        one_of("dynamic", "scope", "isoscope", "file", "group", "sequential"),
        "dynamic",
        "how tests are dealt: each to the next free slot, what shares a class or module at a time (scope; isoscope: one at a time over "
        "all slots), or a file, an xdist_group or everything to one slot",
        "dynamic|scope|isoscope|file|group|sequential",
    ),
    _Option("--hf-timeout", seconds, None, "limit for one test, setup and call together (default 600; 0: none)", "SECONDS"),
    _Option("--hf-deadlines", deadlines, {}, "limits of single phases: collect, setup, call, teardown, exit", "PHASE:S,..."),
    _Option("--hf-grace", seconds, DEFAULT_GRACE, "after SIGINT, time for teardown before SIGTERM and SIGKILL (5)", "SECONDS"),
    _Option(
        "--hf-retry",
        retries,
        {},
        "tries again what ended so, in a fresh process (crashed, timeout, oom, exited, failed, error)",
        "CAUSE:N,...",
    ),
    _Option("--hf-stress", times, 0, "runs each test N times, round after round, or until it fails", "N"),
    _Option(
        "--hf-repeat-until",
        duration,
        0.0,
        "runs all tests again and again until that time (30s, 10m, 2h) is over, each until it fails",
        "TIME",
    ),
    _Option(
        "--hf-flaky", one_of("pass", "fail"), "pass", "what becomes of a test that passed only when it was tried again", "pass|fail"
    ),
    _Option(
        "--hf-leaks",
        one_of("report", "fail", "ignore"),
        "report",
        "what becomes of a test that leaves something behind: a note, an error, or nothing",
        "report|fail|ignore",
    ),
    _Option(
        "--hf-wrap",
        str,
        "",
        "runs each test's process, not its children, under valgrind, compute-sanitizer, strace, rr or a command ({log}: its output)",
        "TOOL|COMMAND",
    ),
    _Option("--hf-wrap-scale", seconds, 0.0, "with --hf-wrap: times that tests may take longer (default: by the tool)", "FACTOR"),
    _Option("--hf-gpus", gpus, -1, "GPUs to use at most: the first so many that can be seen (default: auto, all)", "N|auto|none"),
    _Option("--hf-gpus-per-slot", gpus_per_slot, 0, "GPUs for each test that says nothing of them (default: 0, it is left alone)", "N"),
    _Option(
        "--hf-no-gpu",
        no_gpu,
        ("fail", 0.0),
        "what becomes of tests for which there is no GPU (any more): an error, skipped, or waiting",
        "fail|skip|wait:SECONDS",
    ),
    _Option("--hf-chaos", str, "", "arms the faults of that file for all tests (docs/faults.md)", "FILE.toml"),
    _Option("--hf-seed", seed, None, "with --hf-chaos: the seed of its draws, shown by an earlier run", "N"),
    _Option(
        "--hf-mpi",
        one_of("auto", "pmix", "pmi", *LAUNCHERS),
        "auto",
        "how ranks of MPI tests find each other: by our PMIx (Open MPI) or PMI (MPICH), as mpi4py's library wants (auto), or as "
        "processes of the library's own mpirun or of srun",
        "auto|pmix|pmi|mpirun|srun",
    ),
    _Option("--hf-mpi-options", str, "", "words for that mpirun or srun", "WORDS"),
    _Option(
        "--hf-backend",
        one_of(*backend.BACKENDS),
        "local",
        "where tests run: " + ", ".join(f"{name}: {meaning}" for name, meaning in backend.BACKENDS.items()),
        "|".join(backend.BACKENDS),
    ),
    _Option("--hf-listen", backend.listen, "127.0.0.1", "address of this machine that a job's nodes reach (127.0.0.1)", "HOST[:PORT]"),
    _Option("--hf-job-options", str, "", "words for the command that submits the job, such as --time=10", "WORDS"),
    _Option("--hf-job-launch", str, "", "words for srun, which starts an agent on each node", "WORDS"),
    _Option("--hf-job-commands", str, "", "lines of shell that run in the job before the tests", "SHELL"),
    _Option("--hf-job-environment", one_of("all", "none"), "all", "what the job gets of this environment (all)", "all|none"),
    _Option("--hf-job-wait", seconds, 3600.0, "how long the job may wait for its start (3600; 0: for ever)", "SECONDS"),
    _Option("--hf-journal", str, "", "the run's ledger (default: a new file in ROOTDIR/.holdfast/)", "FILE"),
    _Option("--hf-history", str, "", "durations of earlier runs (default: ROOTDIR/.holdfast/history.db; none: keep none)", "FILE|none"),
    _Option("--hf-log", str, "", "write events as JSON lines, exactly one `verdict` event a test", "FILE.jsonl"),
)
OPTION = {option.dest: option for option in OPTIONS}


def add_options(parser: pytest.Parser) -> None:
    group = parser.getgroup("holdfast", "holdfast: crash-proof parallel runs")
    group.addoption("--holdfast", action="store_true", default=False, help="run the tests under the Holdfast engine")
    parser.addini("holdfast", "run under the Holdfast engine (as --holdfast)", type="bool", default=False)
    for option in OPTIONS:
        # No default here: None means that the command line is silent, and the ini twin decides.
        group.addoption(option.name, dest=option.dest, type=option.parse, default=None, metavar=option.metavar, help=option.help)
        parser.addini(option.dest, f"{option.help} (as {option.name})", default=None)
    group.addoption(
        "--hf-strict",
        action="store_true",
        default=False,
        help="a test that passes alone but failed after others in the same worker (`polluted`) fails",
    )
    parser.addini("hf_strict", "polluted tests fail (as --hf-strict)", type="bool", default=False)
    group.addoption(
        "--hf-faults",
        action="store_true",
        default=False,
        help="starts with the fault shim in all processes, for tests that declare faults (holdfast mark: faults=)",
    )
    parser.addini("hf_faults", "start with the fault shim (as --hf-faults)", type="bool", default=False)
    group.addoption("--hf-config", default=None, metavar="FILE|none", help="the project's file (default: ROOTDIR/holdfast.toml)")
    group.addoption("--hf-profile", default=None, metavar="NAME", help="what [profiles.NAME] of the project's file says comes first")
    group.addoption(
        "--hf-debug",
        action="store_true",
        default=False,
        help="in a terminal: a test that crashes or hangs is kept, stopped, with the command to attach to it, until you press Enter",
    )
    group.addoption(
        "--hf-resume",
        action="store_true",
        default=False,
        help="run what has no verdict in the ledger (--hf-journal, or the latest one), and report the whole run",
    )


def is_enabled(config: pytest.Config, options: argparse.Namespace) -> bool:
    if os.environ.get("HOLDFAST_PLAIN"):
        return False  # `holdfast pollution` or `holdfast shard` at work on a suite that has --holdfast in its addopts.
    ours = getattr(options, "holdfast", False) or config.getini("holdfast")
    return bool(ours or fkit.is_enabled(config, options) or pytest_parallel.is_enabled(options))


def value_of(config: pytest.Config, options: argparse.Namespace, option: _Option) -> Any:
    """Command line, else the project's file, else ini, else default. Raises pytest.UsageError for a value that is none."""
    given = getattr(options, option.dest, None)
    if given is not None:
        return given
    said = said_by_project(config, options, option.dest)
    if said is not None:
        return said
    text: Any = config.getini(option.dest)
    if not text:
        return option.default
    try:
        return option.parse(str(text)) if option.parse else str(text)
    except argparse.ArgumentTypeError as problem:
        raise pytest.UsageError(f"{config.inipath or 'ini file'}: {option.dest}: {problem}") from None


# What may be in a project's file, by its name there (project.py).
PROJECT_OPTIONS: project.Parsers = {
    **{option.dest[len("hf_") :]: option.parse or str for option in OPTIONS},
    "strict": None,
    "faults": None,
}
_PROJECT = pytest.StashKey[Optional[project.Project]]()


def project_of(config: pytest.Config, options: argparse.Namespace) -> Optional[project.Project]:
    """Of --hf-config, or holdfast.toml in the root directory; none where there is none, or where pytest runs without us. Raises
    pytest.UsageError."""
    if not is_enabled(config, options):
        return None
    if _PROJECT in config.stash:
        return config.stash[_PROJECT]
    given = getattr(options, "hf_config", None)
    path = config.invocation_params.dir / given if given and given != "none" else config.rootpath / project.FILE
    found = None
    if given != "none" and (given or path.is_file()):
        try:
            found = project.read(path, PROJECT_OPTIONS)
        except project.BadProject as wrong:
            raise pytest.UsageError(str(wrong)) from None
    profile = getattr(options, "hf_profile", None)
    if profile and (problem := found.lacks(profile) if found is not None else f"there is no {path}"):
        raise pytest.UsageError(f"--hf-profile={profile}: {problem}")
    config.stash[_PROJECT] = found
    return found


def said_by_project(config: pytest.Config, options: argparse.Namespace, dest: str) -> Any:
    found = project_of(config, options)
    said = found.option(dest[len("hf_") :], getattr(options, "hf_profile", None) or "") if found is not None else None
    return said[0] if said is not None else None


@dataclass(frozen=True)
class Settings:
    """Everything that the options decide, checked."""

    slots: str
    isolation: str
    strict: bool
    retries: dict[str, int]
    flaky_fails: bool
    again: dict[str, float]  # As in protocol/README.md, `configure`.
    timeout: float
    phases: dict[str, float]
    grace: float
    journal: Path
    history: Optional[Path]
    dist: str
    pin: bool  # Each MPI rank to CPUs of its own.
    resume: bool
    log: Optional[Path]
    leaks: str
    wrap: Optional[Wrap]
    debug: bool
    backend: Optional[dict[str, Any]]  # As in protocol/README.md, `configure`; None for this machine.
    gpus: dict[str, Any]  # As in protocol/README.md, `configure`.
    notes: list[str] = field(default_factory=list)

    def limits(self) -> dict[str, float]:
        """In the words of the engine (engine/run/limits.h)."""
        # A test's limit says how patient the user is, but an import may well be slower than the slowest test.
        collect = max(self.timeout, 10.0) if self.timeout else 0.0
        limits = {"test": self.timeout, "collect": collect, "exit": 10.0, "grace": self.grace, **self.phases}
        scale = self.wrap.scale if self.wrap is not None else 1.0
        # The collection is not wrapped.
        return {name: seconds * (1.0 if name == "collect" else scale) for name, seconds in limits.items()}


def isolation_of(config: pytest.Config) -> str:
    return str(value_of(config, config.option, OPTION["hf_isolate"]))


def wrap_of(config: pytest.Config) -> Optional[Wrap]:
    """The tool that tests run under. Raises pytest.UsageError."""
    text = str(value_of(config, config.option, OPTION["hf_wrap"]))
    return wrap.parse(text, float(value_of(config, config.option, OPTION["hf_wrap_scale"]))) if text else None


def _debug(config: pytest.Config, notes: list[str], elsewhere: bool) -> bool:
    """Whether what dies or hangs is kept. Never where nobody sits at a terminal."""
    if not config.getoption("hf_debug"):
        return False
    for reason, holds in (
        ("tests run on other machines", elsewhere),
        ("CI is set", bool(os.environ.get("CI"))),
        ("there is no terminal", not _has_terminal()),
    ):
        if holds:
            notes.append(f"--hf-debug does nothing here: {reason}")
            return False
    return True


def _has_terminal() -> bool:
    """One to which we may write and from which we may read: we are in its foreground, and our output goes there."""
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


def mpi_of(config: pytest.Config) -> tuple[str, list[str]]:
    """Who joins ranks, and the user's words for it. Raises pytest.UsageError."""
    manager, words = (str(value_of(config, config.option, OPTION[name])) for name in ("hf_mpi", "hf_mpi_options"))
    if words and manager not in LAUNCHERS:
        raise pytest.UsageError(f"--hf-mpi-options are for a launcher of ranks; add --hf-mpi={' or --hf-mpi='.join(LAUNCHERS)}")
    return manager, backend.words("--hf-mpi-options", words)


def is_for_jobs(config: pytest.Config) -> bool:
    """Whether tests run in a job of a batch system."""
    values = {"hf_backend": value_of(config, config.option, OPTION["hf_backend"]), **pytest_parallel.job_values(config.option)}
    return values["hf_backend"] not in backend.HERE


def wants_leaks(config: pytest.Config) -> bool:
    """Whether tests are looked at for what they leave."""
    return bool(value_of(config, config.option, OPTION["hf_leaks"]) != "ignore")


def has_chaos(config: pytest.Config) -> bool:
    """Whether faults are injected into all tests."""
    return bool(value_of(config, config.option, OPTION["hf_chaos"]))


def switch_of(config: pytest.Config, options: argparse.Namespace, name: str) -> bool:
    """As value_of(), for an option without a value: the command line can only turn it on, the project's file can turn the ini's off."""
    if getattr(options, name, False):
        return True
    said = said_by_project(config, options, name)
    return bool(config.getini(name) if said is None else said)


def is_strict(config: pytest.Config) -> bool:
    return switch_of(config, config.option, "hf_strict")


def slots_of(config: pytest.Config, options: argparse.Namespace) -> str:
    workers = pytest_parallel.slots(options)
    if workers:
        return workers
    if fkit.is_enabled(config, options) and not getattr(options, "hf_slots", None) and not config.getini("hf_slots"):
        return fkit.slots(config, options, slots)
    given = str(value_of(config, options, OPTION["hf_slots"]))
    return str(outer.size()) if given == "auto" and outer.size() else given


def settings_of(config: pytest.Config) -> Settings:
    """Raises pytest.UsageError."""
    values = {option.dest: value_of(config, config.option, option) for option in OPTIONS}
    values.update(pytest_parallel.job_values(config.option))
    _refuse_conflicts(config)
    base = config.invocation_params.dir
    notes = [*fkit.notes(config), *outer.notes()]
    resume = bool(config.getoption("hf_resume"))
    timeout: Union[float, None] = values["hf_timeout"]
    if timeout is None and fkit.is_enabled(config, config.option):
        timeout = fkit.timeout(config, config.option, seconds)
    interactive = is_interactive(config.option)
    slots = slots_of(config, config.option)
    journal = _journal_path(config, values["hf_journal"], resume, notes)
    where = backend.settings(values, slots, journal, base, interactive)
    _refuse_launcher(mpi_of(config)[0], where is None)
    return Settings(
        slots=slots,
        isolation=values["hf_isolate"],
        strict=is_strict(config),
        retries=values["hf_retry"],
        flaky_fails=values["hf_flaky"] == "fail",
        again={"times": values["hf_stress"], "seconds": values["hf_repeat_until"]},
        # Nobody is hurried in a debugger.
        timeout=0.0 if interactive else DEFAULT_TIMEOUT if timeout is None else timeout,
        phases=dict.fromkeys(PHASES, 0.0) if interactive else values["hf_deadlines"],
        grace=values["hf_grace"],
        journal=journal,
        history=_history_path(config, values["hf_history"]),
        dist=pytest_parallel.dist(config.option, values["hf_dist"]),
        pin=pytest_parallel.pins(config.option),
        resume=resume,
        leaks=values["hf_leaks"],
        wrap=wrap_of(config),
        debug=_debug(config, notes, where is not None),
        backend=where,
        gpus=_gpus(config, values),
        log=base / values["hf_log"] if values["hf_log"] else None,
        notes=notes,
    )


def _gpus(config: pytest.Config, values: dict[str, Any]) -> dict[str, Any]:
    no_gpu, wait = values["hf_no_gpu"]
    found = {"most": values["hf_gpus"], "per_slot": values["hf_gpus_per_slot"], "soft": False, "no_gpu": no_gpu, "wait": wait}
    if not found["per_slot"] and fkit.is_enabled(config, config.option):
        # pytest-fkit's default; on a machine without GPUs its tests run all the same.
        found.update(per_slot=fkit.gpus_per_worker(config, config.option), soft=True)
    return found


def _refuse_launcher(manager: str, here: bool) -> None:
    if manager == "srun" and here:
        try:
            find_srun()
        except NoLauncher as problem:
            raise pytest.UsageError(f"--hf-mpi=srun: {problem}") from None


def is_interactive(options: argparse.Namespace) -> bool:
    """The user wants to debug in the terminal."""
    return bool(getattr(options, "usepdb", False) or getattr(options, "trace", False))


def _refuse_conflicts(config: pytest.Config) -> None:
    fkit.refuse_both(config)
    if config.getoption("numprocesses", None):
        raise pytest.UsageError("--holdfast and pytest-xdist's -n both want to run the tests; use --hf-slots=N instead of -n N")
    if value_of(config, config.option, OPTION["hf_retry"]):
        for name in ("stress", "repeat-until"):
            if value_of(config, config.option, OPTION[f"hf_{name.replace('-', '_')}"]):
                raise pytest.UsageError(f"--hf-{name} looks for the failures that --hf-retry forgives; leave one of them out")
    if is_interactive(config.option) and value_of(config, config.option, OPTION["hf_wrap"]):
        raise pytest.UsageError(
            "--pdb and --trace need the terminal, which a test under --hf-wrap does not have; leave one of them out"
        )
    if is_interactive(config.option) and slots_of(config, config.option) != "1":
        raise pytest.UsageError("--pdb and --trace need the terminal for one test at a time; add --hf-slots=1")


def calls_nothing(config: pytest.Config) -> bool:
    """--setup-only and --setup-plan: no test is called."""
    return bool(config.getoption("setuponly", False) or config.getoption("setupplan", False))


def _history_path(config: pytest.Config, given: str) -> Optional[Path]:
    if calls_nothing(config):
        return None
    if given == "none":
        return None
    if given:
        return (config.invocation_params.dir / given).absolute()
    directory = config.rootpath / ".holdfast"
    return directory / "history.db" if directory.is_dir() or _make_directory(directory) is None else None


def _make_directory(directory: Path) -> Optional[OSError]:
    """The suite's `.holdfast`, which keeps itself out of version control."""
    try:
        directory.mkdir(exist_ok=True)
        ignore = directory / ".gitignore"
        if not ignore.exists():
            ignore.write_text("# Made by holdfast.\n*\n")
    except OSError as problem:
        return problem
    return None


def _journal_path(config: pytest.Config, given: str, resume: bool, notes: list[str]) -> Path:
    if given:
        return (config.invocation_params.dir / given).absolute()
    directory = config.rootpath / ".holdfast"
    if resume:
        ledgers = sorted(directory.glob("run-*.db"))
        if not ledgers:
            raise pytest.UsageError(f"--hf-resume: there is no ledger in {directory}; give one with --hf-journal=FILE")
        return ledgers[-1]
    return _new_journal(directory, notes)


def _new_journal(directory: Path, notes: list[str]) -> Path:
    import datetime
    import tempfile

    name = f"run-{datetime.datetime.now():%Y%m%d-%H%M%S}-{os.getpid()}.db"
    problem = _make_directory(directory)
    if problem is None and not os.access(directory, os.W_OK):
        problem = PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    if problem is not None:
        elsewhere = Path(tempfile.mkdtemp(prefix="holdfast-")) / name
        notes.append(f"{directory} cannot be written ({problem.strerror}); the ledger is {elsewhere}")
        return elsewhere
    _keep_newest(directory, 10)
    return directory / name


def _keep_newest(directory: Path, count: int) -> None:
    """Old ledgers of our own naming go, so that the directory does not grow for ever."""
    for old in sorted(directory.glob("run-*.db"))[:-count]:
        for path in directory.glob(old.name + "*"):
            path.unlink(missing_ok=True)
