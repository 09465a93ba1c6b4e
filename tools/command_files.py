"""Makes the completions and the man page of `holdfast` from its parser (needs shtab and argparse-manpage, as ./test installs them).

    build/test-venv/bin/python tools/command_files.py [--check]

They are kept in the repository, so that neither an installation nor a user needs those two. `--check` says whether they are as they
would be made, and changes nothing.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(HERE / "python"))
# Metavars of what is a file or a folder.
_FILES = re.compile(r"FILE|FOLDER|TARGET")


def completions(shell: str) -> str:
    import shtab

    from holdfast.cli.parser import whole

    parser = whole()
    _mark_files(parser)
    return f"{shtab.complete(parser, shell=shell).rstrip()}\n"


def _mark_files(parser: argparse.ArgumentParser) -> None:
    import shtab

    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in set(action.choices.values()):
                _mark_files(child)
        elif action.type is Path or _FILES.search(str(action.metavar or "")):
            action.complete = shtab.FILE  # type: ignore[attr-defined]


def manual() -> str:
    from argparse_manpage.manpage import Manpage

    from holdfast.cli.parser import whole

    page = Manpage(whole(), format="single-commands-section")
    page.description = "runs test suites that can take a machine down, and brings every test to one verdict"
    page.manual = "Holdfast"
    page.source = "holdfast"
    page.date = "2026"
    return f"{str(page).rstrip()}\n"


def main() -> int:
    from holdfast.cli.completion import SHARE, SHELLS

    os.environ["COLUMNS"] = "100"  # Of which argparse makes its lines.
    wanted = {f"completion.{shell}": completions(shell) for shell in SHELLS}
    wanted["holdfast.1"] = manual()
    if "--check" not in sys.argv[1:]:
        for name, text in wanted.items():
            (SHARE / name).write_text(text)
        return 0
    old = [name for name, text in wanted.items() if not (SHARE / name).is_file() or (SHARE / name).read_text() != text]
    if old:
        print(f"{', '.join(old)}: the commands have changed; run tools/command_files.py", file=sys.stderr)
    return 1 if old else 0


if __name__ == "__main__":
    sys.exit(main())
