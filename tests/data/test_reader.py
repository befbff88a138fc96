from __future__ import annotations

import gc
import json
import subprocess
import sys
import threading
from itertools import chain, islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.core.errors import ArgumentError, EngineError, FormatError
from noria.data.dataset import ArrayDataset
from noria.data.reader import Reader


def numbers(n: int) -> ArrayDataset:
    return ArrayDataset({"x": np.arange(n), "y": np.arange(n) * 0.5})


def drawn(reader: Reader, count: int | None = None) -> list[list[int]]:
    return [batch["x"].tolist() for batch in islice(reader, count)]


def workers() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("noria-reader")]


@pytest.fixture(params=[0, 1, 3], ids=lambda p: f"prefetch={p}")
def prefetch(request: pytest.FixtureRequest) -> int:
    return request.param


def test_unshuffled_epoch_is_the_data_in_order(prefetch: int) -> None:
    reader = Reader(numbers(5), 2, shuffle=False, prefetch=prefetch)
    assert drawn(reader) == [[0, 1], [2, 3], [4]]
    assert drawn(reader) == [[0, 1], [2, 3], [4]]
    assert (reader.epoch, reader.batch) == (2, 0)


def test_last_smaller_batch_is_left_out_on_demand(prefetch: int) -> None:
    reader = Reader(numbers(5), 2, shuffle=False, drop_last=True, prefetch=prefetch)
    assert len(reader) == 2
    assert drawn(reader) == [[0, 1], [2, 3]]


def test_shuffled_epochs_differ_and_each_holds_every_sample(prefetch: int) -> None:
    reader = Reader(numbers(50), 7, prefetch=prefetch)
    first, second = drawn(reader), drawn(reader)
    assert first != second
    for epoch in (first, second):
        assert sorted(chain(*epoch)) == list(range(50))
        assert len(epoch) == len(reader) == 8


def test_columns_stay_together() -> None:
    for batch in Reader(numbers(20), 6):
        np.testing.assert_array_equal(batch["y"], batch["x"] * 0.5)


def test_order_is_philox_of_seed_and_epoch() -> None:
    reader = Reader(numbers(30), 30, seed=2**64 - 1, epochs=3)
    for epoch, batch in enumerate(reader):
        key = np.array([2**64 - 1, epoch], np.uint64)
        rng = np.random.Generator(np.random.Philox(key=key))
        np.testing.assert_array_equal(batch["x"], rng.permutation(30))


def test_order_depends_on_the_seed() -> None:
    assert drawn(Reader(numbers(30), 5, seed=1)) != drawn(Reader(numbers(30), 5, seed=2))
    assert drawn(Reader(numbers(30), 5, seed=1)) == drawn(Reader(numbers(30), 5, seed=1))


def test_one_loop_gives_as_many_epochs_as_asked(prefetch: int) -> None:
    reader = Reader(numbers(4), 2, epochs=3, prefetch=prefetch)
    assert len(drawn(reader)) == 6
    assert reader.epoch == 3
    assert len(drawn(reader)) == 6


def test_endless_reader_goes_on_past_epochs(prefetch: int) -> None:
    reader = Reader(numbers(4), 2, epochs=None, prefetch=prefetch)
    assert len(drawn(reader, 101)) == 101
    assert (reader.epoch, reader.batch) == (50, 1)


def test_loop_left_early_is_taken_up_at_the_next_batch(prefetch: int) -> None:
    whole = drawn(Reader(numbers(40), 3, epochs=2))
    reader = Reader(numbers(40), 3, epochs=2, prefetch=prefetch)
    assert drawn(reader, 5) + drawn(reader, 11) + drawn(reader) == whole


@given(
    n=st.integers(1, 30),
    batch_size=st.integers(1, 12),
    shuffle=st.booleans(),
    drop_last=st.booleans(),
    seed=st.integers(0, 2**64 - 1),
    stop=st.integers(0, 40),
    prefetch=st.integers(0, 2),
)
@settings(max_examples=60, deadline=None)
def test_restored_reader_gives_what_an_undisturbed_one_gives(
    n: int, batch_size: int, shuffle: bool, drop_last: bool, seed: int, stop: int, prefetch: int
) -> None:
    if drop_last:
        n = max(n, batch_size)

    def make() -> Reader:
        options = {"shuffle": shuffle, "drop_last": drop_last, "epochs": None}
        return Reader(numbers(n), batch_size, seed=seed, prefetch=prefetch, **options)

    undisturbed = drawn(make(), stop + 5)
    before = make()
    drawn(before, stop)
    after = make()
    after.restore(json.loads(json.dumps(before.state())))
    assert drawn(after, 5) == undisturbed[stop:]


def test_state_inside_the_loop_counts_the_batch_being_used(prefetch: int) -> None:
    reader = Reader(numbers(9), 3, prefetch=prefetch)
    places = [(reader.state()["epoch"], reader.state()["batch"]) for _ in reader]
    assert places == [(0, 1), (0, 2), (1, 0)]


def test_restored_reader_finishes_the_epochs_of_its_loop() -> None:
    first = Reader(numbers(6), 2, epochs=2)
    drawn(first, 4)
    second = Reader(numbers(6), 2, epochs=2)
    second.restore(first.state())
    assert len(drawn(second)) == 2


def test_order_is_the_same_in_another_process() -> None:
    code = """
import numpy as np
from noria.data.dataset import ArrayDataset
from noria.data.reader import Reader
print([b["x"].tolist() for b in Reader(ArrayDataset({"x": np.arange(20)}), 6, seed=9)])
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(ran.stdout) == drawn(Reader(numbers(20), 6, seed=9))


# -- transforms ------------------------------------------------------------------------------------


def jitter(batch: dict, rng: np.random.Generator) -> dict:
    return batch | {"noise": rng.random(len(batch["x"]))}


def test_transform_is_applied_to_each_batch(prefetch: int) -> None:
    reader = Reader(
        numbers(4),
        2,
        shuffle=False,
        transform=lambda b: {"z": b["x"] + 10},
        prefetch=prefetch,
    )
    assert [b["z"].tolist() for b in reader] == [[10, 11], [12, 13]]


def test_random_transform_survives_a_restart(prefetch: int) -> None:
    options = {"transform": jitter, "epochs": None, "seed": 5}
    whole = [b["noise"] for b in islice(Reader(numbers(10), 4, **options), 8)]
    first = Reader(numbers(10), 4, prefetch=prefetch, **options)
    drawn(first, 4)
    second = Reader(numbers(10), 4, prefetch=prefetch, **options)
    second.restore(first.state())
    for expected, batch in zip(whole[4:], islice(second, 4), strict=True):
        np.testing.assert_array_equal(batch["noise"], expected)
    assert len({noise[0] for noise in whole}) == 8


def test_random_transform_differs_between_ranks_and_from_the_order() -> None:
    def noise(rank: int) -> np.ndarray:
        reader = Reader(numbers(10), 5, transform=jitter).shard(rank, 2)
        return next(iter(reader))["noise"]

    assert not np.intersect1d(noise(0), noise(1)).size


def test_builtin_without_signature_is_a_plain_transform() -> None:
    assert drawn(Reader(numbers(2), 2, shuffle=False, transform=dict)) == [[0, 1]]


# -- the background thread -------------------------------------------------------------------------


class Fails(ArrayDataset):
    """Cannot give sample 7."""

    def take(self, indices):
        if 7 in indices:
            raise OSError("bad sector")
        return super().take(indices)


def test_error_is_raised_at_its_batch_and_can_be_tried_again(prefetch: int) -> None:
    dataset = Fails({"x": np.arange(12)})
    reader = Reader(dataset, 3, shuffle=False, prefetch=prefetch)
    for _ in range(2):
        with pytest.raises(OSError, match="bad sector"):
            drawn(reader)
        assert (reader.epoch, reader.batch) == (0, 2)
    assert workers() == []


def test_batches_are_prepared_ahead_but_only_so_many() -> None:
    prepared = []
    changed = threading.Semaphore(0)

    def note(batch: dict) -> dict:
        prepared.append(batch["x"].tolist())
        changed.release()
        return batch

    reader = Reader(numbers(10), 1, shuffle=False, transform=note, prefetch=3)
    loop = iter(reader)
    next(loop)
    for _ in range(4):  # the one delivered and three ahead
        assert changed.acquire(timeout=10)
    assert not changed.acquire(timeout=0.05)
    assert prepared == [[0], [1], [2], [3]]
    assert reader.state()["batch"] == 1
    loop.close()


def test_thread_stops_with_its_loop() -> None:
    reader = Reader(numbers(100), 1, epochs=None, prefetch=2)
    for _ in reader:
        assert len(workers()) == 1
        break
    gc.collect()
    assert workers() == []
    drawn(reader, 3)
    assert workers() == []


def test_program_ends_with_a_loop_left_open() -> None:
    code = """
import numpy as np
from noria.data.dataset import ArrayDataset
from noria.data.reader import Reader
loop = iter(Reader(ArrayDataset({"x": np.arange(9)}), 2, epochs=None, prefetch=2))
print(len(next(loop)["x"]))
"""
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    assert (ran.stdout, ran.stderr) == ("2\n", "")


def test_older_loop_ends_when_a_newer_one_or_restore_moves_the_reader(prefetch: int) -> None:
    reader = Reader(numbers(10), 2, prefetch=prefetch)
    old = iter(reader)
    next(old)
    next(iter(reader))
    with pytest.raises(EngineError, match="a newer loop, or restore"):
        next(old)
    assert reader.batch == 2
    old = iter(reader)
    next(old)
    reader.restore(reader.state())
    with pytest.raises(EngineError, match="has ended"):
        next(old)
    assert workers() == []


# -- shards ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shuffle", [False, True])
def test_batches_of_all_ranks_together_are_the_batches_of_one_reader(shuffle: bool) -> None:
    whole = drawn(Reader(numbers(24), 6, shuffle=shuffle, seed=4))
    parts = [drawn(Reader(numbers(24), 2, shuffle=shuffle, seed=4).shard(r, 3)) for r in range(3)]
    for batch, pieces in zip(whole, zip(*parts, strict=True), strict=True):
        assert sorted(batch) == sorted(chain(*pieces))


@given(st.integers(1, 40), st.integers(1, 6), st.integers(1, 6), st.booleans())
@settings(max_examples=60, deadline=None)
def test_ranks_stay_in_step_and_cover_the_data(
    n: int, world: int, batch_size: int, drop_last: bool
) -> None:
    if drop_last:
        n = max(n, world * batch_size)
    whole = Reader(numbers(n), batch_size, drop_last=drop_last)
    parts = [drawn(whole.shard(r, world)) for r in range(world)]
    assert len({tuple(len(b) for b in part) for part in parts}) == 1
    seen = [x for part in parts for batch in part for x in batch]
    if drop_last:
        assert len(seen) == len(set(seen)) > n - world * batch_size
    else:
        assert set(seen) == set(range(n))
        assert len(seen) < n + world


def test_shard_of_a_shard_or_of_a_begun_reader_is_an_error() -> None:
    reader = Reader(numbers(10), 2)
    with pytest.raises(ArgumentError, match="fresh reader"):
        reader.shard(0, 2).shard(0, 2)
    next(iter(reader))
    with pytest.raises(ArgumentError, match="fresh reader"):
        reader.shard(0, 2)


def test_rank_outside_of_the_world_is_an_error() -> None:
    with pytest.raises(ArgumentError, match="rank out of range"):
        Reader(numbers(10), 2).shard(2, 2)
    with pytest.raises(ArgumentError, match="world out of range"):
        Reader(numbers(10), 2).shard(0, 0)


# -- errors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size out of range"),
        ({"batch_size": -3}, "batch_size out of range"),
        ({"batch_size": 2.5}, "batch_size must be an integer"),
        ({"seed": -1}, "seed out of range"),
        ({"seed": 2**64}, "seed out of range"),
        ({"epochs": 0}, "epochs out of range"),
        ({"prefetch": -1}, "prefetch out of range"),
        ({"batch_size": 11, "drop_last": True}, "no batch"),
    ],
)
def test_senseless_arguments_are_errors(options: dict, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        Reader(numbers(10), **{"batch_size": 2} | options)


def test_dict_of_arrays_is_no_data_set_yet() -> None:
    with pytest.raises(ArgumentError, match="not a data set") as info:
        Reader({"x": np.arange(3)}, 1)
    assert "ArrayDataset" in info.value.hint


def test_empty_data_and_shards_without_a_batch_are_errors() -> None:
    with pytest.raises(ArgumentError, match="an epoch has no batch"):
        Reader(numbers(0), 1)
    with pytest.raises(ArgumentError, match="on each of 4 ranks"):
        Reader(numbers(10), 3, drop_last=True).shard(0, 4)


@pytest.mark.parametrize(
    "other",
    [
        Reader(numbers(10), 2, seed=1),
        Reader(numbers(11), 2),
        Reader(numbers(10), 3),
        Reader(numbers(10), 2, shuffle=False),
        Reader(numbers(10), 2, drop_last=True),
        Reader(numbers(10), 2).shard(1, 2),
    ],
)
def test_state_of_another_reader_is_refused(other: Reader) -> None:
    with pytest.raises(ArgumentError, match="the state is of another reader"):
        Reader(numbers(10), 2).restore(other.state())


def test_refused_state_says_what_differs() -> None:
    with pytest.raises(ArgumentError) as info:
        Reader(numbers(10), 2, seed=1).restore(Reader(numbers(10), 2, seed=3).state())
    assert (info.value.expected, info.value.got) == ("seed 1", "seed 3")


@pytest.mark.parametrize(
    "broken",
    [
        None,
        {},
        {"epoch": 0},
        {"batch": 5},
        {"batch": -1},
        {"batch": "1"},
        {"epoch": True},
        {"epoch": -1},
    ],
)
def test_broken_state_is_a_format_error(broken: object) -> None:
    reader = Reader(numbers(10), 2)
    if broken and broken != {"epoch": 0}:
        broken = reader.state() | broken
    with pytest.raises(FormatError):
        reader.restore(broken)
