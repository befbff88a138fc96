"""The table of the tiles of `pooled_tiles.py` and which of them a layer takes, apart from their
code, which needs Numba."""

from __future__ import annotations

from noria.kernels.numba.tile_sizes import ROWS, VECTORS, WIDTH

# Fields of a tile's table: rows of taps; numbers of such a row, and the bytes from one to the next
# in x; bytes in x from window to window; outputs of the layer, and of those so many from this panel
# on; the lower bound, a float32; then, for each element of a window, bytes from the first one.
TAPS, RUN, LINE, STEP, OUTS, COLUMNS, LOW, OFFSETS = range(8)

SUMS = ROWS * VECTORS  # vectors that stay in registers
MOST_ELEMENTS = 9  # of a window
MOST_WINDOWS = 4  # of a tile


def shape(outs: int, elements: int) -> tuple[int, int]:
    """Vectors of outputs and windows of a tile, for windows of so many elements."""
    count = max(-(-outs // WIDTH), 1)
    limit = min(VECTORS, SUMS // elements)
    vectors = -(-count // -(-count // limit))
    return vectors, windows(vectors, elements)


def windows(vectors: int, elements: int) -> int:
    """Windows side by side whose sums fit the registers."""
    return max(1, min(MOST_WINDOWS, SUMS // (elements * vectors)))
