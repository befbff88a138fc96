"""The gradient by the weight beside the reference: windows of all kinds, images, channels and teams
that fill no tile, several blocks of pixels."""

import numpy as np
import pytest

import noria
from noria import ops
from noria.kernels.numba import conv_weight_grad, tile_sizes
from noria.kernels.numba.conv_weight_grad_source import BY_OUTPUTS, BY_PANELS, BY_PIXELS
from noria.kernels.numba.tile_sizes import PAIRS, PANEL, ROWS, WIDTH
from noria.ops.window import slide
from noria.testing.case import arr
from noria.testing.kernel import check_kernel

CASES = {
    "1x1": ((3, 16, 5, 7), 18, (1, 1), {}),
    "1x1, one image of one pixel": ((1, 17, 1, 1), 23, (1, 1), {}),
    "1x1, strided": ((2, 32, 5, 7), 17, (1, 1), {"stride": 2}),
    "1x1, padded": ((2, 32, 3, 4), 17, (1, 1), {"padding": 1}),
    "3x3, padded": ((2, 16, 6, 5), 35, (3, 3), {"padding": 1}),
    "3x3, strided, padded": ((3, 80, 7, 6), 16, (3, 3), {"stride": 2, "padding": 1}),
    "dilated": ((2, 16, 9, 9), 16, (3, 2), {"dilation": (2, 3), "padding": (2, 1, 0, 3)}),
    "taps that see only padding": ((2, 16, 1, 2), 16, (5, 3), {"padding": (2, 1)}),
    "same": ((1, 48, 4, 5), 20, (4, 2), {"padding": "same", "stride": (1, 2)}),
    "more pixels than channels": ((5, 19, 13, 11), 29, (1, 1), {}),
    "more pixels than channels, 3x3": ((2, 16, 19, 17), 17, (3, 3), {"padding": 1}),
    "several panels": ((2, PANEL + WIDTH + 3, 4, 4), 2 * ROWS + 5, (1, 1), {}),
    "fewer channels than a vector": ((2, 3, 5, 5), 16, (3, 3), {"padding": 1}),
    "seven channels": ((1, 7, 9, 5), 17, (1, 3), {}),
    "many outputs": ((1, 16, 3, 3), 150, (1, 1), {}),
}


@pytest.fixture(autouse=True)
def everything(monkeypatch):
    monkeypatch.setattr(conv_weight_grad, "LEAST", 1)
    monkeypatch.setattr(tile_sizes, "MATRIX_UNITS", False)  # halves too, whatever CPU this is


DTYPES = ["float32", pytest.param("bfloat16", marks=pytest.mark.skipif(not PAIRS, reason="CPU"))]


def check(shape, outs, kernel, attrs, dtype="float32", **how):
    given = {"stride": 1, "padding": 0, "dilation": 1} | attrs
    out = slide(shape[2:], kernel, *(given[k] for k in ("stride", "padding", "dilation"))).out
    inputs = [arr(*shape, dtype=dtype), arr(shape[0], outs, *out, dtype=dtype)]
    attrs = {**given, "groups": 1, "kernel": kernel, "dtype": "float32"}
    check_kernel("conv2d_weight_grad", inputs, attrs, kernel="numba:conv_weight_grad", **how)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_window(case, dtype, fast_kernels):
    check(*case, dtype=dtype, tol=1e-4)


@pytest.mark.parametrize("depth", [1, 5, 64])
@pytest.mark.parametrize("case", ["1x1", "3x3, strided, padded", "more pixels than channels, 3x3"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_blocks_of_any_depth(case, depth, dtype, monkeypatch, fast_kernels):
    monkeypatch.setattr(conv_weight_grad, "DEPTH", depth)
    check(*CASES[case], dtype=dtype, tol=1e-4)


@pytest.mark.parametrize("case", ["1x1", "3x3, padded", "more pixels than channels"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_and_infinity_stay_where_they_belong(case, dtype, fast_kernels):
    check(*CASES[case], dtype=dtype, special=True, tol=1e-4)


@pytest.mark.parametrize("rows", [1, ROWS - 1, ROWS, ROWS + 1])
@pytest.mark.parametrize("how", [BY_PIXELS, BY_OUTPUTS, BY_PANELS])
@pytest.mark.parametrize("dtype", DTYPES)
def test_threads_share_the_work_in_every_way(how, rows, dtype, monkeypatch, fast_kernels):
    monkeypatch.setattr(conv_weight_grad, "_sharing", lambda *sizes: how)
    check((2, PANEL + 5, 3, 4), WIDTH + rows, (1, 1), {}, dtype=dtype, tol=1e-4)
    check((1, 16, 5, 5), WIDTH + rows, (3, 3), {"padding": 1}, dtype=dtype, tol=1e-4)


def test_pixels_are_shared_where_there_are_many():
    assert conv_weight_grad._sharing(50176, 64, 256, 2) == BY_PIXELS
    assert conv_weight_grad._sharing(784, 512, 2048, 2) == BY_PANELS
    assert conv_weight_grad._sharing(784, 2048, 512, 2) == BY_OUTPUTS


def test_any_batch(fast_kernels):
    attrs = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, "kernel": (1, 1)}
    inputs = [arr(2, 16, 3, 3), arr(2, 17, 3, 3)]
    batch = {0: {0: "N"}, 1: {0: "N"}}
    name = "numba:conv_weight_grad"
    check_kernel("conv2d_weight_grad", inputs, attrs, kernel=name, symbolic=batch, tol=1e-4)


@pytest.mark.parametrize("channels", [(PANEL - 1, 64), (64, 7)])
def test_few_channels_are_left_to_others(channels, monkeypatch, fast_kernels):
    monkeypatch.setattr(conv_weight_grad, "LEAST", PANEL)
    ins, outs = channels
    with pytest.raises(AssertionError, match="fill no panel"):
        check((1, ins, 4, 4), outs, (1, 1), {})


def test_groups_and_other_dtypes_are_left_to_others(fast_kernels):
    attrs = {"stride": 1, "padding": 0, "dilation": 1, "groups": 2, "kernel": (1, 1)}
    name = "numba:conv_weight_grad"
    inputs = [arr(1, 32, 2, 2), arr(1, 32, 2, 2)]
    with pytest.raises(AssertionError, match="grouped"):
        check_kernel("conv2d_weight_grad", inputs, attrs, kernel=name)
    half = [arr(1, 32, 2, 2, dtype="bfloat16"), arr(1, 32, 2, 2, dtype="bfloat16")]
    with pytest.raises(AssertionError, match=r"is bfloat16|multiplies no"):
        check_kernel("conv2d_weight_grad", half, attrs | {"groups": 1}, kernel=name)
    wide = [arr(1, 32, 2, 2, dtype="float64"), arr(1, 32, 2, 2, dtype="float64")]
    with pytest.raises(AssertionError, match="float64"):
        check_kernel("conv2d_weight_grad", wide, attrs | {"groups": 1}, kernel=name)


def test_the_same_numbers_at_every_run(fast_kernels):
    """Whichever thread ends first, sums are added in one order."""

    def step(x, g):
        how = {"stride": 1, "padding": 1, "dilation": 1, "groups": 1, "kernel": (3, 3)}
        return {"w": ops.conv2d_weight_grad(x, g, **how)}

    specs = {"x": noria.spec(4, 16, 30, 30), "g": noria.spec(4, 16, 30, 30)}
    executor = noria.Executor(noria.trace(step, **specs))
    rng = np.random.default_rng(0)
    feeds = {n: rng.standard_normal((4, 16, 30, 30), np.float32) for n in specs}
    first = executor.run(feeds)["w"].tobytes()
    assert all(executor.run(feeds)["w"].tobytes() == first for _ in range(20))
