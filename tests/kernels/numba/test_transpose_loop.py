"""Tiled copies: elements of every width, whole tiles and their rests."""

import numpy as np
import pytest

from noria.kernels.numba.move import copy_kernel
from noria.kernels.numba.transpose_loop import TILES, layout, transpose_source
from tests.kernels.numba.running import empty, execute_calls, intact, operand, team


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("width", TILES)
@pytest.mark.parametrize("rows", [8, 63, 64, 65, 130])
@pytest.mark.parametrize("columns", [9, 64, 129])
def test_whole_tiles_and_their_rests(rows, columns, width, size):
    rng = np.random.default_rng(1)
    x = rng.integers(0, 255, (rows, columns * width), np.uint8).view(f"u{width}")
    out = empty((columns, rows), x.dtype)
    with team(size):
        execute_calls(copy_kernel(operand(x.T), operand(out)), x, out)
    assert (out == x.T).all()
    assert intact(out)


def test_the_table_names_sizes_then_steps():
    assert layout(1) == [
        *("p0", "p1", "buffer", "n0", "n1", "n2"),
        *("s0_0", "s1_0", "s2_0", "s0_1", "s1_1", "s2_1"),
    ]


def test_a_whole_tile_has_loops_of_known_length():
    source = transpose_source(0, 4)
    assert f"for i in range({TILES[4]}):" in source
    assert "for i in range(rows):" in source
