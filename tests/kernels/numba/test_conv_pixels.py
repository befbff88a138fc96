"""Which pixels see which taps."""

import numpy as np
import pytest

from noria.kernels.numba import conv_pixels
from noria.kernels.numba.conv_pixels import Plane, dense, groups, table, tap_order, turned_groups


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("pad", [0, 1, 4])
@pytest.mark.parametrize("size", [1, 3, 8])
def test_groups_tell_the_taps_inside(size, pad, stride, dilation):
    kernel, span = 3, 2 * dilation + 1
    out = (size + 2 * pad - span) // stride + 1
    if out < 1:
        return
    found = {}
    for g in groups(size, out, kernel, stride, pad, dilation):
        for at, first in zip(g.at, g.first, strict=True):
            found[int(at)] = [(g.lead + i, int(first) + i * dilation) for i in range(g.taps)]
    places = {
        o: [
            (k, o * stride - pad + k * dilation)
            for k in range(kernel)
            if 0 <= o * stride - pad + k * dilation < size
        ]
        for o in range(out)
    }
    assert found == places


@pytest.mark.parametrize("kernel", [1, 2, 3, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("pad", [0, 1, 4])
@pytest.mark.parametrize("size", [1, 3, 8])
def test_turned_groups_tell_the_windows_that_see_a_position(size, pad, stride, kernel):
    out = (size + 2 * pad - kernel) // stride + 1
    if out < 1:
        return
    order, found = tap_order(kernel, stride), {}
    for g in turned_groups(size, out, kernel, stride, pad):
        for at, first in zip(g.at, g.first, strict=True):
            found[int(at)] = {(order[g.lead + i], int(first) + i) for i in range(g.taps)}
    places = {
        i: {(k, o) for k in range(kernel) for o in range(out) if o * stride - pad + k == i}
        for i in range(size)
    }
    assert found == places and sorted(order) == list(range(kernel))


def walked(pixels):
    """All output offsets that the blocks name."""
    found = []
    for block in pixels.blocks:
        first = block[conv_pixels.PAIRS] // 16
        pairs = pixels.pairs[first : first + block[conv_pixels.PIXELS]]
        found += (pairs[:, 1] + block[conv_pixels.OUT]).tolist()
    return found


@pytest.mark.parametrize("images", [1, 5])
def test_every_pixel_of_every_image_is_in_one_block(images):
    rows, columns = (groups(n, n, 3, 1, 1, 1) for n in (6, 5))
    pixels = table(
        rows, columns, Plane(6, 5, 3), Plane(6, 5, 2), lambda tap: 64 * tap, images, (2, 4)
    )
    assert sorted(walked(pixels)) == [8 * i for i in range(30 * images)]
    assert pixels.blocks[:, conv_pixels.PIXELS].max() == 4
    inner = pixels.blocks[pixels.blocks[:, conv_pixels.RUNS] == 3]
    assert set(inner[:, conv_pixels.COUNT]) == {6, 9} and (pixels.costs > 0).all()


def test_pixels_of_one_tap_share_their_pairs():
    pixels = dense(10, (3, 2), 4)
    assert sorted(walked(pixels)) == [8 * i for i in range(10)] and len(pixels.pairs) == 4
    np.testing.assert_array_equal(pixels.blocks[:, conv_pixels.IN], [0, 48, 96])
