"""Depthwise convolutions: every border, every remainder, special numbers, who declines."""

import numpy as np
import pytest

from noria.kernels.numba.depthwise import ONE, PIECE, Columns, by_channel, pieces
from noria.kernels.numba.depthwise_sizes import PIXELS, STRIDES, TAPS
from noria.kernels.registry import LAST, Array, strides_of
from noria.ops.window import slide
from noria.testing.case import arr
from noria.testing.kernel import check_kernel

NAME = "numba:depthwise"
BATCH = {0: {0: "N"}}


def check(channels, image, attrs, rows=TAPS, batch=2, **how):
    inputs = [arr(batch, channels, *image), arr(channels, 1, rows, TAPS)]
    return check_kernel(
        "conv2d", inputs, {**attrs, "groups": channels}, kernel=NAME, symbolic=BATCH, **how
    )


@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("channels", [3, 7, 16, 17, 40])
def test_channels_that_do_not_fill_a_vector(channels, stride):
    check(channels, (6, 17), {"padding": 1, "stride": stride})


@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("wide", [3, 7, 8, 9, 14, 15, 16, 23])
@pytest.mark.parametrize("padding", [0, 1, (0, 0, 0, 1), (1, 0, 1, 0), (2, 2, 3, 2)])
def test_every_width_and_border(wide, padding, stride):
    check(17, (5, wide), {"padding": padding, "stride": stride}, batch=1)


@pytest.mark.parametrize("rows", [1, 2, 5])
@pytest.mark.parametrize("stride", [1, 3])
def test_kernels_and_strides_of_any_height(rows, stride):
    check(16, (7, 9), {"padding": (2, 1), "stride": (stride, 1)}, rows=rows, batch=1)


def test_images_smaller_than_their_padding():
    check(16, (1, 1), {"padding": 1}, batch=1)
    check(16, (2, 1), {"padding": (3, 4)}, batch=1)


@pytest.mark.parametrize("activation", [None, "relu", "relu6"])
@pytest.mark.parametrize("bias", [False, True])
def test_bias_and_activation(bias, activation):
    inputs = [arr(2, 24, 5, 9), arr(24, 1, 3, 3), arr(24) if bias else None]
    attrs = {"groups": 24, "activation": activation}
    check_kernel("fused_conv2d", inputs, attrs, kernel=NAME, special=True)


@pytest.mark.parametrize(
    ("inputs", "attrs", "reason"),
    [
        ([arr(1, 4, 5, 5), arr(4, 4, 3, 3)], {}, "not one filter"),
        ([arr(1, 4, 5, 5), arr(8, 1, 3, 3)], {"groups": 4}, "not one filter"),
        ([arr(1, 4, 5, 5), arr(4, 1, 5, 5)], {"groups": 4}, "columns only"),
        ([arr(1, 4, 5, 5), arr(4, 1, 3, 3)], {"groups": 4, "dilation": 2}, "dilated"),
        ([arr(1, 4, 9, 9), arr(4, 1, 3, 3)], {"groups": 4, "stride": 3}, "apart"),
    ],
)
def test_what_it_declines(inputs, attrs, reason):
    with pytest.raises(AssertionError, match=reason):
        check_kernel("conv2d", inputs, attrs, kernel=NAME)


def test_it_declines_a_residual_and_other_activations():
    inputs = [arr(1, 4, 5, 5), arr(4, 1, 3, 3)]
    with pytest.raises(AssertionError, match="a residual"):
        check_kernel("fused_conv2d", [*inputs, None, arr(1, 4, 3, 3)], {"groups": 4}, kernel=NAME)
    with pytest.raises(AssertionError, match="no silu"):
        attrs = {"groups": 4, "activation": "silu"}
        check_kernel("fused_conv2d", inputs, attrs, kernel=NAME)


@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("pad", [0, 1, 2])
@pytest.mark.parametrize("wide", [3, 8, 21, 112])
def test_the_pieces_of_a_row_cover_it(wide, pad, stride):
    out = (wide + 2 * pad - TAPS) // stride + 1
    walk = np.array(pieces(wide, out, stride, pad)).reshape(-1, PIECE)
    seen = np.zeros(out, int)
    for kind, at, *_ in walk:
        seen[at : at + (1 if kind == ONE else PIXELS)] += 1
    assert (seen >= 1).all() and len(seen) == out
    assert wide < 112 or (walk[:, 0] != ONE).sum() >= out // PIXELS


def test_threads_share_what_comes_out_more_even():
    assert by_channel(7, 60, 2)
    assert not by_channel(14, 24, 2) and not by_channel(1000, 2, 3)


def test_a_team_is_called_for_less_than_elsewhere():
    def call(side):
        x = Array((1, 960, side, side), "float32", strides_of((1, 960, side, side), LAST))
        windows = slide((side, side), (3, 3), 1, 1)
        return Columns(x, x, windows, 2, None).call(NAME, (0, 0, 0), 0, 0)

    assert call(7).alone == 0 and call(2).alone > 0
