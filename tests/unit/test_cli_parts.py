"""The pure parts of the commands: shares of a suite, and the search for culprits."""

from __future__ import annotations

import math
import random

from holdfast.cli.pollution import smallest
from holdfast.cli.shard import parts


def test_shards_are_a_partition_in_the_suites_order() -> None:
    ids = [f"f{i % 7}.py::t{i}" for i in range(100)]
    shards = parts(ids, {}, 4)
    assert sorted(nodeid for shard in shards for nodeid in shard) == sorted(ids)
    assert all(shard == [nodeid for nodeid in ids if nodeid in set(shard)] for shard in shards)
    assert {len(shard) for shard in shards} == {25}


def test_shards_take_equally_long() -> None:
    ids = [f"t{i}" for i in range(10)]
    shards = parts(ids, {"t0": 9.0, **{f"t{i}": 1.0 for i in range(1, 10)}}, 2)
    assert ["t0"] in shards


def test_shards_do_not_depend_on_the_order_of_collection() -> None:
    ids = [f"t{i}" for i in range(50)]
    durations = {nodeid: random.Random(i).random() for i, nodeid in enumerate(ids)}
    shuffled = ids[:]
    random.Random(1).shuffle(shuffled)
    assert [set(s) for s in parts(ids, durations, 3)] == [set(s) for s in parts(shuffled, durations, 3)]


def test_files_stay_together() -> None:
    ids = [f"f{i % 5}.py::t{i}" for i in range(50)]
    for shard in parts(ids, {}, 3, by_file=True):
        files = {nodeid.split("::")[0] for nodeid in shard}
        assert sum(nodeid.split("::")[0] in files for nodeid in ids) == len(shard)


def test_more_parts_than_tests() -> None:
    assert sorted(map(len, parts(["a", "b"], {}, 4))) == [0, 0, 1, 1]


def test_the_culprits_are_found() -> None:
    for seed in range(50):
        generator = random.Random(seed)
        items = [str(i) for i in range(generator.randint(1, 60))]
        guilty = set(generator.sample(items, generator.randint(1, min(3, len(items)))))
        trials = 0

        def fails(some: list[str], items: list[str] = items, guilty: set[str] = guilty) -> bool:
            nonlocal trials
            trials += 1
            assert some == [i for i in items if i in set(some)], "the order must be kept"
            return guilty <= set(some)

        assert set(smallest(items, fails)) == guilty
        assert trials <= len(guilty) * (math.ceil(math.log2(len(items))) + 1)
