"""The table of the tiles of `taken_tiles.py` and how a patch is cut into them, apart from their
code, which needs Numba."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from noria.kernels.numba.tile_sizes import ROWS, VECTORS

# Fields of a tile's table: bytes of the patches from window to window and from row to row of
# windows; how many of both; channels of the gradient; bytes of the sums from channel to channel;
# then, for each place of a window, bytes from the patch of its first element to that one's.
# A place is a byte, and may have been fed: each byte has an offset, those of no element 0.
ACROSS, DOWN, WINDOWS_ACROSS, WINDOWS_DOWN, CHANNELS, CHANNEL, OFFSETS = range(7)

SUMS = ROWS * VECTORS  # vectors that stay in registers
MOST_CHANNELS = 4  # of a tile
BYTES = 256


def offsets_of(kernel: Sequence[int], row: int, step: int) -> list[int]:
    """Of all places of a window; row, step: bytes from row to row and from element to element."""
    offsets = [i * row + j * step for i in range(kernel[0]) for j in range(kernel[1])]
    return offsets + [0] * (BYTES - len(offsets))


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
