"""Matrices packed in panels."""

import numpy as np
import pytest

from noria.kernels.numba import parallel
from noria.kernels.numba.panels import pack
from noria.kernels.numba.tile_sizes import PANEL
from noria.kernels.registry import Array
from noria.runtime.tape import Tape


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(("ins", "outs"), [(1, 1), (5, PANEL), (40, 3 * PANEL + 7), (17, 2)])
def test_panels_have_their_outputs_side_by_side(ins, outs, turned, threads):
    weight = np.random.default_rng(0).random((ins, outs), np.float32)
    given = np.ascontiguousarray(weight.T if turned else weight)
    with parallel.team(threads), parallel.always():
        packing = pack(Array(given.shape, "float32", (given.shape[1], 1)), 0, turned, threads)
        copy = np.full(packing.nbytes // 4, np.nan, np.float32)
        Tape(packing.emit(given.ctypes.data, copy.ctypes.data)).run()
    panels = -(-outs // PANEL)
    padded = np.zeros((ins, panels * PANEL), np.float32)
    padded[:, :outs] = weight
    wanted = padded.reshape(ins, panels, PANEL).swapaxes(0, 1)
    np.testing.assert_array_equal(copy.reshape(panels, ins, PANEL), wanted)
