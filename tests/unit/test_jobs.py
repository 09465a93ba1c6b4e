"""What is made of the words of batch systems."""

from __future__ import annotations

import subprocess

import pytest

from holdfast import jobs
from holdfast.jobs import JobError, State, Wish
from holdfast.jobs.lsf import Lsf
from holdfast.jobs.pbs import Pbs
from holdfast.jobs.slurm import Slurm, slots_of_node

# As scontrol 22.05 prints it, shortened.
SHOWN = (
    "JobId=7 JobName=holdfast UserId=root(0) GroupId=root(0) MCS_label=N/A Priority=4294901759 Nice=0 Account=(null) QOS=(null)"
    " JobState={state} Reason={reason} Dependency=(null) Requeue=0 Restarts=0 BatchFlag=1 Reboot=0 ExitCode={code} RunTime=00:00:03\n"
)


def answer(monkeypatch: pytest.MonkeyPatch, module: str, text: str) -> None:
    def run(command: object, text_in: str = "") -> str:
        if text.startswith("!"):
            raise JobError(text[1:])
        return text

    monkeypatch.setattr(f"holdfast.jobs.{module}.run", run)


@pytest.mark.parametrize(
    ("state", "reason", "code", "expected"),
    [
        ("PENDING", "Resources", "0:0", State("waiting", "Resources")),
        ("PENDING", "DependencyNeverSatisfied", "0:0", State("waiting", "DependencyNeverSatisfied", True)),
        ("CONFIGURING", "None", "0:0", State("waiting", "None")),
        ("RUNNING", "None", "0:0", State("running")),
        ("COMPLETING", "None", "0:0", State("running")),
        ("TIMEOUT", "TimeLimit", "0:15", State("gone", "has run out of its time limit (TIMEOUT)")),
        ("CANCELLED", "None", "0:0", State("gone", "was cancelled (CANCELLED)")),
        ("FAILED", "NonZeroExitCode", "4:0", State("gone", "has failed (FAILED, exit code 4)")),
        ("NODE_FAIL", "NodeDown", "0:0", State("gone", "has lost a node (NODE_FAIL)")),
        ("SOMETHING_NEW", "None", "0:0", State("gone", "has ended (SOMETHING_NEW)")),
    ],
)
def test_states_of_slurm(monkeypatch, state, reason, code, expected):
    answer(monkeypatch, "slurm", SHOWN.format(state=state, reason=reason, code=code))
    assert Slurm().look("7") == expected


def test_a_job_that_slurm_has_forgotten_has_ended(monkeypatch):
    answer(monkeypatch, "slurm", "!scontrol says: slurm_load_jobs error: Invalid job id specified")
    assert Slurm().look("7").kind == "gone"
    answer(monkeypatch, "slurm", "!scontrol says: Unable to contact slurm controller (connect failure)")
    with pytest.raises(JobError):
        Slurm().look("7")


@pytest.mark.parametrize(
    ("system", "printed", "expected"),
    [
        (Pbs(), "    job_state = Q\n    comment = Not Running: no room\n", State("waiting", "Not Running: no room")),
        (Pbs(), "    job_state = H\n", State("waiting", "state H")),
        (Pbs(), "    job_state = R\n", State("running")),
        (Pbs(), "    job_state = F\n    Exit_status = 271\n", State("gone", "has ended (exit status 271)")),
        (Pbs(), "    job_state = C\n    exit_status = 0\n", State("gone", "has ended (exit status 0)")),
        (Pbs(), "!qstat says: qstat: Unknown Job Id 7", State("gone", "has ended, and PBS has forgotten how")),
        (Lsf(), "PEND|-|New job is waiting for scheduling\n", State("waiting", "New job is waiting for scheduling")),
        (Lsf(), "RUN|-|-\n", State("running")),
        (Lsf(), "DONE|-|-\n", State("gone", "has ended (DONE)")),
        (Lsf(), "EXIT|130|-\n", State("gone", "has ended (EXIT, exit code 130)")),
        (Lsf(), "Job <7> is not found\n", State("gone", "has ended, and LSF has forgotten how")),
    ],
)
def test_states_of_pbs_and_lsf(monkeypatch, system, printed, expected):
    answer(monkeypatch, system.title.lower(), printed)
    assert system.look("7") == expected


@pytest.mark.parametrize(
    ("tasks", "node", "slots"),
    [("4(x2),1", "0", 4), ("4(x2),1", "1", 4), ("4(x2),1", "2", 1), ("3", "0", 3), ("", "0", 0), ("2", "5", 0), ("odd", "0", 0)],
)
def test_slots_are_the_tasks_of_the_node(tasks, node, slots):
    assert slots_of_node({"HOLDFAST_TASKS": tasks, "SLURM_NODEID": node}) == slots


def wish(**fields: object) -> Wish:
    return Wish(agent=["agent", "a b"], token="se'cret", **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("system", [Slurm(), Pbs(), Lsf()])
def test_the_script_is_one_for_a_shell(system):
    text = system.script(wish(commands="echo 'unusual'", log="/a place/with $(words)"))
    assert subprocess.run(["bash", "-n"], input=text, text=True, check=False).returncode == 0
    assert "'a b'" in text and "echo 'unusual'" in text
    # Only the assignment has the token: arguments are anybody's to see.
    assert [line for line in text.splitlines() if "cret" in line] == ["export HOLDFAST_AGENT_TOKEN='se'\"'\"'cret'"]


def test_what_a_command_says_is_in_the_error():
    with pytest.raises(JobError, match="sh says: no such queue"):
        jobs.run(["sh", "-c", "echo no such queue >&2; exit 1"])
    with pytest.raises(JobError, match="exit status 3"):
        jobs.run(["sh", "-c", "exit 3"])
    with pytest.raises(JobError, match="is not in PATH"):
        jobs.run(["holdfast-no-such-command"])


def test_a_command_that_hangs_is_given_up(monkeypatch):
    monkeypatch.setattr(jobs, "COMMAND_LIMIT", 0.05)
    with pytest.raises(JobError, match="has not answered within"):
        jobs.run(["sleep", "100"])
