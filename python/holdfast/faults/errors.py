"""What can go wrong with faults. Nothing here is swallowed anywhere."""

from __future__ import annotations


class FaultError(Exception):
    """The root of all errors of `holdfast.faults`."""


class BadFault(FaultError, ValueError):
    """A fault, or a page for faults, that cannot be; the text says what is wrong and what to do."""


class FaultNotSeen(FaultError, AssertionError):
    """A fault was armed, and no call has met it: whatever was tested, it was not this fault."""


class NoLab(FaultError, RuntimeError):
    """There is no page for faults: neither a lab in this process, nor one in the environment."""
