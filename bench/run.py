"""Measures Holdfast beside its peers and floors, in one run, as ratios. Prints Markdown for bench/README.md.

    python bench/run.py [trivial] [peers] [linalg] [lib] [startup] [memory] [deadline] [worker] [crashes] [many] [scopes] [leaks] [gpus]

Makes an environment of its own below build/bench/. pytest 8.4.2: pytest-forked and pytest-isolate do not work on 9.2.
"""

from __future__ import annotations

import json
import os
import re
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PLACE = ROOT / "build" / "bench"
PYTHON = PLACE / "venv" / "bin" / "python"
PACKAGES = [
    "pytest==8.4.2", "numpy==2.4.6", "pandas==3.1.1", "hypothesis==6.170.15", "pytest-xdist==3.8.0",
    "pytest-forked==1.7.5", "pytest-isolate==0.0.17", "pytest-fkit==0.11.0", "pytest-parallex==0.2.5",
]  # fmt: skip
BASE = ["-q", "-p", "no:cacheprovider", "--tb=no"]
ALONE = ["-p", "no:forked", "-p", "no:isolate", "-p", "no:fkit", "-p", "no:xdist", "-p", "no:hypothesispytest", "-p", "no:parallex"]
OTHERS_OFF = ["-p", "no:forked", "-p", "no:isolate", "-p", "no:fkit", "-p", "no:hypothesispytest"]
HOLDFAST = [*ALONE, "--holdfast", f"--hf-journal={PLACE}/bench.db"]
WORKER = [*HOLDFAST, "--hf-isolate=worker", f"--hf-history={PLACE}/history.db"]


def setup() -> None:
    PLACE.mkdir(parents=True, exist_ok=True)
    if not PYTHON.exists():
        subprocess.run([sys.executable, "-m", "venv", PLACE / "venv"], check=True)
    subprocess.run([PYTHON, "-m", "pip", "install", "-q", *PACKAGES], check=True)
    for old in PLACE.glob("history.db*"):
        old.unlink()
    subprocess.run([PYTHON, "-m", "pip", "install", "-q", "--no-deps", "--force-reinstall", ROOT], check=True)


def run(*args: str) -> tuple[float, float, str]:
    """Wall seconds, CPU seconds (of the whole tree that was waited for), last line."""
    # A temporary directory of their own: pytest deletes old ones at the end of a run, however large others have left them.
    temporary = PLACE / "tmp"
    temporary.mkdir(exist_ok=True)
    env = {**os.environ, "PYTHONPATH": str(HERE), "OPENBLAS_NUM_THREADS": "1", "TMPDIR": str(temporary)}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun = time.monotonic()
    done = subprocess.run([str(PYTHON), "-m", "pytest", *BASE, *args], cwd=PLACE, env=env, capture_output=True, text=True, check=False)
    wall = time.monotonic() - begun
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    lines = [line for line in done.stdout.strip().splitlines() if re.search(r"\d (passed|failed|error)", line)]
    return wall, cpu, (lines or [done.stdout[-200:] + done.stderr[-200:]])[-1]


def table(title: str, rows: list[tuple[str, list[str]]], repeat: int, tests: int, floor: str) -> None:
    """Each row's command, `repeat` times in turn (so that a slow minute hits all), median; the ratio is to the row `floor`."""
    walls: dict[str, list[float]] = {name: [] for name, _ in rows}
    ends = {}
    for _ in range(repeat):
        for name, args in rows:
            wall, _, ends[name] = run(*args)
            walls[name].append(wall)
    middle = {name: statistics.median(found) for name, found in walls.items()}
    print(f"\n### {title}\n\n| | s (median of {repeat}) | ms a test | ratio to {floor} | |\n|---|---|---|---|---|")
    for name, _ in rows:
        print(
            f"| {name} | {middle[name]:.2f} | {middle[name] / tests * 1000:.2f} | {middle[name] / middle[floor]:.2f} | {ends[name].strip('= ')} |"
        )
    sys.stdout.flush()


def trivial() -> None:
    suite = str(HERE / "suites" / "trivial")
    rows = [
        ("plain pytest", [*ALONE, suite]),
        ("naive loop, 2 slots", [*ALONE, "-p", "naive_fork", "--naive-slots=2", suite]),
        ("holdfast, 2 slots", [*HOLDFAST, "--hf-slots=2", suite]),
    ]
    table("1,000 trivial tests, numpy and pandas imported", rows, 5, 1000, "naive loop, 2 slots")


def peers() -> None:
    suite = str(HERE / "suites" / "trivial")
    rows = [
        ("naive loop, 2 slots", [*ALONE, "-p", "naive_fork", "--naive-slots=2", suite]),
        ("holdfast, 2 slots", [*HOLDFAST, "--hf-slots=2", suite]),
        ("pytest-forked", ["-p", "no:isolate", "-p", "no:fkit", "--forked", suite]),
        ("pytest-isolate", ["-p", "no:forked", "-p", "no:fkit", "--isolate", suite]),
    ]
    table("The same beside the other process-a-test plugins", rows, 1, 1000, "naive loop, 2 slots")
    few = [str(HERE / "suites" / "trivial" / "test_trivial.py") + f"::test_trivial[{i}]" for i in range(20)]
    plain = statistics.median(run(*ALONE, *few)[0] for _ in range(3))
    fkit = run("-p", "no:forked", "-p", "no:isolate", "--fkit", "--fkit-workers=2", *few)[0]
    whole_plain = statistics.median(run(*ALONE, suite)[0] for _ in range(3))
    ours = statistics.median(run(*HOLDFAST, "--hf-slots=2", suite)[0] for _ in range(3))
    fkit_overhead, our_overhead = (fkit - plain) / 20, (ours - whole_plain) / 1000
    print(
        f"\npytest-fkit, 2 workers, 20 of these tests: {fkit_overhead * 1000:.0f} ms overhead a test; "
        f"holdfast, all 1,000: {our_overhead * 1000:.2f} ms; {fkit_overhead / our_overhead:.0f} times less"
    )


def numpy(name: str, tests: int, repeat: int) -> None:
    where = subprocess.check_output([str(PYTHON), "-c", "import numpy; print(numpy.__path__[0])"], text=True).strip()
    suite = f"{where}/{name}/tests"
    # With hypothesis, which numpy's tests use.
    hypothesis = [part for name in ALONE[1::2] if name != "no:hypothesispytest" for part in ("-p", name)]
    ours = [*hypothesis, "--holdfast", f"--hf-journal={PLACE}/bench.db", f"--hf-history={PLACE}/history.db", "--hf-slots=2"]
    rows = [
        ("plain pytest", [*hypothesis, suite]),
        ("pytest-xdist -n2", ["-p", "no:forked", "-p", "no:isolate", "-p", "no:fkit", "-p", "no:parallex", "-n2", suite]),
        ("naive loop, 2 slots", [*hypothesis, "-p", "naive_fork", "--naive-slots=2", suite]),
        ("naive loop with pytest's hooks", [*hypothesis, "-p", "naive_fork", "--naive-slots=2", "--naive-whole", suite]),
        ("holdfast, 2 slots", [*ours, suite]),
        ("holdfast worker, 2 slots", [*ours, "--hf-isolate=worker", suite]),
    ]
    table(f"numpy.{name}", rows, repeat, tests, "naive loop, 2 slots")


def linalg() -> None:
    numpy("linalg", 489, 2)


def lib() -> None:
    numpy("lib", 4872, 1)


def startup() -> None:
    (PLACE / "test_one.py").write_text("def test_one(): pass\n")
    plain, ours = [], []
    for _ in range(15):
        plain.append(run(*ALONE, "test_one.py")[0])
        ours.append(run(*HOLDFAST, "--hf-slots=1", "test_one.py")[0])
    print(
        f"\n### Start-up, one trivial test\n\nplain {statistics.median(plain) * 1000:.0f} ms, holdfast {statistics.median(ours) * 1000:.0f} ms, "
        f"difference {(statistics.median(ours) - statistics.median(plain)) * 1000:.0f} ms (medians of 15)"
    )


def memory() -> None:
    """The engine's peak resident size (VmHWM) with 100,000 tests collected; they are deselected from running by -x at the first."""
    (PLACE / "test_many.py").write_text(
        "import pytest\n@pytest.mark.parametrize('i', range(100_000))\ndef test_with_a_name_of_usual_length(i): assert 0\n"
    )
    env = {**os.environ, "PYTHONPATH": str(HERE)}
    process = subprocess.Popen(
        [str(PYTHON), "-m", "pytest", *BASE, *HOLDFAST, "--hf-slots=2", "-x", "test_many.py"],
        cwd=PLACE,
        env=env,
        stdout=subprocess.PIPE,
        text=True,
    )
    peak = {}
    while process.poll() is None:
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                if b"--control-fd" in entry.read_bytes():
                    peak = dict(re.findall(r"(VmHWM|VmRSS):\s+(\d+)", (entry.parent / "status").read_text())) or peak
            except OSError:
                continue
        time.sleep(0.02)
    print(
        f"\n### Engine memory, 100,000 tests\n\npeak {int(peak['VmHWM']) / 1024:.1f} MiB (to reach: 30 MiB + 200 bytes a test = 49.1 MiB)"
    )


def deadline() -> None:
    """From the deadline to the verdict, for a test that sleeps, one that ignores everything (grace 0.2 s), and one with ten children;
    and how much of that the look from outside took, by hand."""
    (PLACE / "test_hang.py").write_text(
        "import signal, time\ndef test_sleeps(): time.sleep(3600)\ndef test_deaf():\n"
        "    for s in (signal.SIGINT, signal.SIGTERM): signal.signal(s, signal.SIG_IGN)\n    while True: time.sleep(1)\n"
        "def test_children():\n    import subprocess\n    for _ in range(10): subprocess.Popen(['sleep', '3600'])\n    time.sleep(3600)\n"
    )
    run(*HOLDFAST, "--hf-slots=1", "--hf-timeout=1", "--hf-grace=0.2", f"--hf-log={PLACE}/hang.jsonl", "test_hang.py")
    events = [json.loads(line) for line in (PLACE / "hang.jsonl").read_text().splitlines()]
    print("\n### From a deadline (1 s) to the verdict\n")
    for event in events:
        if event["event"] == "verdict":
            print(f"- {event['id'].rpartition('::')[2]}: {(event['duration'] - 1) * 1000:.0f} ms ({event['verdict']})")
    asleep = [
        subprocess.Popen([PYTHON, "-c", "import time; time.sleep(3600)"]),
        *(subprocess.Popen(["sleep", "3600"]) for _ in range(10)),
    ]
    begun = time.monotonic()
    subprocess.run([PYTHON, "-m", "holdfast", "diagnose", str(asleep[0].pid)], stdout=subprocess.DEVNULL, check=True)
    one = time.monotonic() - begun
    subprocess.run([PYTHON, "-m", "holdfast", "diagnose", *(str(child.pid) for child in asleep)], stdout=subprocess.DEVNULL, check=True)
    print(f"- `holdfast diagnose` of one process {one * 1000:.0f} ms, of eleven {(time.monotonic() - begun - one) * 1000:.0f} ms")
    for child in asleep:
        child.kill()
        child.wait()


def leaks() -> None:
    """What the look at what tests leave costs, where there is nothing: 1,000 trivial tests with and without it."""
    suite = str(HERE / "suites" / "trivial")
    print(
        "\n### The look for leaks, 1,000 trivial tests, 2 slots\n\n| | without, s | with, s | us a test and slot | CPU us a test |\n|---|---|---|---|---|"
    )
    for isolation in ("test", "worker"):
        walls: dict[str, list[float]] = {"ignore": [], "report": []}
        cpus: dict[str, list[float]] = {"ignore": [], "report": []}
        for _ in range(7):
            for policy in walls:
                wall, cpu, _ = run(*HOLDFAST, "--hf-slots=2", f"--hf-isolate={isolation}", f"--hf-leaks={policy}", suite)
                walls[policy].append(wall)
                cpus[policy].append(cpu)
        without, having = (statistics.median(walls[policy]) for policy in ("ignore", "report"))
        used = statistics.median(cpus["report"]) - statistics.median(cpus["ignore"])
        # Two slots, so each test delays half of them.
        print(f"| {isolation} | {without:.2f} | {having:.2f} | {(having - without) * 2 * 1000:.0f} | {used * 1000:.0f} |")


def gpus() -> None:
    """From a lease to the start of the test's protocol and to its first setup hook, on two simulated GPUs; beside the same tests
    without GPUs."""
    folder = PLACE / "gpus"
    folder.mkdir(exist_ok=True)
    (folder / "conftest.py").write_text(
        "import os, time, pytest\ndef note(what, item):\n"
        "    with open(os.environ['BENCH_STARTS'], 'a') as file: print(what, item.nodeid, time.time(), file=file)\n"
        "@pytest.hookimpl(tryfirst=True)\ndef pytest_runtest_protocol(item): note('protocol', item)\n"
        "@pytest.hookimpl(tryfirst=True)\ndef pytest_runtest_setup(item): note('setup', item)\n"
    )
    (folder / "test_it.py").write_text(
        "import pytest\n@pytest.mark.parametrize('i', range(300))\n@pytest.mark.holdfast(gpus=1)\ndef test_on_one(i): pass\n"
        "@pytest.mark.parametrize('i', range(300))\ndef test_on_none(i): pass\n"
    )
    log, starts = folder / "log.jsonl", folder / "starts"
    starts.unlink(missing_ok=True)
    holdfast = str(PYTHON.parent / "holdfast")
    walls = {}
    for kind in ("on_none", "on_one"):
        env = {**os.environ, "BENCH_STARTS": str(starts)}
        command = [holdfast, "simgpu", "--gpus", "2x80GiB", "--", str(PYTHON), "-m", "pytest", *BASE, *HOLDFAST, "--hf-slots=2"]
        begun = time.monotonic()
        subprocess.run(
            [*command, f"--hf-log={log}", "--hf-history=none", "-k", kind, str(folder)], env=env, check=True, capture_output=True
        )
        walls[kind] = time.monotonic() - begun
    leased = {event["id"]: event["at"] for event in map(json.loads, log.read_text().splitlines()) if event["event"] == "lease"}
    print("\n### GPUs, 300 trivial tests, 2 slots\n")
    for what in ("protocol", "setup"):
        begun_at = {
            nodeid.rpartition("/")[2]: float(at)
            for kind, nodeid, at in (line.split(" ", 2) for line in starts.read_text().splitlines())
            if kind == what
        }
        delays = sorted(1000 * (begun_at[nodeid.rpartition("/")[2]] - at) for nodeid, at in leased.items())
        print(f"from lease to {what}: median {statistics.median(delays):.2f} ms, 90 % within {delays[len(delays) * 9 // 10]:.2f} ms")
    print(f"300 tests without GPUs {walls['on_none']:.2f} s, with one each {walls['on_one']:.2f} s")


def _workers(title: str, suite: str, repeat: int, tests: int) -> None:
    rows = [
        ("plain pytest", [*ALONE, suite]),
        ("pytest-xdist -n2", [*OTHERS_OFF, "-p", "no:parallex", "-n2", suite]),
        ("pytest-parallex, fork, 2 workers", [*OTHERS_OFF, "-p", "no:xdist", "--parallel=fork", "--parallel-workers=2", suite]),
        ("holdfast worker, 2 slots", [*WORKER, "--hf-slots=2", suite]),
        ("holdfast test, 2 slots", [*HOLDFAST, "--hf-slots=2", suite]),
    ]
    table(title, rows, repeat, tests, "pytest-xdist -n2")


def worker() -> None:
    _workers("1,000 trivial tests, isolation worker", str(HERE / "suites" / "trivial"), 5, 1000)
    _workers("1,000 tests of 2 ms, isolation worker", str(HERE / "suites" / "short"), 5, 1000)


def crashes() -> None:
    """The same suite without crashes, and with 50 of its 1,000 tests dying."""
    suite = str(HERE / "suites" / "crashing")
    found: dict[str, list[float]] = {"": [], "1": []}
    for _ in range(5):
        for crash in found:
            os.environ["BENCH_CRASH"] = crash
            found[crash].append(run(*WORKER, "--hf-slots=2", suite)[0])
    os.environ.pop("BENCH_CRASH")
    without, having = statistics.median(found[""]), statistics.median(found["1"])
    print(
        f"\n### 5 % of 1,000 tests crash, isolation worker\n\nwithout {without:.2f} s, with {having:.2f} s, ratio {having / without:.2f}"
    )


def many() -> None:
    """30,000 tests: CPU time beside xdist, and from the end of the collection to the first test."""
    (PLACE / "test_thirty.py").write_text(
        "import pytest\n@pytest.mark.parametrize('i', range(30_000))\ndef test_with_a_name_of_usual_length(i): pass\n"
    )
    log = PLACE / "thirty.jsonl"
    rows = {
        "pytest-xdist -n2": [*OTHERS_OFF, "-p", "no:parallex", "-n2", "test_thirty.py"],
        "holdfast worker": [*WORKER, "--hf-slots=2", f"--hf-log={log}", "test_thirty.py"],
    }
    cpu: dict[str, list[float]] = {name: [] for name in rows}
    wall: dict[str, list[float]] = {name: [] for name in rows}
    latency = []
    for _ in range(3):
        for name, args in rows.items():
            seconds, used, _ = run(*args)
            wall[name].append(seconds)
            cpu[name].append(used)
        events = {}
        for line in log.read_text().splitlines():
            event = json.loads(line)
            if "at" in event:
                events.setdefault(event["event"], event["at"])
        latency.append(events["first_attempt"] - events["collected"])
    print("\n### 30,000 tests, 2 slots\n\n| | s | CPU s |\n|---|---|---|")
    for name in rows:
        print(f"| {name} | {statistics.median(wall[name]):.1f} | {statistics.median(cpu[name]):.1f} |")
    ratio = statistics.median(cpu["holdfast worker"]) / statistics.median(cpu["pytest-xdist -n2"])
    print(f"\nCPU {ratio:.2f} of xdist's; first test {statistics.median(latency) * 1000:.0f} ms after the end of the collection")


SLOW_FIXTURE = """
import time, pytest
@pytest.fixture(scope="module")
def slow(): time.sleep(2); yield
@pytest.mark.parametrize("i", range(200))
def test_it(slow, i): time.sleep(0.02)
"""


def scopes() -> None:
    """Shared fixtures: one slow one, the overhead of a test below a scope, the cost of thousands of small scopes."""
    (PLACE / "test_slow.py").write_text(SLOW_FIXTURE)
    (PLACE / "test_nothing.py").write_text("def test_it(): pass\n")
    xdist = [*OTHERS_OFF, "-p", "no:parallex", "-n2"]
    rows = {
        "holdfast": [*HOLDFAST, "--hf-slots=2"],
        "pytest-xdist --dist=load": [*xdist, "--dist=load"],
        "pytest-xdist --dist=loadscope": [*xdist, "--dist=loadscope"],
    }
    print("\n### A module fixture of 2 s, 200 tests of 20 ms, 2 slots: at best 4.00 s\n")
    print("| | s (median of 3) | less its run of one empty test | of the best |\n|---|---|---|---|")
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in rows}
    for _ in range(3):
        for name, args in rows.items():
            found[name].append((run(*args, "test_slow.py")[0], run(*args, "test_nothing.py")[0]))
    for name, pairs in found.items():
        wall, net = statistics.median(w for w, _ in pairs), statistics.median(w - e for w, e in pairs)
        print(f"| {name} | {wall:.2f} | {net:.2f} | {net / 4:.3f} |")
    forked = [*ALONE[2:], "--forked", "test_slow.py::test_it[7]", "test_slow.py::test_it[8]"]
    print(f"\npytest-forked, 2 of the 200 tests: {run(*forked)[0]:.2f} s (it sets the fixture up for each)")
    _scope_overhead()
    _many_scopes()


def _scope_overhead() -> None:
    imports = "import numpy, pandas, pytest\n"
    tests = "@pytest.mark.parametrize('i', range(1000))\n"
    (PLACE / "test_root.py").write_text(imports + tests + "def test_it(i): pass\n")
    fixture = "@pytest.fixture(scope='module')\ndef made(): yield 1\n"
    (PLACE / "test_scope.py").write_text(imports + fixture + tests + "def test_it(i, made): pass\n")
    rows = [("no scope", [*HOLDFAST, "--hf-slots=2", "test_root.py"]), ("in a scope", [*HOLDFAST, "--hf-slots=2", "test_scope.py"])]
    table("1,000 trivial tests, forked from the slot's zygote or from a scope's", rows, 5, 1000, "no scope")


def _many_scopes() -> None:
    """3,000 classes of 10 tests, with and without a setup_class."""
    for name, body in (("without", ""), ("with", "    def setup_class(cls): pass\n    def teardown_class(cls): pass\n")):
        tests = "".join(f"    def test_{i}(self): pass\n" for i in range(10))
        (PLACE / f"test_{name}.py").write_text("".join(f"class Test{i}:\n{body}{tests}" for i in range(3000)))
    walls: dict[str, list[float]] = {"without": [], "with": []}
    for name, found in walls.items():
        found.append(run(*HOLDFAST, "--hf-slots=2", f"test_{name}.py")[0])
    without, having = walls["without"][0], walls["with"][0]
    fork = without / 30_000 * 2  # Seconds of one slot.
    cost = (having - without) / 3000 * 2
    print(
        f"\n### 3,000 scopes of 10 trivial tests\n\nwithout {without:.1f} s, with {having:.1f} s: a scope costs {cost / fork:.2f} forks"
    )


def main() -> None:
    setup()
    parts = {
        f.__name__: f for f in (trivial, peers, linalg, lib, startup, memory, deadline, worker, crashes, many, scopes, leaks, gpus)
    }
    for name in sys.argv[1:] or list(parts):
        parts[name]()


if __name__ == "__main__":
    main()
