"""A barrier before a test: what tests before it have broken is whole again, and has been so for a while.

Quarantines are asynchronous, so a fault may reach the node after the test that has injected it is over, and would then be taken for
the next one's.
"""

from __future__ import annotations

import asyncio
import re
import time
from typing import Callable, Optional

from holdfast.deploy.agents import SYSTEM
from holdfast.deploy.api import Access
from holdfast.deploy.connection import Connection
from holdfast.deploy.controllers import sentinel
from holdfast.deploy.kinds import CONFIG_MAP, NODE, Object, condition, labels_of, name_of, namespace_of
from holdfast.deploy.marks import RUN
from holdfast.deploy.quarantine import health_events
from holdfast.deploy.record import OWNER, nodes_in

_ADVICE = "`holdfast deploy sweep --run RUN` puts it back"
_MARK = re.compile(r"\[(holdfast (\S+) \S+)\]")


def new_mark(run: str, part: str) -> str:
    """For the driver's line: says whose it is."""
    return f"holdfast {run} {part}"


def disturbed(node: Object, records: list[Object]) -> Optional[str]:
    """What a test has left on it, and which; None where nothing of tests is there. What others have done is theirs."""
    said = [str(event.get("message", "")) for event in health_events(node)]
    unhealthy = condition(node, sentinel.CHECK)
    if unhealthy.get("status") == "True":
        said.append(str(unhealthy.get("message", "")))
    marks = {found[1]: found[2] for text in said for found in _MARK.finditer(text)}
    if not marks:
        return None
    state = labels_of(node).get(sentinel.STATE, "unhealthy")
    cordon = ", cordoned" if node["spec"].get("unschedulable") else ""
    by = "; ".join(f"run {run}{_owner_of(mark, records)}" for mark, run in sorted(marks.items()))
    return f"{name_of(node)} is {state}{cordon} by {by}"


def _owner_of(mark: str, records: list[Object]) -> str:
    for record in records:
        try:
            if any(mark in marks for _, marks in nodes_in(record).values()):
                return f" ({record['data'][OWNER]}, recorded in {namespace_of(record)}/{name_of(record)})"
        except (ValueError, KeyError, TypeError):
            continue  # No record of ours.
    return ""


async def settle(access: Access, stable: float, timeout: float) -> None:
    """Until no node has anything of a test on it, for `stable` seconds without a break. Raises WaitFailed after `timeout` seconds, with
    who has disturbed what; ApiError, Unreachable."""
    connection = Connection(access, (NODE, CONFIG_MAP), SYSTEM)
    connection.begin()
    try:
        await connection.run(_settle(connection, stable, timeout))
    finally:
        connection.close()


async def _settle(connection: Connection, stable: float, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    what = f"the nodes to have nothing of other tests on them, for {stable:g} s"

    def now() -> str:
        records = [thing for thing in connection.seen[CONFIG_MAP].all() if RUN in labels_of(thing)]
        found = [text for node in connection.seen[NODE].all() if (text := disturbed(node, records)) is not None]
        return "; ".join(found)

    def look() -> tuple[bool, str]:
        text = now()
        return not text, text

    while True:
        await connection.until(what, max(0.0, deadline - time.monotonic()), look, hint=lambda: _ADVICE)
        if await _stays(connection, stable, now):
            return


async def _stays(connection: Connection, seconds: float, now: Callable[[], str]) -> bool:
    bell = connection.seen.bell()
    end = time.monotonic() + seconds
    try:
        while (left := end - time.monotonic()) > 0:
            bell.clear()
            if now():
                return False
            try:
                await asyncio.wait_for(bell.wait(), left)
            except asyncio.TimeoutError:
                break
        return not now()
    finally:
        connection.seen.silence(bell)
