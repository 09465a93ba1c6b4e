"""Jobs of batch systems: one is submitted for a run, and the agents that it starts dial back to the engine (docs/slurm.md).

A batch system is the few commands in one of the modules here; `helper` is the program that the engine starts to talk to it.
"""

from __future__ import annotations

import abc
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Optional

# Seconds for one command of a batch system. A busy controller may take some.
COMMAND_LIMIT = 60.0


class JobError(Exception):
    """A command of the batch system failed; the text is for the user."""


@dataclass
class Wish:
    """What is to be submitted."""

    # How to start the program of a node (holdfast.jobs.node), without the environment that it needs.
    agent: list[str]
    token: str
    # Tests at a time, over all nodes. 0 where the options say it.
    slots: int = 0
    # Words for the submitting command, and for what starts the agents on the nodes.
    options: list[str] = field(default_factory=list)
    launch: list[str] = field(default_factory=list)
    # Lines of shell that run on the first node, before anything else.
    commands: str = ""
    # Whether the job gets the environment of the submitting process.
    environment: bool = True
    # Where the job's output goes, if its node can write there.
    log: str = ""


@dataclass(frozen=True)
class State:
    # `waiting`, `running` or `gone`.
    kind: str
    # For people: why it waits, how it ended.
    text: str = ""
    # It waits for what will never come.
    hopeless: bool = False


class BatchSystem(abc.ABC):
    """What is common; each system has its own words for the rest."""

    # What users call it, and its submitting command.
    title = ""
    submit_command = ""

    @abc.abstractmethod
    def submit(self, wish: Wish) -> str:
        """The job's id. Raises JobError."""

    @abc.abstractmethod
    def look(self, job: str) -> State:
        """Raises JobError where that cannot be told now."""

    @abc.abstractmethod
    def cancel(self, job: str) -> None:
        """Harmless for one that has ended. Raises JobError."""

    def forgotten(self) -> State:
        """Of a job that it does not know any more."""
        return State("gone", f"has ended, and {self.title} has forgotten how")

    def on_nodes(self, wish: Wish) -> str:
        """The shell command that starts an agent on each node of the job."""
        return f"exec {shlex.join(wish.agent)}"

    def script(self, wish: Wish) -> str:
        """The token is in no argument, since those are anybody's to see. What the agents write is for people who look for it."""
        lines = ["#!/bin/bash"]
        if wish.log:
            log = shlex.quote(wish.log)
            lines.append(f"if : 2>/dev/null >> {log}; then exec > {log} 2>&1; fi")
        if wish.commands:
            lines += [
                wish.commands,
                "commands=$?",
                'if [ "$commands" -ne 0 ]; then echo "holdfast: the commands failed"; exit "$commands"; fi',
            ]
        lines += [f"export HOLDFAST_AGENT_TOKEN={shlex.quote(wish.token)}", self.on_nodes(wish), ""]
        return "\n".join(lines)


def run(command: Sequence[str], text: str = "") -> str:
    """What the command prints. Raises JobError with what it says is wrong."""
    try:
        done = subprocess.run(list(command), input=text, capture_output=True, text=True, timeout=COMMAND_LIMIT, check=False)
    except FileNotFoundError:
        raise JobError(f"{command[0]} is not in PATH") from None
    except OSError as problem:
        raise JobError(f"{command[0]} cannot be run: {problem.strerror}") from None
    except subprocess.TimeoutExpired:
        raise JobError(f"{command[0]} has not answered within {COMMAND_LIMIT:g} s") from None
    if done.returncode != 0:
        words = " ".join((done.stderr or done.stdout).split()) or f"exit status {done.returncode}"
        raise JobError(f"{command[0]} says: {words}")
    return done.stdout


def system_named(name: str) -> Optional[BatchSystem]:
    from holdfast.jobs.lsf import Lsf
    from holdfast.jobs.pbs import Pbs
    from holdfast.jobs.slurm import Slurm

    systems: dict[str, type[BatchSystem]] = {"slurm": Slurm, "pbs": Pbs, "lsf": Lsf}
    return systems[name]() if name in systems else None
