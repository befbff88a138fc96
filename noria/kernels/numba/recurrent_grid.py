"""How a team shares a recurrent layer: groups of rows, and slices of hidden units within a group.

Rows are independent, so groups never wait; but each group reads the whole weight at every step, and
a few rows leave most of a register tile empty. Slices read a part of the weight each, and meet at
every step. The cheapest grid is found by an estimate of the time of a step.
"""

from __future__ import annotations

from dataclasses import dataclass

from noria.core.machine import caches
from noria.kernels.numba.tile_sizes import ROWS

# What one core does in a nanosecond, on CPUs of today: only ratios between grids matter.
FLOPS, NEAR, FAR = 150.0, 60.0, 20.0  # of a tile; bytes from the second cache, and from the third
CACHE = caches().second * 5 // 8  # bytes of a weight that stay in the second cache
EXPOSED = 0.25  # of the time of reading the weight, which mostly hides behind the products
MEETING = 250.0  # nanoseconds


@dataclass(frozen=True, slots=True)
class Grid:
    """groups * slices threads."""

    groups: int
    slices: int


def choose_grid(rows: int, blocks: int, block_bytes: int, threads: int) -> Grid:
    """The grid of at most `threads` whose steps are over first.

    rows: how many there are; blocks: of units; block_bytes: of the weight that one block reads
    """
    grids = [
        Grid(groups, slices)
        for groups in range(1, min(threads, rows) + 1)
        for slices in {1, min(threads // groups, blocks)}
    ]
    return min(grids, key=lambda g: (step_time(g, rows, blocks, block_bytes), g.slices))


def step_time(grid: Grid, rows: int, blocks: int, block_bytes: int) -> float:
    """Nanoseconds of the slowest member in a step of all rows."""
    weight = -(-blocks // grid.slices) * block_bytes
    rows = -(-rows // grid.groups)
    tiles = -(-rows // ROWS) * ROWS if rows > ROWS else rows
    compute = weight / 2 * max(tiles, 2) / FLOPS  # 2 operations for 4 bytes; a row alone only loads
    stream = weight / (NEAR if weight <= CACHE else FAR)
    return compute + EXPOSED * stream + (MEETING if grid.slices > 1 else 0.0)
