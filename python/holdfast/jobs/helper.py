"""The program that the engine starts to talk to a batch system: submits the job, watches it, and cancels it when the engine wants that
or goes away. Its frames are in protocol/farm.md.

Its commands may hang or take seconds, which the engine's loop must not.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import signal
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from holdfast import wire
from holdfast.jobs import BatchSystem, JobError, State, Wish, system_named

# Seconds between two looks at the job: often at first, and when the engine wants to know why its nodes have gone.
_OFTEN = 0.25
_SELDOM = 3.0
_FIRST = 5.0
# Times that a look may fail in a row.
_MOST_FAILURES = 20
# Bytes of the job's output that are shown when it has ended early.
_LOG_TAIL = 2000


class Gone(Exception):
    """The engine has gone away."""


class Engine:
    """Our end of its socket."""

    def __init__(self, sock: socket.socket) -> None:
        self.channel = wire.Channel(sock)

    def say(self, kind: str, **fields: str) -> None:
        try:
            self.channel.send({"t": kind, **fields})
        except OSError:
            raise Gone from None

    def next_word(self, timeout: float) -> Optional[wire.Frame]:
        """None if nothing came in time. Raises Gone."""
        try:
            if not self.channel.pending():
                if not select.select([self.channel.sock], [], [], timeout)[0]:
                    return None
                if not self.channel.pump():
                    raise Gone
            return self.channel.receive() if self.channel.pending() else None
        except (OSError, wire.WireError):
            raise Gone from None


class Watch:
    """Of a job that was submitted."""

    def __init__(self, engine: Engine, system: BatchSystem, job: str, log: str) -> None:
        self.engine = engine
        self.system = system
        self.job = job
        # The file with its output, empty for none.
        self.output = log
        self.last = State("")
        self.failures = 0
        self.was_running = False
        self.hurry_until = 0.0

    def watch(self) -> None:
        """Until the engine says `leave` or `cancel`, or goes away."""
        started = time.monotonic()
        while True:
            now = time.monotonic()
            over = self.last.kind == "gone"
            often = now < max(started + _FIRST, self.hurry_until)
            frame = self.engine.next_word(3600 if over else _OFTEN if often else _SELDOM)
            word = frame["t"] if frame is not None else ""
            if word == "leave":
                return
            if word == "cancel":
                self.cancel()
                return
            if word == "look":
                self.hurry_until = time.monotonic() + _FIRST * 2
            if not over:
                self.look()

    def look(self) -> None:
        try:
            state = self.system.look(self.job)
            self.failures = 0
        except JobError as problem:
            self.failures += 1
            if self.failures < _MOST_FAILURES:
                return
            state = State("gone", f"cannot be watched any more: {problem}")
        if state.kind == "waiting" and self.was_running:
            # Its agents have gone, and another start would run everything again.
            self.cancel()
            state = State("gone", f"was put back into the queue ({state.text}), and is cancelled")
        if state == self.last:
            return
        self.last = state
        if state.kind == "running" and not self.was_running:
            self.was_running = True
            self.engine.say("running")
        elif state.kind == "waiting" and state.hopeless:
            self.engine.say("hopeless", text=state.text)
        elif state.kind == "waiting" and state.text not in ("", "None"):
            self.engine.say("state", text=state.text)
        elif state.kind == "gone":
            self.engine.say("gone", text=state.text + self.log())

    def log(self) -> str:
        """The end of what the job has written, where that can be seen from here."""
        try:
            text = Path(self.output).read_text(errors="replace")[-_LOG_TAIL:].strip() if self.output else ""
        except OSError:
            return ""
        return f". It had written:\n{text}" if text else ""

    def cancel(self) -> None:
        if self.last.kind == "gone":
            return
        for _ in range(3):
            with contextlib.suppress(JobError):
                self.system.cancel(self.job)
                return


def submit(engine: Engine, frame: wire.Frame) -> Optional[Watch]:
    """None if the batch system has refused, which the engine knows then."""
    system = system_named(str(frame["system"]))
    assert system is not None, "the controller has checked it"
    # Batch systems start jobs where they were submitted.
    with contextlib.suppress(OSError):
        os.chdir(str(frame["cwd"]))
    names = ("token", "slots", "options", "launch", "commands", "environment", "log")
    agent = [*frame["agent"], str(frame["connect"]), str(frame["slots"])]
    try:
        job = system.submit(Wish(agent=agent, **{name: frame[name] for name in names}))
    except JobError as problem:
        engine.say("failed", text=f"--hf-backend: the job was not submitted; {problem}")
        return None
    return Watch(engine, system, job, str(frame["log"]))


def main(arguments: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--fd", type=int, required=True)
    # Ctrl-C and the end of a session are for others; the job is given back when the engine's socket ends.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    engine = Engine(socket.socket(fileno=parser.parse_args(arguments).fd))
    watch = None
    try:
        frame = engine.channel.receive()
        watch = submit(engine, frame) if frame is not None else None
        if watch is not None:
            engine.say("job", name=f"{watch.system.title} job {watch.job}")
            watch.watch()
    except Gone:
        if watch is not None:
            watch.cancel()
    # Nothing that was made for this run stays.
    if watch is not None and watch.output:
        with contextlib.suppress(OSError):
            Path(watch.output).unlink()
    return 0
