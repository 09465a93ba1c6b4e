"""Ranks that are kept for other tests: what a test has left in MPI, which would reach the next one."""

from __future__ import annotations

import math
import os
import time
from typing import Any, Callable

from mpi4py import MPI

# Calls that say nothing new, after which nothing more is on its way: the senders have ended their tests before.
_QUIET = 3
# Seconds for a message that is too long to be sent at once: both sides take part then.
_PATIENCE = 1.0
# Lines about one test.
_MOST = 10
_RECEIVES = ("Irecv", "irecv")


class Watched(MPI.Intracomm):
    """A communicator that remembers the requests which were made of it; their own objects are all that knows whether they are over."""

    # With the name of the call that made it.
    requests: list[tuple[str, Any]]


def _remembering(name: str) -> Callable[..., Any]:
    def begin(self: Watched, *args: Any, **given: Any) -> Any:
        request = getattr(MPI.Intracomm, name)(self, *args, **given)
        self.requests.append((name, request))
        return request

    return begin


for _name in (*_RECEIVES, "Isend", "isend", "Issend", "issend"):
    setattr(Watched, _name, _remembering(_name))


def watched(world: Any) -> Watched:
    """A duplicate of it. Collective."""
    duplicate, request = world.Idup()
    _ends(request, math.inf)
    communicator = Watched(duplicate)
    communicator.requests = []
    return communicator


def wait_for_all(communicator: Any) -> None:
    """A barrier."""
    _ends(communicator.Ibarrier(), math.inf)


def _ends(request: Any, seconds: float) -> bool:
    """Whether it does in time. Leaves the CPU to the others: there may be fewer CPUs than ranks, and MPICH waits without a pause."""
    deadline = time.monotonic() + seconds
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
        clean = _ends(request, _PATIENCE) and clean
    return found if len(found) <= _MOST else [*found[:_MOST], f"and {len(found) - _MOST} more"], clean


def _requests(communicator: Any, sends: list[Any]) -> list[str]:
    found = []
    for name, request in getattr(communicator, "requests", ()):
        if request == MPI.REQUEST_NULL or request.Test():
            continue
        found.append(f"a {'receive' if name in _RECEIVES else 'send'} that was begun and never completed ({name})")
        if name in _RECEIVES:
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
        if not _ends(message.Irecv([bytearray(size), MPI.BYTE]), _PATIENCE):
            return False
    return True
