"""What the local cluster runs for an image: programs of this machine, under the names that they have in the image.

Runtimes of Dynamo (vllm-runtime, sglang-runtime, tensorrtllm-runtime) are the stand-in for inference of `holdfast.deploy.standin`.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path
from typing import Optional

from holdfast.engine_path import find_engine

_KNOWN = re.compile(r"(?:.*/)?(?P<name>[a-z0-9._-]+?)(?::[\w.-]+)?(?:@sha256:[0-9a-f]{64})?$")
_RUNTIMES = ("vllm-runtime", "sglang-runtime", "tensorrtllm-runtime", "dynamo-frontend", "holdfast-standin")
_PROGRAMS = {"nats": "nats-server", "etcd": "etcd", "holdfast-agent": "holdfast"}
_USUAL_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PACKAGE = Path(__file__).resolve().parents[3]


def name_in(image: str) -> str:
    """Without registry, tag and digest."""
    found = _KNOWN.match(image)
    return found["name"] if found else ""


def problem_of(image: str) -> Optional[str]:
    """Why it cannot be run here, or None."""
    name = name_in(image)
    if name in _RUNTIMES:
        return None
    program = _PROGRAMS.get(name)
    if program is None:
        known = ", ".join((*_RUNTIMES, *_PROGRAMS))
        return f'the image "{image}" is not there; the local cluster has {known} (from any registry, with any tag)'
    if program != "holdfast" and shutil.which(program, path=os.environ.get("PATH", "") + ":" + _USUAL_PATH) is None:
        return f'the image "{image}" needs the program {program} of this machine, which is not installed'
    return None


def make_folder(folder: Path) -> Path:
    """The folder of programs that images have besides the machine's own."""
    folder.mkdir(parents=True)
    (folder / "holdfast").symlink_to(find_engine())
    # A link would be an interpreter without its virtual environment.
    for name in ("python3", "python"):
        (folder / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        (folder / name).chmod(0o755)
    return folder


def environment(image: str, programs: Path) -> dict[str, str]:
    """What every container of it has. Nothing of ours leaks into it."""
    found = {"PATH": f"{programs}:{_USUAL_PATH}", "HOME": "/tmp", "LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1"}
    if name_in(image) in _RUNTIMES:
        found["PYTHONPATH"] = f"{_PACKAGE}:{_PACKAGE / 'holdfast' / 'deploy' / 'standin' / 'site'}"
        found["HOLDFAST_ENGINE"] = find_engine()
    return found
