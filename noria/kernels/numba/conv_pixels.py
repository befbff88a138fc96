"""Which pixels of a convolution's result see which taps, as tables for the tiles.

Along one axis the positions of the result fall into groups that see the same taps: the inner ones
all of them, those near a border fewer. A class is a pair of such groups.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

# Columns of a block: where its images begin in x and in the output, its pixels in the list of
# pairs and how many they are, its first tap within a panel, rows of taps left out before, and the
# numbers of a run and how many rows there are.
IN, OUT, PAIRS, PIXELS, TAP, LEAD, COUNT, RUNS = range(8)
COLUMNS = 8


@dataclass(frozen=True, slots=True)
class Group:
    """Positions along one axis.

    at:    the positions; first: for each, where in the input its first tap is
    lead:  taps before the first one seen; taps: how many are seen
    """

    at: np.ndarray
    first: np.ndarray
    lead: int
    taps: int


def groups(size: int, out: int, kernel: int, stride: int, pad: int, dilation: int) -> list[Group]:
    """Groups of the `out` windows over `size` positions."""
    o = np.arange(out)
    begin = o * stride - pad
    low = np.clip(-(begin // dilation), 0, kernel)  # the first tap that is not before the input
    high = np.clip(-((begin - size) // dilation), 0, kernel)
    taps = np.maximum(high - low, 0)
    keys = np.stack([np.where(taps > 0, low, 0), taps])
    found = []
    for lead, seen in np.unique(keys, axis=1).T:
        mine = (keys == [[lead], [seen]]).all(0)
        found.append(Group(o[mine], (begin + low * dilation)[mine], int(lead), int(seen)))
    return found


def tap_order(kernel: int, stride: int) -> list[int]:
    """Taps in the order in which `turned_groups` counts them: those that are a multiple of the
    stride apart side by side, the last of them first."""
    return [k for r in range(min(stride, kernel)) for k in reversed(range(r, kernel, stride))]


def turned_groups(size: int, out: int, kernel: int, stride: int, pad: int) -> list[Group]:
    """Groups of the `size` positions that `out` windows see, by the taps that see them: `first` is
    where the first of these windows is, and `lead` and `taps` are of `tap_order`."""
    at = np.arange(size) + pad
    rest, number = at % stride, at // stride
    seen = -((rest - kernel) // stride)  # taps that could, were there windows enough
    base = number - seen + 1  # the window of the first of these taps
    low = np.clip(-base, 0, np.maximum(seen, 0))
    taps = np.maximum(np.minimum(seen, out - base) - low, 0)
    lead = np.array([sum(len(range(r, kernel, stride)) for r in range(n)) for n in range(stride)])
    keys = np.stack([np.where(taps > 0, lead[rest] + low, 0), taps])
    found = []
    for key in np.unique(keys, axis=1).T:
        mine = (keys == key[:, None]).all(0)
        found.append(Group((at - pad)[mine], (base + low)[mine], int(key[0]), int(key[1])))
    return found


@dataclass(frozen=True, slots=True)
class Plane:
    """Images in memory: rows, columns and channels of one, how often all this comes, and bytes of
    a number."""

    high: int
    wide: int
    channels: int
    planes: int = 1
    size: int = 4

    @property
    def nbytes(self) -> int:
        return self.planes * self.high * self.wide * self.channels * self.size

    def offsets(self, high: np.ndarray, wide: np.ndarray) -> np.ndarray:
        """Bytes from the image's begin to each pixel of these rows and columns, row by row."""
        return ((high[:, None] * self.wide + wide) * self.channels * self.size).reshape(-1)


@dataclass(frozen=True, slots=True)
class Pixels:
    """pairs: int64 [pixels, 2], offsets in bytes; blocks: int64 [blocks, COLUMNS]."""

    pairs: np.ndarray
    blocks: np.ndarray

    @property
    def costs(self) -> np.ndarray:
        """What each block costs, in products of a number with a row of weights."""
        b = self.blocks
        return b[:, PIXELS] * (b[:, COUNT] * b[:, RUNS] + 16)


def table(
    rows: Sequence[Group],
    columns: Sequence[Group],
    source: Plane,
    target: Plane,
    tap: Callable[[int], int],
    images: int,
    most: tuple[int, int],
) -> Pixels:
    """The pairs of some images, and blocks for all of them.

    tap:  where a tap of the first row is in a panel, in bytes
    most: images in the list of pairs, and pixels of a block
    """
    some, limit = min(most[0], images), most[1]
    shift = np.arange(some)[:, None] * np.array([source.nbytes, target.nbytes])  # [images, 2]
    pairs, kinds, place = [], [], 0
    for r, c in product(rows, columns):
        one = np.stack([source.offsets(r.first, c.first), target.offsets(r.at, c.at)], 1)
        pairs.append((shift[:, None] + one).reshape(-1, 2))
        runs = r.taps if c.taps else 0
        kinds.append((place, len(one), tap(c.lead), r.lead, c.taps * source.channels, runs))
        place += some * len(one)
    blocks = []
    for image in range(0, images, some):
        base = image * source.nbytes, image * target.nbytes
        for place, each, *how in kinds:
            count = each * min(some, images - image)
            for first in range(0, count, limit):
                pixels = min(limit, count - first)
                blocks.append((*base, (place + first) * 16, pixels, *how))
    return Pixels(np.concatenate(pairs), np.array(blocks, np.int64).reshape(-1, COLUMNS))


def dense(count: int, channels: tuple[int, int], limit: int, size: int = 4) -> Pixels:
    """The same for kernels of one tap that see pixel after pixel: all blocks share their pairs.

    channels: of the input and of the output; size: bytes of a number
    """
    step = np.array(channels) * size
    blocks = [
        (first * step[0], first * step[1], 0, min(limit, count - first), 0, 0, channels[0], 1)
        for first in range(0, count, limit)
    ]
    return Pixels(np.arange(limit)[:, None] * step, np.array(blocks, np.int64))
