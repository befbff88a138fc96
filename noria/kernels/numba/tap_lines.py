"""From a vector of inputs for each tap to the order of a weight: all taps of an input together.

What is left of a gradient by the weight when its sums are complete. Written number by number, each
to a line of its own, it takes as long as a quarter of the product.
"""

from __future__ import annotations

from noria.kernels.numba.tile_sizes import WIDTH

# [taps][WIDTH] at `rows` to [WIDTH][taps] at `line`, by way of `turned`. A copy of an input's taps
# may be too long; the next one writes over what is too much of it.
TURN_TAPS = f"""
for part in range(0, taps, {WIDTH}):
    transpose_tile(rows + part * {4 * WIDTH}, {4 * WIDTH}, turned + part * {4 * WIDTH}, {4 * WIDTH})
for lane in range({WIDTH}):
    for part in range(0, taps, {WIDTH}):
        from_ = turned + (part + lane) * {4 * WIDTH}
        copy_bytes(line + (lane * taps + part) * 4, from_, {4 * WIDTH})
"""


def square_bytes(taps: int) -> int:
    """Of `rows`, and of `turned`: whole squares."""
    return -(-taps // WIDTH) * 4 * WIDTH * WIDTH


def line_bytes(taps: int) -> int:
    """Of `line`, with what is written behind it."""
    return 4 * WIDTH * (taps + 1)


def space_bytes(taps: int) -> int:
    """Of all three."""
    return 2 * square_bytes(taps) + line_bytes(taps)
