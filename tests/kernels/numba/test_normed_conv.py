"""Convolutions that normalise, in two steps and by Winograd's tiles, against the definition."""

import numpy as np
import pytest

from noria.kernels.numba import inner, tile_sizes, winograd
from noria.testing.case import arr
from noria.testing.kernel import check_kernel

pytestmark = pytest.mark.usefixtures("fast_kernels")
APART = "numba:normed_conv"
FORWARD, BY_WEIGHT = "numba:winograd_normed", "numba:winograd_normed_weight_grad"
# batch, inputs, outputs, image, padding
CASES = [
    (2, 32, 48, (9, 7), 1),
    (1, 64, 80, (4, 4), 1),
    (3, 32, 32, (6, 13), 0),
    (1, 48, 32, (3, 3), 2),
    (2, 32, 32, (5, 6), (0, 1, 2, 1)),
]
MANY = (5, 32, 32, (22, 18), 1)  # more than a block for each thread
NARROW = (2, 128, 144, (7, 7), 1)  # all threads at all tiles


@pytest.fixture(autouse=True)
def no_matrix_units(monkeypatch):
    """Halves too, whatever CPU this is."""
    monkeypatch.setattr(tile_sizes, "MATRIX_UNITS", False)


def check(case, kernel=FORWARD, dtype="float32", bias=False, how=None, **options):
    n, ins, outs, (high, wide), padding = case
    given = [arr(n, ins, high, wide, dtype=dtype), arr(outs, ins, 3, 3, dtype=dtype)]
    given += [arr(ins), arr(2, ins), *([arr(outs)] if bias else [])]
    how = {"padding": padding, **(how or {})}
    check_kernel("normed_conv2d", given, how, kernel=kernel, **{"tol": 1e-4, **options})


def check_by_weight(case, kernel=BY_WEIGHT, dtype="float32", how=None, **options):
    n, ins, outs, (high, wide), padding = case
    pads = [padding] * 4 if isinstance(padding, int) else padding
    windows = high + pads[0] + pads[2] - 2, wide + pads[1] + pads[3] - 2
    given = [arr(n, ins, high, wide, dtype=dtype), arr(n, outs, *windows, dtype=dtype)]
    given += [arr(ins), arr(2, ins)]
    how, options = {"padding": padding, "kernel": (3, 3), **(how or {})}, {"tol": 1e-4, **options}
    check_kernel("normed_conv2d_weight_grad", given, how, kernel=kernel, **options)


@pytest.mark.parametrize("case", [*CASES, MANY, NARROW], ids=str)
def test_the_convolution_by_tiles(case):
    check(case, special=True)


@pytest.mark.parametrize("case", [*CASES, MANY], ids=str)
def test_the_gradient_by_tiles(case):
    # Beside padding the definition multiplies zeros by what may be infinite; no kernel does.
    check_by_weight(case, special=case[4] == 0)


@pytest.mark.parametrize("case", CASES[:2], ids=str)
def test_halves_are_summed_in_float32(case, monkeypatch):
    monkeypatch.setattr(winograd, "PAIRS", False)
    check(case, dtype="bfloat16", tol=1e-2)
    check_by_weight(case, dtype="bfloat16", how={"dtype": "float32"}, tol=1e-2)


def test_any_batch_and_none():
    for kernel in (FORWARD, APART):
        check(CASES[0], kernel, symbolic={0: {0: "N"}})
    for kernel in (BY_WEIGHT, APART):
        check_by_weight(CASES[0], kernel, symbolic={0: {0: "N"}, 1: {0: "N"}})


@pytest.mark.parametrize("kernel", [FORWARD, APART])
def test_a_bias_goes_along(kernel):
    check(CASES[0], kernel, bias=True)


def test_a_nan_is_where_the_definition_has_it():
    x = np.random.default_rng(0).standard_normal((2, 32, 8, 8)).astype(np.float32)
    x[0, 3, 0, 0], x[1, 5, 4, 4] = np.nan, np.inf
    weight, g = np.ones((32, 32, 3, 3), np.float32), np.ones((2, 32, 8, 8), np.float32)
    mean, factors = np.zeros(32, np.float32), np.ones((2, 32), np.float32)
    how = {"tol": 1e-4, "kernel": FORWARD}
    check_kernel("normed_conv2d", [x, weight, mean, factors], {"padding": 1}, **how)
    how = {"tol": 1e-4, "kernel": BY_WEIGHT}
    attrs = {"padding": 1, "kernel": (3, 3)}
    check_kernel("normed_conv2d_weight_grad", [x, g, mean, factors], attrs, **how)


def test_a_large_mean_cancels_nothing():
    x = arr(2, 32, 8, 8, low=1e4 - 1, high=1e4 + 1)
    rest = [arr(32, 32, 3, 3), arr(32, low=1e4 - 1, high=1e4 + 1), arr(2, 32)]
    check_kernel("normed_conv2d", [x, *rest], {"padding": 1}, kernel=FORWARD, tol=1e-4, wide=True)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_tiles_leave_goes_through_memory(dtype):
    tol = 1e-2 if dtype == "bfloat16" else 1e-4
    for how in ({"stride": 2}, {"dilation": 2}):
        check((2, 32, 48, (9, 7), 1), APART, dtype, how=how, tol=tol)
    for case in ((2, 17, 48, (9, 7), 0), (1, 256, 256, (4, 4), 1)):
        check(case, APART, dtype, tol=tol, special=True)
        check_by_weight(case, APART, dtype, tol=tol)


def test_it_needs_float32_factors_and_a_convolution_that_runs(monkeypatch):
    given = [arr(2, 32, 5, 5), arr(32, 32, 3, 3), arr(32), arr(2, 32, dtype="bfloat16")]
    for kernel in (FORWARD, APART):
        with pytest.raises(AssertionError, match="not float32"):
            check_kernel("normed_conv2d", given, kernel=kernel)
    monkeypatch.setattr(inner, "kernels", lambda: [])
    with pytest.raises(AssertionError, match="no kernel of conv2d takes it"):
        check(CASES[0], APART)
