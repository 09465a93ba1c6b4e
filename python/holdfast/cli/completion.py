"""Prints what makes a shell complete holdfast's commands and options.

bash: eval "$(holdfast completion bash)" in ~/.bashrc, or > ~/.local/share/bash-completion/completions/holdfast
zsh: holdfast completion zsh > a folder of $fpath, as _holdfast
fish: holdfast completion fish > ~/.config/fish/completions/holdfast.fish
"""

from __future__ import annotations

import argparse
from pathlib import Path

SHELLS = ("bash", "zsh", "fish")
# Made by tools/command_files.py.
SHARE = Path(__file__).parents[1] / "share"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=SHELLS)


def run(options: argparse.Namespace) -> int:
    print((SHARE / f"completion.{options.shell}").read_text(), end="")
    return 0
