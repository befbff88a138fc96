"""The call that walks the register tiles of a convolution over blocks of pixels and panels of its
weight: what `conv.py` and `conv_input_grad.py` share."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from noria.core.machine import caches
from noria.kernels.call import Call
from noria.kernels.numba import conv_pixels, jit
from noria.kernels.numba.conv_panels import Panel
from noria.kernels.numba.conv_pixels import Group, Pixels, Plane
from noria.kernels.numba.conv_sizes import FIELDS, PIXELS
from noria.kernels.numba.conv_source import conv, tiles
from noria.kernels.numba.jit import NativeFunction
from noria.kernels.numba.lane_bounds import UNBOUND
from noria.kernels.numba.launch import launch
from noria.kernels.numba.parallel import thread_count
from noria.kernels.numba.tile_sizes import WIDTH
from noria.kernels.registry import Array

PANEL_BYTES = caches().second // 2  # of a part of a panel that is used for all pixels of a block
INPUT_BYTES = caches().second // 4  # of the input that a block should need at most
LIST = 768  # pixels in a list of pairs, at least: small images share one
BLOCK = 96  # pixels of a block that sees several taps
UNITS = 12  # such blocks for each thread, where there are pixels enough, so that all end together


@dataclass(frozen=True, slots=True)
class Walk:
    """What is read, multiplied and written.

    x, out:   the arrays whose pixels are read and written, channels of `out` from panels
    panel:    of the weight; pixels: of `out`
    run_x:    bytes from what a row of taps sees to what the next one does
    by_panel: whether threads share the panels rather than the pixels
    """

    x: Array
    out: Array
    panel: Panel
    pixels: Pixels
    run_x: int
    by_panel: bool
    threads: int
    shared: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        count = -(-self.out.shape[1] // self.panel.width)
        cuts = shares(self.pixels, count, self.threads, self.by_panel)
        object.__setattr__(self, "shared", np.array(cuts, np.int64))

    @property
    def scratch(self) -> int:
        return 8 * FIELDS * max(self.threads, thread_count())

    @property
    def detail(self) -> str:
        shared = "panels" if self.by_panel else "pixels"
        return f"{self.panel.width // WIDTH} vectors, {shared} shared"

    def call(
        self, name: str, addresses: Sequence[int], limits: Sequence[int], moved: int, ops: int
    ) -> Call:
        """Of the addresses of x, the packed weight, the bias and a residual (or 0), `out` and the
        scratch; limits: the bits of the bounds of an activation; moved: bytes."""
        panel, width = self.panel, self.panel.width
        vectors, channels, half = width // WIDTH, self.out.shape[1], panel.size == 2
        kinds = channels >= width, channels % width != 0
        found = walkers(self.pixels, vectors, kinds, half)
        walks = array("q", [f.address if f else 0 for f in found])
        arrays = [self.pixels.blocks, self.pixels.pairs, self.shared]
        table = [*addresses, *(a.ctypes.data for a in arrays), self.threads, channels]
        table += [panel.nbytes, self._chunk(), *self._parts(), 4 * width, PIXELS[vectors]]
        table += [walks.buffer_info()[0], *limits, int(list(limits) != UNBOUND)]
        work = {"threads": self.threads, "bytes": moved, "ops": ops}
        call = launch(name, conv(half), "conv", table, **work)
        call.keep = (call.keep, arrays, walks)
        return call

    def _chunk(self) -> int:
        """Blocks that go over a panel one after the other: what they see stays in the second
        cache."""
        if self.by_panel:
            return len(self.pixels.blocks)
        count = self.out.size // self.out.shape[1]
        seen = self.x.nbytes / count * self.pixels.blocks[:, conv_pixels.PIXELS].max()
        return max(int(INPUT_BYTES / seen), 1)

    def _parts(self) -> list[int]:
        """Rows of taps in all and in a part of a panel, numbers of a row in a part; the steps from
        row to row of taps in x and in a panel, in bytes; planes, and the steps between them."""
        panel, line = self.panel, self.panel.width * 4
        rows, row_bytes = panel.rows // panel.planes, panel.row_bytes
        if panel.planes > 1:
            steps = [self.x.strides[1] * 4, rows * row_bytes]
            return [rows, rows, panel.taps, self.run_x, row_bytes, panel.planes, *steps]
        if panel.size == 2:  # sums of a part would be rounded
            return [rows, rows, max(row_bytes // line, 1), self.run_x, row_bytes, 1, 0, 0]
        some_rows, some = max(PANEL_BYTES // row_bytes, 1), max(PANEL_BYTES // line, 1)
        return [rows, some_rows, some, self.run_x, row_bytes, 1, 0, 0]


def all_pixels(
    x: Array,
    out: Array,
    panel: Panel,
    rows: Sequence[Group],
    columns: Sequence[Group],
    threads: int,
) -> Pixels:
    """The blocks of all pixels of `out`, of which groups along both axes see the taps they say."""
    (n, channels, high, wide), (outs, down, across) = x.shape, out.shape[1:]
    source = Plane(high, wide, channels // panel.planes, panel.planes, panel.size)
    target = Plane(down, across, outs, size=panel.size)
    most = most_pixels(n, down * across, channels, panel, threads)
    return conv_pixels.table(rows, columns, source, target, panel.tap, n, most)


def most_pixels(
    images: int, each: int, channels: int, panel: Panel, threads: int
) -> tuple[int, int]:
    """Images in a list of pairs, and pixels of a block, where several taps see an image.

    each: pixels of an image that are written; channels: of one that is read
    """
    tile, count = PIXELS[panel.width // WIDTH], images * each
    fits = max(INPUT_BYTES // (panel.size * channels), tile)
    limit = max(min(BLOCK, fits, count // (UNITS * threads)) // tile * tile, 2 * tile)
    return -(-LIST // each), limit


def walkers(
    pixels: Pixels, vectors: int, kinds: Sequence[bool], half: bool
) -> list[NativeFunction | None]:
    """By the pixels of a tile what walks such tiles, if blocks are made of them: first those of
    full panels, then those of cut ones.

    kinds: whether there are panels of each kind; half: of bfloat16
    """
    most = PIXELS[vectors]
    counts = pixels.blocks[:, conv_pixels.PIXELS]
    wanted = {*(counts % most).tolist(), *([most] if counts.max(initial=0) >= most else [])} - {0}
    return [
        jit.compile_source(tiles(m, vectors, cut, half), "tiles") if some and m in wanted else None
        for cut, some in zip((False, True), kinds, strict=True)
        for m in range(most + 1)
    ]


def shares(pixels: Pixels, panels: int, threads: int, by_panel: bool) -> list[int]:
    """For each thread: its blocks, its panels (from, to)."""
    count = len(pixels.blocks)
    if by_panel:
        cuts = [panels * t // threads for t in range(threads + 1)]
        return [n for a, b in pairwise(cuts) for n in (0, count, a, b)]
    total = np.cumsum(pixels.costs)
    wanted = total[-1] * np.arange(1, threads) / threads
    inner = np.searchsorted(total - pixels.costs / 2, wanted)
    cuts = [0, *map(int, inner), count]
    return [n for a, b in pairwise(cuts) for n in (a, b, 0, panels)]
