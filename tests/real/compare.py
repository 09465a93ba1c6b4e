"""Runs real suites from PyPI with and without --holdfast and compares every (id, phase, outcome).

    python tests/real/compare.py [--slots 1,2,4] [--isolate test,worker] [SUITE ...]

Suites: attrs, pluggy, click, sqlalchemy, tornado, numpy.linalg, networkx, pandas (a folder of each).

Needs a Python environment with holdfast; makes one more below build/real/ with what the suites need. The suites' sources are their sdists.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[2]
PLACE = HERE / "build" / "real"
# name: (PyPI release with the tests in its sdist, folder of the tests, what else they need)
SUITES = {
    "attrs": ("attrs==26.1.0", "tests", ["hypothesis", "cloudpickle"]),
    "pluggy": ("pluggy==1.7.0", "testing", []),
    "click": ("click==8.5.1", "tests", []),
    # Its fixtures set up tables for classes and modules.
    "sqlalchemy": ("sqlalchemy==2.1.9", "test/orm/inheritance", ["typing_extensions", "greenlet"]),
    "tornado": ("tornado==6.6.1", "tornado/test", []),
    # These carry their tests in the wheel: the folder is inside the installed package.
    "numpy.linalg": ("numpy==2.4.6", "numpy/linalg/tests", ["hypothesis"]),
    "networkx": ("networkx==3.6.1", "networkx/classes/tests", ["numpy==2.4.6"]),
    "pandas": ("pandas==3.1.1", "pandas/tests/reshape", ["hypothesis", "numpy==2.4.6"]),
}
RECORDER = """
import json, os
seen = {}
def pytest_configure(config):
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Recorder())
class Recorder:
    def pytest_runtest_logreport(self, report):
        seen.setdefault(report.nodeid, []).append([report.when, report.outcome, hasattr(report, "wasxfail")])
    def pytest_sessionfinish(self):
        with open(os.environ["RECORD"], "w") as file:
            json.dump(seen, file)
"""


def environment() -> Path:
    venv = PLACE / "venv"
    python = venv / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    needs = {need for release, _, more in SUITES.values() for need in [release, *more]}
    subprocess.run([python, "-m", "pip", "install", "-q", "pytest==9.2.0", *sorted(needs)], check=True)
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", "--force-reinstall", HERE], check=True)
    (PLACE / "suite_recorder.py").write_text(RECORDER)
    return python


def source(python: Path, name: str) -> tuple[Path, str]:
    """The folder to run in, and the tests in it."""
    release, tests, _ = SUITES[name]
    if name in ("numpy.linalg", "networkx", "pandas"):
        where = subprocess.check_output([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True).strip()
        (PLACE / "empty").mkdir(exist_ok=True)
        return PLACE / "empty", f"{where}/{tests}"
    folder = PLACE / release.replace("==", "-")
    if not folder.exists():
        subprocess.run([python, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:", "-d", PLACE, release], check=True)
        with tarfile.open(f"{folder}.tar.gz") as archive:
            archive.extractall(PLACE, filter="data")
    return folder, tests


def outcomes(python: Path, folder: Path, tests: str, *args: str) -> tuple[dict[str, Any], float]:
    record = PLACE / "record.json"
    record.unlink(missing_ok=True)
    env = {**os.environ, "PYTHONPATH": str(PLACE), "RECORD": str(record)}
    command = [str(python), "-m", "pytest", "-q", "-p", "suite_recorder", "-p", "no:cacheprovider", *args, tests]
    begun = time.monotonic()
    subprocess.run(command, cwd=folder, env=env, stdout=subprocess.DEVNULL, check=False)
    found = json.loads(record.read_text())
    return {nodeid: sorted(map(tuple, phases)) for nodeid, phases in found.items()}, time.monotonic() - begun


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slots", default="1,2,4")
    parser.add_argument("--isolate", default="test")
    parser.add_argument("suites", nargs="*", default=list(SUITES))
    options = parser.parse_args()
    PLACE.mkdir(parents=True, exist_ok=True)
    python = environment()
    different = 0
    for name in options.suites:
        folder, tests = source(python, name)
        plain, seconds = outcomes(python, folder, tests)
        print(f"{name}: {len(plain)} tests, plain pytest {seconds:.1f} s", flush=True)
        for isolation, slots in itertools.product(options.isolate.split(","), options.slots.split(",")):
            ours, seconds = outcomes(python, folder, tests, "--holdfast", f"--hf-slots={slots}", f"--hf-isolate={isolation}")
            differing = [nodeid for nodeid in {*plain, *ours} if plain.get(nodeid) != ours.get(nodeid)]
            different += len(differing)
            print(f"  {isolation}, {slots} slots: {seconds:.1f} s, {len(differing)} differ", flush=True)
            for nodeid in sorted(differing)[:10]:
                print(f"    {nodeid}: {plain.get(nodeid)} {ours.get(nodeid)}")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
