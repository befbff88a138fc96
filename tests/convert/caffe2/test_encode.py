"""Ids in Caffe2."""

from typing import Any

import numpy as np
import pytest


def hashed(number: int, dtype: Any, seed: int, modulo: int) -> int:
    """The hash byte by byte, in wrapping arithmetic."""
    bits = np.dtype(dtype).itemsize * 8
    value = seed * 0xDEADBEEF
    for byte in np.array([number], dtype).view(np.int8):
        value = value * 65537 + int(byte)
    value = (value + (1 << (bits - 1))) % (1 << bits) - (1 << (bits - 1))
    return value % modulo


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_ids_are_hashed_by_their_bytes(run: Any, dtype: Any) -> None:
    ids = np.array([0, 1, -1, 300, -70000, np.iinfo(dtype).min, np.iinfo(dtype).max], dtype)
    found = run("IndexHash", ids, seed=5, modulo=1009)
    assert found.tolist() == [hashed(int(i), dtype, 5, 1009) for i in ids] and found.dtype == dtype


def test_uniques_are_in_order_and_tell_where_each_went(run: Any) -> None:
    x = np.array([5, 3, 5, 9, 3], np.int64)
    values, places = run("Unique", x, outputs=2)
    assert values.tolist() == [3, 5, 9] and np.array_equal(values[places], x)
    assert run("FindDuplicateElements", x).tolist() == [2, 4]


def test_the_last_position_is_found(run: Any) -> None:
    data, query = np.array([4, 7, 4], np.int32), np.array([[4, 8]], np.int32)
    assert run("Find", data, query, missing_value=-5).tolist() == [[2, -5]]


def test_buckets_include_their_right_end(run: Any) -> None:
    x = np.array([[2, 3], [4, 1], [2, 5]], np.float32)
    assert run("Bucketize", x, boundaries=[2.0, 4.0]).tolist() == [[0, 1], [1, 0], [0, 2]]
    lengths, bounds = np.array([2, 3], np.int32), np.array([0.1, 2.5, 1, 3.1, 4.5], np.float32)
    want = [[0, 1, 0, 0, 1, 0, 0], [0, 0, 1, 1, 0, 0, 0], [0, 1, 0, 0, 0, 0, 1]]
    assert run("BatchBucketOneHot", x, lengths, bounds).tolist() == want


def test_columns_are_compared_with_their_own_values(run: Any) -> None:
    x = np.array([[2, 3], [4, 1], [2, 5]], np.int32)
    lengths, values = np.array([2, 3], np.int32), np.array([2, 4, 1, 3, 5], np.int32)
    want = [[1, 0, 0, 1, 0], [0, 1, 1, 0, 0], [1, 0, 0, 0, 1]]
    assert run("BatchOneHot", x, lengths, values).tolist() == want


def test_an_axis_of_fewer_than_k_is_filled_up(run: Any) -> None:
    x = np.array([[3.0, 9.0], [4.0, 4.0]], np.float32)
    values, places, flat = run("TopK", x, k=3, outputs=3)
    assert values.tolist() == [[9, 3, 0], [4, 4, 0]] and places.tolist() == [[1, 0, -1], [0, 1, -1]]
    assert flat.tolist() == [1, 0, -1, 2, 3, -1]
    g = run("TopKGradient", np.ones((2, 3), np.float32), places, x)
    assert g.tolist() == [[1, 1], [1, 1]]
