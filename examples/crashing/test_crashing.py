"""Tests that would end a pytest run, and neighbours that must not notice.

    pytest --holdfast --hf-timeout=5 examples/crashing

Expected: 3 passed (one of them with a note that it left a process behind), 1 crashed, 1 exited, 1 timeout.
"""

import ctypes
import os
import subprocess
import time


def test_before():
    assert True


def test_null_pointer():
    print("about to read address 0")
    ctypes.string_at(0)


def test_leaves_without_a_word():
    os._exit(0)  # Exit status 0 is never taken for a pass.


def test_hangs():
    time.sleep(3600)


def test_leaves_a_process_behind():
    subprocess.Popen(["sleep", "3600"])


def test_after():
    assert True
