"""The gradient by the weight of a convolution over few channels beside the reference: windows of
all kinds, images, teams and parts of them, and who is left to others."""

import numpy as np
import pytest

import noria
from noria import ops
from noria.kernels.numba import conv_weight_grad, few_channels_grad, tile_sizes
from noria.kernels.numba.tile_sizes import PAIRS, PANEL, ROWS, WIDTH
from noria.ops.window import slide
from noria.testing.case import arr
from noria.testing.kernel import check_kernel

NAME = "numba:few_channels_grad"
# shape of x, outputs, kernel, attributes
CASES = {
    "a network's first": ((3, 3, 20, 16), PANEL, (7, 7), {"stride": 2, "padding": 3}),
    "3x3, padded": ((2, 3, 6, 8), 2 * WIDTH, (3, 3), {"padding": 1}),
    "one channel": ((2, 1, 9, 8), 2 * WIDTH + 1, (5, 5), {}),
    "1x1": ((2, 5, 3, 4), PANEL + 3, (1, 1), {}),
    "1x1, strided": ((2, 7, 5, 8), 2 * WIDTH, (1, 1), {"stride": 2}),
    "strides of two kinds": ((2, 3, 11, 12), 2 * WIDTH + 7, (3, 2), {"stride": (2, 3)}),
    "padded unevenly": ((2, 3, 5, 7), 2 * WIDTH, (3, 3), {"padding": (0, 2, 3, 1)}),
    "pixels behind the last window": ((1, 3, 9, 9), PANEL, (3, 3), {"stride": 4}),
    "taps that see only padding": ((2, 3, 1, 2), 2 * WIDTH, (5, 5), {"padding": 3}),
    "same": ((1, 4, 4, 6), 2 * WIDTH, (4, 2), {"padding": "same", "stride": (1, 3)}),
    "just no panel of channels": ((2, PANEL - 1, 3, 4), PANEL, (3, 3), {"padding": 1}),
    "several panels": ((2, 3, 4, 6), 2 * PANEL + 1, (3, 3), {"padding": 1}),
    "one image of two pixels": ((1, 2, 1, 2), 2 * WIDTH, (1, 1), {}),
}
DTYPES = ["float32", pytest.param("bfloat16", marks=pytest.mark.skipif(not PAIRS, reason="CPU"))]


@pytest.fixture(autouse=True)
def vectors(monkeypatch):
    monkeypatch.setattr(tile_sizes, "MATRIX_UNITS", False)  # halves too, whatever CPU this is


def check(shape, outs, kernel, attrs, dtype="float32", **how):
    given = {"stride": 1, "padding": 0, "dilation": 1} | attrs
    out = slide(shape[2:], kernel, *(given[k] for k in ("stride", "padding", "dilation"))).out
    inputs = [arr(*shape, dtype=dtype), arr(shape[0], outs, *out, dtype=dtype)]
    attrs = {"groups": 1, **given, "kernel": kernel, "dtype": "float32"}
    check_kernel("conv2d_weight_grad", inputs, attrs, kernel=NAME, **{"tol": 1e-4, **how})


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_window(case, dtype, fast_kernels):
    check(*case, dtype=dtype)


@pytest.mark.parametrize("width", range(1, 8))
def test_lines_of_any_length(width, fast_kernels):
    check((2, 3, 4, width), 2 * WIDTH, (3, 3), {"padding": 1})


@pytest.mark.parametrize("taps", range(1, 2 * ROWS + 2))
def test_rows_of_taps_of_any_length(taps, fast_kernels):
    check((2, 1, 3, 2 * ROWS + 3), 2 * WIDTH, (2, taps), {})


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("some", [0, 3 * 8 * PANEL * 4, 1 << 20])
def test_any_number_of_rows_at_a_time(some, dtype, monkeypatch, fast_kernels):
    monkeypatch.setattr(few_channels_grad, "SOME", some)
    check(*CASES["a network's first"], dtype=dtype)
    check(*CASES["3x3, padded"], dtype=dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", ["a network's first", "1x1, strided", "padded unevenly"])
def test_nan_and_infinity_stay_where_they_belong(case, dtype, fast_kernels):
    check(*CASES[case], dtype=dtype, special=True)


def test_any_batch_and_none(fast_kernels):
    check(*CASES["3x3, padded"], symbolic={0: {0: "N"}, 1: {0: "N"}})


@pytest.mark.parametrize(
    "changes, why",
    [
        ({"shape": (1, PANEL, 4, 4)}, "fill a panel"),
        ({"outs": 2 * WIDTH - 1}, "no two vectors"),
        ({"attrs": {"dilation": 2}}, "dilated"),
        ({"dtype": "float64"}, "float64"),
        pytest.param(
            {"shape": (1, 3, 4, 5), "dtype": "bfloat16"},
            "no pairs",
            marks=pytest.mark.skipif(not PAIRS, reason="the CPU multiplies no bfloat16"),
        ),
    ],
)
def test_what_is_left_to_others(changes, why, fast_kernels):
    case = {"shape": (1, 3, 4, 4), "outs": PANEL, "kernel": (1, 1), "attrs": {}} | changes
    with pytest.raises(AssertionError, match=why):
        check(**case)


def test_groups_and_gradients_of_halves_are_left_too(fast_kernels):
    attrs = {"stride": 1, "padding": 0, "dilation": 1, "groups": 2, "kernel": (1, 1)}
    inputs = [arr(1, 4, 2, 2), arr(1, PANEL, 2, 2)]
    with pytest.raises(AssertionError, match="grouped"):
        check_kernel("conv2d_weight_grad", inputs, attrs, kernel=NAME)
    attrs |= {"groups": 1, "dtype": "bfloat16"}
    with pytest.raises(AssertionError, match="the gradient is bfloat16"):
        check_kernel("conv2d_weight_grad", inputs, attrs, kernel=NAME)


@pytest.mark.skipif(not PAIRS, reason="the CPU multiplies no bfloat16")
def test_other_cpus_have_no_halves_here(monkeypatch, fast_kernels):
    case = ((1, 3, 4, 4), PANEL, (1, 1), {}, "bfloat16")
    monkeypatch.setattr(tile_sizes, "MATRIX_UNITS", True)
    with pytest.raises(AssertionError, match="matrix units"):
        check(*case)
    monkeypatch.setattr(conv_weight_grad, "PAIRS", False)
    with pytest.raises(AssertionError, match="multiplies no bfloat16"):
        check(*case)


def test_the_same_numbers_at_every_run(fast_kernels):
    """Whichever thread ends first, sums are added in one order."""

    def step(x, g):
        how = {"stride": 1, "padding": 1, "dilation": 1, "groups": 1, "kernel": (3, 3)}
        return {"w": ops.conv2d_weight_grad(x, g, **how)}

    specs = {"x": noria.spec(4, 3, 30, 30), "g": noria.spec(4, PANEL, 30, 30)}
    executor = noria.Executor(noria.trace(step, **specs))
    rng = np.random.default_rng(0)
    feeds = {n: rng.standard_normal(s.shape, np.float32) for n, s in specs.items()}
    first = executor.run(feeds)["w"].tobytes()
    assert all(executor.run(feeds)["w"].tobytes() == first for _ in range(20))
