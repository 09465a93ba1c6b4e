"""PBS (OpenPBS, PBS Professional, Torque): qsub, qstat and qdel. Tried with stand-ins of the commands only, written from their
manuals."""

from __future__ import annotations

import re

from holdfast.jobs import BatchSystem, JobError, State, Wish, run

_STATE = re.compile(r"^\s*job_state = (\w)", re.MULTILINE)
_COMMENT = re.compile(r"^\s*comment = (.+)$", re.MULTILINE)
_EXIT = re.compile(r"^\s*(?:Exit_status|exit_status) = (-?\d+)", re.MULTILINE)


class Pbs(BatchSystem):
    title = "PBS"
    submit_command = "qsub"

    def submit(self, wish: Wish) -> str:
        command = ["qsub", "-N", "holdfast", "-j", "oe", "-o", "/dev/null", "-r", "n"]
        if wish.environment:
            command.append("-V")
        if wish.slots:
            command += ["-l", f"select=1:ncpus={wish.slots}"]
        job = run([*command, *wish.options], self.script(wish)).strip()
        if not re.match(r"\d+", job):
            raise JobError(f"qsub has not told the number of the job, but: {job!r}")
        return job

    def look(self, job: str) -> State:
        try:
            # Also a job that has ended; Torque does not know -x, and keeps those for a while anyway.
            printed = run(["qstat", "-x", "-f", job])
        except JobError as problem:
            if re.search(r"Unknown Job|has finished", str(problem), re.IGNORECASE):
                return self.forgotten()
            printed = run(["qstat", "-f", job])
        match = _STATE.search(printed)
        state = match[1] if match is not None else ""
        if state in ("Q", "H", "W", "T", "M"):
            comment = _COMMENT.search(printed)
            return State("waiting", comment[1].strip() if comment is not None else f"state {state}")
        if state in ("R", "E", "S", "U", "B"):
            return State("running")
        code = _EXIT.search(printed)
        return State("gone", f"has ended (exit status {code[1]})" if code is not None else "has ended")

    def cancel(self, job: str) -> None:
        try:
            run(["qdel", job])
        except JobError as problem:
            if not re.search(r"Unknown Job|has finished|invalid state", str(problem), re.IGNORECASE):
                raise
