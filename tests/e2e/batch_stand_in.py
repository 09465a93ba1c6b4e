#!/usr/bin/env python3
"""Stand-ins for qsub, qstat and qdel (OpenPBS) and bsub, bjobs and bkill (LSF), by the name under which it is called, written from
their manual pages. A job is a process group; what is known of it is a folder below $BATCH_STATE. With a file `hold` there jobs wait.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

STATE = Path(os.environ["BATCH_STATE"])


def leave(code, words):
    print(words, file=sys.stderr)
    sys.exit(code)


def submit(environment):
    STATE.mkdir(exist_ok=True)
    number = 1 + max([int(path.name) for path in STATE.glob("[0-9]*")], default=100)
    folder = STATE / str(number)
    folder.mkdir()
    (folder / "script").write_text(sys.stdin.read())
    (folder / "script").chmod(0o700)
    subprocess.Popen(
        [sys.executable, __file__, "run-job", str(folder)],
        env=environment,
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return number


def run_job(folder):
    (folder / "pid").write_text(str(os.getpid()))
    while (STATE / "hold").exists():
        time.sleep(0.02)
    (folder / "running").touch()
    code = subprocess.run(["/bin/bash", str(folder / "script")], check=False).returncode
    (folder / "code").write_text(str(code))


def folder_of(job, code, unknown):
    folder = STATE / job.partition(".")[0]
    if not folder.is_dir():
        leave(code, unknown)
    return folder


def state_of(folder):
    """`waiting`, `running` or an exit code."""
    if (folder / "code").exists():
        return (folder / "code").read_text()
    return "running" if (folder / "running").exists() else "waiting"


def end(folder, code, finished):
    if state_of(folder) not in ("waiting", "running"):
        leave(code, finished)
    (folder / "code").write_text("271")
    try:
        os.killpg(int((folder / "pid").read_text()), signal.SIGKILL)
    except (OSError, ValueError):
        pass


def qsub(words):
    if "-q" in words:
        leave(170, "qsub: Unknown queue")
    base = {name: os.environ[name] for name in ("PATH", "HOME", "BATCH_STATE") if name in os.environ}
    number = submit({**(os.environ if "-V" in words else base), "PBS_ENVIRONMENT": "PBS_BATCH"})
    print(f"{number}.server")


def qstat(words):
    folder = folder_of(words[-1], 153, f"qstat: Unknown Job Id {words[-1]}")
    state = state_of(folder)
    lines = [f"Job Id: {words[-1]}", "    Job_Name = holdfast"]
    if state == "waiting":
        lines += ["    job_state = Q", "    comment = Not Running: Insufficient amount of resource: ncpus"]
    elif state == "running":
        lines += ["    job_state = R"]
    elif "-x" in words:
        lines += ["    job_state = F", f"    Exit_status = {state}"]
    else:
        leave(35, f"qstat: {words[-1]} Job has finished, use -x or -H to obtain historical job information")
    print("\n".join(lines))


def qdel(words):
    folder = folder_of(words[-1], 153, f"qdel: Unknown Job Id {words[-1]}")
    end(folder, 35, f"qdel: Job has finished {words[-1]}")


def bsub(words):
    if "-q" in words:
        leave(255, "none: No such queue. Job not submitted.")
    keeps = words[words.index("-env") + 1] == "all"
    base = {name: os.environ[name] for name in ("PATH", "HOME", "BATCH_STATE") if name in os.environ}
    number = submit({**(os.environ if keeps else base), "LSB_BATCH_JID": "1"})
    print(f"Job <{number}> is submitted to default queue <normal>.")


def bjobs(words):
    folder = folder_of(words[-1], 255, f"Job <{words[-1]}> is not found")
    state = state_of(folder)
    shown = {"waiting": "PEND|-|Not enough job slots", "running": "RUN|-|-", "0": "DONE|-|-"}
    print(shown.get(state, f"EXIT|{state}|-"))


def bkill(words):
    folder = folder_of(words[-1], 255, f"Job <{words[-1]}>: No matching job found")
    end(folder, 255, f"Job <{words[-1]}>: Job has already finished")
    print(f"Job <{words[-1]}> is being terminated")


if __name__ == "__main__":
    if sys.argv[1:2] == ["run-job"]:
        run_job(Path(sys.argv[2]))
    else:
        globals()[Path(sys.argv[0]).name](sys.argv[1:])
