"""Which rows of which image a thread makes, one strip after the other, of convolutions one behind
the other (`conv_strips.py`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class Link:
    """One convolution, along the rows of an image.

    high, out: rows it reads and writes; kernel, stride, pad: of its windows
    row_bytes: of a row that it writes; work: operations for one
    """

    high: int
    out: int
    kernel: int
    stride: int
    pad: int
    row_bytes: int
    work: float

    def seen(self, low: int, high: int) -> tuple[int, int]:
        """The rows that these rows of the result see."""
        return max(low * self.stride - self.pad, 0), min(self.lowest(high), self.high)

    def lowest(self, high: int) -> int:
        """Behind the last row that the rows before `high` would see of a higher image."""
        return (high - 1) * self.stride - self.pad + self.kernel


@dataclass(frozen=True, slots=True)
class Strip:
    """Of each convolution in turn: `rows`, those that the strip needs (from, to); `fresh`, the
    first that the strip before it has not made; `moved`, how many rows further those that it has
    made lie in memory."""

    image: int
    rows: tuple[tuple[int, int], ...]
    fresh: tuple[int, ...]
    moved: tuple[int, ...]


def fitting(links: Sequence[Link], nbytes: int) -> int:
    """Rows of the last result for which all that is between the convolutions takes no more bytes
    than these, 1 at least."""
    rows = 1
    while rows < links[-1].out and _between(links, rows + 1) <= nbytes:
        rows += 1
    return rows


def _between(links: Sequence[Link], rows: int) -> int:
    total = 0
    for link, before in zip(links[:0:-1], links[-2::-1], strict=True):
        rows = min((rows - 1) * link.stride + link.kernel, before.out)
        total += rows * before.row_bytes
    return total


def cut(links: Sequence[Link], batch: int, threads: int, size: int) -> list[list[Strip]]:
    """For each thread its strips, each of `size` rows of the last result at most."""
    high = links[-1].out
    ends = [batch * high * t // threads for t in range(threads + 1)]
    shares: list[list[Strip]] = []
    for begin, end in pairwise(ends):
        share: list[Strip] = []
        for image in range(begin // high, -(-end // high)):
            low, last = max(begin - image * high, 0), min(end - image * high, high)
            share += _strips(links, image, low, last, size)
        shares.append(share)
    return shares


def _strips(links: Sequence[Link], image: int, low: int, high: int, size: int) -> list[Strip]:
    """The strips between two rows of one image."""
    if high <= low:
        return []
    count = -(-(high - low) // size)
    ends = [low + (high - low) * n // count for n in range(count + 1)]
    found: list[Strip] = []
    for part in pairwise(ends):
        rows = _needed(links, part)
        before = found[-1].rows if found else [(first, first) for first, _ in rows]
        both = list(zip(rows, before, strict=True))
        fresh = tuple(min(max(first, made), last) for (first, last), (_, made) in both)
        moved = tuple(first - begin for (first, _), (begin, _) in both)
        found.append(Strip(image, rows, fresh, moved))
    return found


def _needed(links: Sequence[Link], part: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    """The rows of each result that these rows of the last one need."""
    rows = [part]
    for link in links[:0:-1]:
        rows.append(link.seen(*rows[-1]))
    return tuple(rows[::-1])


def busiest(links: Sequence[Link], shares: Sequence[Sequence[Strip]]) -> float:
    """What the thread that has most to do does, where 1 is its share if nothing were done twice."""
    batch = 1 + max(strip.image for share in shares for strip in share)
    all_of_it = batch * sum(link.out * link.work for link in links)
    done = [
        sum(
            (high - fresh) * link.work
            for strip in share
            for link, (_, high), fresh in zip(links, strip.rows, strip.fresh, strict=True)
        )
        for share in shares
    ]
    return max(done) * len(shares) / all_of_it
