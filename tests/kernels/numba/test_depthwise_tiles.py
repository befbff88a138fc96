"""Tiles of a depthwise convolution: each form against a sum written out."""

from itertools import product

import numpy as np
import pytest

from noria.kernels.numba import depthwise_sizes as sizes
from noria.kernels.numba import jit
from noria.kernels.numba.depthwise_tiles import NAMESPACE
from noria.kernels.numba.lane_bounds import BOUNDS, bits
from noria.kernels.numba.tile_sizes import WIDTH

FORMS = list(product(sizes.STRIDES, (0, 1), (0, 1)))


def run(name, x, w, out, table):
    """One tile on arrays [rows, columns, channels], [rows, taps, channels], [pixels, channels]."""
    source = f"""
def one(args):
    {name}(load_int64(args, 0), load_int64(args, 1), load_int64(args, 2), load_int64(args, 3))
    return 0
"""
    addresses = np.array([a.ctypes.data for a in (x, w, out, table)], np.int64)
    assert jit.compile_source(source, "one")(addresses.ctypes.data) == 0


def table(x, w, out, bias, vectors, columns, lanes, act=None):
    fields = np.zeros(sizes.FIELDS, np.int64)
    numbers = {
        sizes.X_ROW: x.strides[0],
        sizes.X_PIXEL: x.strides[1],
        sizes.OUT_PIXEL: out.strides[0],
        sizes.W_ROW: w.strides[0],
        sizes.W_TAP: w.strides[1],
        sizes.ROWS: x.shape[0],
        sizes.COLUMNS: columns,
        sizes.VECTORS: vectors,
        sizes.BIAS: bias.ctypes.data,
        sizes.BIAS_STEP: 4 * WIDTH,
        sizes.LANES: lanes,
        **dict(zip((sizes.LOW, sizes.HIGH), map(bits, BOUNDS[act]), strict=True)),
    }
    for field, number in numbers.items():
        fields[field] = number
    return fields


@pytest.mark.parametrize(("stride", "begin", "end"), FORMS)
@pytest.mark.parametrize("rows", [0, 1, 3])
def test_a_tile_sums_what_its_windows_see(rows, stride, begin, end):
    rng = np.random.default_rng(rows)
    channels, wide = 2 * WIDTH, (sizes.PIXELS - 1) * stride + sizes.TAPS
    x = rng.standard_normal((rows, wide, channels), np.float32)
    w = rng.standard_normal((rows, sizes.TAPS, channels), np.float32)
    bias = rng.standard_normal(channels, np.float32)
    out = np.full((sizes.PIXELS, channels), np.nan, np.float32)
    want = np.tile(bias, (sizes.PIXELS, 1))
    for i, t in product(range(sizes.PIXELS), range(sizes.TAPS)):
        column = i * stride + t
        if (begin and column == 0) or (end and column == wide - 1):
            x[:, column] = np.nan  # it must not be read
        else:
            want[i] += (x[:, column] * w[:, t]).sum(0)
    name = f"depthwise_{stride}_{begin}_{end}"
    run(name, x, w, out, table(x, w, out, bias, 2, sizes.TAPS, WIDTH, "relu"))
    np.testing.assert_allclose(out, np.maximum(want, 0), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("lanes", [1, WIDTH - 1])
def test_a_cut_tile_touches_its_channels_only(lanes):
    rng = np.random.default_rng(lanes)
    x = rng.standard_normal((2, 2, WIDTH), np.float32)
    w = rng.standard_normal((2, sizes.TAPS, WIDTH), np.float32)
    bias, out = np.ones(WIDTH, np.float32), np.full((1, WIDTH), 7, np.float32)
    for a in (x, w):
        a[..., lanes:] = np.nan
    run("cut_depthwise_pixel", x, w, out, table(x, w, out, bias, 1, 2, lanes))
    want = bias + (x * w[:, :2]).sum((0, 1))
    np.testing.assert_allclose(out[0, :lanes], want[:lanes], rtol=1e-5, atol=1e-5)
    assert (out[0, lanes:] == 7).all()


def test_there_is_a_tile_for_every_form():
    assert len(NAMESPACE) == 2 * (1 + len(FORMS))
