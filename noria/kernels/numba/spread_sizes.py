"""The table of the tiles of `spread_tiles.py` and which of them a layer takes, apart from their
code, which needs Numba."""

from __future__ import annotations

from noria.kernels.numba.tile_sizes import ROWS, VECTORS

# Fields of a tile's table: windows in a row, and bytes in the image from one to the next; channels
# of the gradient, and those of this block; bytes of the weights from channel to channel and from
# row to row; bytes of a row of the image; elements of a window, less one; then, for each of them,
# bytes into the weights of a channel.
WINDOWS, STEP, CHANNELS, COUNT, CHANNEL, LINE, ROW, LAST, OFFSETS = range(9)

SUMS = ROWS * VECTORS  # vectors that stay in registers
MOST_ROWS = SUMS // 2


def vectors_of(rows: int) -> int:
    """Vectors of a tile of so many rows of an image, at most MOST_ROWS."""
    return min(VECTORS, SUMS // rows)
