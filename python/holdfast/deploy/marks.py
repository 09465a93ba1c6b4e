"""What is written on everything that a run makes, so that its owner and its end are known."""

from __future__ import annotations

import datetime
import os
import uuid

from holdfast.deploy.kinds import Object, labels_of

RUN = "holdfast.dev/run"
EXPIRES = "holdfast.dev/expires"  # An annotation; whoever finds it later may remove the object.
_LIFE = datetime.timedelta(hours=2)


def new_run() -> str:
    """Of this process: `$HOLDFAST_RUN`, else its own."""
    return os.environ.get("HOLDFAST_RUN") or uuid.uuid4().hex[:12]


def marked(thing: Object, run: str) -> Object:
    """The object with the marks, in place."""
    metadata = thing["metadata"]
    metadata["labels"] = {**metadata.get("labels", {}), RUN: run}
    expires = (datetime.datetime.now(datetime.timezone.utc) + _LIFE).strftime("%Y-%m-%dT%H:%M:%SZ")
    metadata["annotations"] = {**metadata.get("annotations", {}), EXPIRES: expires}
    return thing


def is_ours(thing: Object, run: str) -> bool:
    return labels_of(thing).get(RUN) == run
