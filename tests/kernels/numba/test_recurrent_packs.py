"""Packed weights of recurrent layers, number by number."""

from itertools import pairwise

import numpy as np
import pytest

from noria.kernels.call import run
from noria.kernels.numba.recurrent_packs import Weight
from noria.kernels.numba.tile_sizes import PANEL, WIDTH

GATES, FIRST, UNITS = 4, 2, WIDTH  # of all gates, those from FIRST on are packed
SOME = GATES - FIRST

pytestmark = pytest.mark.usefixtures("fast_kernels")


def weight_of(size, word):
    """Numbers that tell where they were: float32, or the bits of halves."""
    count = GATES * size * size
    dtype = np.float32 if word == 1 else np.uint16
    return np.arange(1, count + 1).astype(dtype).reshape(GATES * size, size)


def packed(pack, weight):
    made = np.full(pack.nbytes // 4, 0x7F7F7F7F, np.uint32)
    for call in pack.emit(weight.ctypes.data, made.ctypes.data):
        run(call)
    return made


def words(rows, word):
    """Rows of numbers as rows of words: of halves two rows are one, the last perhaps with zeros."""
    if word == 1:
        return rows.view(np.uint32)
    rows = np.concatenate([rows, np.zeros((len(rows) % 2, rows.shape[1]), rows.dtype)])
    return rows[::2].astype(np.uint32) | rows[1::2].astype(np.uint32) << 16


@pytest.mark.parametrize("word", [1, 2])
@pytest.mark.parametrize("size", [1, 7, WIDTH, 3 * WIDTH + 5])
def test_a_block_of_units_has_its_rows_of_every_gate_side_by_side(size, word):
    weight = weight_of(size, word)
    tile = -(-SOME * UNITS // PANEL) * PANEL
    pack = Weight(1, size, UNITS, word, 1, None).forward(SOME, FIRST, tile)
    blocks = packed(pack, weight).reshape(-1, tile // PANEL, -(-size // word), PANEL)
    gates = weight.reshape(GATES, size, size)[FIRST:]
    for block, panels in enumerate(blocks):
        rows = np.zeros((SOME, UNITS, size), weight.dtype)
        mine = gates[:, block * UNITS : (block + 1) * UNITS]
        rows[:, : mine.shape[1]] = mine
        want = words(np.ascontiguousarray(rows.reshape(-1, size).T), word)
        got = np.concatenate(list(panels), axis=1)
        np.testing.assert_array_equal(got[:, : SOME * UNITS], want)


@pytest.mark.parametrize("word", [1, 2])
@pytest.mark.parametrize("slices", [1, 2, 3])
@pytest.mark.parametrize("size", [WIDTH * 3, 3 * WIDTH + 5])
def test_a_slice_of_units_has_its_rows_of_every_gate_one_below_the_other(size, slices, word):
    weight = weight_of(size, word)
    pack = Weight(1, size, UNITS, word, 1, None).backward(SOME, FIRST, slices)
    made, at = packed(pack, weight), 0
    gates = weight.reshape(GATES, size, size)[FIRST:]
    blocks = -(-size // UNITS)
    cuts = [min(blocks * n // slices * UNITS, size) for n in range(slices + 1)]
    for begin, end in pairwise(cuts):
        rows = words(gates[:, begin:end].reshape(-1, size), word)
        for column in range(0, size, PANEL):
            some = rows[:, column : column + PANEL]
            got = made[at : at + len(rows) * PANEL].reshape(-1, PANEL)
            np.testing.assert_array_equal(got[:, : some.shape[1]], some)
            assert not got[:, some.shape[1] :].any()
            at += len(rows) * PANEL


def test_what_a_pack_is_known_by_tells_apart_all_that_lies_differently():
    weight = Weight(1, 40, UNITS, 1, 2, None)
    keys = [weight.forward(4, 0, PANEL).key, weight.forward(2, 2, PANEL).key]
    keys += [weight.backward(4, 0, 1).key, weight.backward(4, 0, 2).key]
    keys += [Weight(1, 40, UNITS, 2, 2, None).forward(4, 0, PANEL).key]
    assert len(set(keys)) == len(keys)
