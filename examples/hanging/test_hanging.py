"""A test that hangs because of its child, and tests that leave things behind: the report explains them.

    pytest --holdfast --hf-timeout=5 examples/hanging
    pytest --holdfast --hf-timeout=5 --hf-debug examples/hanging     (in a terminal: look at it with a debugger)

Expected: 1 timeout, whose report names the child and the lines in which both wait; 5 passed. It and three of those have a note of what they left.
"""

import os
import socket
import tempfile
import threading
import time
from multiprocessing import get_context

import pytest
from holdfast.children import child_timeout_sec, kill_subprocesses, track_child_processes

kept = []


class Buffer:
    """Like memory that is shared by handles: close() waits until the last handle has gone."""

    def __init__(self):
        self.reader, self.writer = os.pipe()

    def close(self):
        os.close(self.writer)
        os.read(self.reader, 1)
        os.close(self.reader)


@pytest.fixture
def buffer():
    made = Buffer()
    yield made
    made.close()


def child(pipe):
    pipe.recv()  # A word that the parent never sends.


def start(buffer):
    context = get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=child, args=(theirs,))
    process.start()
    kept.append(ours)
    return process


def test_forgets_to_look_at_the_result(buffer):
    start(buffer).join(timeout=0.1)


def test_looks_at_it(buffer):
    process = start(buffer)
    process.join(timeout=min(0.1, child_timeout_sec()))
    assert kill_subprocesses(process) == [process]


def test_with_a_guard(buffer):
    with track_child_processes(on_survivors="ignore"):
        start(buffer).join(timeout=0.1)


def test_leaves_a_thread():
    threading.Thread(target=time.sleep, args=(3600,), name="patient", daemon=True).start()


def test_leaves_a_file():
    os.close(tempfile.mkstemp()[0])


def test_leaves_a_socket():
    kept.append(socket.create_server(("127.0.0.1", 0)))
