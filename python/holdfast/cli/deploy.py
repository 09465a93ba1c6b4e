"""Deployments on this machine: a local cluster that stays up, for as many tests as you like (docs/deploy.md)."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from holdfast.cli.files import Mistake

_USAGE = """
  holdfast deploy cluster --folder FOLDER [GPUS ...]    a local cluster until Ctrl-C; tests use it with HOLDFAST_CLUSTER=FOLDER
  holdfast deploy status --folder FOLDER                its nodes and pods

GPUS are those of a node each (2x80GiB, gpus.toml, none); otherwise there are two nodes with two of 80 GiB."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Raises Mistake where the packages are missing."""
    parser.usage = _USAGE
    actions = parser.add_subparsers(dest="action", required=True, prog="holdfast deploy", metavar="cluster|status")
    try:
        from holdfast.deploy.local import __main__ as local
    except ImportError as missing:
        raise Mistake(str(missing)) from None
    local.arguments(actions.add_parser("cluster"))
    actions.add_parser("status").add_argument("--folder", type=Path, required=True)


def run(options: argparse.Namespace) -> int:
    from holdfast.deploy.errors import DeployError
    from holdfast.deploy.local import __main__ as local

    try:
        if options.action == "status":
            return _status(options.folder)
        if (options.folder / "access.json").exists():
            raise Mistake(f"{options.folder}: a local cluster has its files there already; give another folder, or remove that one")
        print(f"holdfast deploy cluster: HOLDFAST_CLUSTER={options.folder.resolve()}", file=sys.stderr)
        return local.run(options)
    except DeployError as problem:
        raise Mistake(str(problem)) from None


def _status(folder: Path) -> int:
    import asyncio

    from holdfast.deploy.api import Api
    from holdfast.deploy.controllers.sentinel import STATE
    from holdfast.deploy.describe import state_of
    from holdfast.deploy.kinds import NODE, POD, labels_of, name_of, namespace_of
    from holdfast.deploy.local import found_in

    async def show() -> None:
        async with Api(found_in(folder).access) as api:
            for node in (await api.list(NODE))[0]:
                cordon = ", cordoned" if node["spec"].get("unschedulable") else ""
                state = f", {labels_of(node)[STATE]}" if STATE in labels_of(node) else ""
                print(f"{name_of(node)}: {node['status']['allocatable'].get('nvidia.com/gpu', 0)} GPUs{cordon}{state}")
            for pod in (await api.list(POD))[0]:
                print(f"{namespace_of(pod)}/{state_of(pod)}")

    asyncio.run(show())
    return 0
