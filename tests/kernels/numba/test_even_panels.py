"""Matrices packed in panels of nearly even widths."""

import numpy as np
import pytest

from noria.kernels.numba import parallel
from noria.kernels.numba.even_panels import NARROW, next_panel, pack
from noria.kernels.numba.tile_sizes import PANEL, VECTORS, WIDTH
from noria.kernels.registry import Array
from noria.runtime.tape import Tape

OUTS = [1, PANEL, PANEL + 1, 2 * PANEL - WIDTH, 3 * PANEL + 7, 6 * PANEL + 1, 7 * PANEL - 3]


def widths(outs):
    """Of the panels, as the lines of a kernel find them."""
    found, names = [], {"o": 0, "n": outs}
    while names["o"] < outs:
        exec("\n".join(next_panel("columns", "o", "n")), names)
        found.append(names["columns"])
        names["o"] += found[-1]
    return found


@pytest.mark.parametrize("vectors", range(1, 30))
@pytest.mark.parametrize("cut", [0, 3])
def test_panels_cover_the_columns_and_none_is_narrow_for_long(vectors, cut):
    outs = vectors * WIDTH - cut
    found = widths(outs)
    assert sum(found) == outs
    assert len(found) == -(-outs // PANEL)
    assert set(found[:-1]) <= {PANEL, NARROW}
    if VECTORS > 2 and vectors > VECTORS + 1:
        assert found[-1] > NARROW - WIDTH


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("ins", [1, 5, 16, 40])
@pytest.mark.parametrize("outs", OUTS)
def test_panels_have_their_outputs_side_by_side(ins, outs, turned, threads):
    weight = np.random.default_rng(0).random((ins, outs), np.float32)
    given = np.ascontiguousarray(weight.T if turned else weight)
    with parallel.team(threads), parallel.always():
        packing = pack(Array(given.shape, "float32", (given.shape[1], 1)), 0, turned, threads)
        copy = np.full(packing.nbytes // 4, np.nan, np.float32)
        Tape(packing.emit(given.ctypes.data, copy.ctypes.data)).run()
    o = 0
    for columns in widths(outs):
        row = -(-columns // WIDTH) * WIDTH
        panel = copy[o * ins : o * ins + ins * row].reshape(ins, row)
        np.testing.assert_array_equal(panel[:, :columns], weight[:, o : o + columns])
        assert (panel[:, columns:] == 0).all()
        o += columns
    assert -(-o // WIDTH) * WIDTH * ins == copy.size
