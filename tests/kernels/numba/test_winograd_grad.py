"""Winograd gradients by the weight against the definition."""

import numpy as np
import pytest

from noria.kernels.numba import tile_sizes, winograd_grad
from noria.testing.case import arr
from noria.testing.kernel import check_kernel

KERNEL = "numba:winograd_weight_grad"
# batch, inputs, outputs, image, padding
CASES = [
    (2, 32, 48, (9, 7), 1),
    (1, 64, 80, (4, 4), 1),
    (3, 32, 32, (6, 13), 0),
    (1, 48, 32, (3, 3), 2),
    (1, 32, 32, (1, 1), 1),
    (2, 32, 32, (5, 6), (0, 1, 2, 1)),
    (9, 128, 144, (22, 22), 1),  # several blocks
]


@pytest.fixture(autouse=True)
def no_matrix_units(monkeypatch):
    """Halves too, whatever CPU this is."""
    monkeypatch.setattr(tile_sizes, "MATRIX_UNITS", False)


def check(case, dtype="float32", **options):
    n, ins, outs, (high, wide), padding = case
    pads = [padding] * 4 if isinstance(padding, int) else padding
    g = arr(n, outs, high + pads[0] + pads[2] - 2, wide + pads[1] + pads[3] - 2, dtype=dtype)
    how = {"padding": padding, "kernel": (3, 3)}
    inputs = [arr(n, ins, high, wide, dtype=dtype), g]
    check_kernel("conv2d_weight_grad", inputs, how, kernel=KERNEL, **{"tol": 1e-4, **options})


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_gradient(case):
    # Beside padding the definition multiplies zeros by what may be infinite; no kernel does.
    check(case, special=case[4] == 0)


def test_blocks_of_any_size(monkeypatch):
    for nbytes in (1, 100_000):
        monkeypatch.setattr(winograd_grad, "BLOCK_BYTES", nbytes)
        check(CASES[0])
        monkeypatch.setattr(winograd_grad, "LARGE_BLOCK_BYTES", nbytes)
        monkeypatch.setattr(winograd_grad, "LARGE_SUMS", 0)
        check(CASES[1])


@pytest.mark.parametrize("result", [None, "float32"])
def test_halves_are_summed_in_float32(result):
    x, g = arr(2, 32, 9, 7, dtype="bfloat16"), arr(2, 48, 9, 7, dtype="bfloat16")
    how = {"padding": 1, "kernel": (3, 3), "dtype": result}
    check_kernel("conv2d_weight_grad", [x, g], how, kernel=KERNEL, tol=1e-2)


def test_any_batch_and_none():
    check(CASES[0], symbolic={0: {0: "N"}, 1: {0: "N"}})


def test_the_same_to_the_last_bit_for_every_team():
    check(CASES[-1], same_bits=True)


def test_a_nan_is_in_the_taps_that_see_it():
    x = np.random.default_rng(0).standard_normal((2, 32, 8, 8)).astype(np.float32)
    x[0, 3, 0, 0] = np.nan  # in the corner: only some taps multiply it
    g = np.ones((2, 32, 8, 8), np.float32)
    how = {"padding": 1, "kernel": (3, 3)}
    check_kernel("conv2d_weight_grad", [x, g], how, kernel=KERNEL, tol=1e-4)


def test_what_it_leaves_to_others():
    for inputs, attrs, why in (
        ([arr(1, 3, 8, 8), arr(1, 32, 6, 6)], {}, "do not fill vectors"),
        ([arr(1, 32, 8, 8), arr(1, 32, 3, 3)], {"stride": 2}, "stride or dilation"),
    ):
        with pytest.raises(AssertionError, match=why):
            check_kernel("conv2d_weight_grad", inputs, {"kernel": (3, 3), **attrs}, kernel=KERNEL)
