"""The commands of `holdfast` that read ledgers and histories. The engine's own commands are the binary's."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Callable

from holdfast.cli import (
    check_guards,
    completion,
    config,
    deploy,
    devices,
    diagnose,
    faults,
    history,
    list_tests,
    merge,
    pollution,
    run,
    shard,
    show,
    simgpu,
    suggest_marks,
)
from holdfast.cli.files import Mistake
from holdfast.cli.parser import whole

COMMANDS: dict[str, tuple[str, Callable[[argparse.ArgumentParser], None], Callable[[argparse.Namespace], int]]] = {
    "history": (history.__doc__ or "", history.arguments, history.run),
    "show": (show.__doc__ or "", show.arguments, show.run),
    "shard": (shard.__doc__ or "", shard.arguments, shard.run),
    "merge": (merge.__doc__ or "", merge.arguments, merge.run),
    "check-guards": (check_guards.__doc__ or "", check_guards.arguments, check_guards.run),
    "completion": (completion.__doc__ or "", completion.arguments, completion.run),
    "config": (config.__doc__ or "", config.arguments, config.run),
    "devices": (devices.__doc__ or "", devices.arguments, devices.run),
    "diagnose": (diagnose.__doc__ or "", diagnose.arguments, diagnose.run),
    "suggest-marks": (suggest_marks.__doc__ or "", suggest_marks.arguments, suggest_marks.run),
    "simgpu": (simgpu.__doc__ or "", simgpu.arguments, simgpu.run),
    "faults": (faults.__doc__ or "", faults.arguments, faults.run),
    "deploy": (deploy.__doc__ or "", deploy.arguments, deploy.run),
    "list": (list_tests.__doc__ or "", list_tests.arguments, list_tests.run),
    "pollution": (pollution.__doc__ or "", pollution.arguments, pollution.run),
}


def _run(argv: Sequence[str]) -> int:
    if argv[0] == "--help":
        whole().print_help()
        return 0
    if argv[0] == "run":
        # Its options are pytest's.
        return run.run(argv[1:])
    text, arguments, command = COMMANDS[argv[0]]
    parser = argparse.ArgumentParser(prog=f"holdfast {argv[0]}", description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments(parser)
    return command(parser.parse_args(argv[1:]))


def main(argv: Sequence[str]) -> int:
    """Exit code 0, 4 for a user's mistake, or the command's own."""
    try:
        return _run(argv)
    except Mistake as mistake:
        print(f"holdfast {argv[0]}: {mistake}", file=sys.stderr)
        return 4
    except BrokenPipeError:
        sys.stderr.close()  # The reader (head, less) has seen enough.
        return 0
    except SystemExit as end:
        return 4 if end.code not in (0, None) else 0
