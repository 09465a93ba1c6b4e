"""python -m holdfast.deploy.inside prepare|gpus|quarantine|operator: the programs of the pods that `holdfast deploy install` makes."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from holdfast import simgpu
from holdfast.deploy.api import Api
from holdfast.deploy.controllers import graph, sentinel
from holdfast.deploy.errors import DeployError
from holdfast.deploy.inside.prepare import prepare
from holdfast.deploy.kubeconfig import access_from


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m holdfast.deploy.inside", description=__doc__, allow_abbrev=False)
    actions = parser.add_subparsers(dest="action", required=True)
    preparing = actions.add_parser("prepare", help="puts the shim, and simulated GPUs, on this node")
    preparing.add_argument("--state", type=Path, required=True)
    preparing.add_argument("--gpu-folder", type=Path, required=True)
    preparing.add_argument("--gpus", default="none")
    plugin = actions.add_parser("gpus", help="gives kubelet this node's simulated GPUs")
    plugin.add_argument("--gpu-folder", type=Path, required=True)
    quarantine = actions.add_parser("quarantine", help="takes this node out of use when its kernel log says that a GPU is broken")
    quarantine.add_argument("--node", required=True)
    quarantine.add_argument("--kernel-log", type=Path, required=True)
    quarantine.add_argument("--drain", default=sentinel.Drain.mode)
    quarantine.add_argument("--drain-seconds", type=float, default=sentinel.Drain.seconds)
    actions.add_parser("operator", help="makes pods of DynamoGraphDeployments")
    return parser


async def _until_told(work: Coroutine[Any, Any, None]) -> None:
    """Ends by SIGTERM, which process 1 of a container would not notice otherwise."""
    task = asyncio.ensure_future(work)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        pass


async def _with_api(options: argparse.Namespace) -> None:
    async with Api(access_from()) as api:
        if options.action == "operator":
            await graph.run(api)
        else:
            options.kernel_log.touch()
            await sentinel.run(api, {options.node: options.kernel_log}, sentinel.Drain(options.drain, options.drain_seconds))


def main() -> int:
    options = _parser().parse_args()
    try:
        if options.action == "prepare":
            prepare(options.state, options.gpu_folder, [] if options.gpus == "none" else simgpu.parse(options.gpus))
        elif options.action == "gpus":
            from holdfast.deploy.inside import plugin

            asyncio.run(_until_told(plugin.run(options.gpu_folder)))
        else:
            asyncio.run(_until_told(_with_api(options)))
    except (DeployError, simgpu.SimgpuError, OSError) as problem:
        print(f"holdfast deploy inside {options.action}: {problem}", file=sys.stderr, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
