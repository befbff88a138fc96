"""Operators of Caffe2 that only move numbers."""

from typing import Any

import numpy as np
import pytest

from noria.convert.handlers import NeedsConstant
from noria.core.errors import ArgumentError

X = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


def test_reshape_keeps_and_infers_sizes_and_tells_the_old_ones(run: Any) -> None:
    y, old = run("Reshape", X, shape=[0, -1], outputs=2)
    assert np.array_equal(y, X.reshape(2, 12))
    assert old.tolist() == [2, 3, 4]


def test_a_slice_counts_ends_back_from_one_behind_the_last(run: Any) -> None:
    y = run("Slice", X, starts=[0, 1, 0], ends=[-1, -2, 2])
    assert np.array_equal(y, X[:, 1:2, :2])


def test_a_slice_reaches_no_further_than_the_end(run: Any) -> None:
    assert np.array_equal(run("Slice", X, starts=[0, 1], ends=[9, -1]), X[:, 1:])
    assert run("Slice", X, starts=[9], ends=[9]).shape == (0, 3, 4)
    with pytest.raises(ArgumentError, match="out of range"):
        run("Slice", X, starts=[1], ends=[0])


def test_slices_told_by_an_input_need_it_known(run: Any) -> None:
    starts, ends = np.array([0, 0, 1], np.int32), np.array([1, -1, -1], np.int32)
    with pytest.raises(NeedsConstant, match="the starts"):
        run("Slice", X, starts, ends)
    assert np.array_equal(run("Slice", X, starts, ends, constant=(1, 2)), X[:1, :, 1:])


def test_concat_tells_the_sizes_of_its_parts(run: Any) -> None:
    y, sizes = run("Concat", X, X[:, :1], outputs=2)
    assert np.array_equal(y, np.concatenate([X, X[:, :1]], 1))
    assert sizes.tolist() == [3, 1]


def test_split_takes_sizes_or_equal_parts(run: Any) -> None:
    a, b = run("Split", X, axis=2, outputs=2)
    assert np.array_equal(a, X[..., :2]) and np.array_equal(b, X[..., 2:])
    a, b = run("Split", X, axis=1, split=[1, 2], outputs=2)
    assert a.shape == (2, 1, 4) and b.shape == (2, 2, 4)


def test_channels_are_shuffled_and_put_back(run: Any) -> None:
    x = np.arange(6, dtype=np.float32).reshape(1, 6, 1, 1)
    y = run("ChannelShuffle", x, group=2)
    assert y.ravel().tolist() == [0, 3, 1, 4, 2, 5]
    assert np.array_equal(run("ChannelShuffleGradient", y, group=2), x)


def test_rows_that_are_removed_may_be_told_twice(run: Any) -> None:
    y = run("RemoveDataBlocks", X[0], np.array([2, 0, 2], np.int32))
    assert np.array_equal(y, X[0, 1:2])


def test_values_go_back_to_the_places_of_their_masks(run: Any) -> None:
    mask = np.array([True, False, True])
    a, b = np.array([1.0, 3.0], np.float32), np.array([2.0], np.float32)
    assert run("BooleanUnmask", mask, a, ~mask, b).tolist() == [1, 2, 3]


def test_coupled_blobs_stay_as_they_are(run: Any) -> None:
    x, y = np.arange(3), np.array([0.5], np.float32)
    out = run("DataCouple", x, y, outputs=2)
    assert np.array_equal(out[0], x) and np.array_equal(out[1], y)
