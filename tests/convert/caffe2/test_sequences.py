"""Ragged rows in Caffe2."""

from typing import Any

import numpy as np

X = np.arange(1, 11, dtype=np.float32).reshape(5, 2)
LENGTHS = np.array([2, 0, 3], np.int32)


def test_rows_are_packed_and_unpacked(run: Any) -> None:
    packed, there = run("PackSegments", LENGTHS, X, outputs=2)
    assert packed.shape == (3, 3, 2) and there.tolist() == [[1, 1, 0], [0, 0, 0], [1, 1, 1]]
    assert packed[0, 2].max() == 0 and np.array_equal(packed[2], X[2:])
    assert np.array_equal(run("UnpackSegments", LENGTHS, packed), X)
    cut = run("PackSegments", LENGTHS, X, max_length=1, pad_minf=1)
    assert cut[0, 0].tolist() == [1, 2] and np.isneginf(cut[1]).all()


def test_sequences_are_packed_time_first(run: Any) -> None:
    packed = run("PackRNNSequence", X, LENGTHS)
    assert packed.shape == (3, 3, 2) and packed[1, 2].tolist() == [7, 8]
    assert np.array_equal(run("UnpackRNNSequence", packed, LENGTHS), X)
    turned = run("ReversePackedSegs", packed, LENGTHS)
    assert turned[:, 0].tolist() == [[3, 4], [1, 2], [0, 0]]


def test_padding_is_added_removed_and_summed(run: Any) -> None:
    start, end = np.array([-1, -2], np.float32), np.array([50, 60], np.float32)
    y, lengths = run(
        "AddPadding", X, LENGTHS, start, end, padding_width=2, end_padding_width=1, outputs=2
    )
    assert lengths.tolist() == [5, 3, 6] and y.shape == (14, 2)
    assert y[:5].tolist() == [[-1, -2], [-1, -2], [1, 2], [3, 4], [50, 60]]
    x, old = run("RemovePadding", y, lengths, padding_width=2, end_padding_width=1, outputs=2)
    assert np.array_equal(x, X) and old.tolist() == LENGTHS.tolist()
    sums = run("GatherPadding", y, lengths, padding_width=2, end_padding_width=1, outputs=2)
    assert sums[0].tolist() == [-6, -12] and sums[1].tolist() == [150, 180]


def test_lengths_become_ids_and_back(run: Any) -> None:
    ids = run("LengthsToSegmentIds", LENGTHS)
    assert ids.tolist() == [0, 0, 2, 2, 2]
    assert run("SegmentIdsToLengths", ids).tolist() == [2, 0, 3]
    assert run("LengthsToRanges", LENGTHS).tolist() == [[0, 2], [2, 0], [2, 3]]
    assert run("LengthsSplit", LENGTHS, n_split=2).tolist() == [1, 1, 0, 0, 2, 1]
    assert np.allclose(run("LengthsToWeights", LENGTHS, power=1.0), [0.5] * 2 + [1 / 3] * 3)


def test_rows_are_gathered_by_number_or_range(run: Any) -> None:
    out = run("LengthsGather", X, LENGTHS, np.array([2, 1, 0], np.int32))
    assert np.array_equal(out, X[[2, 3, 4, 0, 1]])
    ranges = np.array([[[3, 2], [0, 0]], [[0, 1], [2, 2]]], np.int32)
    values, lengths = run("GatherRanges", X[:, 0].copy(), ranges, outputs=2)
    assert values.tolist() == [7, 9, 1, 5, 7] and lengths.tolist() == [2, 3]


def test_ranges_become_matrices_in_the_order_of_a_key(run: Any) -> None:
    ranges = np.array([[[0, 2]], [[0, 0]], [[2, 2]]], np.int64)
    key = np.array([9, 1, 0, 4, 5], np.int64)
    out = run("GatherRangesToDense", X[:, 0].copy(), ranges, key, lengths=[2])
    assert out.tolist() == [[3, 1], [0, 0], [5, 7]]


def test_lists_of_ids_are_merged_without_repetition(run: Any) -> None:
    a, b = np.array([5, 3, 5], np.int64), np.array([3, 1], np.int64)
    lengths, ids = run(
        "MergeIdLists", np.array([2, 1], "i4"), a, np.array([1, 1], "i4"), b, outputs=2
    )
    assert lengths.tolist() == [2, 2] and ids.tolist() == [3, 5, 1, 5]


def test_the_best_of_short_rows_are_filled_up(run: Any) -> None:
    x = np.array([3, 8, 1, 5, 5], np.float32)
    values, places = run("LengthsTopK", x, LENGTHS, k=2, outputs=2)
    assert values.tolist() == [[8, 3], [0, 0], [5, 5]] and places.tolist() == [
        [1, 0],
        [-1, -1],
        [1, 2],
    ]


def test_the_best_of_each_row_have_counts_of_their_own(run: Any) -> None:
    x = np.array([[3.0, 1.0, 2.0], [5.0, 6.0, 4.0]], np.float32)
    counts = np.array([2, 1], np.int64)
    values, places = run("FlexibleTopK", x, counts, outputs=2)
    assert values.tolist() == [3, 2, 6] and places.tolist() == [0, 2, 1]
    g = run("FlexibleTopKGradient", x, counts, places, np.array([1.0, 2.0, 3.0], np.float32))
    assert g.tolist() == [[1, 0, 2], [0, 3, 0]]
