"""Winograd convolutions against the definition, and what they leave to others."""

import numpy as np
import pytest

from noria.core.flags import flags
from noria.kernels.numba import tile_sizes, winograd
from noria.kernels.numba.tile_sizes import PAIRS, WIDTH
from noria.kernels.numba.winograd import FEW_TILES, Shape
from noria.kernels.numba.winograd_matrix import OUTPUTS
from noria.testing.case import arr
from noria.testing.kernel import check_kernel

FORWARD, INPUT_GRAD = "numba:winograd", "numba:winograd_input_grad"
# batch, inputs, outputs, image, padding
CASES = [
    (2, 32, 48, (9, 7), 1),
    (1, 64, 80, (4, 4), 1),
    (3, 32, 32, (6, 13), 0),
    (1, 48, 32, (3, 3), 2),
    (1, 32, 32, (1, 1), 1),
    (2, 32, 32, (5, 6), (0, 1, 2, 1)),
]
MANY = (5, 32, 32, (22, 18), 1)  # more than a block for each thread
NARROW = (2, 128, 144, (7, 7), 1)  # all threads at all tiles


@pytest.fixture(autouse=True)
def no_matrix_units(monkeypatch):
    """Halves too, whatever CPU this is."""
    monkeypatch.setattr(tile_sizes, "MATRIX_UNITS", False)


def check(case, grad=False, dtype="float32", **options):
    n, ins, outs, (high, wide), padding = case
    pads = [padding] * 4 if isinstance(padding, int) else padding
    weight = arr(outs, ins, 3, 3, dtype=dtype)
    options = {"tol": 1e-4, "special": True, **options}
    if grad:
        g = arr(n, outs, high + pads[0] + pads[2] - 2, wide + pads[1] + pads[3] - 2, dtype=dtype)
        how = {"padding": padding, "sizes": (high, wide)}
        check_kernel("conv2d_input_grad", [g, weight], how, kernel=INPUT_GRAD, **options)
    else:
        x = arr(n, ins, high, wide, dtype=dtype)
        check_kernel("conv2d", [x, weight], {"padding": padding}, kernel=FORWARD, **options)


@pytest.mark.parametrize("case", [*CASES, MANY, NARROW], ids=str)
def test_the_convolution(case):
    check(case)


@pytest.mark.parametrize("case", [*CASES, MANY, NARROW], ids=str)
def test_the_gradient_by_the_input(case):
    check(case, grad=True)


@pytest.mark.parametrize("case", [*CASES[:2], NARROW], ids=str)
def test_halves_are_summed_in_float32(case, monkeypatch):
    monkeypatch.setattr(winograd, "PAIRS", False)
    for grad in (False, True):
        check(case, grad, dtype="bfloat16", tol=1e-2)


@pytest.mark.parametrize("grad", [False, True])
def test_large_weights_of_halves_that_change_are_not_transformed(grad, monkeypatch, fast_kernels):
    monkeypatch.setattr(winograd, "PAIRS", True)
    monkeypatch.setattr(winograd, "FEW_PAIRS", 0)
    with pytest.raises(AssertionError, match="multiplied directly"):
        check(NARROW, grad, dtype="bfloat16", tol=1e-2)
    check(MANY, grad, dtype="bfloat16", tol=1e-2)


def test_halves_beside_a_bias_of_float32(monkeypatch):
    monkeypatch.setattr(winograd, "PAIRS", False)
    x, weight = (arr(*s, dtype="bfloat16") for s in ((2, 32, 9, 6), (48, 32, 3, 3)))
    how, options = {"padding": 1, "activation": "relu"}, {"kernel": FORWARD, "tol": 1e-2}
    residual = arr(2, 48, 9, 6, dtype="bfloat16")
    check_kernel("fused_conv2d", [x, weight, arr(48), residual], how, **options)


def test_any_batch_and_none():
    check(CASES[0], symbolic={0: {0: "N"}})


def test_bias_residual_and_activation():
    x, weight, out = arr(2, 32, 9, 6), arr(48, 32, 3, 3), arr(2, 48, 9, 6)
    for activation in (None, "relu", "silu"):
        how = {"padding": 1, "activation": activation}
        for rest in ([arr(48)], [arr(48), out], [None, out]):
            options = {"kernel": FORWARD, "tol": 1e-4, "special": True}
            check_kernel("fused_conv2d", [x, weight, *rest], how, **options)


def test_a_nan_stays_where_the_definition_has_it():
    x = np.zeros((1, 32, 16, 16), np.float32)
    x[0, 3, 6, 9] = np.nan
    x[0, 4, 12, 2] = np.inf
    weight = np.abs(np.random.default_rng(0).standard_normal((32, 32, 3, 3), np.float32)) + 1
    check_kernel("conv2d", [x, weight], {"padding": 1}, kernel=FORWARD, tol=1e-4)


def test_the_error_is_small_beside_the_result():
    """Against float64: the largest of many, five times the usual one."""
    check((1, 512, 32, (14, 14), 1), tol=1e-5, wide=True, special=False)


def test_what_it_leaves_to_others():
    x, weight = arr(1, 32, 8, 8), arr(32, 32, 3, 3)
    for inputs, attrs, why in (
        ([arr(1, 17, 8, 8), arr(32, 17, 3, 3)], {}, "do not fill vectors"),
        ([arr(1, WIDTH, 8, 8), arr(32, WIDTH, 3, 3)], {}, "do not fill vectors"),
        ([arr(1, 32, 8, 8), arr(32, 32, 3, 1)], {}, "not 3x3"),
        ([x, weight], {"stride": 2}, "stride or dilation"),
        ([x, weight], {"dilation": 2}, "stride or dilation"),
        ([x, weight], {"padding": 3}, "padding wider"),
        ([arr(1, 64, 8, 8), weight], {"groups": 2}, "grouped"),
        ([arr(1, 256, 4, 4), arr(256, 256, 3, 3)], {"padding": 1}, "few tiles"),
    ):
        with pytest.raises(AssertionError, match=why):
            check_kernel("conv2d", inputs, attrs, kernel=FORWARD)


@pytest.mark.skipif(not PAIRS, reason="the CPU multiplies no bfloat16")
def test_a_few_images_of_bfloat16_are_multiplied_directly():
    inputs = [arr(2, 256, 9, 9, dtype="bfloat16"), arr(256, 256, 3, 3, dtype="bfloat16")]
    with pytest.raises(AssertionError, match="few tiles"):
        check_kernel("conv2d", inputs, {"padding": 1}, kernel=FORWARD)


def test_the_flag_turns_it_off():
    with flags.set(winograd=False), pytest.raises(AssertionError, match="NORIA_WINOGRAD is off"):
        check(CASES[0])


def test_who_shares_what():
    large, small = Shape(1, 14, 14, 256, 14, 14, 256, 1, 1), Shape(1, 56, 56, 64, 56, 56, 64, 1, 1)
    assert large.shared and not small.shared
    assert small.tiles == (56 // OUTPUTS) ** 2 >= FEW_TILES
