"""holdfast.mpi waits for a library's threads; the library's own hang that this is about is in tests/e2e/test_mpi.py."""

from __future__ import annotations

import hashlib
import threading

import pytest

from holdfast import mpi


def test_it_waits_for_a_thread_that_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mpi, "_SETTLES", 60.0)
    worked, over = threading.Event(), threading.Event()
    begun = threading.Event()

    def work() -> None:
        begun.set()
        # Some tenths of a second of CPU time, without the interpreter's lock.
        hashlib.pbkdf2_hmac("sha256", b"x", b"y", 300_000)
        worked.set()
        over.wait(60)

    thread = threading.Thread(target=work)
    thread.start()
    begun.wait(60)
    mpi._let_threads_settle()
    assert worked.is_set()
    over.set()
    thread.join()


def test_it_does_not_wait_for_ever_for_one_that_never_rests() -> None:
    over = threading.Event()

    def spin() -> None:
        while not over.is_set():
            hashlib.pbkdf2_hmac("sha256", b"x", b"y", 10_000)

    thread = threading.Thread(target=spin)
    thread.start()
    mpi._let_threads_settle()
    over.set()
    thread.join()
