"""Tiles of a convolution with its max-pooling: forms against a sum written out."""

import struct

import numpy as np
import pytest

from noria.kernels.numba import jit
from noria.kernels.numba.pooled_sizes import MOST_ELEMENTS, shape
from noria.kernels.numba.pooled_tiles import NAMESPACE
from noria.kernels.numba.tile_sizes import VECTORS, WIDTH

FORMS = sorted({(4, *shape(outs, 4)) for outs in (1, 2 * WIDTH)} | {(1, 1, 1), (9, 1, 1)})


def run(name, x, panel, out, places, table):
    source = f"""
def one(args):
    x, w, to = load_int64(args, 0), load_int64(args, 1), load_int64(args, 2)
    {name}(x, w, to, load_int64(args, 3), load_int64(args, 4))
    return 0
"""
    arrays = (x, panel, out, places, table)
    addresses = np.array([a.ctypes.data for a in arrays], np.int64)
    assert jit.compile_source(source, "one")(addresses.ctypes.data) == 0


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("cut", [0, 3])
@pytest.mark.parametrize("low", [0.0, -np.inf])
def test_each_window_gives_its_largest_and_where_it_is(form, cut, low):
    rng, (elements, vectors, windows) = np.random.default_rng(0), form
    taps, run_ = 2, 3
    columns = vectors * WIDTH - cut
    x = rng.standard_normal((taps, elements + windows * elements + run_), dtype=np.float32)
    panel = rng.standard_normal((taps * run_ + 1, vectors * WIDTH), dtype=np.float32)
    out = np.full((windows, columns + 2), np.nan, np.float32)
    places = np.full(out.shape, 77, np.uint8)
    low_bits = struct.unpack("<q", struct.pack("<fi", low, 0))[0]
    fields = [taps, run_, x.strides[0], 4 * elements, columns + 2, columns, low_bits]
    table = np.array([*fields, *(4 * e for e in range(elements))], np.int64)
    run("pooled_{}_{}_{}".format(*form), x, panel, out, places, table)
    for p in range(windows):
        starts = [p * elements + e for e in range(elements)]
        seen = np.stack([x[:, s : s + run_].ravel() @ panel[1:] + panel[0] for s in starts])
        seen = np.maximum(seen, np.float32(low))[:, :columns]
        np.testing.assert_allclose(out[p, :columns], seen.max(0), rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(places[p, :columns], seen.argmax(0))
    assert np.isnan(out[:, columns:]).all() and (places[:, columns:] == 77).all()


def test_there_is_a_tile_for_each_layer():
    for outs in range(1, (VECTORS + 2) * WIDTH, WIDTH // 2):
        for elements in range(1, MOST_ELEMENTS + 1):
            vectors, windows = shape(outs, elements)
            for count in (windows, 1):
                assert f"pooled_{elements}_{vectors}_{count}" in NAMESPACE
