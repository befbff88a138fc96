"""What the panels of a weight hold."""

import numpy as np
import pytest

from noria.kernels.numba.strassen import pack
from noria.kernels.numba.strassen_source import (
    APART,
    B11,
    B21,
    B22,
    DEPTH,
    SLOTS,
    T1,
    T2,
    T3,
    T4,
)
from noria.kernels.numba.tile_sizes import PANEL, WIDTH
from noria.kernels.registry import Array
from noria.runtime.arena import Arena
from noria.runtime.tape import Tape

PAIRS, HALF = 3, 2 * WIDTH
OUTS, INS = 2 * PANEL * PAIRS, 2 * HALF


def weights():
    return np.random.default_rng(0).standard_normal((OUTS, INS), np.float32)


def packed(weight):
    """Whether each pair of panels is mixed, and [pair, slot, inputs, outputs]."""
    how = pack(Array(weight.shape, "float32", (INS, 1)), 1)
    arena = Arena(how.nbytes)
    Tape(how.emit(weight.ctypes.data, arena.address)).run()
    shape = (PAIRS, SLOTS, HALF, PANEL)
    mixed = arena.view(0, (PAIRS,), "int64").copy()
    return mixed, arena.view(64, shape, "float32").copy()


def quarters(weight):
    """B11, B12, B21 and B22, each [pair, inputs, outputs]."""
    parts = weight.reshape(2, PAIRS, PANEL, 2, HALF).transpose(3, 0, 1, 4, 2)
    return parts.reshape(4, PAIRS, HALF, PANEL)


def test_the_sums_of_the_quarters():
    weight = weights()
    mixed, panels = packed(weight)
    b11, b12, b21, b22 = quarters(weight)
    t1 = b12 - b11
    t2 = b22 - t1
    want = {B11: b11, B21: b21, T2: t2, T1: t1, T3: b22 - b12, B22: b22, T4: b21 - t2}
    assert mixed.all()
    for slot in range(SLOTS):
        np.testing.assert_array_equal(panels[:, slot], want[slot])


def test_of_columns_that_are_not_mixed_there_are_the_quarters():
    weight = weights()
    weight[PANEL + 3] *= APART * 4
    mixed, panels = packed(weight)
    np.testing.assert_array_equal(mixed, [1, 0, 1])
    b11, b12, b21, b22 = quarters(weight)
    for slot, quarter in {B11: b11, B21: b21, T1: b12, B22: b22}.items():
        np.testing.assert_array_equal(panels[1, slot], quarter[1])


@pytest.mark.parametrize("far", [APART * 0.9, APART * 1.1])
def test_how_far_apart_columns_may_be(far):
    weight = np.full((OUTS, INS), 0.5, np.float32)
    weight[OUTS // 2 :] *= far
    assert packed(weight)[0].all() == (far < APART)


def test_a_weight_lost_in_a_sum_comes_back_with_its_sign():
    weight = np.ones((OUTS, INS), np.float32)
    weight[: OUTS // 2 : 2] = -1
    weight[OUTS // 2 :, 0] = np.resize([1e-12, 1e-12, -1e-12, -1e-12, 0, 0], OUTS // 2)
    mixed, panels = packed(weight)
    assert mixed.all()
    restored, b12 = panels[:, T1] + panels[:, B11], quarters(weight)[1]
    np.testing.assert_array_equal(np.sign(restored), np.sign(b12))
    np.testing.assert_allclose(restored, b12, atol=2e-7)


def test_parts_of_a_panel_are_whole_vectors():
    assert DEPTH > 0 and DEPTH % WIDTH == 0
