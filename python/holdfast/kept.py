"""`--hf-debug`: tests that crashed or hang are kept, stopped; the user is told how to attach, and says when they may go on."""

from __future__ import annotations

import os
import select
import shutil
from typing import Callable, Optional

from holdfast.diagnose import find_tool
from holdfast.wire import Frame


class Kept:
    """In the controller: one at a time is shown, and waits for Enter; others wait behind it."""

    def __init__(self, write: Callable[[str], None], go_on: Callable[[int], None]) -> None:
        self._write = write
        self._go_on = go_on
        self._waiting: list[tuple[Frame, str]] = []
        self._terminal: Optional[int] = None

    def add(self, frame: Frame, nodeid: str) -> None:
        self._waiting.append((frame, nodeid))
        if len(self._waiting) == 1:
            self._show()

    def remove(self, slot: int) -> None:
        """It has ended by itself."""
        shown = self._waiting[:1]
        self._waiting = [entry for entry in self._waiting if entry[0]["slot"] != slot]
        if shown and self._waiting[:1] != shown and self._waiting:
            self._show()

    def look(self) -> None:
        """Has the user pressed Enter?"""
        if not self._waiting or self._terminal is None or not select.select([self._terminal], [], [], 0)[0]:
            return
        os.read(self._terminal, 1000)
        frame, _ = self._waiting.pop(0)
        self._go_on(int(frame["slot"]))
        if self._waiting:
            self._show()

    @property
    def any(self) -> bool:
        return bool(self._waiting)

    def _show(self) -> None:
        if self._terminal is None:
            self._terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)
        frame, nodeid = self._waiting[0]
        pid = int(frame["pid"])
        self._write(f"holdfast: {nodeid} {frame['what']}; its process {pid} is kept, stopped. In another terminal:")
        for command in attach_commands(pid):
            self._write(f"    {command}")
        self._write("and press Enter here to let it end")


def attach_commands(pid: int) -> list[str]:
    """What is installed comes first; gdb is named in any case."""
    commands = [f"gdb -p {pid}"] if shutil.which("gdb") or not shutil.which("lldb") else [f"lldb -p {pid}"]
    commands += [f"{tool} {words} {pid}" for tool, words in (("py-spy", "dump --pid"), ("pystack", "remote")) if find_tool(tool)]
    return [*commands, f"holdfast diagnose {pid}"]
