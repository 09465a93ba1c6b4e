"""What is written on everything that a run makes, so that its owner and its end are known."""

from __future__ import annotations

import datetime
import os
import uuid

from holdfast.deploy.kinds import Object, labels_of
from holdfast.deploy.times import end_in, is_past

RUN = "holdfast.dev/run"
MADE_BY = "holdfast.dev/made-by"  # Which ManagedDeployment of the run.
EXPIRES = "holdfast.dev/expires"  # An annotation; whoever finds it later may remove the object.
_LIFE = datetime.timedelta(hours=2)


def new_run() -> str:
    """Of this process: `$HOLDFAST_RUN`, else its own."""
    return os.environ.get("HOLDFAST_RUN") or uuid.uuid4().hex[:12]


def marked(thing: Object, run: str, by: str) -> Object:
    """The object with the marks, in place. `by`: who of the run makes it."""
    metadata = thing["metadata"]
    metadata["labels"] = {**metadata.get("labels", {}), RUN: run, MADE_BY: by}
    metadata["annotations"] = {**metadata.get("annotations", {}), EXPIRES: end_in(_LIFE)}
    return thing


def is_made_by(thing: Object, by: str) -> bool:
    return labels_of(thing).get(MADE_BY) == by


def is_over(thing: Object) -> bool:
    """Whether its time is up; False where somebody has changed that: not ours to judge."""
    try:
        return is_past(str((thing["metadata"].get("annotations") or {}).get(EXPIRES, "")))
    except ValueError:
        return False
