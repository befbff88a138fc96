"""Tiles over what windows took: each form against a sum written out."""

import numpy as np
import pytest

from noria.kernels.numba import jit
from noria.kernels.numba import taken_sizes as sizes
from noria.kernels.numba.taken_tiles import NAMESPACE
from noria.kernels.numba.tile_sizes import WIDTH

FORMS = [(1, 1), (1, sizes.MOST_CHANNELS), (2, 3), (sizes.SUMS, 1), (sizes.SUMS // 2, 2)]


def run(name, patches, grad, places, to, table):
    source = f"""
def one(args):
    x, g, p = load_int64(args, 0), load_int64(args, 1), load_int64(args, 2)
    {name}(x, g, p, load_int64(args, 3), load_int64(args, 4))
    return 0
"""
    arrays = (patches, grad, places, to, table)
    addresses = np.array([a.ctypes.data for a in arrays], np.int64)
    assert jit.compile_source(source, "one")(addresses.ctypes.data) == 0


@pytest.mark.parametrize(("vectors", "channels"), FORMS)
@pytest.mark.parametrize("down", [0, 1, 3])
def test_each_window_adds_the_patch_of_what_it_took(vectors, channels, down):
    rng, across, all_channels = np.random.default_rng(0), 2, channels + 3
    high, wide = 2 * down + 1, 2 * across + 1
    patches = rng.standard_normal((high, wide, vectors * WIDTH), dtype=np.float32)
    grad = rng.standard_normal((down, across, all_channels), dtype=np.float32)
    places = rng.integers(0, 4, grad.shape).astype(np.uint8)
    to = rng.standard_normal((channels, vectors * WIDTH + 5), dtype=np.float32)
    step, row = patches.strides[1], patches.strides[0]
    fields = [2 * step, 2 * row, across, down, all_channels, to.strides[0], 0, step, row]
    table = np.array([*fields, row + step], np.int64)
    want = to.copy()
    for i, j, u in np.ndindex(down, across, channels):
        h, w = divmod(int(places[i, j, u]), 2)
        want[u, : vectors * WIDTH] += grad[i, j, u] * patches[2 * i + h, 2 * j + w]
    run(f"taken_{vectors}_{channels}", patches, grad, places, to, table)
    np.testing.assert_allclose(to, want, rtol=1e-5, atol=1e-5)


def test_there_is_a_tile_for_each_part_of_any_patch():
    for vectors in range(1, 4 * sizes.SUMS):
        for part in sizes.parts(vectors):
            for channels in (part.channels, 1):
                assert f"taken_{part.vectors}_{channels}" in NAMESPACE
