"""Kernels of recurrent layers against the reference: sizes around those of vectors and panels."""

from dataclasses import replace

import numpy as np
import pytest

from noria.core.errors import ArgumentError
from noria.kernels.numba.recurrent_grid import Grid
from noria.testing.case import arr
from noria.testing.kernel import SITUATIONS, check_kernel

SPLITS = np.array([0, 3, 3, 4, 9, 9])


def gates(*shape):
    return arr(*shape, low=0.05, high=0.95)


def weight(rows, size):
    """Small enough that rounding does not grow from step to step."""
    return arr(rows, size, low=-0.3, high=0.3)


def cases(splits, size, reverse, activation="tanh"):
    """Every op, forward and backward: inputs and attributes."""
    total, rows = int(splits[-1]), len(splits) - 1
    steps, state, how = arr(total, size), arr(rows, size), {"reverse": reverse}
    plain, made = {**how, "activation": activation}, arr(total, size, low=-1, high=1)
    w4, w3, w1 = (weight(k * size, size) for k in (4, 3, 1))
    return [
        ("lstm", [arr(total, 4 * size), w4, splits, state, state], how),
        ("lstm_grad", [gates(total, 4 * size), steps, w4, splits, steps, steps, state], how),
        ("gru", [arr(total, 3 * size), w3, splits, arr(3 * size), state], how),
        ("gru_grad", [gates(total, 4 * size), steps, w3, splits, steps, state], how),
        ("rnn", [steps, w1, splits, state], plain),
        ("rnn_grad", [made, w1, splits, steps], plain),
    ]


# op -> the inputs that are bfloat16 where the weight is
ROUNDING = 1e-2
HALVES = {
    "lstm": (1,),
    "lstm_grad": (2, 4),
    "gru": (1,),
    "gru_grad": (1, 2, 4, 5),
    "rnn": (1,),
    "rnn_grad": (0, 1, 3),
}


def halved(op, inputs):
    """The inputs as under precision="bf16"."""
    return [
        replace(x, dtype="bfloat16") if i in HALVES[op] and x is not None else x
        for i, x in enumerate(inputs)
    ]


def check(op, inputs, attrs):
    """In float32, and with a weight of halves, where sums that hardly differ may round apart."""
    check_kernel(op, inputs, attrs, kernel=f"numba:{op}")
    few = {"situations": SITUATIONS[:3], "tol": ROUNDING}
    check_kernel(op, halved(op, inputs), attrs, kernel=f"numba:{op}", **few)


def check_all(splits, size, reverse=False):
    for op, inputs, attrs in cases(splits, size, reverse):
        check(op, inputs, attrs)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("size", [1, 3, 7, 16, 17, 70, 130])
def test_layers_of_any_size(size, reverse):
    check_all(SPLITS, size, reverse)


@pytest.mark.parametrize(
    "grid", [Grid(1, 3), Grid(3, 1), Grid(1, 2), Grid(2, 1), Grid(5, 1)], ids=str
)
def test_any_grid_computes_the_same(grid, monkeypatch):
    monkeypatch.setattr("noria.kernels.numba.recurrent.choose_grid", lambda *sizes: grid)
    check_all(np.array([0, 2, 2, 9, 11, 30, 31]), 136)


def test_more_rows_than_a_tile_buffer_holds():
    check_all(np.cumsum(np.arange(110) % 3), 5)


@pytest.mark.parametrize("reverse", [False, True])
def test_many_rows_are_taken_in_turns(reverse):
    lengths = np.arange(75) * 7 % 9
    check_all(np.cumsum([0, *lengths]), 20, reverse)


@pytest.mark.parametrize("splits", [np.array([0, 6]), np.array([0, 0, 1]), np.arange(8)], ids=str)
def test_one_row_and_rows_of_one_step(splits):
    check_all(splits, 20)


def test_absent_states_biases_and_gradients():
    for op, inputs, attrs in cases(SPLITS, 7, False):
        needed = {"lstm": 3, "gru": 3, "rnn": 3, "lstm_grad": 5, "gru_grad": 5, "rnn_grad": 4}
        check(op, inputs[: needed[op]], attrs)
    _, inputs, attrs = cases(SPLITS, 7, False)[1]
    inputs[4] = None
    check("lstm_grad", inputs, attrs)


def check_reset_before(reverse, size, splits=SPLITS):
    total, rows = int(splits[-1]), len(splits) - 1
    inputs = [arr(total, 3 * size), weight(3 * size, size), splits, arr(rows, size)]
    attrs, kernel = {"reverse": reverse}, "numba:gru_reset_before"
    check_kernel("gru_reset_before", inputs, attrs, kernel=kernel)
    check_kernel("gru_reset_before", inputs[:3], attrs, kernel=kernel)
    steps = arr(total, size)
    inputs = [gates(total, 3 * size), steps, inputs[1], splits, steps, inputs[3]]
    check_kernel("gru_reset_before_grad", inputs, attrs, kernel=f"{kernel}_grad")
    check_kernel("gru_reset_before_grad", inputs[:5], attrs, kernel=f"{kernel}_grad")


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("size", [1, 7, 16, 64, 70, 130])
def test_a_gru_of_two_phases(size, reverse):
    check_reset_before(reverse, size)


@pytest.mark.parametrize("grid", [Grid(1, 3), Grid(2, 1), Grid(4, 1)], ids=str)
def test_two_phases_in_any_grid(grid, monkeypatch):
    monkeypatch.setattr("noria.kernels.numba.recurrent.choose_grid", lambda *sizes: grid)
    check_reset_before(True, 200, np.array([0, 2, 2, 9, 11, 30, 31]))
    check_reset_before(False, 5, np.cumsum(np.arange(60) % 3))


@pytest.mark.parametrize("size", [3, 70])
def test_peepholes(size):
    (_, x, how), (_, given, _) = cases(SPLITS, size, True)[:2]
    peepholes = arr(3, size)
    check("lstm", [*x, peepholes], how)
    check("lstm", [*x[:3], None, None, peepholes], how)
    check("lstm_grad", [*given, peepholes], how)


def test_relu():
    for op, inputs, attrs in cases(SPLITS, 9, False, "relu")[-2:]:
        check(op, inputs, attrs)


def test_nan_stays_in_its_row():
    x = arr(9, 4 * 7).make((1,))
    x[3, 5], x[8, 2] = np.nan, np.inf
    inputs = [x, weight(28, 7), SPLITS]
    check("lstm", inputs, {})
    inputs = [x[:, :21], weight(21, 7), SPLITS]
    check("gru", inputs, {})


def test_splits_of_32_bits():
    check_all(SPLITS.astype(np.int32), 7)


@pytest.mark.parametrize("wrong", [[0, 5, 3, 9], [1, 5, 9], [0, 5, 8], [0, -1, 9]], ids=str)
def test_wrong_splits_are_told_as_the_reference_does(wrong):
    splits = np.array(wrong)
    x, w = arr(9, 12), weight(12, 3)
    check_kernel("lstm", [x, w, splits], kernel="numba:lstm", raises=ArgumentError)
    steps = arr(9, 3)
    inputs = [gates(9, 12), steps, w, splits, steps]
    check_kernel("lstm_grad", inputs, kernel="numba:lstm_grad", raises=ArgumentError)
