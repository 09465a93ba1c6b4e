"""What processes are doing that do not end: state, what each thread waits for, Python and native stacks.

    holdfast diagnose PID [PID ...]

The engine runs it at a deadline, before anything is killed, and gives it two seconds (engine/run/postmortem.h). A program of its own,
outside of the test, with the standard library alone: it must work whatever the test has done to its process. It asks what there is:
faulthandler where a process is a fork of ours (no right to trace is needed for that), pystack or py-spy for other Python processes,
eu-stack or gdb for native stacks; and says what was missing.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, Optional

from holdfast.crash import STACK_SIGNAL
from holdfast.waits import Look, call_of, told

# Seconds; what is not known by then stays unknown.
LIMIT = 1.8
_MAX_PROCESSES = 32
_MAX_THREADS = 16
_MAX_TEXT = 20_000
# Seconds for one process to write its Python stacks.
_PATIENCE = 0.2
# What an interpreter does between one Python function and the C function that it calls.
_INTERPRETER = re.compile(
    r"_?PyEval_|_PyFunction_Vectorcall|_?PyObject_(Vectorcall|Call|MakeTpCall)|_?PyVectorcall|\w*_vectorcall|cfunction_call|method_call"
)
_MAX_FRAMES = 16

Found = dict[str, Any]


def examine(pid: int, look: Look) -> Found:
    """What /proc tells, at once: it is only true now."""
    status = _status(pid)
    found: Found = {"pid": pid, "parent": int(status.get("PPid", "0")), "command": told(pid), "threads": [], "missing": []}
    found["state"] = status.get("State", "?").partition(" ")[0]
    try:
        tids = sorted(int(name) for name in os.listdir(f"/proc/{pid}/task"))
    except OSError:
        return found
    found["thread_count"] = len(tids)
    for tid in tids[:_MAX_THREADS]:
        thread = _thread(pid, tid, look)
        if thread.pop("forbidden", False) and not found["missing"]:
            found["missing"].append("what it waits for: we have no right to trace it")
        found["threads"].append(thread)
    return found


def _thread(pid: int, tid: int, look: Look) -> Found:
    thread: Found = {"tid": tid, "name": _first_line(f"/proc/{pid}/task/{tid}/comm")}
    wchan = _first_line(f"/proc/{pid}/task/{tid}/wchan")
    thread["wchan"] = "" if wchan == "0" else wchan
    try:
        call = call_of(pid, tid)
    except OSError:
        thread["forbidden"] = True
        return thread
    thread["waits"] = look.explain(pid, call) if call is not None else ""
    thread["runs"] = call is None and thread["wchan"] == ""
    return thread


def _status(pid: int) -> dict[str, str]:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/status") as file:
        return {key: value.strip() for key, _, value in (line.partition(":") for line in file)}
    return {}


def _first_line(path: str) -> str:
    with contextlib.suppress(OSError), open(path, errors="replace") as file:
        return file.readline().strip()
    return ""


# ---- Python stacks


def has_our_handler(pid: int) -> bool:
    """A fork of a test: it writes its Python stacks when it is asked to (crash.py). The signal would end any other process."""
    caught = _status(pid).get("SigCgt", "0")
    return bool(int(caught, 16) >> (STACK_SIGNAL - 1) & 1)


def ask_for_stacks(pid: int, stacks_fd: int) -> str:
    """Its Python stacks, which it writes to the file that the engine has given to us."""
    before = os.fstat(stacks_fd).st_size
    with contextlib.suppress(OSError):
        os.kill(pid, STACK_SIGNAL)
    deadline = time.monotonic() + _PATIENCE
    size = before
    while time.monotonic() < deadline:
        time.sleep(0.01)
        now = os.fstat(stacks_fd).st_size
        # Nothing says that it has finished, but that the file no longer grows.
        if now > before and now == size:
            break
        size = now
    return os.pread(stacks_fd, min(size - before, _MAX_TEXT), before).decode(errors="replace").strip()


def is_python(pid: int) -> bool:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/maps") as file:
        text = file.read()
        return bool(re.search(r"/(lib)?python\d[\d.]*(\.so[\d.]*)?$", text, re.MULTILINE))
    return False


# ---- tools


def find_tool(name: str) -> Optional[str]:
    """On PATH, or beside this interpreter, where pip puts programs."""
    own = os.path.join(os.path.dirname(sys.executable), name)
    return shutil.which(name) or (own if os.access(own, os.X_OK) else None)


class Tool:
    """A program that runs while others do, and whose words are wanted until a deadline."""

    def __init__(self, name: str, command: Sequence[str]) -> None:
        self.name = name
        # It must not be stopped by the terminal, nor ask for debug information over the network.
        environment = {**os.environ, "DEBUGINFOD_URLS": ""}
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, start_new_session=True
        )

    def result(self, deadline: float) -> tuple[str, str]:
        """Its output, or why there is none."""
        try:
            out, err = self.process.communicate(timeout=max(0.01, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.process.kill()
            out, err = self.process.communicate()
            if not out.strip():
                return "", f"{self.name} was not done in time"
        text = out.decode(errors="replace").strip()
        if text:
            return text, ""
        said = err.decode(errors="replace").strip().split("\n")[-1]
        if re.search("not permitted|permission denied|ptrace", said, re.IGNORECASE):
            said = "we have no right to trace it"
        return "", f"{self.name}: {said or 'it said nothing'}"


def native_command(pid: int) -> Optional[tuple[str, list[str]]]:
    tool = find_tool("eu-stack")
    if tool is not None:
        return "eu-stack", [tool, "-p", str(pid), "-n", "48"]
    tool = find_tool("gdb")
    if tool is not None:
        gdb = [tool, "-p", str(pid), "-batch", "-nx", "-ex", "set pagination off", "-ex", "thread apply all backtrace 48"]
        return "gdb", gdb
    return None


def python_command(pid: int) -> Optional[tuple[str, list[str]]]:
    tool = find_tool("py-spy")
    if tool is not None:
        return "py-spy", [tool, "dump", "--native", "--pid", str(pid)]
    tool = find_tool("pystack")
    if tool is not None:
        return "pystack", [tool, "remote", "--native-all", str(pid)]
    return None


def shorten_native(text: str, tool: str) -> str:
    """Each thread's frames down to the interpreter, whose frames the Python stack tells better."""
    lines: list[str] = []
    frames = 0
    skipping = False
    for line in text.split("\n"):
        if line.startswith(("TID ", "Thread ")):
            frames, skipping = 0, False
            lines.append(line.rstrip(":"))
        elif line.startswith("#") and not skipping:
            if frames and _INTERPRETER.match(_function_of(line, tool)):
                lines.append("  ... of the interpreter")
                skipping = True
                continue
            frames += 1
            function = _function_of(line, tool)
            lines.append(f"  {function}")
            if frames >= _MAX_FRAMES:
                lines.append("  ...")
                skipping = True
    return "\n".join(lines)[:_MAX_TEXT]


def _function_of(line: str, tool: str) -> str:
    """Name and place of a frame, without the values of its arguments."""
    if tool == "gdb":
        text = re.sub(r"^#\d+\s+(0x[0-9a-f]+ in )?", "", line).strip()
        name, _, rest = text.partition(" (")
        place = re.search(r"\) (?:at|from) (\S+)$", rest)
        return f"{name} ({place[1]})" if place is not None else name
    parts = line.split(None, 2)
    return parts[2] if len(parts) > 2 else "??"


# ---- all of it


def diagnose(pids: Sequence[int], stacks_fd: int = -1, asked: Sequence[int] = (), limit: float = LIMIT) -> Iterator[Found]:
    """One object a process, the first ones without stacks, then again with them. `asked`: those whose Python stacks are known."""
    deadline = time.monotonic() + limit
    look = Look()
    found = [examine(pid, look) for pid in pids[:_MAX_PROCESSES]]
    yield from found
    tools: list[tuple[Found, str, Tool]] = []
    for process in found:
        pid = process["pid"]
        if process["state"] in ("Z", "X", "?"):
            continue
        with contextlib.suppress(OSError):
            tools += [(process, kind, tool) for kind, tool in _start_tools(process, stacks_fd, pid in asked)]
    for process, kind, tool in tools:
        text, problem = tool.result(deadline)
        if problem:
            process["missing"].append(f"{kind} stack: {problem}")
        else:
            process[kind] = shorten_native(text, tool.name) if kind == "native" else text[:_MAX_TEXT]
    for process in found:
        process["complete"] = True
        yield process


def _start_tools(process: Found, stacks_fd: int, asked: bool) -> Iterator[tuple[str, Tool]]:
    pid = process["pid"]
    command = native_command(pid)
    if not asked and is_python(pid):
        if stacks_fd >= 0 and process["state"] != "T" and has_our_handler(pid):
            # Before a tool stops it.
            process["python"] = ask_for_stacks(pid, stacks_fd)
        if not process.get("python"):
            other = python_command(pid)
            if other is None:
                process["missing"].append("python stack: neither py-spy nor pystack is installed")
            else:
                # With native frames between the Python ones. Two tools cannot trace one process at a time.
                yield "python", Tool(*other)
                return
    if command is None:
        process["missing"].append("native stack: neither eu-stack (elfutils) nor gdb is installed")
    else:
        yield "native", Tool(*command)


def describe(process: Found) -> str:
    """For people."""
    lines = [f"process {process['pid']} (state {process['state']}): {process['command']}"]
    for thread in process["threads"]:
        what = (
            "runs"
            if thread.get("runs")
            else f"waits {thread['waits']}"
            if thread.get("waits")
            else f"waits in {thread['wchan'] or '?'}"
        )
        lines.append(f"  thread {thread['tid']} ({thread['name']}) {what}")
    if process.get("thread_count", 0) > len(process["threads"]):
        lines.append(f"  and {process['thread_count'] - len(process['threads'])} more threads")
    for kind, title in (("python", "Python stacks"), ("native", "Native stacks")):
        if process.get(kind):
            lines += [f"  {title}:", *(f"    {line}" for line in process[kind].split("\n"))]
    lines += [f"  missing: {missing}" for missing in process["missing"]]
    return "\n".join(lines)


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """The engine's way in: JSON lines, so that what is there when its patience ends can be used."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--stacks-fd", type=int, default=-1)
    parser.add_argument("--asked", type=int, action="append", default=[])
    parser.add_argument("pids", type=int, nargs="+")
    options = parser.parse_args(arguments)
    for process in diagnose(options.pids, options.stacks_fd, options.asked):
        print(json.dumps(process), flush=True)
    return 0
