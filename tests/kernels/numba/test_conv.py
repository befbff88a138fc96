"""Convolutions by register tiles: every border, every remainder, special numbers, who declines."""

import pytest

from noria.core.flags import flags
from noria.kernels.numba import tile_sizes
from noria.kernels.numba.tile_sizes import PAIRS
from noria.testing.case import arr
from noria.testing.kernel import SITUATIONS, check_kernel

NAME = "numba:conv"
BATCH = {0: {0: "N"}}
FIXED = [
    type(s)(s.name + ", fixed", s.threads, s.keep, s.last, True) for s in SITUATIONS if not s.fixed
]
HALVES = pytest.param(
    "bfloat16", marks=pytest.mark.skipif(not PAIRS, reason="the CPU multiplies no bfloat16")
)
DTYPES = pytest.mark.parametrize("dtype", ["float32", HALVES])
TOLERANCE = {"float32": 2e-4, "bfloat16": 1e-2}
PLANES = [s for s in SITUATIONS if not s.last]  # images as they come, weights that change


@pytest.fixture(autouse=True)
def vectors_only(monkeypatch):
    monkeypatch.setattr(tile_sizes, "MATRIX_UNITS", False)


def check(channels, outputs, image, kernel, attrs=None, batch=2, dtype="float32", **how):
    inputs = [arr(batch, channels, *image, dtype=dtype)]
    inputs.append(arr(outputs, channels, *kernel, dtype=dtype))
    how = {"symbolic": BATCH, "situations": FIXED, "tol": TOLERANCE[dtype], **how}
    return check_kernel("conv2d", inputs, attrs or {}, kernel=NAME, **how)


@DTYPES
@pytest.mark.parametrize("channels", [1, 3, 7, 16, 17, 33])
@pytest.mark.parametrize("outputs", [17, 40, 64, 80, 97])
def test_one_tap(channels, outputs, dtype):
    check(channels, outputs, (5, 7), (1, 1), dtype=dtype)


@DTYPES
@pytest.mark.parametrize("stride", [2, (2, 1), 3])
@pytest.mark.parametrize("padding", [0, 1, (0, 1, 1, 0)])
def test_one_tap_with_strides_and_padding(stride, padding, dtype):
    check(7, 20, (6, 9), (1, 1), {"stride": stride, "padding": padding}, dtype=dtype)


@DTYPES
@pytest.mark.parametrize("image", [(7, 7), (1, 3), (9, 14)])
@pytest.mark.parametrize("stride", [2, (3, 2)])
@pytest.mark.parametrize("padding", [1, 2, (0, 1, 2, 1)])
@pytest.mark.parametrize("channels", [3, 4])
def test_strided_windows_at_every_border(image, stride, padding, channels, dtype):
    attrs = {"stride": stride, "padding": padding}
    check(channels, 17, image, (3, 3), attrs, batch=1, dtype=dtype)


@DTYPES
@pytest.mark.parametrize("kernel", [(7, 7), (5, 2), (1, 4)])
def test_kernels_of_any_size(kernel, dtype):
    check(3, 20, (11, 13), kernel, {"stride": 2, "padding": (3, 2)}, dtype=dtype)


@DTYPES
def test_rows_of_taps_may_be_apart(dtype):
    attrs = {"dilation": (2, 1), "padding": (2, 0), "stride": (1, 2)}
    check(3, 18, (9, 8), (3, 1), attrs, dtype=dtype)


@DTYPES
def test_windows_that_overlap_where_the_weight_is_much_larger_than_the_image(dtype):
    check(48, 40, (2, 3), (3, 3), {"padding": 1}, batch=1, symbolic={}, dtype=dtype)


@pytest.mark.skipif(not PAIRS, reason="the CPU multiplies no bfloat16")
@pytest.mark.parametrize("channels", [5, 6])
def test_windows_of_bfloat16_may_overlap(channels):
    attrs = {"padding": (1, 2, 0, 1)}
    check(channels, 33, (9, 8), (3, 3), attrs, dtype="bfloat16")
    check(channels, 33, (9, 8), (4, 5), attrs, dtype="bfloat16")


@DTYPES
@pytest.mark.parametrize("outputs", [32, 80])
def test_weights_that_change_are_packed_at_each_step(outputs, dtype):
    attrs = {"stride": 2, "padding": 1}
    check(16, outputs, (9, 8), (3, 3), attrs, dtype=dtype, situations=SITUATIONS)
    check(3, 17, (63, 65), (3, 3), attrs, dtype=dtype, situations=SITUATIONS, symbolic={})


@pytest.mark.skipif(not PAIRS, reason="the CPU multiplies no bfloat16")
def test_weights_of_bfloat16_that_change_may_overlap():
    attrs = {"padding": 1}
    check(64, 128, (7, 5), (3, 3), attrs, dtype="bfloat16", situations=SITUATIONS, special=True)


@DTYPES
def test_many_pixels_and_many_channels(dtype):
    check(160, 96, (23, 29), (1, 1), batch=1, dtype=dtype)
    check(24, 40, (31, 30), (3, 3), {"stride": 2, "padding": 1}, batch=3, dtype=dtype)


@DTYPES
@pytest.mark.parametrize("activation", [None, "relu", "relu6"])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_bias_residual_and_activation(bias, residual, activation, dtype):
    for kernel, stride in ((1, 1), (3, 2)):
        out = (5, 6) if kernel == 1 else (2, 2)
        inputs = [arr(2, 5, 5, 6, dtype=dtype), arr(20, 5, kernel, kernel, dtype=dtype)]
        inputs.append(arr(20) if bias else None)
        inputs.append(arr(2, 20, *out, dtype=dtype) if residual else None)
        attrs = {"stride": stride, "activation": activation}
        how = {"special": True, "situations": FIXED, "tol": TOLERANCE[dtype]}
        check_kernel("fused_conv2d", inputs, attrs, kernel=NAME, **how)


@pytest.mark.skipif(not PAIRS, reason="the CPU multiplies no bfloat16")
def test_halves_are_left_to_matrix_units_and_large_panels_to_onednn(monkeypatch):
    with pytest.raises(AssertionError, match="leaves the second cache"):
        check(16384, 40, (2, 2), (1, 1), batch=1, dtype="bfloat16")
    monkeypatch.setattr(tile_sizes, "MATRIX_UNITS", True)
    with pytest.raises(AssertionError, match="matrix units"):
        check(16, 40, (2, 2), (1, 1), dtype="bfloat16")


@pytest.mark.parametrize(
    ("shapes", "attrs", "fixed", "reason"),
    [
        ([(1, 4, 9, 9), (4, 2, 3, 3)], {"groups": 2, "stride": 2}, True, "in groups"),
        ([(1, 4, 9, 9), (20, 4, 3, 3)], {"dilation": 2, "stride": 2}, True, "side by side"),
        ([(1, 5, 9, 9), (20, 5, 3, 3)], {}, True, "overlap much"),
        ([(1, 4, 9, 9), (7, 4, 1, 1)], {}, True, "one vector"),
        ([(1, 5, 9, 9), (20, 5, 1, 1)], {}, False, "changes at each step"),
        ([(1, 16, 9, 9), (17, 16, 3, 3)], {"stride": 2}, False, "changes at each step"),
    ],
)
def test_what_it_declines(shapes, attrs, fixed, reason):
    situations = FIXED[:1] if fixed else SITUATIONS[:1]
    with pytest.raises(AssertionError, match=reason):
        inputs = [arr(*shape) for shape in shapes]
        check_kernel("conv2d", inputs, attrs, kernel=NAME, situations=situations)


@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (7, 4)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("channels", [2, 3, 4])
def test_images_of_a_few_channels_are_read_in_planes(channels, kernel, stride):
    attrs = {"stride": stride, "padding": (1, 2, 3, 0)}
    inputs = [arr(2, channels, 9, 7), arr(20, channels, *kernel)]
    check_kernel("conv2d", inputs, attrs, kernel=NAME, symbolic=BATCH, situations=PLANES)


def test_planes_with_nan():
    inputs = [arr(2, 3, 9, 7), arr(20, 3, 3, 3), arr(20)]
    attrs = {"activation": "relu6"}
    how = {"special": True, "situations": PLANES}
    check_kernel("fused_conv2d", inputs, attrs, kernel=NAME, **how)


def test_it_leaves_rounded_products_to_others():
    with flags.set(fpmath="bf16"), pytest.raises(AssertionError, match="'bf16'"):
        check(3, 20, (5, 5), (1, 1))
