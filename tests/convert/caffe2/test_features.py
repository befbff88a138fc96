"""Features of examples in Caffe2."""

from typing import Any

import numpy as np


def test_elements_are_parted_by_the_remainder_of_their_id(run: Any) -> None:
    ids, x = np.array([3, -1, 4, 7], np.int64), np.arange(8, dtype=np.float32).reshape(4, 2)
    out = run("Partition", ids, x, pack_first_input=1, outputs=4)
    assert out[0].tolist() == [2] and out[2].tolist() == [1, -1, 3]
    assert out[1].tolist() == [[4, 5]] and out[3].tolist() == [[0, 1], [2, 3], [6, 7]]
    lengths = np.array([3, 1], np.int32)
    out = run("LengthsPartition", lengths, ids, outputs=4)
    assert out[0].tolist() == [1, 0] and out[2].tolist() == [2, 1] and out[1].tolist() == [4]


def test_features_that_are_there_are_merged(run: Any) -> None:
    a, b = np.array([1.0, 2.0], np.float32), np.array([3.0, 4.0], np.float32)
    here, there = np.array([True, False]), np.array([True, True])
    out = run("MergeSingleScalarFeatureTensors", a, here, b, there, feature_ids=[11, 12], outputs=3)
    assert [v.tolist() for v in out] == [[2, 1], [11, 12, 12], [1, 3, 4]]
    g = np.array([10, 20, 30], np.float32)
    da, db = run("MergeSingleScalarFeatureTensorsGradient", here, there, g, outputs=2)
    assert da.tolist() == [10, 0] and db.tolist() == [20, 30]
    dense = np.stack([a, b], axis=1)
    out = run(
        "MergeDenseFeatureTensors",
        dense,
        np.stack([here, there], 1),
        feature_ids=[11, 12],
        outputs=3,
    )
    assert [v.tolist() for v in out] == [[2, 1], [11, 12, 12], [1, 3, 4]]


def test_lists_are_merged_example_by_example(run: Any) -> None:
    two, one = np.array([2, 0], np.int32), np.array([1, 1], np.int32)
    a, b = np.array([1.0, 2.0], np.float32), np.array([8.0, 9.0], np.float32)
    every = np.array([True, True])
    out = run(
        "MergeSingleListFeatureTensors", two, a, every, one, b, every, feature_ids=[5, 6], outputs=4
    )
    assert [v.tolist() for v in out] == [[2, 2], [5, 6, 5, 6], [2, 1, 0, 1], [1, 2, 8, 9]]
    keys = np.array([7, 7], np.int64)
    out = run("MergeMultiScalarFeatureTensors", one, keys, a, one, keys + 1, b, outputs=3)
    assert [v.tolist() for v in out] == [[2, 2], [7, 8, 7, 8], [1, 8, 2, 9]]
    out = run("MergeMultiListFeatureTensors", one, keys, two, a, one, keys + 1, one, b, outputs=4)
    assert [v.tolist() for v in out] == [[2, 2], [7, 8, 7, 8], [2, 1, 0, 1], [1, 2, 8, 9]]


def test_categories_of_columns_make_one_number(run: Any) -> None:
    x = np.array([[2.2, 0, 5], [9, 0, 4.6], [1, 0, 8]], np.float32)
    args = {"col_ids": [0, 2], "categorical_limits": [2, 3], "vals": [1, 2, 4, 5, 8]}
    assert run("NGramFromCategorical", x, **args).tolist() == [1 + 2, 0 + 2, 0 + 4]


def test_leading_axes_are_taken_apart_and_joined(run: Any) -> None:
    x = np.arange(12).reshape(6, 2)
    y = run("PrependDim", x, dim_size=3)
    assert y.shape == (3, 2, 2) and np.array_equal(run("MergeDim", y), x)


def test_steps_behind_a_length_become_zeros(run: Any) -> None:
    y = run("VariableLengthSequencePadding", np.ones((3, 2, 1), "f4"), np.array([1, 3], "i4"))
    assert y[..., 0].tolist() == [[1, 1], [0, 1], [0, 1]]
