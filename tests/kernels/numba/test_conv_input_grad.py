"""Gradients by the input by register tiles: every stride and border, and who is left to others."""

import pytest

from noria.core.flags import flags
from noria.kernels.numba import conv_input_grad, tile_sizes
from noria.kernels.numba.tile_sizes import PAIRS
from noria.testing.case import arr
from noria.testing.kernel import check_kernel

NAME = "numba:conv_input_grad"
HALVES = pytest.param(
    "bfloat16", marks=pytest.mark.skipif(not PAIRS, reason="the CPU multiplies no bfloat16")
)
DTYPES = pytest.mark.parametrize("dtype", ["float32", HALVES])
TOLERANCE = {"float32": 2e-4, "bfloat16": 1e-2}
need_worth = conv_input_grad.need_worth


@pytest.fixture(autouse=True)
def everything(monkeypatch):
    monkeypatch.setattr(conv_input_grad, "need_worth", lambda *how: None)
    monkeypatch.setattr(tile_sizes, "MATRIX_UNITS", False)


def windows(size, kernel, stride, pads):
    return (size + sum(pads) - kernel) // stride + 1


def check(channels, outputs, image, kernel, attrs=None, batch=2, dtype="float32", **how):
    """channels: of the gradient that is made, and of the one that is read."""
    attrs = {"stride": (1, 1), "padding": (0, 0, 0, 0), **(attrs or {})}
    top, left, bottom, right = attrs["padding"]
    pads = (top, bottom), (left, right)
    small = map(windows, image, kernel, attrs["stride"], pads)
    inputs = [
        arr(batch, outputs, *small, dtype=dtype),
        arr(outputs, channels, *kernel, dtype=dtype),
    ]
    how = {"tol": TOLERANCE[dtype], **how}
    check_kernel("conv2d_input_grad", inputs, {"sizes": image, **attrs}, kernel=NAME, **how)


@DTYPES
@pytest.mark.parametrize("image", [(7, 7), (3, 4), (9, 14)])
@pytest.mark.parametrize("stride", [(1, 1), (2, 2), (3, 2), (1, 4)])
@pytest.mark.parametrize("padding", [(1, 1, 1, 1), (0, 1, 2, 1), (2, 2, 0, 0)])
def test_windows_of_every_stride_at_every_border(image, stride, padding, dtype, fast_kernels):
    attrs = {"stride": stride, "padding": padding}
    check(32, 6, image, (3, 3), attrs, dtype=dtype)


@DTYPES
@pytest.mark.parametrize("kernel", [(5, 2), (1, 4), (2, 1), (3, 5)])
@pytest.mark.parametrize("stride", [(1, 1), (2, 2), (3, 3)])
def test_kernels_of_any_size(kernel, stride, dtype, fast_kernels):
    attrs = {"stride": stride, "padding": (1, 0, 1, 1)}
    check(48, 4, (11, 8), kernel, attrs, batch=1, dtype=dtype)


@DTYPES
@pytest.mark.parametrize("channels", [32, 48, 64, 80, 192])
@pytest.mark.parametrize("outputs", [2, 16, 34])
def test_channels_of_any_number_of_vectors(channels, outputs, dtype, fast_kernels):
    check(channels, outputs, (6, 5), (3, 3), {"stride": (2, 2)}, dtype=dtype)


@DTYPES
def test_any_batch_and_none(dtype, fast_kernels):
    attrs = {"stride": (2, 2), "padding": (1, 1, 1, 1)}
    check(64, 32, (12, 10), (3, 3), attrs, dtype=dtype, symbolic={0: {0: "N"}})


@DTYPES
def test_nan_and_infinity_stay_where_windows_see_them(dtype, fast_kernels):
    for stride in ((1, 1), (2, 2)):
        attrs = {"stride": stride, "padding": (1, 1, 1, 1)}
        check(32, 8, (7, 6), (3, 3), attrs, dtype=dtype, special=True)


@DTYPES
def test_many_pixels(dtype, fast_kernels):
    check(64, 16, (33, 30), (3, 3), {"stride": (2, 2)}, batch=3, dtype=dtype)


@pytest.mark.parametrize(
    ("channels", "outputs", "kernel", "attrs", "why"),
    [
        (32, 4, (1, 1), {}, "one tap"),
        (33, 4, (3, 3), {}, "vectors of"),
        (16, 4, (3, 3), {}, "vectors of"),
        (32, 4, (2, 2), {"dilation": 2}, "dilated"),
        (32, 4, (5, 5), {}, "packing the weight"),
    ],
)
def test_what_is_left_to_others(channels, outputs, kernel, attrs, why, fast_kernels):
    with pytest.raises(AssertionError, match=why):
        inputs = [arr(1, outputs, 3, 3), arr(outputs, channels, *kernel)]
        sizes = tuple(3 + (k - 1) * attrs.get("dilation", 1) for k in kernel)
        check_kernel("conv2d_input_grad", inputs, {"sizes": sizes, **attrs}, kernel=NAME)


def test_groups_rounded_products_and_overlapping_windows_are_left_too(monkeypatch, fast_kernels):
    inputs = [arr(1, 4, 3, 3), arr(4, 32, 3, 3)]
    with pytest.raises(AssertionError, match="in groups"):
        check_kernel("conv2d_input_grad", inputs, {"sizes": (5, 5), "groups": 2}, kernel=NAME)
    with flags.set(fpmath="bf16"), pytest.raises(AssertionError, match="'bf16'"):
        check(32, 4, (5, 5), (3, 3))
    monkeypatch.setattr(conv_input_grad, "need_worth", need_worth)
    with pytest.raises(AssertionError, match="overlap much"):
        check(32, 4, (5, 5), (3, 3))


@pytest.mark.skipif(not PAIRS, reason="the CPU multiplies no bfloat16")
def test_halves_are_left_to_matrix_units_and_large_panels_to_onednn(monkeypatch, fast_kernels):
    with pytest.raises(AssertionError, match="leaves the second cache"):
        check(64, 4096, (2, 2), (2, 2), batch=1, dtype="bfloat16")
    monkeypatch.setattr(tile_sizes, "MATRIX_UNITS", True)
    with pytest.raises(AssertionError, match="matrix units"):
        check(64, 16, (4, 4), (3, 3), dtype="bfloat16")
