import numpy as np
import pytest

from noria.core.errors import ArgumentError
from noria.testing.case import arr
from noria.testing.kernel import check_kernel

SPLITS = np.array([0, 3, 3, 4, 9, 9])
OTHERS = [np.array([0, 9]), np.array([0, 0, 9]), np.arange(10)]
SHAPES = [(), (1,), (3,), (2, 17), (100,)]


def rows_of(splits, *shape, **how):
    return arr(len(splits) - 1, *shape, **how)


def cases(splits, *shape):
    """Every op: inputs and attributes."""
    steps, rows = arr(9, *shape), rows_of(splits, *shape)
    whole = {"total": 9}
    return [
        ("sequence_sum", [steps, splits], {}),
        ("sequence_max", [steps, splits], {"empty": -3.5}),
        ("sequence_max_grad", [steps, rows, splits, rows], {}),
        ("sequence_ids", [splits], whole),
        ("sequence_expand", [rows, splits], whole),
        ("sequence_end", [steps, splits], {}),
        ("sequence_end", [steps, splits, rows], {"first": True}),
        ("sequence_place", [rows, splits], whole),
        ("sequence_place", [rows, splits], {**whole, "first": True}),
        ("sequence_shift", [steps, splits], {}),
        ("sequence_shift", [steps, splits, rows], {"reverse": True}),
    ]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_rows_of_any_width(shape):
    for op, inputs, attrs in cases(SPLITS, *shape):
        check_kernel(op, inputs, attrs, kernel=f"numba:{op}")


@pytest.mark.parametrize("splits", OTHERS, ids=str)
def test_one_row_and_rows_of_one_step(splits):
    for op, inputs, attrs in cases(splits, 3):
        check_kernel(op, inputs, attrs, kernel=f"numba:{op}")


def test_nan_and_infinities_stay_in_their_row():
    for op, inputs, attrs in cases(SPLITS, 5):
        check_kernel(op, inputs, attrs, kernel=f"numba:{op}", special=True)


def test_splits_of_32_bits_and_moves_of_any_dtype():
    splits = SPLITS.astype(np.int32)
    for op, inputs, attrs in cases(splits, 5):
        check_kernel(op, inputs, attrs, kernel=f"numba:{op}")
    for dtype in ("bfloat16", "float64"):
        steps, rows = arr(9, 3, dtype=dtype), rows_of(SPLITS, 3, dtype=dtype)
        check_kernel("sequence_end", [steps, SPLITS, rows], kernel="numba:sequence_end")
        check_kernel("sequence_shift", [steps, SPLITS, rows], kernel="numba:sequence_shift")


def test_ties_share_the_gradient():
    x = np.array([[1, 2], [1, 0], [0, 2], [5, 5], [5, 1], [5, 5]], np.float32)
    splits, grad = np.array([0, 3, 6]), np.array([[1, 2], [3, 4]], np.float32)
    top = np.array([[1, 2], [5, 5]], np.float32)
    check_kernel("sequence_max_grad", [x, top, splits, grad], kernel="numba:sequence_max_grad")


@pytest.mark.parametrize("wrong", [[0, 5, 3, 9], [1, 5, 9], [0, 5, 8], [0, -1, 9]], ids=str)
def test_wrong_splits_are_told_as_the_reference_does(wrong):
    splits = np.array(wrong)
    for op, inputs, attrs in cases(splits, 3):
        check_kernel(op, inputs, attrs, kernel=f"numba:{op}", raises=ArgumentError)


@pytest.mark.parametrize("empty", [0.0, -np.inf, np.nan, 1e30])
def test_an_empty_row_has_the_largest_it_is_told(empty):
    check_kernel("sequence_max", [arr(9, 3), SPLITS], {"empty": empty}, kernel="numba:sequence_max")
