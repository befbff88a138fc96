"""Panels beside NumPy's own way to make them."""

import ast

import numpy as np
import pytest

from noria.kernels.call import run
from noria.kernels.numba.tile_sizes import WIDTH
from noria.kernels.numba.weight_panels import MOST_TAPS, Panels, _source, packing
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


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("taps", [1, 2, 9, MOST_TAPS])
@pytest.mark.parametrize("columns, rows", [(WIDTH, 2), (5 * WIDTH, 2 * WIDTH), (8 * WIDTH, 70)])
@pytest.mark.parametrize("panel", [WIDTH, 3 * WIDTH, 4 * WIDTH])
def test_the_same_words_at_the_same_places(panel, columns, rows, taps, across, dtype):
    panels = Panels(dtype, rows, columns, taps, panel, across)
    assert panels.possible
    shape = (rows, columns, taps) if across else (columns, rows, taps)
    weight = np.random.default_rng(1).integers(1, 60000, shape).astype(KINDS[dtype])
    for threads in (1, 2, 3):
        with team(threads):
            nbytes, emit = packing(panels, threads)
            memory = np.full(nbytes + 128, 7, np.uint8)
            at = -memory.ctypes.data % 64
            for call in emit(weight.ctypes.data, memory.ctypes.data + at):
                run(call)
        want = expected(weight, panels).tobytes()
        assert len(want) == panels.nbytes and memory[at:][: len(want)].tobytes() == want
        assert (memory[at + nbytes :] == 7).all() and (memory[:at] == 7).all()


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize(
    "order", [(1, 0), (8, 7, 6, 5, 4, 3, 2, 1, 0), (2, 0, 1, 8, 6, 7, 5, 3, 4)]
)
def test_taps_in_another_order(order, dtype):
    panels = Panels(dtype, 6, 5 * WIDTH, len(order), 4 * WIDTH, True, order)
    assert panels.possible
    shape = 6, 5 * WIDTH, len(order)
    weight = np.random.default_rng(2).integers(1, 60000, shape).astype(KINDS[dtype])
    nbytes, emit = packing(panels, 1)
    memory = np.zeros(nbytes, np.uint8)
    for call in emit(weight.ctypes.data, memory.ctypes.data):
        run(call)
    assert memory[: panels.nbytes].tobytes() == expected(weight, panels).tobytes()
    assert not Panels(dtype, 6, 5 * WIDTH, len(order), 4 * WIDTH, False, order).possible


def test_what_it_cannot_pack():
    assert Panels("bfloat16", 4, 2 * WIDTH, 9, 4 * WIDTH, True).possible
    assert not Panels("bfloat16", 3, 2 * WIDTH, 9, 4 * WIDTH, True).possible  # half a pair
    assert not Panels("float32", 3, WIDTH + 1, 9, 4 * WIDTH, True).possible
    assert not Panels("float32", 3, WIDTH, 9, WIDTH + 1, True).possible
    assert not Panels("float32", 3, WIDTH, MOST_TAPS + 1, WIDTH, False).possible
    assert not Panels("float16", 4, WIDTH, 1, WIDTH, False).possible


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("across", [False, True])
def test_nothing_is_left_to_fill_in(dtype, across):
    (function,) = ast.parse(_source(dtype, 9, across)).body
    names = {node.id for node in ast.walk(function) if isinstance(node, ast.Name)}
    assert function.name == "panels" and not {name for name in names if name.isupper()}
