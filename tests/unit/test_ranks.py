"""What is shown of a test with several ranks."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast import ranks


@pytest.mark.parametrize(
    ("numbers", "text"),
    [([3], "rank 3"), ([0, 1], "ranks 0, 1"), ([0, 2, 3, 4], "ranks 0, 2-4"), ([1, 3, 5], "ranks 1, 3, 5"), ([0, 1, 2], "ranks 0-2")],
)
def test_numbers_are_put_together(numbers, text):
    assert ranks.named(numbers) == text


def entry(verdict: str, **more: Any) -> dict[str, Any]:
    return {"verdict": verdict, **more}


STACKS = """Thread 0x1 (most recent call first):
  File "/usr/lib/python3/threading.py", line 5 in wait

Current thread 0x2 (most recent call first):
  File "/suite/halo.py", line 17 in exchange
  File "/suite/test_halo.py", line 3 in test_halo"""
WAITS = [{"pid": 1, "python": "MPI_Not_this", "native": ["TID 1\n  ucp_worker_progress\n  PMPI_Recv\n  PMPI_Bcast"]}]


def test_those_that_failed_first_come_first_and_the_same_come_together():
    detail = {
        "rank": 2,
        "ranks": [
            entry("ended", stacks=STACKS, processes=WAITS),
            entry("passed"),
            entry("failed"),
            entry("ended", stacks=STACKS, processes=WAITS),
        ],
    }
    assert ranks.summary(detail, str).splitlines() == [
        "rank 2: failed",
        "ranks 0, 3: waited in MPI_Recv at halo.py:17 (exchange) when it was ended for the others' failure",
        "rank 1: passed",
    ]


def test_a_wait_of_which_nothing_is_known():
    assert ranks.where(entry("ended")) == ""
    assert ranks.where(entry("ended", stacks=STACKS)) == " at halo.py:17 (exchange)"


def test_those_that_ended_with_an_abort():
    detail = {"rank": 1, "ranks": [entry("exited", code=42), entry("exited", code=42, mpi_abort=42), entry("exited", code=1)]}
    assert ranks.summary(detail, lambda _: "said it").splitlines() == [
        "rank 1: called MPI_Abort(42)",
        "rank 0: ended by that",
        "rank 2: said it",
    ]


def test_failures_that_differ_only_in_addresses_are_the_same():
    texts = {"a": "at 0x7f12 assert 1", "b": "at 0x9abc assert 1", "c": "another"}
    detail = {
        "rank": 0,
        "ranks": [entry("failed", text="a"), entry("failed", text="b"), entry("failed", text="c"), entry("passed", text="")],
    }
    sections = ranks.others(detail, lambda one: texts.get(one["text"], ""))
    assert sections == [("Holdfast: the same on", "rank 1"), ("Holdfast: rank 2 of 4", "another")]
