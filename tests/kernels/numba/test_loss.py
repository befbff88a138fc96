import numpy as np
import pytest

from noria.core.errors import ArgumentError
from noria.testing.case import arr, ints
from noria.testing.kernel import check_kernel

SOFTMAX, CROSS_ENTROPY = "numba:softmax", "numba:cross_entropy"
FORWARD, BACKWARD = "softmax_cross_entropy", "softmax_cross_entropy_grad"
BATCH = {0: {0: "N"}}
BOTH = {0: {0: "N"}, 1: {0: "N"}}
ALL = {**BOTH, 2: {0: "N"}}


def log_softmax(x):
    x = x.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        shifted = x - x.max(-1, keepdims=True)
        return (shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))).astype(np.float32)


@pytest.mark.parametrize("op", ["softmax", "log_softmax"])
@pytest.mark.parametrize("shape", [(1,), (1, 1), (5, 2), (3, 4, 7), (33, 17), (2, 1000)])
def test_softmax_of_rows_of_any_width(op, shape):
    check_kernel(op, [arr(*shape)], kernel=SOFTMAX, symbolic=BATCH if len(shape) > 1 else None)


@pytest.mark.parametrize("op", ["softmax", "log_softmax"])
@pytest.mark.parametrize("axis", [1, -1])
def test_the_last_axis_by_either_name(op, axis):
    check_kernel(op, [arr(6, 3)], {"axis": axis}, kernel=SOFTMAX)


@pytest.mark.parametrize("op", ["softmax", "log_softmax"])
@pytest.mark.parametrize("size", [1e-3, 80.0, 1e4])
def test_logits_of_any_size_do_not_overflow(op, size):
    check_kernel(op, [arr(9, 12, low=-size, high=size)], kernel=SOFTMAX, wide=True)


@pytest.mark.parametrize("op", ["softmax", "log_softmax"])
def test_nan_and_infinities_of_logits(op):
    check_kernel(op, [arr(9, 5)], kernel=SOFTMAX, special=True)
    x = np.array([[-np.inf, 0, 1], [-np.inf] * 3, [np.inf, 0, 1], [0, -np.inf, -np.inf]])
    check_kernel(op, [x.astype(np.float32)], kernel=SOFTMAX)


@pytest.mark.parametrize("dtype", ["int64", "int32"])
@pytest.mark.parametrize("shape", [(1, 1), (5, 1), (7, 3), (2, 3, 17), (33, 1000)])
def test_the_loss_and_its_gradient(shape, dtype):
    *rows, width = shape
    labels = ints(*rows, high=width, dtype=dtype)
    check_kernel(FORWARD, [arr(*shape), labels], kernel=CROSS_ENTROPY, symbolic=BOTH)
    inputs = [log_softmax(arr(*shape).make((1,))), labels, arr(*rows)]
    check_kernel(BACKWARD, inputs, kernel=CROSS_ENTROPY)


def test_a_scalar_loss():
    check_kernel(FORWARD, [arr(4), np.array(2)], kernel=CROSS_ENTROPY)
    check_kernel(BACKWARD, [log_softmax(arr(4).make((1,))), np.array(2), arr()])


@pytest.mark.parametrize("ignored", [-100, 0, 2, 99])
def test_ignored_labels_cost_nothing(ignored):
    labels = np.array([0, ignored, 2, 1, ignored])
    attrs = {"ignore_index": ignored}
    check_kernel(FORWARD, [arr(5, 3), labels], attrs, kernel=CROSS_ENTROPY)
    inputs = [log_softmax(arr(5, 3).make((1,))), labels, arr(5)]
    check_kernel(BACKWARD, inputs, attrs, kernel=CROSS_ENTROPY)


@pytest.mark.parametrize("wrong", [-1, 3, 2**31 - 1])
@pytest.mark.parametrize("dtype", ["int64", "int32"])
def test_a_label_that_is_no_class_is_told_as_the_reference_does(wrong, dtype):
    labels = np.array([0, 1, 2, wrong, 1], dtype)
    log_prob = log_softmax(arr(5, 3).make((1,)))
    for attrs in ({}, {"ignore_index": 1}):
        check_kernel(FORWARD, [arr(5, 3), labels], attrs, raises=ArgumentError)
        check_kernel(BACKWARD, [log_prob, labels, arr(5)], attrs, raises=ArgumentError)


def test_impossible_classes_have_an_infinite_loss_and_others_are_not_touched():
    x = np.array([[0, -np.inf, 1], [-np.inf, -np.inf, 5], [0, 0, -np.inf]], np.float32)
    labels = np.array([0, 1, 2])
    check_kernel(FORWARD, [x, labels], kernel=CROSS_ENTROPY)
    check_kernel(BACKWARD, [log_softmax(x), labels, arr(3)], kernel=CROSS_ENTROPY)


def test_nan_stays_in_its_row():
    x = arr(6, 4).make((1,))
    x[2, 1], x[4, 3] = np.nan, np.inf
    check_kernel(FORWARD, [x, ints(6, high=4)], kernel=CROSS_ENTROPY)


@pytest.mark.parametrize(
    ("op", "inputs", "attrs", "reason"),
    [
        ("softmax", [arr(3, 4)], {"axis": 0}, "the axis is not the last one"),
        ("softmax", [arr(3, 4, dtype="float64")], {}, "is float64"),
        (FORWARD, [arr(3, 4), ints(3, high=4)], {"label_smoothing": 0.1}, "soft labels"),
        (FORWARD, [arr(3, 4), arr(3, 4)], {"soft": True}, "is float32, not int64 or int32"),
        (FORWARD, [arr(3, 4), ints(3, high=4, dtype="uint8")], {}, "is uint8"),
        (FORWARD, [arr(3, 4), ints(4, high=3)], {"axis": 0}, "the axis is not the last one"),
    ],
)
def test_what_is_left_to_the_reference(op, inputs, attrs, reason):
    with pytest.raises(AssertionError, match=reason):
        check_kernel(op, inputs, attrs)
