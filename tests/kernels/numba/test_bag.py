"""Look-ups pooled as they come."""

import numpy as np
import pytest

from noria.core.errors import ArgumentError
from noria.testing.case import arr, ints
from noria.testing.kernel import check_kernel

NAME = "numba:bag"
SPLITS = np.array([0, 3, 3, 4, 40, 40])


def check(table, ids, splits=None, weights=None, mode="sum", **options):
    inputs = [table, ids, splits, weights]
    check_kernel("fused_bag", inputs, {"mode": mode}, kernel=NAME, same_bits=True, **options)


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize("width", [1, 3, 16, 17, 64, 65, 200])
def test_bags_of_equal_length(mode, width):
    check(arr(30, width), ints(7, 26, high=30), mode=mode)


@pytest.mark.parametrize("mode", ["sum", "max"])
@pytest.mark.parametrize("width", [1, 3, 16, 17])
def test_packed_bags_some_of_which_are_empty(mode, width):
    check(arr(30, width, low=-3, high=-1), ints(40, high=30), SPLITS, mode=mode)


@pytest.mark.parametrize("dtype", ["int64", "int32"])
@pytest.mark.parametrize("width", [1, 5])
def test_rows_are_multiplied_by_their_weights(dtype, width):
    check(arr(30, width), ints(7, 4, high=30, dtype=dtype), None, arr(7, 4))
    check(arr(30, width), ints(40, high=30), SPLITS.astype(dtype), arr(40))


@pytest.mark.parametrize(("shape", "rows"), [((1, 1), 1), ((3,), 9), ((2, 3, 4), 9), ((500, 1), 3)])
def test_any_number_of_bags_and_any_table(shape, rows):
    open_ = {1: {0: "N"}} if len(shape) > 1 else None
    check(arr(rows, 3), ints(*shape, high=rows), symbolic=open_)
    check(arr(rows, 2, 3), ints(*shape, high=rows))
    check(arr(rows), ints(*shape, high=rows))


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_nan_and_infinity_reach_the_bags_that_have_them(mode):
    for width in (1, 4):
        check(arr(9, width), ints(6, 3, high=9), mode=mode, special=True)


@pytest.mark.parametrize("wrong", [-1, 9, 2**40])
def test_an_id_outside_the_table_is_told_as_the_reference_does(wrong):
    check(arr(9, 3), np.array([[1, wrong], [0, 2]]), raises=ArgumentError)


@pytest.mark.parametrize("splits", [[1, 4], [0, 3], [0, 5], [0, 3, 2, 4], [0, -1, 4], [0, 9, 4]])
def test_splits_that_do_not_divide_the_ids_are_told_as_the_reference_does(splits):
    check(arr(9, 3), ints(4, high=9), np.array(splits), raises=ArgumentError)


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        ([arr(9, 3, dtype="bfloat16"), ints(2, 3, high=9)], "is bfloat16"),
        ([arr(9, 3), ints(2, 3, high=9, dtype="int8")], "is int8"),
    ],
)
def test_what_is_left_to_the_reference(inputs, reason):
    with pytest.raises(AssertionError, match=reason):
        check_kernel("fused_bag", inputs, kernel=NAME)
