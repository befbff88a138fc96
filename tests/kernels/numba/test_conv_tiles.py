"""Tiles of a convolution: pixels anywhere, sums that go on, bias, activation, channels left out."""

import numpy as np
import pytest

from noria.kernels.numba import conv_sizes as sizes
from noria.kernels.numba import jit
from noria.kernels.numba.conv_tiles import NAMESPACE
from noria.kernels.numba.lane_bounds import BOUNDS, bits
from noria.kernels.numba.tile_sizes import WIDTH

ONE = """
def one(args):
    {name}(load_int64(args, 0), load_int64(args, 1), load_int64(args, 2), load_int64(args, 3),
           load_int64(args, 4))
    return 0
"""
COUNT, RUNS = 5, 2


def run(name, x, w, out, pairs, bias=None, start=None, last=1, channels=None, planes=1, act=None):
    """One tile over runs of COUNT numbers in the rows of x [RUNS, anything].

    planes: 1, or RUNS, and then each row is a plane
    """
    fields = np.zeros(sizes.FIELDS, np.int64)
    steps = x.strides[0], w.strides[0]
    fields[[sizes.COUNT, sizes.RUNS]] = COUNT, RUNS // planes
    fields[[sizes.RUN_X, sizes.RUN_W]] = fields[[sizes.PLANE_X, sizes.PLANE_W]] = steps
    fields[sizes.PLANES] = planes
    fields[sizes.START] = 0 if start is None else start.ctypes.data
    fields[sizes.BIAS] = 0 if bias is None else bias.ctypes.data
    channels = out.shape[1] if channels is None else channels
    fields[[sizes.LAST, sizes.CHANNELS, sizes.AHEAD]] = last, channels, w.ctypes.data
    fields[[sizes.LOW, sizes.HIGH]] = [bits(x) for x in BOUNDS[act]]
    fields[sizes.SHIFT] = 63
    arrays = np.array([a.ctypes.data for a in (x, w, out, pairs, fields)], np.int64)
    assert jit.compile_source(ONE.format(name=name), "one")(arrays.ctypes.data) == 0


def operands(pixels, vectors):
    rng = np.random.default_rng(pixels)
    width = vectors * WIDTH
    x = rng.standard_normal((RUNS, 40), np.float32)
    w = rng.standard_normal((RUNS, COUNT, width), np.float32)
    places = rng.permutation(30)[:pixels]
    rows = rng.permutation(pixels)
    pairs = np.stack([4 * places, 4 * width * rows], 1).astype(np.int64)
    want = np.zeros((pixels, width), np.float32)
    for place, row in zip(places, rows, strict=True):
        want[row] = np.einsum("rc,rcw->w", x[:, place : place + COUNT], w)
    return x, w, pairs, want


@pytest.mark.parametrize("vectors", sizes.PIXELS)
@pytest.mark.parametrize("act", BOUNDS)
def test_a_tile_adds_products_bias_and_what_was_there(vectors, act):
    pixels = sizes.PIXELS[vectors]
    x, w, pairs, want = operands(pixels, vectors)
    rng = np.random.default_rng(1)
    bias = rng.standard_normal(want.shape[1], np.float32)
    before = rng.standard_normal(want.shape, np.float32)
    out = np.full(want.shape, np.nan, np.float32)
    run(f"pixel_tile_{pixels}_{vectors}", x, w, out, pairs, bias, before, act=act)
    want += bias + before
    high = {None: want, "relu": np.maximum(want, 0), "relu6": np.clip(want, 0, 6)}[act]
    np.testing.assert_allclose(out, high, rtol=1e-4, atol=1e-4)


def test_rows_may_be_planes():
    x, w, pairs, want = operands(4, 2)
    out = np.full(want.shape, np.nan, np.float32)
    run("pixel_tile_4_2", x, w, out, pairs, planes=RUNS)
    np.testing.assert_allclose(out, want, rtol=1e-4, atol=1e-4)


def test_the_activation_waits_for_the_last_taps():
    x, w, pairs, want = operands(3, 2)
    out = np.full(want.shape, np.nan, np.float32)
    run("pixel_tile_3_2", x, w, out, pairs, last=0, act="relu")
    np.testing.assert_allclose(out, want, rtol=1e-4, atol=1e-4)
    assert (out < 0).any()


@pytest.mark.parametrize("channels", [1, WIDTH, WIDTH + 3])
def test_a_cut_tile_stores_its_channels_only(channels):
    x, w, pairs, want = operands(2, 2)
    out = np.full(want.shape, 7, np.float32)
    run("cut_pixel_tile_2_2", x, w, out, pairs, channels=channels)
    np.testing.assert_allclose(out[:, :channels], want[:, :channels], rtol=1e-4, atol=1e-4)
    assert (out[:, channels:] == 7).all()


def test_there_are_tiles_of_every_size():
    assert len(NAMESPACE) == 4 * sum(sizes.PIXELS.values())
