"""Simulated GPUs: run a command on them, look at them, break them (docs/simgpu.md)."""

from __future__ import annotations

import argparse
import os
import sys

from holdfast import simgpu
from holdfast.cli.command import call
from holdfast.cli.files import Mistake
from holdfast.engine_path import EngineMissing

_USAGE = """
  holdfast simgpu [--gpus SPEC] -- COMMAND    run a command on simulated GPUs: 8x80GiB, 2x80GiB,1x24GiB, 4x64GiB:amd, gpus.toml
  holdfast simgpu status                      what they are, what they hold, what is broken
  holdfast simgpu fault GPU KIND              break one (or `all`)
  holdfast simgpu reset [GPU]                 take all faults away

The last three look for the GPUs in HOLDFAST_SIMGPU_STATE, which the command of the first has in its environment, or in --state."""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = _USAGE
    parser.add_argument("--gpus", metavar="SPEC", help=f"what to simulate; else ${simgpu.SPEC}, or one of 80 GiB")
    parser.add_argument("--state", metavar="FILE", help="where the simulated GPUs are kept; with a command: a new file, which stays")
    parser.add_argument("--code", type=int, help="fault: the CUDA error, XID or number of ECC errors")
    parser.add_argument("--times", type=int, help="fault: how many calls it strikes; otherwise all")
    parser.add_argument("--after", type=int, default=0, help="fault: calls that it lets pass first")
    parser.add_argument("--seconds", type=float, default=1.0, help="fault slow, nvml-slow: how much longer a call takes")
    parser.add_argument("--function", help="fault: how the names of the functions that it strikes begin")
    parser.add_argument("words", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)


def run(options: argparse.Namespace) -> int:
    words = options.words
    try:
        if not words:
            raise Mistake(f"nothing to do{_USAGE}")
        if words[0] == "--":
            return _run_command(options, words[1:])
        if words[0] not in ("status", "fault", "reset"):
            raise Mistake(f"{words[0]!r} is not known; put a command after --{_USAGE}")
        return _control(_again(options, words[1:]), words[0])
    except (simgpu.SimgpuError, EngineMissing) as problem:
        raise Mistake(str(problem)) from None
    except OSError as problem:
        raise Mistake(str(problem)) from None


def _again(options: argparse.Namespace, words: list[str]) -> argparse.Namespace:
    """Options may also stand behind the words."""
    parser = argparse.ArgumentParser(prog="holdfast simgpu")
    arguments(parser)
    parser.usage = _USAGE
    # REMAINDER takes everything after the first word, so options are looked for in front of it again.
    plain = [word for i, word in enumerate(words) if not _belongs_to_option(words, i)]
    found = parser.parse_args([word for i, word in enumerate(words) if _belongs_to_option(words, i)], options)
    found.words = plain
    return found


def _belongs_to_option(words: list[str], i: int) -> bool:
    return words[i].startswith("--") or (i > 0 and words[i - 1].startswith("--") and "=" not in words[i - 1])


def _run_command(options: argparse.Namespace, command: list[str]) -> int:
    if not command:
        raise Mistake("no command after --")
    devices = simgpu.parse(options.gpus or os.environ.get(simgpu.SPEC) or simgpu._DEFAULT_SPEC)
    if options.state:
        sim = simgpu.Simgpu(options.state)
        sim.create(devices)
        return call(command, sim.environment())
    with simgpu.running(devices) as sim:
        return call(command, sim.environment())


def _control(options: argparse.Namespace, what: str) -> int:
    path = options.state or os.environ.get(simgpu.STATE)
    if not path:
        raise Mistake(f"no simulated GPUs: neither --state nor ${simgpu.STATE} says where they are")
    sim = simgpu.Simgpu(path)
    words = options.words
    if what == "status":
        _show(sim)
    elif what == "reset":
        sim.heal(_index(words[0]) if words else simgpu.ALL)
    elif len(words) != 2:
        raise Mistake(f"a fault has a GPU and a kind: {', '.join(simgpu.FAULTS)}")
    else:
        sim.fault(
            _index(words[0]), words[1], code=options.code, times=options.times, after=options.after, seconds=options.seconds,
            function=options.function,
        )  # fmt: skip
    return 0


def _index(text: str) -> int:
    if text == "all":
        return simgpu.ALL
    if not text.isdecimal():
        raise Mistake(f"{text!r} is not the number of a GPU, or `all`")
    return int(text)


def _show(sim: simgpu.Simgpu) -> None:
    gib = 1 << 30
    for device in sim.status():
        words = [f"GPU {device.index}: {device.name}", device.uuid, f"{device.used / gib:.1f} of {device.total / gib:.1f} GiB used"]
        if device.parent >= 0:
            words.insert(1, f"instance of GPU {device.parent}")
        if device.lost:
            words.append("OFF THE BUS")
        if device.sticks:
            words.append(f"dead processes keep their memory ({device.stuck / gib:.1f} GiB)")
        if device.corrected or device.uncorrected:
            words.append(f"ECC errors: {device.corrected} corrected, {device.uncorrected} not")
        sys.stdout.write(", ".join(words) + "\n")
        for pid, used in device.processes:
            sys.stdout.write(f"    process {pid}: {used / gib:.2f} GiB\n")
        for text in (*device.faults, *device.events):
            sys.stdout.write(f"    {text}\n")
