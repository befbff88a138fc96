"""Register tiles: what they read and write, and turning a tile."""

import ml_dtypes
import numpy as np
import pytest

from noria.kernels.numba import jit, lower
from noria.kernels.numba.tile_sizes import PAIRS, PANEL, ROWS, VECTORS, WIDTH
from noria.kernels.numba.tiles import BESIDE, NAMESPACE

ONE = """
def one(args):
    {name}(load_int64(args, 0), load_int64(args, 1), load_int64(args, 2), args + 32,
           load_int64(args, 3))
    return 0
"""


def tile(name, table, a, b, c, columns, accumulate=0):
    """C, after one tile."""
    k = a.shape[1]
    strides = [*a.strides, b.strides[0], c.strides[0]]
    kernel = jit.compile_source(ONE.format(name=name), "one")
    assert kernel(table(a, b, c, columns, *strides, k, accumulate).ctypes.data) == 0
    return c


@pytest.mark.parametrize("accumulate", [0, 1])
@pytest.mark.parametrize("rows", range(1, ROWS + 1))
def test_a_tile_multiplies_a_whole_panel(rows, accumulate, table):
    rng = np.random.default_rng(rows)
    a, b, c = (rng.standard_normal(s, np.float32) for s in ((rows, 9), (9, PANEL), (rows, PANEL)))
    expected = a @ b + accumulate * c
    out = tile(f"tile_{rows}", table, a, b, c.copy(), PANEL, accumulate)
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("vectors", range(1, VECTORS + 1))
@pytest.mark.parametrize("columns", [1, WIDTH - 1, WIDTH])
def test_a_cut_tile_neither_reads_nor_writes_beyond_its_columns(vectors, columns, table):
    columns += (vectors - 1) * WIDTH
    rng = np.random.default_rng(columns)
    a = rng.standard_normal((2, 5), np.float32)
    b = np.full((5, PANEL), np.nan, np.float32)
    b[:, :columns] = rng.standard_normal((5, columns))
    c = np.full((2, PANEL), 7, np.float32)
    out = tile(f"tile_2_{vectors}", table, a, b, c, columns)
    np.testing.assert_allclose(out[:, :columns], a @ b[:, :columns], rtol=1e-5, atol=1e-5)
    assert (out[:, columns:] == 7).all()


@pytest.mark.skipif(not PAIRS, reason="the CPU multiplies no bfloat16")
@pytest.mark.parametrize("name", ["pairs_2", f"pairs_2_{VECTORS}"])
def test_a_tile_of_pairs_adds_two_products_at_each_step(name, table):

    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(s).astype(ml_dtypes.bfloat16) for s in ((2, 5, 2), (5, PANEL, 2)))
    expected = np.einsum("ikp,kjp->ij", a.astype(np.float64), b.astype(np.float64))
    c = np.zeros((2, PANEL), np.float32)
    steps = [a.strides[0], a.strides[1], b.strides[0], c.strides[0], 5, 0]
    kernel = jit.compile_source(ONE.format(name=name), "one")
    numbers = [x.ctypes.data if isinstance(x, np.ndarray) else x for x in (a, b, c, PANEL, *steps)]
    assert kernel(np.array([*numbers, 0, 0], np.int64).ctypes.data) == 0
    np.testing.assert_allclose(c, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(not PAIRS, reason="the CPU multiplies no bfloat16")
@pytest.mark.parametrize("rows", [1, ROWS])
def test_a_tile_of_pairs_may_be_rounded(rows, table):
    rng = np.random.default_rng(rows)
    a, b = (
        rng.standard_normal(s).astype(ml_dtypes.bfloat16) for s in ((rows, 5, 2), (5, PANEL, 2))
    )
    b[:, :2] = [[np.nan], [np.inf]]
    sums = np.einsum("ikp,kjp->ij", a.astype(np.float32), b.astype(np.float32))
    c = np.full((rows, PANEL + 8), 7, ml_dtypes.bfloat16)
    places = np.array([c.ctypes.data + r * c.strides[0] for r in reversed(range(rows))])
    numbers = [a.strides[0], a.strides[1], b.strides[0], 0, 5, 0, 0, 0]
    kernel = jit.compile_source(ONE.format(name=f"half_pairs_{rows}"), "one")
    assert kernel(table(a, b, places, 16, *numbers).ctypes.data) == 0
    out = c[::-1, 8:].astype(np.float32)
    np.testing.assert_allclose(out, sums, rtol=2**-8, atol=1e-3)
    assert (c[:, :8] == 7).all()


@pytest.mark.skipif(not PAIRS, reason="the CPU multiplies no bfloat16")
@pytest.mark.parametrize("rows", [1, 2, ROWS])
def test_a_rounded_tile_may_be_added_to_other_rows_and_masked(rows, table):
    """The second panel of rows of two; what is masked may be NaN."""
    rng, half = np.random.default_rng(rows), ml_dtypes.bfloat16
    a, b = (rng.standard_normal(s).astype(half) for s in ((rows, 5, 2), (5, PANEL, 2)))
    b[:, 3] = np.nan
    more = rng.standard_normal((rows, 2 * PANEL)).astype(half)
    bits = rng.integers(0, 256, (rows, 2 * PANEL // 8), np.uint8)
    bits[:, PANEL // 8] &= 0xF7
    sums = np.einsum("ikp,kjp->ij", a.astype(np.float32), b.astype(np.float32))
    seen = np.unpackbits(bits, 1, bitorder="little")[:, PANEL:]
    expected = np.where(seen, sums + more[:, PANEL:].astype(np.float32), 0)
    out = np.full(more.shape, 7, half)
    places = np.array([out.ctypes.data + r * out.strides[0] for r in range(rows)])
    numbers = [a.strides[0], a.strides[1], b.strides[0], 0, 5, *[0] * (BESIDE - 5)]
    numbers += [out.ctypes.data, more.ctypes.data - out.ctypes.data, bits.ctypes.data]
    kernel = jit.compile_source(ONE.format(name=f"masked_pairs_{rows}"), "one")
    assert kernel(table(a, b, places, 2 * PANEL, *numbers).ctypes.data) == 0
    got = out.astype(np.float32)
    np.testing.assert_allclose(got[:, PANEL:], expected, rtol=2**-8, atol=1e-3)
    assert (got[:, :PANEL] == 7).all()


def in_runs(name, table, a, b, columns, accumulate=0):
    """C, after one tile over a [rows, runs, k, ...] and b [runs, k, PANEL, ...]."""
    c = np.full((a.shape[0], PANEL), 7, np.float32)
    numbers = [a.strides[0], a.strides[2], b.strides[1], c.strides[0], a.shape[2], accumulate]
    numbers += [0, 0, a.shape[1], a.strides[1], b.strides[0]]
    kernel = jit.compile_source(ONE.format(name=name), "one")
    assert kernel(table(a, b, c, columns, *numbers).ctypes.data) == 0
    return c


@pytest.mark.parametrize("runs", [0, 1, 3])
@pytest.mark.parametrize("columns", [WIDTH + 3, PANEL])
@pytest.mark.parametrize("rows", [1, ROWS])
def test_a_tile_of_runs_goes_on_with_its_sums(rows, columns, runs, table):
    rng = np.random.default_rng(runs)
    a = rng.standard_normal((rows, runs, 9), np.float32)[:, :, 2:6]
    b = rng.standard_normal((runs, 4, PANEL), np.float32)
    name = f"runs_{rows}" if columns == PANEL else f"runs_{rows}_2"
    for accumulate in (0, 1):
        c = in_runs(name, table, a, b, columns, accumulate)
        expected = np.einsum("irk,rkj->ij", a, b) + 7 * accumulate
        np.testing.assert_allclose(c[:, :columns], expected[:, :columns], rtol=1e-5, atol=1e-5)
        assert (c[:, columns:] == 7).all()


@pytest.mark.skipif(not PAIRS, reason="the CPU multiplies no bfloat16")
@pytest.mark.parametrize("name", ["pair_runs_2", f"pair_runs_2_{VECTORS}"])
def test_so_does_a_tile_of_pairs(name, table):
    rng = np.random.default_rng(0)
    shapes = (2, 3, 5, 2), (3, 5, PANEL, 2)
    a, b = (rng.standard_normal(s).astype(ml_dtypes.bfloat16) for s in shapes)
    expected = np.einsum("irkp,rkjp->ij", a.astype(np.float64), b.astype(np.float64))
    c = in_runs(name, table, a, b, PANEL)
    np.testing.assert_allclose(c, expected, rtol=1e-5, atol=1e-5)


def test_a_product_over_nothing_is_zero_or_what_was_there(table):
    a, b = np.zeros((1, 0), np.float32), np.zeros((0, PANEL), np.float32)
    for accumulate in (0, 1):
        c = np.full((1, PANEL), 3, np.float32)
        assert (tile("tile_1", table, a, b, c, PANEL, accumulate) == 3 * accumulate).all()


def test_a_tile_is_turned(table):
    source = (
        "def turn(args):\n    transpose_tile(load_int64(args, 0), load_int64(args, 1),"
        " load_int64(args, 2), load_int64(args, 3))\n    return 0\n"
    )
    x = np.arange(WIDTH * (WIDTH + 3), dtype=np.float32).reshape(WIDTH, WIDTH + 3)
    y = np.zeros((WIDTH, WIDTH + 5), np.float32)
    arguments = table(x, x.strides[0], y, y.strides[0])
    jit.compile_source(source, "turn")(arguments.ctypes.data)
    np.testing.assert_array_equal(y[:, :WIDTH], x[:, :WIDTH].T)
    assert (y[:, WIDTH:] == 0).all()


def test_elements_of_two_rows_in_turn(table):
    source = (
        "def both(args):\n    pair_lanes(load_int64(args, 0), load_int64(args, 1),"
        " load_int64(args, 2), load_int64(args, 3))\n    return 0\n"
    )
    low, high = np.arange(2 * 2 * WIDTH, dtype=np.uint16).reshape(2, 2 * WIDTH)
    pairs = np.zeros((2 * WIDTH, 2), np.uint16)
    jit.compile_source(source, "both")(table(low, high, pairs, pairs[WIDTH:]).ctypes.data)
    np.testing.assert_array_equal(pairs, np.stack([low, high], 1))


def test_the_sums_stay_in_registers():
    """A tile that spills is several times slower: its loop holds no store."""
    text = lower.assembly(ONE.format(name=f"tile_{ROWS}"), "one")
    loops, block = [], []
    for line in text.splitlines():
        if line.startswith(".LBB"):
            block = []
        block.append(line)
        if "vfmadd" in line and block not in loops:
            loops.append(block)
    assert loops
    assert not any("mov" in x and x.rstrip().endswith("(%rsp)") for b in loops for x in b)


def test_kernels_have_every_tile():
    assert len(NAMESPACE) == ROWS * (4 * VECTORS + 9) + 4


@pytest.mark.parametrize("rows", range(1, ROWS + 1))
def test_a_tile_may_ask_for_any_address_ahead(rows, table):
    rng = np.random.default_rng(rows)
    a, b, c = (rng.standard_normal(s, np.float32) for s in ((rows, 9), (9, PANEL), (rows, PANEL)))
    out = c.copy()
    kernel = jit.compile_source(ONE.format(name=f"ahead_{rows}"), "one")
    strides = [*a.strides, b.strides[0], c.strides[0]]
    for address in (0, b.ctypes.data, -64):  # asking is allowed where nothing is
        arguments = table(a, b, out, PANEL, *strides, 9, 0, address, 1 << 20)
        assert kernel(arguments.ctypes.data) == 0
        np.testing.assert_allclose(out, a @ b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rows", range(1, ROWS + 1))
def test_such_a_tile_adds_to_what_lies_elsewhere(rows, table):
    rng = np.random.default_rng(rows)
    a, b, c = (rng.standard_normal(s, np.float32) for s in ((rows, 9), (9, PANEL), (rows, PANEL)))
    kernel = jit.compile_source(ONE.format(name=f"onto_{rows}"), "one")
    for row, wanted in ((c.strides[0], a @ b + c), (0, a @ b + c[0])):
        out = np.full_like(c, np.nan)
        strides = [*a.strides, b.strides[0], out.strides[0]]
        arguments = table(a, b, out, PANEL, *strides, 9, 1, 0, 0, c.ctypes.data, row)
        assert kernel(arguments.ctypes.data) == 0
        np.testing.assert_allclose(out, wanted, rtol=1e-5, atol=1e-5)
