"""pytest_parallel's options `--n-workers`, `--scheduler` and `--slurm-*`, mapped to Holdfast's own. Where pytest_parallel itself is
loaded its names stay its own."""

from __future__ import annotations

import argparse
from typing import Any, Optional

import pytest

SCHEDULERS = {
    "dynamic": "the widest and longest first, on whatever slots are free",
    "sequential": "one test at a time, in order",
    "static": "in steps that are known beforehand: a step begins when the one before is over",
    "shell": "as dynamic, each rank on CPUs of its own",
    "slurm": "as dynamic, in a Slurm job",
}
# Options of pytest_parallel, with their destination, and that of Holdfast's own.
_JOB = (
    ("--slurm-options", "hf_slurm_options", "hf_job_options"),
    ("--slurm-srun-options", "hf_slurm_srun_options", "hf_job_launch"),
    ("--slurm-init-cmds", "hf_slurm_commands", "hf_job_commands"),
    ("--slurm-export-env", "hf_slurm_environment", "hf_job_environment"),
)


def is_taken(manager: pytest.PytestPluginManager) -> bool:
    return any(manager.has_plugin(name) for name in ("pytest_parallel", "pytest_parallel.plugin"))


def add_options(parser: pytest.Parser) -> None:
    group = parser.getgroup("pytest_parallel", "pytest_parallel's options, run by holdfast")
    group.addoption("--n-workers", dest="hf_n_workers", type=_count, default=None, metavar="N", help="as --holdfast --hf-slots=N")
    text = "as --holdfast; " + "; ".join(f"{name}: {meaning}" for name, meaning in SCHEDULERS.items())
    group.addoption("--scheduler", dest="hf_scheduler", type=_scheduler, default=None, metavar="|".join(SCHEDULERS), help=text)
    group.addoption("--slurm-options", dest="hf_slurm_options", default=None, metavar="WORDS", help="for sbatch (as --hf-job-options)")
    group.addoption("--slurm-srun-options", dest="hf_slurm_srun_options", default=None, metavar="WORDS", help="as --hf-job-launch")
    for name in ("--slurm-init-cmds", "--slurm-additional-cmds"):
        group.addoption(name, dest="hf_slurm_commands", default=None, metavar="SHELL", help="as --hf-job-commands")
    text = "as --hf-job-environment=all, =none"
    group.addoption("--slurm-export-env", dest="hf_slurm_environment", action="store_const", const="all", help=text)
    group.addoption("--no-slurm-export-env", dest="hf_slurm_environment", action="store_const", const="none", help=text)


def _count(text: str) -> str:
    from holdfast.options import slots

    if text == "auto":
        raise argparse.ArgumentTypeError("'auto' is not a number of workers; give 1 or more")
    return slots(text)


def _scheduler(text: str) -> str:
    if text not in SCHEDULERS:
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(SCHEDULERS)}")
    return text


def is_enabled(options: argparse.Namespace) -> bool:
    return bool(getattr(options, "hf_n_workers", None) or getattr(options, "hf_scheduler", None))


def slots(options: argparse.Namespace) -> Optional[str]:
    found: Any = getattr(options, "hf_n_workers", None)
    if found and getattr(options, "hf_slots", None):
        raise pytest.UsageError("--n-workers and --hf-slots mean the same; give one of them")
    return str(found) if found else None


def dist(options: argparse.Namespace, usual: str) -> str:
    """What --hf-dist is to be."""
    scheduler: Any = getattr(options, "hf_scheduler", None)
    if scheduler in ("sequential", "static"):
        if getattr(options, "hf_dist", None):
            raise pytest.UsageError(f"--scheduler={scheduler} and --hf-dist both say how tests are dealt; give one of them")
        return "one" if scheduler == "sequential" else "static"
    return usual


def pins(options: argparse.Namespace) -> bool:
    return getattr(options, "hf_scheduler", None) == "shell"


def job_values(options: argparse.Namespace) -> dict[str, Any]:
    """What --scheduler=slurm and --slurm-* say, as values of Holdfast's options. Raises pytest.UsageError."""
    slurm = getattr(options, "hf_scheduler", None) == "slurm"
    backend = getattr(options, "hf_backend", None)
    if slurm and backend not in (None, "slurm"):
        raise pytest.UsageError("--scheduler=slurm and --hf-backend both say where tests run; give one of them")
    values: dict[str, Any] = {"hf_backend": "slurm"} if slurm else {}
    for name, theirs, ours in _JOB:
        given = getattr(options, theirs, None)
        if given is None:
            continue
        if not slurm and backend != "slurm":
            raise pytest.UsageError(f"{name} is for Slurm; add --scheduler=slurm (or --hf-backend=slurm)")
        if getattr(options, ours, None):
            raise pytest.UsageError(f"{name} and --{ours.replace('_', '-')} mean the same; give one of them")
        values[ours] = given
    return values
