"""All of `holdfast` as one parser: for its help, its man page and its completions (tools/command_files.py)."""

from __future__ import annotations

import argparse

from holdfast.cli import run

# The engine's own, as engine/cli/main.cc has them for people; it reads them itself.
_STATE = ("--state", "FOLDER", "for what it has changed (default: ~/.local/state/holdfast-faultd)")
ENGINE: dict[str, tuple[str, tuple[tuple[str, str, str], ...]]] = {
    "faultd": (
        "The fault service: breaks GPUs and processes on request, and puts them back (docs/faultd.md).",
        (
            _STATE,
            ("--listen", "ADDRESS:PORT", "127.0.0.1:8080; port 0: one that is free"),
            ("--token-file", "FILE", "with the token (default: a new one in the state folder)"),
            ("--tls-cert", "FILE", "certificate chain, PEM; needed where other machines can reach it"),
            ("--tls-key", "FILE", "its key, PEM"),
            ("--kernel-log", "WHERE", "where lines of XIDs go: auto, kmsg, journald, none, or a file"),
            ("--node", "NAME", "what this machine is called (default: its host name)"),
            ("--limit", "SECONDS", "that a fault may last (3600)"),
        ),
    ),
    "sweep": ("Undoes what a fault service that was killed has left.", (_STATE,)),
    "gpus": ("Prints the GPUs of this machine as JSON (holdfast devices prints a table).", ()),
    "cpus": ("Prints how many CPUs this process may use (what --hf-slots=auto takes).", ()),
    "memory": ("Prints how many bytes tests may use together, and how many are available now.", ()),
}


def whole() -> argparse.ArgumentParser:
    from holdfast.cli import COMMANDS

    parser = argparse.ArgumentParser(
        prog="holdfast",
        description="A fault-tolerant test engine. Suites of pytest are run with `pytest --holdfast`, others with `holdfast run`.",
    )
    parser.add_argument("--version", action="store_true", help="which one this is")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for name in sorted([*COMMANDS, *ENGINE, "run"]):
        if name == "run":
            run.arguments(_add(commands, name, run.__doc__ or ""))
        elif name in COMMANDS:
            text, arguments, _ = COMMANDS[name]
            arguments(_add(commands, name, text))
        else:
            text, options = ENGINE[name]
            command = _add(commands, name, text)
            for option, metavar, help_text in options:
                command.add_argument(option, metavar=metavar, help=help_text)
    return parser


def _add(commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, text: str) -> argparse.ArgumentParser:
    first = text.strip().partition("\n")[0]
    return commands.add_parser(name, help=first, description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
