"""The `holdfast` command: what reads ledgers and histories is Python, everything else is the engine binary inside the package."""

from __future__ import annotations

import os
import sys

from holdfast.engine_path import EngineMissing, find_engine

COMMANDS = (
    "history",
    "show",
    "shard",
    "merge",
    "pollution",
    "check-guards",
    "completion",
    "config",
    "devices",
    "diagnose",
    "simgpu",
    "suggest-marks",
    "faults",
    "deploy",
    "list",
    "run",
)


# Of the engine; those for people are in holdfast/cli/parser.py, too.
ENGINES = ("faultd", "sweep", "gpus", "cpus", "memory", "engine", "agent", "gpu-helper", "gpu-probe", "pmix-helper", "lend", "hold")


def main() -> int:
    words = sys.argv[1:]
    if not words or words[0] in ("-h", "--help"):
        words = ["--help"]
    if words[0] in (*COMMANDS, "--help"):
        from holdfast import cli

        code = cli.main(words)
        return code if sys.argv[1:] else 4
    if words[0] not in ENGINES and words[0] != "--version":
        from holdfast.nearest import nearest

        print(f"holdfast: there is no command {words[0]!r}{nearest(words[0], (*COMMANDS, *ENGINES))}", file=sys.stderr)
        return 4
    try:
        engine = find_engine()
    except EngineMissing as missing:
        print(f"holdfast: {missing}", file=sys.stderr)
        return 4
    os.execv(engine, ["holdfast", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
