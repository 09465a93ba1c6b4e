"""What can go wrong with deployments. Every error says what was wanted, where, and what was last seen."""

from __future__ import annotations

from typing import Optional


class DeployError(Exception):
    """The root of all errors of `holdfast.deploy`."""


class BadSpec(DeployError, ValueError):
    """A deployment, or a change of one, that cannot be."""


class ApiError(DeployError):
    """The cluster's API has refused a request. `status` is HTTP's, `reason` Kubernetes' word for it (NotFound, AlreadyExists, ...)."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"the API says: {message} ({status} {reason})")
        self.status = status
        self.reason = reason
        self.message = message


class NotLetIn(ApiError):
    """The API does not know who is asking (401). Whom it knows and refuses (403) it tells what they may not do, in an ApiError."""


class Unreachable(DeployError, ConnectionError):
    """No API answers there."""


class NameTaken(DeployError):
    """There is an object of that name already, which this deployment has not made."""


class WaitFailed(DeployError, TimeoutError):
    """What was waited for did not come in time, or cannot come any more. `last` is what was last seen."""

    def __init__(self, what: str, seconds: float, last: str, *, hopeless: Optional[str] = None) -> None:
        text = f"waited for {what}: {hopeless}" if hopeless else f"waited {seconds:g} s for {what}, in vain"
        super().__init__(f"{text}; last seen: {last}" if last else text)
        self.what = what
        self.last = last


class NotEntered(DeployError, RuntimeError):
    """A step that needs an earlier one; the text names it."""
