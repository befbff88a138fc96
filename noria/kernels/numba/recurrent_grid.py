"""How a team shares a recurrent layer: groups of rows, and slices of hidden units within a group.

Rows are independent, so groups never wait; but each group reads the whole weight at every step, and
a few rows leave most of a register tile empty. Slices read a part of the weight each, and meet at
every step. The cheapest grid is found by an estimate of the time of a step, unless rows are many
and the weight stays in the second cache of a core: then there are more groups than threads, which
take them as they become free. On quiet cores that is as fast; where something else slows the cores,
it was measured to take 25 % less time than meeting at each step.
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
TAKEN = 2 * ROWS  # rows of a group that threads take: two tiles share what is read of the weight
TURNS = 3  # groups for each thread at least, so that the last one is not waited for


@dataclass(frozen=True, slots=True)
class Grid:
    """groups * slices threads; with one slice any number of them."""

    groups: int
    slices: int


def choose_grid(rows: int, blocks: int, block_bytes: int, threads: int) -> Grid:
    """The grid of at most `threads`, or of many groups and one slice, whose steps are over first.

    rows: how many there are; blocks: of units; block_bytes: of the weight that one block reads
    """
    many = -(-rows // TAKEN)
    if threads > 1 and many >= TURNS * threads and blocks * block_bytes <= CACHE:
        return Grid(many, 1)
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
