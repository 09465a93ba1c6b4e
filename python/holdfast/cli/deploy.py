"""Deployments on this machine: a local cluster that stays up, for as many tests as you like (docs/deploy.md)."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Optional

from holdfast.cli.files import Mistake

if TYPE_CHECKING:
    from holdfast.deploy import Access

_USAGE = """
  holdfast deploy cluster --folder FOLDER [GPUS ...]    a local cluster until Ctrl-C; tests use it with HOLDFAST_CLUSTER=FOLDER
  holdfast deploy status --folder FOLDER                its nodes and pods
  holdfast deploy plan SPEC [--namespace NAME] [--hw-faults] [--skip-service-restart] [--folder FOLDER]
                        what a ManagedDeployment would do (there), and how each of it is undone
  holdfast deploy scenario FILE ...                     deploys, breaks, heals and checks as the files say, and writes a report of each
                        [--check]                       only reads them: what would happen
                        [--seed N] [--namespace NAME] [--folder FOLDER] [--report FOLDER]
  holdfast deploy sweep --folder FOLDER                 puts back what killed tests have left there two hours ago or earlier;
                        [--run ID | --all]              that of one run, of all runs
  holdfast deploy images FILE                           container images of this machine's files, for a cluster's nodes
                                                        (docker load, ctr -n k8s.io images import, kind load image-archive)
  holdfast deploy install --kubeconfig FILE             a fault service on each node, a quarantine and an operator
                        [--image NAME] [--gpus GPUS]    GPUS: simulated ones, for each node
                        [--without operator,quarantine] where the cluster has its own
                        [--drain MODE] [--drain-seconds S] [--seconds S]
  holdfast deploy uninstall --kubeconfig FILE           takes that away again

In the place of --folder, --kubeconfig FILE [--context NAME] is a real cluster.
GPUS are those of a node each (2x80GiB, gpus.toml, none); otherwise there are two nodes with two of 80 GiB."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Raises Mistake where the packages are missing."""
    parser.usage = _USAGE
    actions = parser.add_subparsers(
        dest="action", required=True, prog="holdfast deploy", metavar="cluster|status|plan|scenario|sweep|images|install|uninstall"
    )
    try:
        from holdfast.deploy.local import __main__ as local
    except ImportError as missing:
        raise Mistake(str(missing)) from None
    local.arguments(actions.add_parser("cluster"))
    _cluster(actions.add_parser("status"), required=True)
    planning = actions.add_parser("plan")
    planning.add_argument("spec", type=Path)
    planning.add_argument("--namespace", default="fault-tolerance")
    planning.add_argument("--hw-faults", action="store_true", help="with the steps of hardware faults")
    planning.add_argument("--skip-service-restart", action="store_true")
    _cluster(planning, "otherwise an empty one is assumed")
    scenario = actions.add_parser("scenario")
    scenario.add_argument("files", type=Path, nargs="+", metavar="FILE")
    scenario.add_argument("--check", action="store_true")
    scenario.add_argument("--seed", type=int, help="of what is drawn; otherwise the file's, otherwise a new one")
    scenario.add_argument("--namespace", default="scenarios")
    _cluster(scenario, "otherwise each has a local one of its own")
    scenario.add_argument("--report", type=Path, default=Path("holdfast-scenarios"), help="where reports and logs go, a folder each")
    sweeping = actions.add_parser("sweep")
    _cluster(sweeping, required=True)
    which = sweeping.add_mutually_exclusive_group()
    which.add_argument("--run", help="the run's name ($HOLDFAST_RUN of the tests, the label holdfast.dev/run)")
    which.add_argument("--all", action="store_true", help="of all runs, also those that are going on")
    actions.add_parser("images").add_argument("file", type=Path)
    _add_install(actions.add_parser("install"))
    _add_real(actions.add_parser("uninstall"))


def _add_install(parser: argparse.ArgumentParser) -> None:
    from holdfast.deploy.archive import AGENT
    from holdfast.deploy.controllers.sentinel import Drain
    from holdfast.deploy.local.__main__ import MODES

    _add_real(parser)
    parser.add_argument("--image", default=AGENT, help="of `holdfast deploy images`, by the name that it has for the nodes")
    parser.add_argument("--gpus", default="", help="simulated ones, for each node; otherwise the nodes have their own")
    parser.add_argument("--without", default="", metavar="PARTS", help="operator, quarantine, or both, with a comma")
    parser.add_argument("--seconds", type=float, default=120.0, help="until it must be ready")
    parser.add_argument("--drain", choices=MODES, default=Drain.mode, help="what becomes of the pods of a node that is out of use")
    parser.add_argument("--drain-seconds", type=float, default=Drain.seconds, help="DeleteAfterTimeout: how long they have")


def _add_real(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kubeconfig", type=Path, help="of the cluster; otherwise $KUBECONFIG, then ~/.kube/config")
    parser.add_argument("--context", help="of the kubeconfig; otherwise its own")


def _cluster(parser: argparse.ArgumentParser, otherwise: str = "", *, required: bool = False) -> None:
    which = parser.add_mutually_exclusive_group(required=required)
    which.add_argument("--folder", type=Path, help="of a local cluster that runs" + (f"; {otherwise}" if otherwise else ""))
    which.add_argument("--kubeconfig", type=Path, help="of a real cluster")
    parser.add_argument("--context", help="of the kubeconfig; otherwise its own")


def _access(options: argparse.Namespace) -> Optional[Access]:
    """None where no cluster was named."""
    from holdfast.deploy import access_from
    from holdfast.deploy.local import found_in

    if options.context is not None and options.kubeconfig is None:
        raise Mistake("--context NAME is one of a kubeconfig's; give it, too: --kubeconfig FILE")
    if options.kubeconfig is not None:
        return access_from(options.kubeconfig, options.context)
    return found_in(options.folder).access if options.folder is not None else None


def _named(options: argparse.Namespace) -> Access:
    """Where one must be named, and argparse has seen to that."""
    found = _access(options)
    assert found is not None
    return found


def run(options: argparse.Namespace) -> int:
    from holdfast.deploy.errors import DeployError
    from holdfast.deploy.local import __main__ as local

    try:
        if options.action == "status":
            return _status(_named(options))
        if options.action == "plan":
            return _plan(options)
        if options.action == "scenario":
            return _scenarios(options)
        if options.action == "sweep":
            return _sweep(options)
        if options.action == "images":
            return _images(options.file)
        if options.action in ("install", "uninstall"):
            return _install(options)
        if (options.folder / "access.json").exists():
            raise Mistake(f"{options.folder}: a local cluster has its files there already; give another folder, or remove that one")
        print(f"holdfast deploy cluster: HOLDFAST_CLUSTER={options.folder.resolve()}", file=sys.stderr)
        return local.run(options)
    except DeployError as problem:
        raise Mistake(str(problem)) from None


def _plan(options: argparse.Namespace) -> int:
    import asyncio

    from holdfast.deploy.plan import There, plan, table
    from holdfast.deploy.spec import DeploymentSpec

    spec = DeploymentSpec(options.spec)
    there = There()
    access = _access(options)
    if access is not None:
        there = asyncio.run(There.look(access, spec, options.namespace))
    print(table(plan(spec, options.namespace, there, hw_faults=options.hw_faults, skip_service_restart=options.skip_service_restart)))
    return 0


def _scenarios(options: argparse.Namespace) -> int:
    """1 where one has failed, or its deployment did not come."""
    import asyncio

    from holdfast.deploy.errors import DeployError
    from holdfast.deploy.scenario import Scenario, ScenarioFailed, run_scenario

    # All are read before anything is begun.
    scenarios = {file: Scenario.read(file) for file in options.files}
    stems = [file.stem for file in options.files]
    if twice := {stem for stem in stems if stems.count(stem) > 1}:
        raise Mistake(f"two files have the name {twice.pop()}, so their reports would have the same folder; run them one by one")
    cluster = _access(options)
    failed = 0
    for file, scenario in scenarios.items():
        print(f"{file}: {scenario.name}")
        if options.check:
            print(scenario.table())
            continue
        run = run_scenario(scenario, options.namespace, options.report / file.stem, seed=options.seed, told=print, cluster=cluster)
        try:
            print(asyncio.run(run).summary())
        except ScenarioFailed as problem:
            print(problem)
            failed += 1
        except DeployError as problem:
            print(f"holdfast deploy scenario: {file}: {problem}; report: {options.report / file.stem / 'report.html'}", file=sys.stderr)
            failed += 1
    return 1 if failed else 0


def _images(file: Path) -> int:
    from holdfast.deploy import archive
    from holdfast.engine_path import EngineMissing
    from holdfast.simgpu import SimgpuError

    try:
        archive.write(file)
    except (OSError, EngineMissing, SimgpuError) as problem:
        raise Mistake(f"{file}: {problem}") from None
    print(f"{file}: {file.stat().st_size >> 20} MiB: {', '.join(image.name for image in archive.IMAGES)}")
    return 0


def _install(options: argparse.Namespace) -> int:
    import asyncio

    from holdfast import simgpu
    from holdfast.deploy import access_from
    from holdfast.deploy.controllers.sentinel import Drain
    from holdfast.deploy.install import Choice, install, uninstall

    access = access_from(options.kubeconfig, options.context)
    if options.action == "uninstall":
        asyncio.run(uninstall(access, print))
        return 0
    without = [part for part in options.without.split(",") if part]
    if unknown := [part for part in without if part not in ("operator", "quarantine")]:
        raise Mistake(f"--without {unknown[0]}: it is operator, quarantine, or both, with a comma")
    if options.gpus:
        try:
            simgpu.parse(options.gpus)
        except simgpu.SimgpuError as problem:
            raise Mistake(f"--gpus: {problem}") from None
    choice = Choice(
        options.image,
        options.gpus,
        quarantine="quarantine" not in without,
        operator="operator" not in without,
        drain=Drain(options.drain, options.drain_seconds),
    )
    asyncio.run(install(access, choice, print, seconds=options.seconds))
    return 0


def _sweep(options: argparse.Namespace) -> int:
    """1 where something could not be put back."""
    from holdfast.deploy.sweep import Choice, sweep

    problems = sweep(_named(options), Choice(run=options.run, everything=options.all), print)
    for problem in problems:
        print(f"holdfast deploy sweep: {problem}", file=sys.stderr)
    return 1 if problems else 0


def _status(access: Access) -> int:
    import asyncio

    from holdfast.deploy.api import Api
    from holdfast.deploy.controllers.sentinel import STATE
    from holdfast.deploy.describe import state_of
    from holdfast.deploy.kinds import NODE, POD, labels_of, name_of, namespace_of

    async def show() -> None:
        async with Api(access) as api:
            for node in (await api.list(NODE))[0]:
                cordon = ", cordoned" if node["spec"].get("unschedulable") else ""
                state = f", {labels_of(node)[STATE]}" if STATE in labels_of(node) else ""
                print(f"{name_of(node)}: {node['status']['allocatable'].get('nvidia.com/gpu', 0)} GPUs{cordon}{state}")
            for pod in (await api.list(POD))[0]:
                print(f"{namespace_of(pod)}/{state_of(pod)}")

    asyncio.run(show())
    return 0
