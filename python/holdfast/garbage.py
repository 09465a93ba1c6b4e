"""When Python's cyclic garbage collector runs: rarely while tests are collected, and over a fork's own objects only.

The collector begins a full collection when a quarter more objects are there than the last one saw. (CPython, Modules/gcmodule.c,
`long_lived_pending` and `long_lived_total`.)
"""

from __future__ import annotations

import gc
from typing import Any, Optional

# Objects made before a collection begins. A suite's 30,000 items are some millions.
_YOUNG = 50_000

MANY = 200

_usual: Optional[tuple[int, int, int]] = None


def begin_growth(items: int) -> None:
    """So many tests have been collected. If they are many, more will come, and nearly everything that is made stays, so that looking
    for garbage only costs. (Not for few: the collection at the end costs as much as it saves.)"""
    if items < MANY:
        return
    global _usual
    now = gc.get_threshold()
    # A threshold of 0 is "never": somebody's wish.
    if _usual is None and 0 < now[0] < _YOUNG:
        _usual = now
        gc.set_threshold(_YOUNG, *now[1:])


def end_growth(collect: bool = True) -> None:
    """The usual thresholds again, unless somebody has set his own, and one collection in the place of those that were left out:
    without it a quarter of very few objects would soon be there."""
    global _usual
    if _usual is None:
        return
    if gc.get_threshold()[0] == _YOUNG:
        gc.set_threshold(*_usual)
    _usual = None
    if collect:
        gc.collect()


def freeze() -> None:
    """Before a fork: a collection in the child would otherwise touch, and so copy, every page that holds an object."""
    gc.freeze()
    if _thaw not in gc.callbacks:
        gc.callbacks.append(_thaw)


def _thaw(phase: str, info: dict[str, Any]) -> None:
    """The frozen objects are not counted as seen. A test that makes many objects would have full collections all the time, so with
    the first one that is due (a call of gc.collect() is not) they are ordinary objects again."""
    if phase == "start" and info["generation"] == 2 and gc.get_count()[2] > gc.get_threshold()[2]:
        gc.unfreeze()
