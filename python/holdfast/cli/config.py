"""What holdfast.toml says: checks it, or shows what it means for a test (docs/config.md).

holdfast config check [--file FILE]
holdfast config explain [--file FILE] [--profile NAME] TEST...        TEST: an id, as reports show it
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from holdfast import options as known
from holdfast.cli.files import Mistake
from holdfast.project import FILE, BadProject, Project, read


def arguments(parser: argparse.ArgumentParser) -> None:
    what = parser.add_subparsers(dest="what", required=True, metavar="check|explain")
    check = what.add_parser("check", help="whether the file can be used")
    explain = what.add_parser("explain", help="what it means for tests")
    for command in (check, explain):
        command.add_argument("--file", type=Path, help=f"default: {FILE} here or in a folder above")
    explain.add_argument("--profile", default="", help="as with --hf-profile")
    explain.add_argument("tests", nargs="+", metavar="TEST", help="an id, such as tests/test_it.py::test_one")


def run(options: argparse.Namespace) -> int:
    """0; raises Mistake for a file that is wrong."""
    project = _read(options.file)
    if options.what == "check":
        print(f"{project.path}: {_summary(project)}")
        return 0
    if options.profile and (problem := project.lacks(options.profile)):
        raise Mistake(problem)
    print("\n\n".join(_explained(project, nodeid, options.profile) for nodeid in options.tests))
    return 0


def _read(given: Any) -> Project:
    folders = [Path.cwd(), *Path.cwd().parents]
    path = given or next((folder / FILE for folder in folders if (folder / FILE).is_file()), None)
    if path is None:
        raise Mistake(f"there is no {FILE} here or in a folder above; --file FILE names one")
    try:
        return read(path, known.PROJECT_OPTIONS)
    except BadProject as problem:
        raise Mistake(str(problem)) from None


def _summary(project: Project) -> str:
    counts = {
        "option": len(project.options),
        "profile": len(project.profiles),
        "override": len(project.tests),
        "group": len(project.groups),
    }
    return ", ".join(f"{count} {what}{'' if count == 1 else 's'}" for what, count in counts.items())


def _explained(project: Project, nodeid: str, profile: str) -> str:
    """Each setting with the table that it is from; where several say something, the one that counts."""
    said: dict[str, tuple[Any, str]] = {}
    for name in known.PROJECT_OPTIONS:
        found = project.option(name, profile)
        if found is not None:
            said[name] = found
    mine: dict[str, tuple[Any, str]] = {}
    for override in project.tests:
        if override.matches(nodeid):
            values = {**override.keywords, **({"group": override.group} if override.group else {})}
            values.update({name: value for name in ("slow", "ranks") if (value := getattr(override, name))})
            mine.update({name: (value, override.title) for name, value in values.items()})
    # Of these a test's own word counts more than the run's.
    for name in ("timeout", "retry", "isolate", "leaks"):
        if name in mine:
            said.pop(name, None)
    lines = [f"  {name} = {value!r}    {title}" for found in (mine, said) for name, (value, title) in sorted(found.items())]
    return "\n".join([nodeid, *(lines or ["  (the file says nothing of it)"])])
