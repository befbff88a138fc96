"""Products inside kernels, at all sizes around those of a tile."""

import itertools

import numpy as np
import pytest

from noria.kernels.numba import gemm
from noria.kernels.numba.gemm import PANEL, packed_bytes, packer, product
from noria.kernels.numba.tile_sizes import PAIRS

SIZES = list(
    itertools.product((0, 1, 2, 5, 6, 7, 13), (0, 1, 15, 16, 17, 64, 65, 130), (0, 1, 16, 17, 33))
)


def pack(b, table):
    """The panels of a matrix of any strides."""
    k, n = b.shape
    panels = np.full(packed_bytes(k, n) // 4, np.nan, np.float32)
    arguments = table(b, *b.strides, panels, k, n)
    assert packer()(arguments.ctypes.data) == 0
    return panels.reshape(-(-n // PANEL), k, PANEL)


def multiply(a, b, c, accumulate, table, panels=None, ahead=False):
    """C after the product, with packed panels or B's own rows."""
    (m, k), n = a.shape, b.shape[1]
    if panels is None:
        where = b, 4 * PANEL, b.strides[0]
    else:
        where = panels, 4 * PANEL * k, 4 * PANEL
    b_, b_panel, b_row = where
    arguments = table(a, b_, b_panel, c, m, n, *a.strides, b_row, c.strides[0], k, int(accumulate))
    assert len(arguments) == gemm.FIELDS
    more = np.zeros(gemm.AHEAD_FIELDS - gemm.FIELDS, np.int64)
    arguments = np.concatenate([arguments, more]) if ahead else arguments
    assert product(ahead)(arguments.ctypes.data) == 0


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("accumulate", [False, True])
def test_a_product_is_numpys_at_every_size(turned, accumulate, table):
    rng = np.random.default_rng(0)
    for m, n, k in SIZES:
        a, b = rng.standard_normal((m, k), np.float32), rng.standard_normal((k, n), np.float32)
        if turned:
            a, b = np.asfortranarray(a), np.asfortranarray(b)
        wide = rng.standard_normal((m, n + 3), np.float32)
        expected = wide.copy()
        expected[:, :n] = a @ b + accumulate * wide[:, :n]
        packed = pack(b, table)
        for panels, ahead in ((packed, False), (packed, True), (None, False)):
            if panels is None and turned:
                continue  # only rows of contiguous elements are read as they are
            c = wide.copy()
            multiply(a, b, c[:, :n], accumulate, table, panels, ahead)
            np.testing.assert_allclose(c, expected, rtol=1e-4, atol=1e-4, err_msg=str((m, n, k)))


@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("turned", [False, True])
def test_packing_takes_any_strides_and_pads_with_zeros(turned, step, table):
    base = np.random.default_rng(1).standard_normal((2 * 37, 2 * 83), np.float32)
    b = base[::step, ::step][:37, :83]
    b = b.T if turned else b
    panels = pack(b, table)
    for p in range(len(panels)):
        columns = b[:, p * PANEL : (p + 1) * PANEL]
        np.testing.assert_array_equal(panels[p, :, : columns.shape[1]], columns)
        assert (panels[p, :, columns.shape[1] :] == 0).all()


def test_nan_and_infinity_reach_only_their_row_and_column(table):
    a, b = np.ones((7, 5), np.float32), np.ones((5, 70), np.float32)
    a[3, 2], b[1, 66] = np.nan, np.inf
    c = np.zeros((7, 70), np.float32)
    multiply(a, b, c, False, table, pack(b, table))
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(c, a @ b)


@pytest.mark.skipif(not PAIRS, reason="the CPU multiplies no bfloat16")
def test_products_of_pairs_are_those_of_the_rounded_numbers(table):
    rng = np.random.default_rng(2)
    for m, n, k in SIZES:
        a, b = (rng.standard_normal(s, np.float32).astype("bfloat16") for s in ((m, k), (k, n)))
        words = -(-k // 2)
        wide = np.zeros((m, 2 * words), a.dtype)
        wide[:, :k] = a
        panels = np.full((-(-n // PANEL), words, PANEL), np.nan, np.float32)
        if k:
            packing = table(b, b.strides[0], panels, k, n)
            assert gemm.row_packer()(packing.ctypes.data) == 0
        c = np.zeros((m, n), np.float32)
        strides = wide.strides[0], 4, 4 * PANEL, c.strides[0]
        arguments = table(wide, panels, 4 * PANEL * words, c, m, n, *strides, words, 0)
        assert product(pairs=True)(arguments.ctypes.data) == 0
        expected = a.astype(np.float32) @ b.astype(np.float32)
        np.testing.assert_allclose(c, expected, rtol=1e-4, atol=1e-4, err_msg=str((m, n, k)))
