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


def main() -> int:
    if sys.argv[1:2] and sys.argv[1] in COMMANDS:
        from holdfast import cli

        return cli.main(sys.argv[1:])
    try:
        engine = find_engine()
    except EngineMissing as missing:
        print(f"holdfast: {missing}", file=sys.stderr)
        return 4
    os.execv(engine, ["holdfast", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
