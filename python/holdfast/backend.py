"""Where the tests run: here, or on the nodes of a batch system's job (--hf-backend). The options, checked, in the words that the engine
takes (protocol/README.md, `configure.backend`)."""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
from pathlib import Path
from typing import Any, Optional

import pytest

from holdfast import programs
from holdfast.engine_path import find_engine

BACKENDS = {
    "local": "this machine",
    "slurm": "a Slurm job",
    "pbs": "a PBS job",
    "lsf": "an LSF job",
    "kubernetes": "this machine, with deployments on the cluster of KUBECONFIG",
}
# Those without a job.
HERE = ("local", "kubernetes")
# Words of sbatch that say how many tasks there are.
_COUNTS = ("-n", "--ntasks", "--ntasks-per-node")


def settings(values: dict[str, Any], slots: str, journal: Path, cwd: Path, interactive: bool) -> Optional[dict[str, Any]]:
    """None for this machine. Raises pytest.UsageError."""
    name = str(values["hf_backend"])
    if name in HERE:
        _refuse_unused(values)
        return None
    from holdfast.jobs import system_named

    system = system_named(name)
    assert system is not None
    if interactive:
        raise pytest.UsageError(f"--pdb and --trace need the terminal, which a test in {BACKENDS[name]} does not have")
    if shutil.which(system.submit_command) is None:
        raise pytest.UsageError(f"--hf-backend={name}: {system.submit_command} is not in PATH")
    options = words("--hf-job-options", values["hf_job_options"])
    launch = words("--hf-job-launch", values["hf_job_launch"])
    if launch and name != "slurm":
        raise pytest.UsageError(f"--hf-job-launch is for srun; {BACKENDS[name]} starts one agent, without a launcher")
    count = 0 if slots == "auto" else int(slots)
    if not count and not any(word.split("=")[0] in _COUNTS or word.startswith("-n") for word in options):
        raise pytest.UsageError(
            f"--hf-backend={name}: say how many tests run at a time with --hf-slots=N (or --n-workers=N): the job gets N tasks"
        )
    job = {
        "system": name,
        "agent": [*programs.isolated("holdfast.jobs.node"), find_engine()],
        "slots": count,
        "options": options,
        "launch": launch,
        "commands": values["hf_job_commands"],
        "environment": values["hf_job_environment"] == "all",
        "cwd": str(cwd),
        "log": str(journal.with_suffix(".job.log")),
    }
    helper = programs.isolated("holdfast.jobs.helper")
    return {"listen": values["hf_listen"], "wait": values["hf_job_wait"], "helper": helper, "job": job}


def _refuse_unused(values: dict[str, Any]) -> None:
    for name in ("hf_job_options", "hf_job_launch", "hf_job_commands"):
        if values[name]:
            raise pytest.UsageError(f"--{name.replace('_', '-')} is for jobs; add --hf-backend=slurm (or pbs, lsf)")


def words(option: str, text: str) -> list[str]:
    """Raises pytest.UsageError."""
    try:
        return shlex.split(text)
    except ValueError as problem:
        raise pytest.UsageError(f"{option}={text!r} cannot be read as words of a shell: {problem}") from None


def listen(text: str) -> str:
    """HOST, HOST:PORT or [IPv6]:PORT."""
    match = re.fullmatch(r"\[([^\s\]]+)\](?::(\d+))?|([^\s:]+)(?::(\d+))?|([0-9a-fA-F:]+)", text)
    port = next(filter(None, (match[2], match[4])), "1") if match is not None else "0"
    if match is None or not 0 < int(port) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is not an address; give HOST or HOST:PORT")
    if (match[1] or match[3] or match[5]) in ("0.0.0.0", "::", "*"):
        raise argparse.ArgumentTypeError(f"{text!r} is no address that nodes could dial; name one of this machine's own")
    return text
