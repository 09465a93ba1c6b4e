"""When the garbage collector runs; in interpreters of their own, since it is a matter of the whole process."""

import subprocess
import sys

import pytest

full_collections_are_automatic = pytest.mark.skipif(
    sys.version_info >= (3, 14), reason="NOT TESTED: this Python's collector is incremental and begins no full collection by itself"
)


def said_by(code):
    done = subprocess.run(
        [sys.executable, "-c", f"import gc\nfrom holdfast import garbage\n{code}"], capture_output=True, text=True, timeout=60
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_growth_raises_the_threshold_and_gives_it_back():
    assert said_by("""
usual = gc.get_threshold()
garbage.begin_growth(1000); garbage.begin_growth(1000)
raised = gc.get_threshold()
garbage.end_growth()
print(raised[0] > usual[0], gc.get_threshold() == usual)""") == ["True", "True"]


def test_a_threshold_that_somebody_has_set_stays():
    assert said_by("""
gc.set_threshold(0); garbage.begin_growth(1000); print(gc.get_threshold()[0])
gc.set_threshold(700); garbage.begin_growth(1000); gc.set_threshold(123); garbage.end_growth(); print(gc.get_threshold()[0])""") == [
        "0",
        "123",
    ]


def test_a_few_tests_change_nothing():
    assert said_by("""
usual = gc.get_threshold()
garbage.begin_growth(5)
print(gc.get_threshold() == usual)""") == ["True"]


def test_growth_ends_with_a_collection():
    assert said_by("""
class Ring: pass
garbage.begin_growth(1000)
ring = Ring(); ring.ring = ring
del ring
garbage.end_growth()
print(any(isinstance(o, Ring) for o in gc.get_objects()))""") == ["False"]


@full_collections_are_automatic
def test_a_full_collection_that_is_due_thaws():
    assert said_by("""
old = [[] for _ in range(10_000)]
gc.collect()
garbage.freeze()
frozen = gc.get_freeze_count()
gc.collect()
still = gc.get_freeze_count()
made = [[] for _ in range(300_000)]
print(frozen >= 10_000, still == frozen, gc.get_freeze_count() < 1000)""") == [
        "True",
        "True",
        "True",
    ]  # 3.12 keeps immortal ones there.


def test_freezing_twice_looks_once():
    assert said_by("garbage.freeze(); garbage.freeze(); print(len(gc.callbacks))") == ["1"]
