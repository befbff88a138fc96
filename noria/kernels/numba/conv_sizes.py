"""Sizes of the tiles of a convolution, apart from their code, which needs Numba to be imported."""

from __future__ import annotations

from noria.kernels.numba.tile_sizes import WIDE, WIDTH

# Fields of a tile's table: numbers in a run, runs, their strides in the input and in the weights,
# where the sums start (an address like that of the output, or 0: at zero), the bias or 0, and
# whether results get their bounds (the last part of the taps); how many channels are stored; AHEAD,
# SHIFT: beside the row of weights at address a, the line at AHEAD + (a >> SHIFT) is asked for; how
# often all runs are gone through, and the steps between in the input and in the weights; the least
# and the greatest result, float32 each.
COUNT, RUNS, RUN_X, RUN_W, START, BIAS, LAST, CHANNELS, AHEAD, SHIFT = range(10)
PLANES, PLANE_X, PLANE_W, LOW, HIGH = range(10, 15)
# And of those who walk tiles over a block: where it is in the input, in the weights and in the
# output, its offsets; how many tiles; AHEAD of the first, its step, and what it does not exceed.
# SINGLE: of bfloat16, where a run is of pairs, whether there is one number more.
X, W, OUT, AT, TURNS, SOON, STEP, FINAL, SINGLE = range(15, 24)
FIELDS = 24

PIXELS = {1: 10, 2: 10, 3: 8, 4: 6, 5: 5} if WIDE else {1: 8, 2: 6, 3: 4}
"""vectors of channels -> pixels of a tile: the sums, a row of weights and a number fit the
registers, and addresses of the pixels the others."""


def tile_name(pixels: int, vectors: int, cut: bool, half: bool) -> str:
    """What a tile is called in kernels. cut: the panel is not full; half: of bfloat16."""
    return f"{'pair_' * half}{'cut_' * cut}pixel_tile_{pixels}_{vectors}"


LATENCY = 4  # turns from a multiply-add to its sum, of which two are begun in each


def turns(pixels: int, vectors: int) -> float:
    """What a tile costs for each number of the input: two multiply-adds or two loads at a time."""
    return max(pixels * vectors / 2, (pixels + vectors) / 2, LATENCY)


def cost(pixels: int, vectors: int) -> float:
    """The same, of so many pixels in tiles."""
    most = PIXELS[vectors]
    rest = pixels % most
    return pixels // most * turns(most, vectors) + (turns(rest, vectors) if rest else 0)


def shape(pixels: int, channels: int, threads: int, half: bool = False) -> tuple[int, bool]:
    """(vectors of a panel, whether threads share the panels rather than the pixels): what the
    busiest thread is done with first. Narrow panels read the input more often and have to save.

    half: of bfloat16, where panels of 4 vectors are taken if they are full, whatever the pixels and
          threads are: so a weight is packed once for all of them
    """
    found = []
    several = [4] if half and channels % (4 * WIDTH) == 0 else [v for v in PIXELS if v > 1]
    for vectors in several if channels > WIDTH else [1]:
        panels = -(-channels // (vectors * WIDTH))
        by_pixels = panels * cost(-(-pixels // threads), vectors)
        by_panels = -(-panels // threads) * cost(pixels, vectors)
        found.append((round(by_pixels, 6), -vectors, False))
        found.append((round(by_panels, 6), -vectors, True))
    least = min(found)[0]
    _, vectors, panels_apart = min((c > 1.02 * least, v, p) for c, v, p in found)
    return -vectors, panels_apart
