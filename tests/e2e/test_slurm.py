"""Runs through a real Slurm: munged, slurmctld and three slurmd on this machine, started and stopped here."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import slurm_cluster
from conftest import wait_until
from mpi_libraries import use

from holdfast import simgpu

HEAD = """
import glob, os, signal, time, pytest
NODE = os.environ.get("SLURMD_NODENAME")
def wait_until(condition):
    deadline = time.monotonic() + 30
    while not condition() and time.monotonic() < deadline: time.sleep(0.01)
def kill_the_engine_of_this_node():
    pid = os.getpid()
    for _ in ("slot's zygote", "root zygote", "engine"):
        pid = int(open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[1])
    os.kill(pid, signal.SIGKILL)
    time.sleep(60)
"""
# How long something may take that is to come; nothing waits that long where all is well.
LIMIT = 60.0


@pytest.fixture
def slurm(suite: Any, cluster: slurm_cluster.Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[slurm_cluster.Cluster]:
    suite.env.update(cluster.environment, TMPDIR=str(tmp_path_factory.mktemp("tmp")))
    yield cluster
    # Whatever the run did, its job is given back.
    wait_until(lambda: not cluster.jobs(), "the job has not gone")
    assert [name for name in os.listdir(suite.env["TMPDIR"]) if name.startswith("holdfast-")] == []


THREE = ("--scheduler=slurm", "--n-workers=6", "--slurm-options=-N3 --ntasks-per-node=2")
ONE = ("--scheduler=slurm", "--n-workers=2")


def test_every_test_gets_the_verdict_that_it_gets_here(suite, slurm):
    suite.write(
        test_kinds=HEAD
        + """
def test_passes(): assert NODE == "n0" and os.environ["SLURM_JOB_ID"]
def test_fails(): print("words of a test"); assert NODE == "elsewhere"
def test_crashes(): os.kill(os.getpid(), signal.SIGSEGV)
def test_exits(): os._exit(0)
@pytest.mark.timeout(0.3)
def test_hangs(): time.sleep(60)
def test_skips(): pytest.skip("not today")
@pytest.mark.parametrize("text", ["a b", "$(touch owned); touch owned", "'\\""])
def test_odd_ids(text): pass
def test_does_not_see_the_token():
    assert not [line for line in open("/proc/self/environ", "rb").read().split(b"\\0") if b"TOKEN" in line]
"""
    )
    run = suite.run(*ONE)
    assert run.code == 1
    verdicts = run.short()
    assert [verdicts.pop(f"test_{name}") for name in ("fails", "crashes", "exits", "hangs", "skips")] == [
        "failed",
        "crashed",
        "exited",
        "timeout",
        "skipped",
    ]
    assert set(verdicts.values()) == {"passed"} and len(verdicts) == 5, run.output
    assert "[gw0] linux, node n0" in run.output or "[gw1] linux, node n0" in run.output
    assert "words of a test" in run.output and "crashed in call: SIGSEGV" in run.output
    assert not (suite.root / "owned").exists()
    assert {event["node"] for event in run.events if event["event"] == "verdict"} == {"n0"}


def test_a_test_that_runs_again_stays_on_its_node(suite, slurm):
    suite.write(
        test_again=HEAD
        + """
@pytest.mark.parametrize("i", range(6))
def test_one(i):
    with open(f"ran-{i}", "a") as file: file.write(f"{NODE} ")
def test_third_time():
    with open("third", "a") as file: file.write("x")
    assert os.path.getsize("third") < 3
"""
    )
    run = suite.run(*THREE, "--hf-stress=4")
    assert run.short() == {**{f"test_one[{i}]": "passed" for i in range(6)}, "test_third_time": "failed"}, run.output
    for i in range(6):
        nodes = (suite.root / f"ran-{i}").read_text().split()
        assert len(nodes) == 4 and len(set(nodes)) == 1
    assert (suite.root / "third").read_text() == "xxx" and "it passed 2 time(s) before that" in run.output


def run_programs(suite: Any, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "holdfast", "run", *words]
    return subprocess.run(command, cwd=suite.root, env=suite.env, capture_output=True, text=True, timeout=LIMIT * 2, check=False)


def test_programs_and_their_ranks_in_a_job(suite, slurm, programs):
    ranks = programs.path("ranks-openmpi")
    text = "".join(f'[[test]]\nname = "{i}"\ncommand = ["sh", "-c", "echo $SLURMD_NODENAME > ran-{i}"]\n' for i in range(8))
    suite.file("x.toml", text + f'[[test]]\nname = "ranks"\ncommand = ["{ranks}", "size", "2"]\nranks = 2\n')
    done = run_programs(suite, f"--hf-log={suite.log}", *THREE, "--", "x.toml", str(programs.path("googletest")))
    assert done.returncode == 0 and "26 passed, 3 skipped" in done.stdout, done.stdout + done.stderr
    assert {(suite.root / f"ran-{i}").read_text().strip() for i in range(8)} <= {"n0", "n1", "n2"}
    nodes = {event["node"] for event in suite.events() if event["event"] == "verdict" and "node" in event}
    assert nodes <= {"n0", "n1", "n2"} and nodes


def test_what_waits_for_a_test_runs_where_that_one_does(suite, slurm):
    """Each `second` would otherwise be dealt to whoever asks, who knows nothing of its `first`."""
    text = ""
    # A node that is quick to come does not run all: each waits for the others to have begun.
    suite.file(
        "wait",
        "touch here-$SLURMD_NODENAME; for i in $(seq 1200); do test -e here-n0 -a -e here-n1 -a -e here-n2 && break; sleep 0.05; done",
    )
    for i in range(9):
        text += f'[[test]]\nname = "first {i}"\ncommand = ["sh", "-c", ". ./wait; sleep 0.3; echo $SLURMD_NODENAME > first-{i}"]\n'
    for i in range(9):
        check = f'test "$(cat first-{i})" = $SLURMD_NODENAME'
        text += f"[[test]]\nname = \"second {i}\"\ncommand = ['sh', '-c', '{check}']\nafter = [\"first {i}\"]\n"
    suite.file("x.toml", text)
    done = run_programs(suite, *THREE, "--", "x.toml")
    assert done.returncode == 0 and "18 passed" in done.stdout, done.stdout + done.stderr
    assert len({(suite.root / f"first-{i}").read_text() for i in range(9)}) > 1


def test_several_nodes_share_the_tests(suite, slurm):
    suite.write(
        test_shared=HEAD
        + """
@pytest.fixture(scope="module")
def module():
    with open(f"setup-{os.getpid()}", "w") as file: file.write(NODE)
    yield
    with open(f"teardown-{os.getpid()}", "w") as file: file.write(NODE)
@pytest.mark.parametrize("i", range(6))
def test_shared(i, module): time.sleep(0.05)
""",
        test_many=HEAD
        + """
@pytest.mark.parametrize("i", range(40))
def test_one(i, tmp_path, worker_id):
    # A node that is quick to come does not run all: each waits for the others to have begun.
    open(f"here-{NODE}", "w").close()
    wait_until(lambda: len(glob.glob("here-*")) == 3)
    with open(f"ran-{i}", "a") as file: file.write(f"{NODE} {worker_id} {tmp_path}\\n")
""",
    )
    run = suite.run(*THREE)
    assert run.code == 0, run.output
    ran = [(suite.root / f"ran-{i}").read_text().splitlines() for i in range(40)]
    assert [len(lines) for lines in ran] == [1] * 40
    words = [lines[0].split() for lines in ran]
    assert {node for node, _, _ in words} == {"n0", "n1", "n2"}
    assert {worker: node for node, worker, _ in words} == {worker: node for node, worker, _ in reversed(words)}
    assert len({path for _, _, path in words}) == 40
    # A module's tests are dealt together, and its fixture is set up once.
    assert len(list(suite.root.glob("setup-*"))) == len(list(suite.root.glob("teardown-*"))) == 1


@pytest.mark.parametrize("library", ["openmpi", "mpich"])
def test_ranks_run_on_one_node_of_the_job(suite, slurm, library, tmp_path_factory):
    use(suite, library, tmp_path_factory.mktemp("mpi"))
    suite.write(
        test_ranks=HEAD
        + """
import holdfast
@holdfast.mark.parallel([1, 2, 3])
def test_ranks(comm):
    from mpi4py import MPI
    assert comm.allreduce(1) == comm.size == MPI.COMM_WORLD.size
@holdfast.mark.parallel(2)
def test_one_fails(comm):
    if comm.rank == 1: assert False, "the second"
    comm.barrier()
"""
    )
    run = suite.run("--scheduler=slurm", "--n-workers=4", "--slurm-options=-N2 --ntasks-per-node=2", "-rs")
    assert run.short() == {
        "test_ranks[1]": "passed",
        "test_ranks[2]": "passed",
        "test_ranks[3]": "skipped",
        "test_one_fails[2]": "failed",
    }, run.output
    assert "it asks for 3 ranks, and the widest node has 2 slots" in run.output
    assert "rank 0: waited in MPI_Barrier" in run.output


@pytest.mark.parametrize(("library", "launcher"), [("openmpi", "srun"), ("mpich", "srun"), ("openmpi", "mpirun"), ("mpich", "mpirun")])
def test_launchers_of_ranks_in_a_job(suite, slurm, library, launcher, tmp_path_factory):
    use(suite, library, tmp_path_factory.mktemp("mpi"))
    suite.write(
        test_ranks=HEAD
        + """
import holdfast
@holdfast.mark.parallel([1, 2])
def test_ranks(comm):
    from mpi4py import MPI
    assert comm.allreduce(1) == comm.size == MPI.COMM_WORLD.size
    # With srun a step of its own, not the agent's.
    assert (os.environ["SLURM_STEP_ID"] != "0") == LAUNCHED_BY_SRUN
@holdfast.mark.parallel(2)
def test_one_fails(comm):
    if comm.rank == 1: assert False, "the second"
    comm.barrier()
""".replace("LAUNCHED_BY_SRUN", str(launcher == "srun"))
    )
    run = suite.run("--scheduler=slurm", "--n-workers=4", "--slurm-options=-N2 --ntasks-per-node=2", f"--hf-mpi={launcher}")
    assert run.short() == {"test_ranks[1]": "passed", "test_ranks[2]": "passed", "test_one_fails[2]": "failed"}, run.output
    assert "rank 0: waited in MPI_Barrier" in run.output


SLEEPERS = (
    HEAD
    + """
def test_quick(): pass
def test_sleeps():
    open("begun", "w").close()
    time.sleep(100)
def test_other():
    time.sleep(100)
def test_after(): pass
"""
)


@contextlib.contextmanager
def started(suite: Any, *args: str) -> Iterator[Any]:
    """A run whose test_sleeps has begun. Its test_quick runs beside it and is over as well, its verdict told."""
    process = suite.start(*args)

    def ready() -> bool:
        return (suite.root / "begun").exists() and suite.log.exists() and "test_quick" in suite.log.read_text()

    try:
        wait_until(lambda: ready() or process.poll() is not None, "the test has not begun")
        assert process.poll() is None, process.communicate()[0]
        yield process
    finally:
        process.kill()


def test_a_job_that_is_cancelled_ends_in_verdicts(suite, slurm):
    suite.write(test_sleep=SLEEPERS)
    with started(suite, *ONE, "--hf-dist=sequential") as process:
        assert len(slurm.jobs()) == 1
        slurm.command("scancel", *slurm.jobs())
        run = suite.finish(process)
    output = run.output
    verdicts = run.short()
    assert verdicts == {"test_quick": "passed", "test_sleeps": "infra", "test_other": "infra", "test_after": "infra"}, output
    assert "was cancelled (CANCELLED)" in output
    assert run.code == 11, output


def test_a_job_that_never_starts_ends_in_verdicts(suite, slurm):
    suite.write(test_one="def test_one(): pass\n")
    blocking = slurm.command("sbatch", "--parsable", "--exclusive", "-N3", "--output=/dev/null", "--wrap=sleep 100")
    try:
        run = suite.run(*ONE, "--hf-job-wait=1.5")
    finally:
        slurm.command("scancel", blocking)
    assert run.short() == {"test_one": "infra"}, run.output
    assert re.search(r"Slurm job \d+ waits: (Resources|Priority)", run.output), run.output
    assert "has not started within 1.5 s" in run.output and run.code == 11


def test_a_job_that_can_never_start_is_given_up_at_once(suite, slurm):
    suite.write(test_one="def test_one(): pass\n")
    failing = slurm.command("sbatch", "--parsable", "--output=/dev/null", "--wrap=exit 1")
    run = suite.run("--scheduler=slurm", "--n-workers=2", f"--slurm-options=--dependency=afterok:{failing}")
    assert run.short() == {"test_one": "infra"}, run.output
    assert re.search(r"cannot start: DependencyNeverSatisfied|cannot start: Dependency", run.output), run.output


def test_a_job_that_is_requeued_is_not_run_twice(suite, slurm):
    suite.write(test_sleep=SLEEPERS)
    with started(suite, "--scheduler=slurm", "--n-workers=2", "--slurm-options=--requeue") as process:
        slurm.command("scontrol", "requeue", *slurm.jobs())
        run = suite.finish(process)
    output = run.output
    assert run.short()["test_sleeps"] == "infra", output
    assert "was put back into the queue" in output


def test_a_lost_node_costs_no_verdict(suite, slurm):
    suite.write(
        test_lost=HEAD
        + """
@pytest.mark.parametrize("i", range(12))
def test_one(i):
    if NODE == "n1" and not os.path.exists("lost"):
        open("lost", "w").close()
        kill_the_engine_of_this_node()
    wait_until(lambda: os.path.exists("lost"))
"""
    )
    run = suite.run("--scheduler=slurm", "--n-workers=2", "--slurm-options=-N2 --ntasks-per-node=1")
    assert (suite.root / "lost").exists(), "node n1 ran nothing"
    assert set(run.verdicts.values()) == {"passed"} and len(run.verdicts) == 12, run.output
    assert "node n1 was lost" in run.output and run.code == 0


def test_the_last_node_is_lost(suite, slurm):
    suite.write(
        test_lost=HEAD
        + """
def test_one(): kill_the_engine_of_this_node()
"""
    )
    run = suite.run(*ONE)
    assert run.short() == {"test_one": "infra"}, run.output
    assert run.code == 11 and "may have been running when" in run.output


def test_ctrl_c_ends_the_tests_and_the_job(suite, slurm):
    suite.write(test_sleep=SLEEPERS.replace("time.sleep(100)", "\n    try: time.sleep(100)\n    finally: open('torn', 'w').close()", 1))
    with started(suite, *ONE) as process:
        process.send_signal(signal.SIGINT)
        run = suite.finish(process)
    assert run.code == 2, run.output
    assert (suite.root / "torn").exists(), "its teardown did not run"


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_job_that_waits_is_given_back(suite, slurm, how):
    suite.write(test_one="def test_one(): pass\n")
    blocking = slurm.command("sbatch", "--parsable", "--exclusive", "-N3", "--output=/dev/null", "--wrap=sleep 100")
    try:
        process = suite.start(*ONE)
        wait_until(lambda: len(slurm.jobs()) == 2, "the job was not submitted")
        process.send_signal(how)
        run = suite.finish(process)
        assert run.code == (2 if how == signal.SIGINT else -signal.SIGKILL), run.output
        wait_until(lambda: slurm.jobs() == [blocking], "the job was not cancelled")
    finally:
        slurm.command("scancel", blocking)


@pytest.mark.parametrize("whom", ["controller", "engine"])
def test_kill_9_gives_the_job_back(suite, slurm, whom):
    suite.write(test_sleep=SLEEPERS)
    with started(suite, *ONE) as process:
        pid = process.pid
        if whom == "engine":
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            pid = next(int(child) for child in children if "engine" in Path(f"/proc/{child}/cmdline").read_text())
        os.kill(pid, signal.SIGKILL)
        run = suite.finish(process)
    assert run.code == (12 if whom == "engine" else -signal.SIGKILL), run.output
    wait_until(lambda: not slurm.jobs(), "the job was not given back")
    # The ledger is here, so the rest can be run, on another job.
    suite.write(test_sleep=SLEEPERS.replace("time.sleep(100)", "pass"))
    resumed = suite.run("--hf-resume", *ONE)
    assert resumed.code == 0 and "4 passed" in resumed.output, resumed.output


def test_a_node_that_collects_other_tests_runs_none(suite, slurm):
    suite.write(
        test_differs=HEAD
        + """
@pytest.mark.parametrize("where", ["job" if "SLURM_JOB_ID" in os.environ else "here"])
def test_one(where): pass
"""
    )
    run = suite.run(*ONE)
    assert run.verdicts == {"test_differs.py::test_one[here]": "infra"}, run.output
    assert "has collected other tests than this machine" in run.output and "test_one[here]" in run.output


def test_a_module_that_dies_at_import_is_one_verdict(suite, slurm):
    suite.write(test_dies="import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n", test_good="def test_good(): pass\n")
    run = suite.run(*THREE, "--continue-on-collection-errors")
    assert run.verdicts == {"test_dies.py": "crashed", "test_good.py::test_good": "passed"}, run.output


def test_first_failure_ends_the_run(suite, slurm):
    suite.write(test_many="import pytest\n@pytest.mark.parametrize('i', range(30))\ndef test_one(i): assert i != 2\n")
    run = suite.run("--scheduler=slurm", "--n-workers=1", "-x", "--hf-dist=sequential")
    assert run.code == 1 and list(run.short().values()).count("failed") == 1, run.output
    assert len(run.verdicts) == 3, run.output


def test_commands_and_environment_of_the_job(suite, slurm):
    suite.env["FROM_HERE"] = "yes"
    suite.write(test_env=HEAD + "def test_env(): assert (os.environ.get('ADDED'), os.environ.get('FROM_HERE')) == ('1', None)\n")
    suite.file("extra.sh", "export ADDED=1\n")
    text = f"source ./extra.sh; export {suite.mark} TMPDIR={suite.env['TMPDIR']} HOLDFAST_ENGINE={suite.env.get('HOLDFAST_ENGINE', '')} PYTHONPATH={suite.env.get('PYTHONPATH', '')}"
    run = suite.run(*ONE, f"--slurm-additional-cmds={text}", "--no-slurm-export-env")
    assert run.short() == {"test_env": "passed"}, run.output


def test_what_the_jobs_commands_say_is_shown_when_they_fail(suite, slurm):
    suite.write(test_one="def test_one(): pass\n")
    run = suite.run(*ONE, "--slurm-init-cmds=echo no such module >&2; false")
    assert run.short() == {"test_one": "infra"}, run.output
    assert "no such module" in run.output and "exit code 1" in run.output


def test_a_stranger_gets_nothing(suite, slurm):
    suite.write(test_sleep=SLEEPERS.replace("time.sleep(100)", "\n    while not os.path.exists('go'): time.sleep(0.02)"))
    port = slurm_cluster.free_ports(1)[0]
    with started(suite, *ONE, f"--hf-listen=127.0.0.1:{port}") as process:
        with socket.create_connection(("127.0.0.1", port)) as stranger:
            stranger.sendall(b"\x05\x00\x00\x00hello")
            stranger.settimeout(LIMIT)
            with contextlib.suppress(ConnectionError):
                while stranger.recv(4096):
                    pass
        (suite.root / "go").touch()
        run = suite.finish(process)
    assert run.code == 0 and "was refused" in run.output, run.output


def test_what_an_engine_does_here_it_does_on_a_node(suite, slurm):
    """Workers, resources, iso_scheduling: a node is a whole engine."""
    suite.write(
        test_res=HEAD
        + """
import holdfast
@holdfast.resource(scope="run")
def server():
    open(f"made-{NODE}-{os.getpid()}", "w").close()
    yield 7
    open(f"gone-{NODE}-{os.getpid()}", "w").close()
@pytest.mark.parametrize("i", range(12))
def test_uses(i, server, record_property):
    assert server == 7
    with open(f"worker-{NODE}-{os.getpid()}", "a") as file: file.write("x")
"""
    )
    run = suite.run("--scheduler=slurm", "--n-workers=2", "--slurm-options=-N2 --ntasks-per-node=1", "--hf-isolate=worker")
    assert run.code == 0 and len(run.verdicts) == 12, run.output
    made, gone = ({path.name.partition("-")[2] for path in suite.root.glob(f"{what}-*")} for what in ("made", "gone"))
    workers = [path.read_text() for path in suite.root.glob("worker-*")]
    nodes = {path.name.split("-")[1] for path in suite.root.glob("worker-*")}
    assert made == gone and len(made) == len(nodes), "once a node"
    assert sum(map(len, workers)) == 12 and len(workers) == len(nodes), "one worker a node's slot"


def test_history_and_junit_are_as_at_home(suite, slurm):
    suite.write(test_two="import time\ndef test_short(): pass\ndef test_long(): time.sleep(0.3)\n")
    suite.run("--scheduler=slurm", "--n-workers=1")
    run = suite.run("--scheduler=slurm", "--n-workers=1", "--junitxml=report.xml")
    ids = [event["id"] for event in run.events if event["event"] == "verdict"]
    assert [i.partition("::")[2] for i in ids] == ["test_long", "test_short"], "the longest does not go first"
    assert 'tests="2"' in (suite.root / "report.xml").read_text()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--scheduler=slurm",), "say how many tests run at a time with --hf-slots=N"),
        (("--scheduler=slurm", "--n-workers=2", "--slurm-options=--partition=none"), "invalid partition"),
        (("--scheduler=slurm", "--n-workers=2", "--slurm-options='"), "cannot be read as words of a shell"),
        (("--holdfast", "--slurm-options=-N2"), "is for Slurm; add --scheduler=slurm"),
        (("--holdfast", "--hf-job-options=-N2"), "is for jobs; add --hf-backend=slurm"),
        (("--scheduler=slurm", "--hf-backend=pbs", "--n-workers=2"), "both say where tests run"),
        (("--scheduler=slurm", "--n-workers=1", "--pdb"), "does not have"),
        (("--scheduler=slurm", "--n-workers=2", "--hf-listen=127.0.0.1:99999"), "is not an address"),
        (("--scheduler=slurm", "--n-workers=2", "--hf-listen=0.0.0.0"), "is no address that nodes could dial"),
        (("--scheduler=slurm", "--n-workers=2", "--hf-listen=192.0.2.1"), "failed to listen on 192.0.2.1"),
    ],
)
def test_bad_input_is_one_message(suite, slurm, args, words):
    suite.write(test_one="def test_one(): pass\n")
    done = subprocess.run(
        suite.command(*args, holdfast=False), cwd=suite.root, env=suite.env, capture_output=True, text=True, timeout=LIMIT, check=False
    )
    output = done.stdout + done.stderr
    assert done.returncode == 4, output
    assert words in output and "Traceback" not in output, output


def test_without_slurm_it_says_so(suite):
    suite.write(test_one="def test_one(): pass\n")
    suite.env["PATH"] = "/nonexistent"
    done = subprocess.run(
        suite.command("--scheduler=slurm", "--n-workers=2", holdfast=False),
        cwd=suite.root,
        env=suite.env,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 4 and "sbatch is not in PATH" in done.stderr + done.stdout


def test_gpus_of_a_node_are_leased_there(suite, slurm):
    suite.write(
        test_gpus=HEAD
        + """
import holdfast
@pytest.mark.holdfast(gpus=1)
@pytest.mark.parametrize("i", range(4))
def test_apart(i):
    with open(f"on-{os.environ['CUDA_VISIBLE_DEVICES']}", "x"): time.sleep(0.05)
    os.unlink(f"on-{os.environ['CUDA_VISIBLE_DEVICES']}")
@pytest.mark.holdfast(gpus=3)
def test_too_many(): pass
def test_plain(): pass
"""
    )
    with simgpu.running(simgpu.parse("2x80GiB")) as sim:
        suite.env = sim.environment(suite.env)
        run = suite.run("--scheduler=slurm", "--n-workers=4", "-v")
    expected = {**{f"test_apart[{i}]": "passed" for i in range(4)}, "test_plain": "passed", "test_too_many": "error"}
    assert run.short() == expected, run.output


def test_as_many_ranks_as_a_node_has_slots(suite, slurm, tmp_path_factory):
    use(suite, "mpich", tmp_path_factory.mktemp("mpi"))
    suite.write(test_all="import holdfast\n@holdfast.mark.parallel_from_context()\ndef test_all(comm): print(f'{comm.size} ranks')\n")
    run = suite.run("--scheduler=slurm", "--slurm-options=-N1 --ntasks-per-node=3", "-rP")
    assert run.code == 0 and "3 ranks" in run.output, run.output
    assert ": slots of a Slurm job, a process per test" in run.output
