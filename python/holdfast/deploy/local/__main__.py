"""python -m holdfast.deploy.local: a local cluster until SIGTERM or Ctrl-C (what `holdfast deploy cluster` runs)."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from holdfast import simgpu
from holdfast.deploy.controllers.sentinel import Drain
from holdfast.deploy.errors import DeployError
from holdfast.deploy.kubeconfig import access_from
from holdfast.deploy.local.serving import serve
from holdfast.engine_path import EngineMissing

MODES = ("Immediate", "AllowCompletion", "DeleteAfterTimeout")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--folder", type=Path, required=True, help="for its files: access.json says where it is once it can be used")
    parser.add_argument(
        "--drain", choices=MODES, default=Drain.mode, help="what becomes of the pods of a node that is taken out of use"
    )
    parser.add_argument("--drain-seconds", type=float, default=Drain.seconds, help="DeleteAfterTimeout: how long they have")
    parser.add_argument(
        "--control-plane",
        type=Path,
        metavar="KUBECONFIG",
        help="of a real one, which the nodes join; otherwise a small one of ours",
    )
    parser.add_argument("--with-parent", action="store_true", help="end when the process that has started it does")
    parser.add_argument("nodes", nargs="*", default=["2x80GiB", "2x80GiB"], help="the GPUs of each node (8x80GiB, gpus.toml, none)")


def run(options: argparse.Namespace) -> int:
    try:
        nodes = [[] if text == "none" else simgpu.parse(text) for text in options.nodes]
        options.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        drain = Drain(options.drain, options.drain_seconds)
        access = access_from(options.control_plane) if options.control_plane is not None else None
        run = serve(
            options.folder, nodes, drain=drain, with_parent=options.with_parent, control_plane=options.control_plane, access=access
        )
        asyncio.run(run)
    except (simgpu.SimgpuError, DeployError, EngineMissing, OSError) as problem:
        print(f"holdfast deploy cluster: {problem}", file=sys.stderr)
        return 4
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m holdfast.deploy.local", description=__doc__)
    arguments(parser)
    sys.exit(run(parser.parse_args()))
