"""A test that is a program, as an item of pytest."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Iterable
from typing import Any, Callable, Optional, Union

import pytest

from holdfast import crash, mpi, options
from holdfast.targets import batch
from holdfast.targets.model import Test
from holdfast.targets.mpi_library import library_of
from holdfast.targets.running import Outcome, run

# Of the output of a program that has died.
_WORDS = 64 << 10


def _wishes(test: Test) -> dict[str, Any]:
    """For the mark `holdfast`."""
    given = {
        "timeout": test.timeout,
        "cores": test.cores if test.cores > 1 else None,
        "memory": test.memory,
        "gpus": test.all_gpus,
        "serial": test.serial,
        "exclusive": list(test.locks),
    }
    return {name: value for name, value in given.items() if value}


class NotEnded(Exception):
    """Its program has died, or ended without a word of its test: that is the engine's to tell."""


class NativeItem(pytest.Item):
    """One test, in a process of its own."""

    def __init__(self, *, test: Test, **given: Any) -> None:
        super().__init__(**given)
        self.test = test
        self._kind = str(self.parent.kind)  # type: ignore[union-attr]
        # Tests with the same one may share a process with those that follow them in a worker (batch.py); None for none.
        self._batch = batch.key_of(self._kind, test) if not _wishes(test) else None
        self._coming: Iterable[pytest.Item] = ()
        # Whether its outcome came from such a process, where it did not pass, and what it took there.
        self.holdfast_batched = False
        self.holdfast_seconds: Optional[float] = None
        # Whether such processes take too long: the engine is to give those that follow to others.
        self.holdfast_apart = False
        # What holdfast_run() has seen, for runtest().
        self._came: Optional[tuple[Union[Outcome, KeyboardInterrupt], str]] = None
        self.holdfast_is_program = True
        # Node ids of tests that must be over, and of those that must have passed; absent for none (items.py).
        self.holdfast_after: list[str]
        self.holdfast_requires: list[str]
        # Of MPI: how many processes of the program the test is (0: one, without), what joins them (empty: what the run has for all),
        # and which library they have.
        self.holdfast_ranks = 0
        self._no_mpi = ""
        self.holdfast_mpi_manager = self.holdfast_mpi_library = self.holdfast_mpi_path = ""
        if test.ranks:
            self._find_mpi()
        # Whether it was ended by the engine's signal.
        self.holdfast_interrupted = False
        # What the engine is to make of it, where its end is its verdict (protocol/README.md, `done`).
        self.holdfast_program: Optional[dict[str, Any]] = None
        if wishes := _wishes(test):
            self.add_marker(pytest.mark.holdfast(**wishes))
        # As marks, for -m. Not pytest.mark.NAME, which wants names of Python's.
        self.own_markers.extend(pytest.Mark(label, (), {}, _ispytest=True) for label in test.labels)
        if test.disabled:
            self.add_marker(pytest.mark.skip(reason="disabled"))

    def holdfast_give_ranks(self, ranks: int) -> None:
        """In the place of what its target says."""
        self.test = dataclasses.replace(self.test, ranks=ranks)
        self._find_mpi()

    def _find_mpi(self) -> None:
        if self.test.disabled or self.test.problem:
            return
        library = library_of(self.test.command, self.test.folder, self.test.environment, self.test.launcher)
        wanted, _ = options.mpi_of(self.config)
        if library is None and wanted == "auto":
            self._no_mpi = (
                f"it asks for {self.test.ranks} MPI ranks, and there is no MPI library in {self.test.command[0]} (ldd does not name "
                "one), nor an mpiexec in PATH; --hf-mpi=pmix (Open MPI) or --hf-mpi=pmi (MPICH) says how its ranks find each other"
            )
            return
        self.holdfast_ranks = self.test.ranks
        if library is not None:
            self.holdfast_mpi_library, self.holdfast_mpi_path = library.text, library.path
        if wanted == "auto":
            self.holdfast_mpi_manager = mpi.manager_of(self.holdfast_mpi_library)

    def reportinfo(self) -> tuple[Union[os.PathLike[str], str], Optional[int], str]:
        return self.test.file or self.path, max(0, self.test.line - 1), self.name

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], *_given: Any, **_more: Any) -> Any:
        """The program's words, not the way to them. Of what has died, or was ended at a deadline, the engine tells."""
        if isinstance(excinfo.value, (KeyboardInterrupt, NotEnded)):
            return ""
        return super().repr_failure(excinfo)

    def holdfast_run(self) -> bool:
        """Runs its program without pytest's protocol around it, which would take longer than many a program. True where it has passed
        and there is nothing to tell but that; otherwise the protocol comes, and finds here what came of it."""
        if not self._is_quick():
            return False
        capture: Any = self.config.pluginmanager.getplugin("capturemanager")
        outcome: Union[Outcome, KeyboardInterrupt]
        said = ""
        capture.resume_global_capture()
        try:
            outcome, said = self._run()
        except KeyboardInterrupt as interrupt:  # Its deadline.
            outcome = interrupt
        said += self._read_output()
        capture.suspend_global_capture()
        if isinstance(outcome, Outcome) and outcome.verdict == "passed":
            self.teardown()  # What it has left is looked for there (leaks.py).
            return True
        self._came = (outcome, said)
        return False

    def holdfast_batch(self) -> Optional[int]:
        """Those with the same number may share a process."""
        alone = (
            not self.suite.has_batches
            or self._batch is None
            or any(mark.name == "holdfast" for mark in self.iter_markers())
            or not self._is_quick()
        )
        return None if alone else self.suite.number_of(self._batch)

    def holdfast_follow(self, coming: Iterable[pytest.Item]) -> None:
        """Before it runs: what this process runs next."""
        self._coming = coming

    @property
    def suite(self) -> Any:
        return self.parent

    def _is_quick(self) -> bool:
        """Whether of a pass nobody wants to know more than that."""
        marks = any(mark.name in ("skip", "skipif", "xfail", "usefixtures") for mark in self.iter_markers())
        return not (marks or self.test.problem or self.test.ranks or _somebody_watches(self.config))

    def runtest(self) -> None:
        if self.test.problem:
            pytest.fail(self.test.problem, pytrace=False)
        if problem := self._no_mpi or mpi.why_not_joined(self.holdfast_mpi_library):
            pytest.fail(problem, pytrace=False)
        self.holdfast_program, self.holdfast_interrupted = None, False
        came, self._came = self._came, None
        try:
            outcome, said = came if came is not None else self._run()
            if isinstance(outcome, KeyboardInterrupt):
                self.add_report_section("call", "stdout", said[-_WORDS:])
                raise outcome
        except KeyboardInterrupt:
            self.holdfast_interrupted = True
            raise
        if outcome.verdict == "":
            self.holdfast_program = {"status": outcome.status, "output": said[-_WORDS:], "stacks": outcome.stacks}
            crash.note_of_program(outcome.note)
            raise NotEnded
        if said:
            self.add_report_section("call", "stdout", said[-_WORDS:])
        if outcome.verdict == "skipped":
            pytest.skip(outcome.text)
        if outcome.verdict == "failed":
            pytest.fail(outcome.text, pytrace=False)

    def _run(self) -> tuple[Outcome, str]:
        """And what has been read of its output."""
        said: list[str] = []

        def output() -> str:
            said.append(self._read_output())
            return "".join(said)

        outcome = self._of_batch(output) or run(self._kind, self.test, output)
        return outcome, output() if outcome.verdict == "" else "".join(said)

    def _of_batch(self, output: Callable[[], str]) -> Optional[Outcome]:
        """What came of it in a process that it shares with those that follow it; that process runs when the first of them is to run."""
        self.holdfast_batched, self.holdfast_seconds, self.holdfast_apart = False, None, False
        coming, self._coming = self._coming, ()
        if self.suite.batch_end is None or self.test.name not in self.suite.batch_end.tests:
            self.suite.batch_end = self._run_batch(coming, output)
        end: Optional[batch.End] = self.suite.batch_end
        if end is None:
            return None
        outcome = end.outcomes.pop(self.test.name, None)
        if outcome is not None:
            self.holdfast_batched = outcome.verdict not in ("passed", "skipped")
            self.holdfast_seconds = end.seconds.get(self.test.name)
        return outcome

    def _run_batch(self, coming: Iterable[pytest.Item], output: Callable[[], str]) -> Optional[batch.End]:
        mine = self.holdfast_batch()
        if mine is None:
            return None
        others = itertools.takewhile(lambda item: isinstance(item, NativeItem) and item.holdfast_batch() == mine, coming)
        tests = batch.fitting([self.test, *(item.test for item in others if isinstance(item, NativeItem))])
        if len(tests) < 2:
            return None
        end = batch.run_batch(self._kind, tests, batch.LIMIT, output)
        if end.too_slow:
            self.holdfast_apart, self.suite.has_batches = True, False
        return end

    def _read_output(self) -> str:
        """Of this phase so far; empty where it is not captured."""
        capture: Any = self.config.pluginmanager.getplugin("capturemanager")
        if capture is None or not capture.is_globally_capturing():
            return ""
        out, err = capture.read_global_capture()
        return str(out) + str(err)


def _somebody_watches(config: pytest.Config) -> bool:
    """Whether the phases of a test that passes are of interest, or its output."""
    found = config.stash.get(_WATCHED, None)
    if found is None:
        found = config.stash[_WATCHED] = _wants_output(config) or _has_hooks(config)
    return found


_WATCHED = pytest.StashKey[bool]()
# Hooks of the protocol, and whose they may be: pytest's, ours, and of plugins for which only functions are of interest.
_HOOKS = ("protocol", "setup", "call", "teardown", "makereport", "logreport", "logstart", "logfinish")
_NO_WATCHERS = ("_pytest.", "holdfast.", "_hypothesis_pytestplugin", "anyio.", "pytest_asyncio.", "pytest_timeout")


def _has_hooks(config: pytest.Config) -> bool:
    """Such as those of a conftest.py."""
    hooks = (getattr(config.hook, f"pytest_runtest_{name}") for name in _HOOKS)
    return any(not impl.function.__module__.startswith(_NO_WATCHERS) for hook in hooks for impl in hook.get_hookimpls())


def _wants_output(config: pytest.Config) -> bool:
    """Of tests that pass: the summary's letters P and A, JUnit with the words of all, no capture."""
    letters = str(config.getoption("reportchars", ""))
    junit = config.getoption("xmlpath", None) and config.getini("junit_logging") != "no"
    return bool(junit) or "P" in letters or "A" in letters or config.getoption("capture") == "no"
