"""Panels beside NumPy's own way to make them."""

import ast
from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest

from noria.kernels.call import run
from noria.kernels.numba.tile_sizes import WIDTH
from noria.kernels.numba.weight_panels import MOST_TAPS, Panels, _Form, _source, pack, packing
from tests.kernels.numba.running import team

KINDS = {"float32": np.uint32, "bfloat16": np.uint16}


def expected(weight, panels):
    """[panel, tap, row or pair, column, 1 or 2] of a weight [O, I, taps]."""
    matrix = weight.transpose(2, 0, 1) if panels.across else weight.transpose(2, 1, 0)
    together = 2 if panels.dtype == "bfloat16" else 1
    gap = -panels.columns % panels.panel
    if panels.order:
        matrix = matrix[list(panels.order)]
    matrix = np.pad(matrix, ((0, 0), (0, 0), (0, gap)))
    shape = (panels.taps, panels.words, together, -1, panels.panel)
    return matrix.reshape(shape).transpose(3, 0, 1, 4, 2)


def packed(weight, panels):
    """The copy, by teams of several sizes; nothing around it may be written."""
    for threads in (1, 2, 3):
        with team(threads):
            nbytes, emit = packing(panels, threads)
            memory = np.full(nbytes + 128, 7, np.uint8)
            at = -memory.ctypes.data % 64
            for call in emit(weight.ctypes.data, memory.ctypes.data + at):
                run(call)
        assert (memory[at + nbytes :] == 7).all() and (memory[:at] == 7).all()
        yield memory[at:][: panels.nbytes].tobytes()


SIZES = pytest.mark.parametrize(
    "columns, rows", [(WIDTH, 2), (5 * WIDTH, 2 * WIDTH), (8 * WIDTH, 70), (2 * WIDTH, 150)]
)


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("taps", [1, 2, 9, MOST_TAPS])
@SIZES
@pytest.mark.parametrize("panel", [WIDTH, 3 * WIDTH, 4 * WIDTH])
def test_the_same_words_at_the_same_places(panel, columns, rows, taps, across, dtype):
    panels = Panels(dtype, rows, columns, taps, panel, across)
    assert panels.possible
    shape = (rows, columns, taps) if across else (columns, rows, taps)
    weight = np.random.default_rng(1).integers(1, 60000, shape).astype(KINDS[dtype])
    want = expected(weight, panels).tobytes()
    assert len(want) == panels.nbytes
    for found in packed(weight, panels):
        assert found == want


@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("taps", [1, 2, 9, MOST_TAPS])
@SIZES
@pytest.mark.parametrize("panel", [WIDTH, 3 * WIDTH])
def test_float32_is_rounded_as_a_cast_does(panel, columns, rows, taps, across):
    """To nearest even, with ties, infinities, NaN, denormals and what rounds up to infinity."""
    panels = Panels("bfloat16", rows, columns, taps, panel, across, given="float32")
    shape = (rows, columns, taps) if across else (columns, rows, taps)
    rng = np.random.default_rng(2)
    bits = rng.integers(0, 1 << 32, shape, np.uint32)
    ties = (bits & 0xFFFF0000) | 0x8000
    weight = np.where(rng.random(shape) < 0.5, bits, ties).view(np.float32)
    special = np.array([0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-40, 3.4e38], np.float32)
    weight.flat[: special.size] = special[: weight.size]
    with np.errstate(invalid="ignore"):
        halves = weight.astype(ml_dtypes.bfloat16)
    half, whole = Panels("bfloat16", rows, columns, taps, panel, across), halves.astype(np.float32)
    want = expected(halves.view(np.uint16), half)
    nan = expected(np.isnan(whole), half)
    for found in packed(weight, panels):
        got = np.frombuffer(found, np.uint16).reshape(want.shape)
        np.testing.assert_array_equal(got[~nan], want[~nan])
        assert np.isnan(got[nan].view(ml_dtypes.bfloat16).astype(np.float32)).all()


def test_a_pack_of_halves_is_made_of_float32_too():
    """Each way has room for what its threads need, in one copy."""
    for panels in (
        Panels("bfloat16", 32, 3 * WIDTH, 9, WIDTH, False),
        Panels("bfloat16", 32, 3 * WIDTH, 1, WIDTH, True),
    ):
        made = pack(1, "key", panels, 2)
        full = replace(panels, given="float32")
        assert made.nbytes == max(packing(panels, 2)[0], packing(full, 2)[0])
        assert made.replaces and made.full is not None
    assert pack(1, "key", Panels("float32", 32, WIDTH, 1, WIDTH, True), 2).full is None


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize(
    "order", [(1, 0), (8, 7, 6, 5, 4, 3, 2, 1, 0), (2, 0, 1, 8, 6, 7, 5, 3, 4)]
)
def test_taps_in_another_order(order, dtype):
    panels = Panels(dtype, 6, 5 * WIDTH, len(order), 4 * WIDTH, True, order)
    assert panels.possible
    shape = 6, 5 * WIDTH, len(order)
    weight = np.random.default_rng(2).integers(1, 60000, shape).astype(KINDS[dtype])
    for found in packed(weight, panels):
        assert found == expected(weight, panels).tobytes()
    assert not Panels(dtype, 6, 5 * WIDTH, len(order), 4 * WIDTH, False, order).possible


def test_what_it_cannot_pack():
    assert Panels("bfloat16", 4, 2 * WIDTH, 9, 4 * WIDTH, True).possible
    assert not Panels("bfloat16", 3, 2 * WIDTH, 9, 4 * WIDTH, True).possible  # half a pair
    assert not Panels("float32", 3, WIDTH + 1, 9, 4 * WIDTH, True).possible
    assert not Panels("float32", 3, WIDTH, 9, WIDTH + 1, True).possible
    assert not Panels("float32", 3, WIDTH, MOST_TAPS + 1, WIDTH, False).possible
    assert not Panels("float16", 4, WIDTH, 1, WIDTH, False).possible


@pytest.mark.parametrize(
    "dtype, given",
    [("float32", "float32"), ("bfloat16", "bfloat16"), ("bfloat16", "float32")],
)
@pytest.mark.parametrize("across", [False, True])
def test_nothing_is_left_to_fill_in(dtype, given, across):
    (function,) = ast.parse(_source(_Form(dtype, given, 9, across))).body
    names = {node.id for node in ast.walk(function) if isinstance(node, ast.Name)}
    assert function.name == "panels" and not {name for name in names if name.isupper()}
