"""The program of a node of a job: becomes the engine's agent, with as many slots as the job has tasks here."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Sequence
from typing import Optional

from holdfast.jobs import slurm


def main(arguments: Optional[Sequence[str]] = None) -> int:
    engine, connect, slots = list(sys.argv[1:] if arguments is None else arguments)
    environment = dict(os.environ)
    name = environment.get("SLURMD_NODENAME") or socket.gethostname()
    nodes = environment.get("SLURM_JOB_NUM_NODES", "1")
    here = slurm.slots_of_node(environment) or int(slots) or "auto"
    command = [engine, "agent", "--connect", connect, "--node", name, "--nodes", nodes, "--slots", str(here)]
    try:
        os.execv(engine, command)
    except OSError as problem:
        print(f"holdfast on node {name}: the engine {engine} cannot be run: {problem.strerror}", file=sys.stderr)
        return 4
