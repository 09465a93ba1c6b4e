"""Break the GPUs of a command on purpose, and show that it happened (docs/faults.md)."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from holdfast import faults
from holdfast.cli.command import call
from holdfast.cli.files import Mistake
from holdfast.engine_path import EngineMissing
from holdfast.faults import kinds
from holdfast.faults.lab import Armed, Lab
from holdfast.faults.page import VARIABLE

_USAGE = """
  holdfast faults run --fault FAULT... -- COMMAND   run a command with faults, and show what they have struck
  holdfast faults arm FAULT...                      on the page that a running command has
  holdfast faults heal ID|all
  holdfast faults status
  holdfast faults xids | functions                  what can be imitated; what can be struck

A FAULT is a kind and its fields, such as lost,device=0,after_calls=100 or slow=0.5,functions=copy. The second to the fourth look for
the page in HOLDFAST_FAULTS, which the command of the first has in its environment, or in --page."""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = _USAGE
    parser.add_argument("--fault", action="append", default=[], metavar="FAULT", help="run: one that is armed from the start")
    parser.add_argument("--file", type=Path, metavar="FILE.toml", help="run: more of them, as [[fault]] tables")
    parser.add_argument("--page", metavar="FILE", help="the page; run: a new file, which stays")
    parser.add_argument("--report", type=Path, metavar="FILE.json", help="run: all that was seen and struck, as JSON")
    parser.add_argument("words", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)


def run(options: argparse.Namespace) -> int:
    words = options.words
    try:
        if not words:
            raise Mistake(f"nothing to do{_USAGE}")
        what, rest = words[0], words[1:]
        if what == "run":
            return _run(_options_behind(options, rest))
        if what == "xids":
            return _show_xids()
        if what == "functions":
            return _show_functions()
        if what not in ("arm", "heal", "status"):
            raise Mistake(f"{what!r} is not known{_USAGE}")
        return _control(_options_behind(options, rest), what)
    except (faults.FaultError, EngineMissing, OSError) as problem:
        raise Mistake(str(problem)) from None


def _options_behind(options: argparse.Namespace, words: list[str]) -> argparse.Namespace:
    """Options may also stand behind the first word, up to `--`."""
    parser = argparse.ArgumentParser(prog="holdfast faults", usage=_USAGE)
    arguments(parser)
    end = words.index("--") if "--" in words else len(words)
    plain: list[str] = []
    rest = words[:end]
    while rest and not rest[0].startswith("--"):
        plain.append(rest.pop(0))
    found = parser.parse_args(rest, options)
    found.words, found.command = [*plain, *found.words], words[end + 1 :]
    return found


def _run(options: argparse.Namespace) -> int:
    if options.words or not options.command:
        raise Mistake(f"run: the command goes behind --{_USAGE}")
    wanted = [kinds.parse(text) for text in options.fault]
    if options.file:
        more, other = kinds.read(options.file)
        if other:
            raise Mistake(f"{options.file}: {next(iter(other))!r} is not known; a file of faults has [[fault]] tables only")
        wanted += more
    if options.page:
        page = faults.Page(options.page, create=True)
        return _call(options, Lab(page), wanted)
    with faults.lab() as lab:
        return _call(options, lab, wanted)


def _call(options: argparse.Namespace, lab: Lab, wanted: list[faults.Fault]) -> int:
    armed = [lab.arm(fault) for fault in wanted]
    code = call(options.command, lab.environment())
    missing = _sum_up(lab, armed)
    if options.report:
        options.report.write_text(json.dumps(lab.page.report(), indent=1) + "\n")
    return 1 if code == 0 and missing else code


def _sum_up(lab: Lab, armed: list[Armed]) -> int:
    """Returns how many of the faults nothing has met that should have been."""
    missing = 0
    report = lab.page.report()
    for entry in report["faults"]:
        print(_line(entry), file=sys.stderr)
    for one in armed:
        try:
            one.verify()
        except faults.FaultNotSeen as problem:
            if one.fault.required:
                missing += 1
                print(f"holdfast faults: {problem}", file=sys.stderr)
    if report["missed"]:
        print(f"holdfast faults: {report['missed']} functions were looked up once too often to be seen", file=sys.stderr)
    if report["counts_lost"]:
        print("holdfast faults: there were more threads than room for counters; those of calls are too low", file=sys.stderr)
    return missing


def _line(entry: dict[str, object]) -> str:
    state = "armed" if entry["armed"] else "healed" if entry["healed"] else "off"
    text = f"fault {entry['id']} ({entry['name']}, {state}): {entry['struck']} calls struck of {entry['watched']} watched"
    first = entry["first"]
    if isinstance(first, dict):
        rank = f", rank {first['rank']}" if first["rank"] >= 0 else ""
        text += f"; first {first['function']}, call {first['call']} of process {first['pid']}{rank}, device {first['device']}"
    return text


def _control(options: argparse.Namespace, what: str) -> int:
    path = options.page or os.environ.get(VARIABLE)
    if not path:
        raise Mistake(f"no page for faults: neither --page nor ${VARIABLE} says where it is")
    page = faults.Page(path)
    lab = Lab(page)
    if what == "status":
        for entry in page.report()["faults"]:
            print(_line(entry))
        for calls in lab.calls():
            print(f"process {calls.pid}, device {calls.device}: {calls.function}: {calls.passed} passed, {calls.failed} failed")
    elif not options.words:
        raise Mistake(f"{what}: which?{_USAGE}")
    elif what == "arm":
        for fault in [kinds.parse(text) for text in options.words]:
            print(lab.arm(fault).number)
    elif options.words == ["all"]:
        page.heal_all()
    else:
        for word in options.words:
            if not word.isdecimal():
                raise Mistake(f"{word!r} is not the number of a fault, or `all`")
            page.heal(int(word))
    return 0


def _show_xids() -> int:
    for entry in faults.xid_table():
        code = f"calls return {entry['driver']}" if entry["driver"] else "calls go on"
        print(f"{entry['xid']:4} {entry['name']}: {entry['meaning']}; {code}; breaks the {entry['reach']}; remedy: {entry['remedy']}")
    return 0


def _show_functions() -> int:
    sets: dict[tuple[str, str], list[str]] = {}
    for name, api, group in faults.function_table():
        sets.setdefault((api, group), []).append(name)
    for (api, group), names in sets.items():
        print(f"{api} {group}: {' '.join(names)}")
    return 0
