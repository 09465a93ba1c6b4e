"""Slurm: sbatch, srun, scontrol and scancel (tried with 22.05)."""

from __future__ import annotations

import re
import shlex

from holdfast.jobs import BatchSystem, JobError, State, Wish, run

_FIELD = re.compile(r"(?:^|\s)(\w+)=(\S*)")
_WAITING = ("PENDING", "CONFIGURING")
_RUNNING = ("RUNNING", "SUSPENDED", "STOPPED", "RESIZING", "SIGNALING", "STAGE_OUT")
# It is over, and its nodes are about to be free.
_ENDING = ("COMPLETING",)
_WORDS = {
    "CANCELLED": "was cancelled",
    "TIMEOUT": "has run out of its time limit",
    "DEADLINE": "has run out of its time limit",
    "COMPLETED": "has ended",
    "FAILED": "has failed",
    "NODE_FAIL": "has lost a node",
    "BOOT_FAIL": "has lost a node",
    "OUT_OF_MEMORY": "has run out of memory",
    "PREEMPTED": "was preempted",
    "REVOKED": "was revoked",
}
# Reasons (squeue(1), JOB REASON CODES) that no amount of waiting changes.
_HOPELESS = ("BadConstraints", "DependencyNeverSatisfied", "PartitionNodeLimit", "PartitionTimeLimit", "InvalidAccount", "InvalidQOS")


class Slurm(BatchSystem):
    title = "Slurm"
    submit_command = "sbatch"

    def submit(self, wish: Wish) -> str:
        command = ["sbatch", "--parsable", "--job-name=holdfast", "--output=/dev/null", "--no-requeue"]
        command.append(f"--export={'ALL' if wish.environment else 'NONE'}")
        if wish.slots:
            command.append(f"--ntasks={wish.slots}")
        # What the user says comes last, and wins.
        printed = run([*command, *wish.options], self.script(wish))
        job = printed.strip().splitlines()[-1].partition(";")[0] if printed.strip() else ""
        if not job.isdecimal():
            raise JobError(f"sbatch has not told the number of the job, but: {printed.strip()!r}")
        return job

    def on_nodes(self, wish: Wish) -> str:
        words = [
            "--nodes=$SLURM_JOB_NUM_NODES",
            "--ntasks=$SLURM_JOB_NUM_NODES",
            "--ntasks-per-node=1",
            "--cpu-bind=none",
            "--mpi=none",
        ]
        # With sbatch --export=NONE srun would give the agents no environment either. One agent that ends does not end the others.
        words += ["--export=ALL", "--kill-on-bad-exit=0", "--unbuffered", shlex.join(wish.launch)]
        # srun sets its own for its step.
        return f"export HOLDFAST_TASKS=$SLURM_TASKS_PER_NODE\nexec srun {' '.join(filter(None, words))} {shlex.join(wish.agent)}"

    def look(self, job: str) -> State:
        try:
            printed = run(["scontrol", "--oneliner", "show", "job", job])
        except JobError as problem:
            if "Invalid job id" in str(problem):
                return self.forgotten()
            raise
        fields = dict(_FIELD.findall(printed))
        state = fields.get("JobState", "")
        if state in _WAITING:
            reason = fields.get("Reason", "")
            return State("waiting", reason, reason in _HOPELESS)
        if state in _RUNNING or state in _ENDING:
            return State("running")
        code = fields.get("ExitCode", "0:0").partition(":")[0]
        exit_code = f", exit code {code}" if code != "0" else ""
        return State("gone", f"{_WORDS.get(state, 'has ended')} ({state}{exit_code})")

    def cancel(self, job: str) -> None:
        run(["scancel", "--quiet", job])


def slots_of_node(environment: dict[str, str]) -> int:
    """The job's tasks on this node; 0 if Slurm does not tell. `4(x2),1`: four on each of the first two nodes, one on the third."""
    counts: list[int] = []
    for part in environment.get("HOLDFAST_TASKS", "").split(","):
        match = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part)
        if match is not None:
            counts += [int(match[1])] * int(match[2] or 1)
    number = environment.get("SLURM_NODEID", "0")
    return counts[int(number)] if number.isdecimal() and int(number) < len(counts) else 0
