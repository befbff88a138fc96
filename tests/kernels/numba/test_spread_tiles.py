"""Tiles that spread what windows took: each form against a sum written out."""

import numpy as np
import pytest

from noria.kernels.numba import jit
from noria.kernels.numba.spread_sizes import MOST_ROWS, vectors_of
from noria.kernels.numba.spread_tiles import NAMESPACE
from noria.kernels.numba.tile_sizes import WIDTH


def run(name, weights, grad, places, to, table):
    source = f"""
def one(args):
    w, g, p = load_int64(args, 0), load_int64(args, 1), load_int64(args, 2)
    {name}(w, g, p, load_int64(args, 3), load_int64(args, 4))
    return 0
"""
    arrays = (weights, grad, places, to, table)
    addresses = np.array([a.ctypes.data for a in arrays], np.int64)
    assert jit.compile_source(source, "one")(addresses.ctypes.data) == 0


@pytest.mark.parametrize("rows", [1, 6, MOST_ROWS])
@pytest.mark.parametrize(("windows", "count"), [(0, 2), (1, 0), (3, 2)])
def test_each_window_adds_the_weights_moved_by_what_it_took(rows, windows, count):
    rng, vectors, channels = np.random.default_rng(0), vectors_of(rows), count + 3
    wide = vectors * WIDTH
    weights = rng.standard_normal((count, rows + 1, wide + 5), dtype=np.float32)
    grad = rng.standard_normal((windows, channels), dtype=np.float32)
    places = rng.choice(np.array([0, 1, 2, 3, 255], np.uint8), grad.shape)  # 255: as the last
    to = rng.standard_normal((rows, wide + 8 * windows), dtype=np.float32)
    line = weights.strides[1]
    fields = [windows, 4 * 8, channels, count, weights.strides[0], line, to.strides[0], 3]
    table = np.array([*fields, 0, 20, line, line + 20], np.int64)
    want = to.copy()
    for j, o in np.ndindex(windows, count):
        h, w = divmod(min(int(places[j, o]), 3), 2)
        want[:, 8 * j : 8 * j + wide] += grad[j, o] * weights[o, h : h + rows, 5 * w : 5 * w + wide]
    run(f"spread_{rows}_{vectors}", weights, grad, places, to, table)
    np.testing.assert_allclose(to, want, rtol=1e-4, atol=1e-5)


def test_there_is_a_tile_for_each_number_of_rows():
    assert len(NAMESPACE) == MOST_ROWS
