"""A command of the user's, as a child that gets our signals."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import Optional

from holdfast.cli.files import Mistake


def call(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Its exit code; 128 and the number of the signal that has ended it. Raises Mistake."""
    try:
        child = subprocess.Popen(command, env=environment)
    except OSError as problem:
        raise Mistake(f"{command[0]}: {problem.strerror}") from None

    def pass_on(number: int, frame: Optional[FrameType]) -> None:
        child.send_signal(number)

    # Ctrl-C reaches the command by itself; what is sent to us alone is its business, too.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, pass_on)
    code = child.wait()
    return code if code >= 0 else 128 - code
