"""Container images made of this machine's files: Python, this package with what it needs, NATS, etcd, a shell. Nothing is pulled.

One file in the form of `docker save`, which `docker load`, `ctr images import`, `kind load image-archive` and others read. All images
of it share one layer.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import holdfast
from holdfast.deploy.errors import DeployError
from holdfast.engine_path import find_engine
from holdfast.simgpu import libraries

TAG = "local"
_ROOT = "opt/holdfast"
_PATH = f"/{_ROOT}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# What scripts in a pod need (see pods.py), and what people who look into one expect.
_TOOLS = (
    "sh", "cat", "cp", "env", "grep", "head", "ls", "mkdir", "mv", "rm", "sed", "sleep", "sort", "tail", "touch", "tr", "uname", "wc",
)  # fmt: skip
_NO = re.compile(
    r"__pycache__|\.pyc$|/(test|tests|idlelib|tkinter|ensurepip|lib2to3|turtledemo)/|/config-[^/]*/|/(site|dist)-packages/"
)
# Libraries that programs open by name, beside the C library.
_OPENED = ("libdl.so.2", "libpthread.so.0", "librt.so.1", "libutil.so.1", "libresolv.so.2", "libnss_*.so.2", "libgcc_s.so.1")
_TIMEOUT = 60.0  # Seconds.


@dataclass(frozen=True)
class Image:
    """`name`: as a pod's specification has it. `command`: what it runs if nobody says."""

    name: str
    command: Sequence[str] = ()


AGENT = f"docker.io/library/holdfast-agent:{TAG}"
IMAGES = (
    Image(AGENT, ("holdfast", "faultd")),
    Image(f"docker.io/library/holdfast-standin:{TAG}"),
    Image("docker.io/library/nats:2.9", ("nats-server",)),
    Image("docker.io/library/etcd:3.4", ("etcd",)),
)


@dataclass
class _Files:
    """Of the layer: where each is to be, and where it is here."""

    found: dict[str, Path] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)

    def tree(self, where: str, here: Path, leave_out: re.Pattern[str] = _NO) -> None:
        for folder, _, names in os.walk(here):
            for name in names:
                path = Path(folder, name)
                inner = f"/{path.relative_to(here)}"
                if leave_out.search(inner) is None and path.is_file():
                    self.found[where + inner] = path

    def program(self, name: str) -> bool:
        """At its own place. False where this machine has none."""
        path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
        if path is None:
            return False
        self.found[f"usr/bin/{name}"] = Path(path).resolve()
        return True


def write(path: Path, images: Sequence[Image] = IMAGES) -> None:
    """Raises DeployError where this machine lacks something, OSError, EngineMissing, SimgpuError."""
    files = _collect()
    layer = _layer(files)
    digest = hashlib.sha256(layer).hexdigest()
    with tarfile.open(path, "w") as archive:
        described = []
        for image in images:
            config = _config(image, digest)
            name = f"{hashlib.sha256(config).hexdigest()}.json"
            _add(archive, name, config)
            described.append({"Config": name, "RepoTags": [image.name], "Layers": ["layer.tar"]})
        _add(archive, "manifest.json", json.dumps(described).encode())
        _add(archive, "layer.tar", layer)


def _config(image: Image, layer: str) -> bytes:
    own = f"/{_ROOT}/lib"
    environment = {
        "PATH": _PATH,
        "HOME": "/tmp",
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": f"{own}:{own}/holdfast/deploy/standin/site",
        "HOLDFAST_ENGINE": f"/{_ROOT}/bin/holdfast",
    }
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
    made = {
        "architecture": machine,
        "os": "linux",
        "config": {"Env": [f"{key}={value}" for key, value in environment.items()], "Cmd": list(image.command) or None},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer}"]},
    }
    return json.dumps(made).encode()


# ---- the layer


def _collect() -> _Files:
    files = _Files()
    files.texts["etc/passwd"] = "root:x:0:0:root:/tmp:/bin/sh\n"
    files.texts["etc/group"] = "root:x:0:\n"
    files.texts["etc/hosts"] = "127.0.0.1 localhost\n"
    missing = [name for name in ("nats-server", "etcd", *_TOOLS) if not files.program(name)]
    if missing:
        raise DeployError(
            f"the images need programs that this machine has not: {', '.join(missing)} (Debian: nats-server, etcd-server)"
        )
    files.links["bin"] = "usr/bin"
    _add_python(files)
    _add_packages(files)
    engine = Path(find_engine())
    for one in (engine, *engine.parent.glob("lib*.so")):
        files.found[f"{_ROOT}/bin/{one.name}"] = one
    files.tree(f"{_ROOT}/bin/simgpu", libraries())
    _add_libraries(files)
    return files


def _add_python(files: _Files) -> None:
    """As an installation of its own: it finds its library beside its program."""
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    library = Path(sysconfig.get_path("stdlib"))
    files.found[f"{_ROOT}/bin/{version}"] = Path(sys.executable).resolve()
    for name in ("python3", "python"):
        files.links[f"{_ROOT}/bin/{name}"] = version
    files.tree(f"{_ROOT}/lib/{version}", library)


def _add_packages(files: _Files) -> None:
    """What is needed for deployments, whoever has installed it here."""
    files.tree(f"{_ROOT}/lib/holdfast", Path(holdfast.__file__).parent, re.compile(r"__pycache__|^/bin/"))
    needed = ["aiohttp", "PyYAML", "nats-py", "cuda-bindings", "kubernetes_asyncio", "grpcio", "protobuf"]
    done: set[str] = set()
    while needed:
        name = re.sub(r"[-_.]+", "-", needed.pop()).lower()
        if name in done:
            continue
        done.add(name)
        try:
            package = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            raise DeployError(
                f"the images need the package {name}, which is not installed here: pip install 'holdfast[deploy]'"
            ) from None
        for file in package.files or []:
            path = Path(str(file.locate()))
            if ".." not in file.parts and path.is_file() and "__pycache__" not in file.parts and file.suffix not in (".pyx", ".pxd"):
                files.found[f"{_ROOT}/lib/{file}"] = path
        needed += _requirements(package)


def _requirements(package: importlib.metadata.Distribution) -> Iterator[str]:
    """Those without an extra. Ones for other systems are not installed, so a marker that names anything else counts."""
    for text in package.requires or []:
        requirement, _, marker = text.partition(";")
        name = re.match(r"[\w.-]+", requirement.strip())
        if name is None or "extra" in marker:
            continue
        if not marker or _is_installed(name[0]):
            yield name[0]


def _is_installed(name: str) -> bool:
    try:
        importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _add_libraries(files: _Files) -> None:
    """The shared libraries of all of it, where the loader looks for them here."""
    binaries = [path for path in files.found.values() if _is_elf(path)]
    done = subprocess.run(["ldd", *map(str, binaries)], capture_output=True, text=True, timeout=_TIMEOUT, env={"PATH": "/usr/bin:/bin"})
    for path in {match[1] for match in re.finditer(r"(?:=> |^\s+)(/\S+) \(0x", done.stdout, re.MULTILINE)}:
        if Path(path) in binaries:
            continue
        # Folders of a merged /usr are links here; as folders they are as good.
        files.found[path.lstrip("/")] = Path(path).resolve()
        if "/libc.so" in path:
            for name in _OPENED:
                for one in Path(path).parent.glob(name):
                    files.found[str(one).lstrip("/")] = one.resolve()


def _is_elf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def _layer(files: _Files) -> bytes:
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as archive:
        for folder in ("tmp", "proc", "sys", "dev", "run", "var", "var/log"):
            entry = _entry(folder, 0o1777 if folder == "tmp" else 0o755)
            entry.type = tarfile.DIRTYPE
            archive.addfile(entry)
        for name, to in sorted(files.links.items()):
            entry = _entry(name, 0o777)
            entry.type, entry.linkname = tarfile.SYMTYPE, to
            archive.addfile(entry)
        for name, text in sorted(files.texts.items()):
            _add(archive, name, text.encode())
        for name, path in sorted(files.found.items()):
            mode = 0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644
            _add(archive, name, path.read_bytes(), mode)
    return output.getvalue()


def _entry(name: str, mode: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.mode = mode
    return entry


def _add(archive: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    entry = _entry(name, mode)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))
