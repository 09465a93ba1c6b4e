"""A Slurm of our own: munged, slurmctld and a slurmd for each of some nodes, on this machine, on loopback only, root or not."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "scancel", "squeue")
PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
START_LIMIT = 30.0

_CONF = """
ClusterName=t
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={root}/munge.sock
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool-%n
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd-%n.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd-%n.log
SlurmdParameters=config_overrides
SwitchType=switch/none
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
ReturnToService=2
KillWait=2
MinJobAge=300
InactiveLimit=0
SchedulerType=sched/backfill
SchedulerParameters=sched_min_interval=0,batch_sched_delay=0,bf_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SrunPortRange={first_port}-{last_port}
{nodes}
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> list[str]:
    return [name for name in PROGRAMS if shutil.which(name, path=PATH) is None]


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class Cluster:
    """Nodes of four CPUs each, whatever this machine has."""

    def __init__(self, root: Path, nodes: int) -> None:
        self.root = root
        self.nodes = [f"n{number}" for number in range(nodes)]
        self.environment = {"SLURM_CONF": str(root / "slurm.conf")}
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        root = self.root
        root.chmod(0o700)
        for name in ("state", *(f"spool-{node}" for node in self.nodes)):
            (root / name).mkdir()
        key = root / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        host = socket.gethostname().partition(".")[0]
        controller, *ports = free_ports(1 + len(self.nodes))
        nodes = "\n".join(
            f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=4 RealMemory=100 State=UNKNOWN"
            for node, port in zip(self.nodes, ports)
        )
        first = 20000 + os.getpid() % 400 * 100
        text = _CONF.format(
            host=host, controller=controller, user=getpass.getuser(), root=root, first_port=first, last_port=first + 99, nodes=nodes
        )
        (root / "slurm.conf").write_text(text)
        files = {"key-file": key, "socket": root / "munge.sock", "pid-file": root / "munged.pid", "log-file": root / "munged.log"}
        munged = ["munged", "--foreground", "--force", "--num-threads=2", f"--seed-file={root}/seed"]
        self._run([*munged, *(f"--{name}={path}" for name, path in files.items())])
        self._wait(lambda: (root / "munge.sock").exists(), "munged")
        self._run(["slurmctld", "-D", "-c"])
        for node in self.nodes:
            self._run(["slurmd", "-D", "-N", node])
        self._wait(lambda: self.command("sinfo", "-h", "-o", "%D %t") == f"{len(self.nodes)} idle", "the cluster")

    def _run(self, command: list[str]) -> None:
        program = shutil.which(command[0], path=PATH)
        assert program is not None
        with (self.root / "daemons.log").open("ab") as log:
            self._processes.append(
                subprocess.Popen(
                    [program, *command[1:]], env={**os.environ, **self.environment}, stdout=log, stderr=log, stdin=subprocess.DEVNULL
                )
            )

    def _wait(self, ready, what: str) -> None:
        deadline = time.monotonic() + START_LIMIT
        while not ready():
            logs = "\n".join(f"{path}:\n{path.read_text()[-2000:]}" for path in self.root.glob("*.log"))
            assert time.monotonic() < deadline, f"{what} has not come up within {START_LIMIT:g} s\n{logs}"
            time.sleep(0.05)

    def command(self, *words: str) -> str:
        done = subprocess.run(
            words, env={**os.environ, **self.environment, "PATH": PATH}, capture_output=True, text=True, timeout=30, check=False
        )
        return done.stdout.strip()

    def jobs(self) -> list[str]:
        """Numbers of the jobs that wait or run."""
        return self.command("squeue", "-h", "-o", "%A").split()

    def stop(self) -> None:
        for job in self.jobs():
            self.command("scancel", job)
        deadline = time.monotonic() + 20
        while self.jobs() and time.monotonic() < deadline:
            time.sleep(0.1)
        for process in reversed(self._processes):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
