"""LSF: bsub, bjobs and bkill. Tried with stand-ins of the commands only, written from their manuals."""

from __future__ import annotations

import re

from holdfast.jobs import BatchSystem, JobError, State, Wish, run

_SUBMITTED = re.compile(r"Job <(\d+)> is submitted")


class Lsf(BatchSystem):
    title = "LSF"
    submit_command = "bsub"

    def submit(self, wish: Wish) -> str:
        command = ["bsub", "-J", "holdfast", "-o", "/dev/null", "-rn", "-env", "all" if wish.environment else "none"]
        if wish.slots:
            command += ["-n", str(wish.slots), "-R", "span[hosts=1]"]
        printed = run([*command, *wish.options], self.script(wish))
        match = _SUBMITTED.search(printed)
        if match is None:
            raise JobError(f"bsub has not told the number of the job, but: {printed.strip()!r}")
        return match[1]

    def look(self, job: str) -> State:
        try:
            printed = run(["bjobs", "-noheader", "-o", "stat exit_code pend_reason delimiter='|'", job])
        except JobError as problem:
            if "is not found" in str(problem):
                return self.forgotten()
            raise
        if "is not found" in printed or not printed.strip():
            return self.forgotten()
        state, _, rest = printed.strip().splitlines()[0].partition("|")
        code, _, reason = rest.partition("|")
        if state in ("PEND", "PSUSP", "WAIT", "PROV"):
            return State("waiting", reason.strip(" -") or state)
        if state in ("RUN", "USUSP", "SSUSP", "UNKWN", "ZOMBI"):
            return State("running")
        return State("gone", f"has ended ({state}{'' if code in ('', '-') else f', exit code {code}'})")

    def cancel(self, job: str) -> None:
        try:
            run(["bkill", job])
        except JobError as problem:
            if "already finished" not in str(problem) and "is not found" not in str(problem):
                raise
