"""Processes that a shared fixture has started. The tests are forked from their parent, which alone the kernel lets wait for them; to
Python that looks like their end. They may ask all the same."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from holdfast.procs import children_of, is_running


def share_children() -> None:
    """In the process of a scope: from now on `subprocess.Popen` objects of its children work in its forks. What a fork cannot know is
    the exit status of one that has ended: it is 0 there."""
    module: Any = sys.modules.get("subprocess")
    pids = frozenset(children_of(os.getpid()))
    if module is None or not pids:
        return
    parent = os.getpid()
    popen = module.Popen
    poll, try_wait = popen._internal_poll, popen._try_wait

    def runs_elsewhere(process: Any) -> bool:
        return process.pid in pids and os.getpid() != parent and process.returncode is None and is_running(process.pid)

    def _internal_poll(self: Any, *args: Any, **kwargs: Any) -> Any:
        return None if runs_elsewhere(self) else poll(self, *args, **kwargs)

    def _try_wait(self: Any, wait_flags: int) -> Any:
        while runs_elsewhere(self):
            if wait_flags & os.WNOHANG:
                return (0, 0)
            time.sleep(0.01)
        return try_wait(self, wait_flags)

    popen._internal_poll, popen._try_wait = _internal_poll, _try_wait
