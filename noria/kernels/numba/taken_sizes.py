"""The table of the tiles of `taken_tiles.py` and how a patch is cut into them, apart from their
code, which needs Numba."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

from noria.kernels.numba.tile_sizes import ROWS, VECTORS

# Fields of a tile's table: bytes of the patches from window to window and from row to row of
# windows; how many of both; channels of the gradient; bytes of the sums from channel to channel;
# then, for each place of a window, bytes from the patch of its first element to that one's.
ACROSS, DOWN, WINDOWS_ACROSS, WINDOWS_DOWN, CHANNELS, CHANNEL, OFFSETS = range(7)

SUMS = ROWS * VECTORS  # vectors that stay in registers
MOST_CHANNELS = 4  # of a tile


class Part(NamedTuple):
    """Of a patch so many vectors from the first one on, of so many channels at a time."""

    first: int
    vectors: int
    channels: int


def parts(vectors: int) -> list[Part]:
    """A patch in nearly equal parts whose sums fit the registers."""
    count = -(-vectors // SUMS)
    ends = [vectors * k // count for k in range(count + 1)]
    shares = [(a, b - a) for a, b in pairwise(ends)]
    return [Part(a, n, max(1, min(MOST_CHANNELS, SUMS // n))) for a, n in shares]
