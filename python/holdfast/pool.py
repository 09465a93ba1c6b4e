"""Ranks that are kept for other tests: what a test has left in MPI, which would reach the next one."""

from __future__ import annotations

import os
import time
from typing import Any

from mpi4py import MPI

# Calls that say nothing new, after which nothing more is on its way: the senders have ended their tests before.
_QUIET = 3
# Seconds for a message that is too long to be sent at once: both sides take part then.
_PATIENCE = 1.0
# Lines about one test.
_MOST = 10


class Watched(MPI.Intracomm):
    """A communicator that remembers the requests which were made of it; their own objects are all that knows whether they are over."""

    requests: list[Any]

    def _remember(self, request: Any, words: str) -> Any:
        self.requests.append((request, words))
        return request

    def Irecv(self, *args: Any, **given: Any) -> Any:
        return self._remember(super().Irecv(*args, **given), "a receive that was begun and never completed (Irecv)")

    def irecv(self, *args: Any, **given: Any) -> Any:
        return self._remember(super().irecv(*args, **given), "a receive that was begun and never completed (irecv)")

    def Isend(self, *args: Any, **given: Any) -> Any:
        return self._remember(super().Isend(*args, **given), "a send that was begun and never completed (Isend)")

    def isend(self, *args: Any, **given: Any) -> Any:
        return self._remember(super().isend(*args, **given), "a send that was begun and never completed (isend)")

    def Issend(self, *args: Any, **given: Any) -> Any:
        return self._remember(super().Issend(*args, **given), "a send that was begun and never completed (Issend)")

    def issend(self, *args: Any, **given: Any) -> Any:
        return self._remember(super().issend(*args, **given), "a send that was begun and never completed (issend)")


def watched(world: Any) -> Watched:
    """A duplicate of it. Collective."""
    duplicate, request = world.Idup()
    _wait(request)
    communicator = Watched(duplicate)
    communicator.requests = []
    return communicator


def wait_for_all(communicator: Any) -> None:
    """A barrier."""
    _wait(communicator.Ibarrier())


def _wait(request: Any) -> None:
    """Leaves the CPU to the others: there may be fewer CPUs than ranks, and MPICH waits without a pause."""
    while not request.Test():
        os.sched_yield()


def _comes_true(request: Any) -> bool:
    """Whether it ends in time."""
    deadline = time.monotonic() + _PATIENCE
    while not request.Test():
        if time.monotonic() > deadline:
            return False
        os.sched_yield()
    return True


def leftovers(world: Any, given: list[Any]) -> tuple[list[str], bool]:
    """Takes away what the test has left, and says what that was: messages that nobody has received, requests that never ended. False
    with it if something could not be taken away."""
    found: list[str] = []
    clean = True
    sends: list[Any] = []
    for communicator in given:
        found += _requests(communicator, sends)
    for communicator, name in [*((each, "comm") for each in given), (world, "COMM_WORLD")]:
        if communicator != MPI.COMM_NULL:
            clean = _messages(communicator, name, found) and clean
    # Their receivers are just taking them away.
    for request in sends:
        clean = _comes_true(request) and clean
    return found if len(found) <= _MOST else [*found[:_MOST], f"and {len(found) - _MOST} more"], clean


def _requests(communicator: Any, sends: list[Any]) -> list[str]:
    found = []
    for request, words in getattr(communicator, "requests", ()):
        if request == MPI.REQUEST_NULL or request.Test():
            continue
        found.append(words)
        if "receive" in words:
            request.Cancel()
            request.Wait()
        else:
            sends.append(request)
    return found


def _messages(communicator: Any, name: str, found: list[str]) -> bool:
    status = MPI.Status()
    quiet = 0
    while quiet < _QUIET:
        message = communicator.Improbe(status=status)
        if message is None:
            quiet += 1
            continue
        size = status.Get_count(MPI.BYTE)
        found.append(f"a message that nobody has received, from rank {status.source} with tag {status.tag} on {name} ({size} bytes)")
        if not _comes_true(message.Irecv([bytearray(size), MPI.BYTE])):
            return False
    return True
