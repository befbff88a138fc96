"""Where every byte of a step lives: lifetimes -> sharing in place -> offsets in one arena.

Memory is planned on buffers, not on values: a view and its source are one buffer, and so are an
output and the input it overwrites. `check_plan` proves afterwards, from the steps alone, that no
two buffers alive at one moment overlap.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Any

import numpy as np

from noria.core.errors import EngineError

ALIGN = 64
CLOSE, NOTHING = 1.002, 1 << 20  # so many times the largest live set, and bytes, are as good as it


@dataclass(slots=True, eq=False)
class Buffer:
    """A stretch of memory alive from step `first` to step `last`, both included.

    address: given for memory that lives elsewhere (state, constants); offset: in the arena.
    """

    name: str
    nbytes: int
    first: int
    last: int
    address: int | None = None
    offset: int = -1

    @property
    def pinned(self) -> bool:
        return self.address is not None


def place(
    buffers: Sequence[Buffer], peak: int | None = None, before: dict[str, Any] | None = None
) -> int:
    """Give each unpinned buffer an offset; returns the arena's size in bytes.

    In the order of their lives if that comes close to the largest live set, which no arena can
    undercut; otherwise, which takes longer, those of the largest size, or of the longest life,
    first; the best of all.
    peak: `peak_bytes(buffers)`, if it is known
    before: remembers which was the best, and spares the others if the same buffers have other
            sizes, the largest live set between half and twice of what it was
    """
    todo = [b for b in buffers if b.address is None and b.nbytes > 0]
    least = peak_bytes(todo) if peak is None else peak
    best, then = (before or {}).get("place", (0, -1))
    known = then <= 2 * least <= 4 * then
    found = []
    for way in [best] if known else range(len(_WAYS)):
        found.append((*_WAYS[way](todo), way))
        if min(found)[0] <= CLOSE * least + NOTHING:
            break
    total, offsets, best = min(found)
    if before is not None and not known:
        before["place"] = best, least
    for b, offset in zip(todo, offsets, strict=True):
        b.offset = offset
    for b in buffers:
        if not b.pinned and b.nbytes == 0:
            b.offset = 0
    return total


def _size(b: Buffer) -> tuple[int, int]:
    return b.nbytes, b.last - b.first


def _life(b: Buffer) -> tuple[int, int]:
    return b.last - b.first, b.nbytes


def _in_order(buffers: Sequence[Buffer]) -> tuple[int, list[int]]:
    """Each buffer, as its life begins, in the smallest gap that holds it: (arena, offsets)."""
    gaps = _Gaps()
    offsets = [0] * len(buffers)
    ends: list[tuple[int, int]] = []  # (last, buffer) of those alive
    for i in sorted(range(len(buffers)), key=lambda i: (buffers[i].first, -buffers[i].nbytes)):
        while ends and ends[0][0] < buffers[i].first:
            _, done = heappop(ends)
            gaps.free(offsets[done], _round(buffers[done].nbytes))
        offsets[i] = gaps.take(_round(buffers[i].nbytes))
        heappush(ends, (buffers[i].last, i))
    return gaps.total, offsets


class _Gaps:
    """Free stretches of an arena that grows."""

    def __init__(self) -> None:
        self.total = 0
        self.start: list[int] = []  # of each gap, rising
        self.size: list[int] = []

    def take(self, nbytes: int) -> int:
        """The beginning of the smallest gap that is large enough, or of new memory."""
        fits = [n for n in self.size if n >= nbytes]
        if not fits:
            return self._grow(nbytes)
        g = self.size.index(min(fits))
        at = self.start[g]
        if self.size[g] == nbytes:
            del self.start[g], self.size[g]
        else:
            self.start[g], self.size[g] = at + nbytes, self.size[g] - nbytes
        return at

    def _grow(self, nbytes: int) -> int:
        at = self.total
        if self.start and self.start[-1] + self.size[-1] == at:  # the last gap becomes longer
            at = self.start.pop()
            self.size.pop()
        self.total = at + nbytes
        return at

    def free(self, at: int, nbytes: int) -> None:
        g = bisect_left(self.start, at)
        if g < len(self.start) and self.start[g] == at + nbytes:
            nbytes += self.size[g]
            del self.start[g], self.size[g]
        if g and self.start[g - 1] + self.size[g - 1] == at:
            self.size[g - 1] += nbytes
            return
        self.start.insert(g, at)
        self.size.insert(g, nbytes)


def _by_rank(
    buffers: Sequence[Buffer], rank: Callable[[Buffer], tuple[int, int]]
) -> tuple[int, list[int]]:
    """The one of the highest rank first, each at the lowest offset free during its whole life.

    (Pisarchyk and Lee, "Efficient memory management for deep neural net inference", 2020)
    """
    order = sorted(range(len(buffers)), key=lambda i: rank(buffers[i]), reverse=True)
    n = len(order)
    first, last = np.zeros(n, np.int64), np.zeros(n, np.int64)
    start, stop = np.zeros(n, np.int64), np.zeros(n, np.int64)
    offsets = [0] * n
    for k, i in enumerate(order):
        b = buffers[i]
        alive = (first[:k] <= b.last) & (last[:k] >= b.first)
        at = offsets[i] = _lowest(start[:k][alive], stop[:k][alive], b.nbytes)
        first[k], last[k] = b.first, b.last
        start[k], stop[k] = at, at + _round(b.nbytes)
    return int(stop.max(initial=0)), offsets


_WAYS: list[Callable[[Sequence[Buffer]], tuple[int, list[int]]]] = [
    _in_order,
    lambda buffers: _by_rank(buffers, _size),
    lambda buffers: _by_rank(buffers, _life),
]


def _round(nbytes: int) -> int:
    return -(-nbytes // ALIGN) * ALIGN


def _lowest(start: np.ndarray, stop: np.ndarray, nbytes: int) -> int:
    """The lowest offset where nbytes fit between the taken intervals."""
    if start.size == 0:
        return 0
    order = np.argsort(start, kind="stable")
    begin = start[order]
    free_from = np.concatenate([[0], np.maximum.accumulate(stop[order])])
    gap = begin - free_from[:-1]
    fits = np.flatnonzero(gap >= nbytes)
    return int(free_from[fits[0]] if fits.size else free_from[-1])


def check_plan(buffers: Sequence[Buffer], arena: int) -> None:
    """Raises EngineError if two buffers alive at one moment overlap, or one leaves the arena."""
    live = [b for b in buffers if not b.pinned and b.nbytes > 0]
    for b in live:
        if b.offset < 0 or b.offset + b.nbytes > arena:
            raise EngineError(
                f"buffer {b.name} lies outside the arena",
                expected=f"0 .. {arena}",
                got=f"{b.offset} .. {b.offset + b.nbytes}",
            )
    events = sorted(
        [(b.first, 1, i) for i, b in enumerate(live)]
        + [(b.last + 1, 0, i) for i, b in enumerate(live)]
    )
    alive: set[int] = set()
    for _, begins, i in events:
        if not begins:
            alive.discard(i)
            continue
        b = live[i]
        for j in alive:
            c = live[j]
            if b.offset < c.offset + c.nbytes and c.offset < b.offset + b.nbytes:
                raise EngineError(
                    f"buffers {b.name} and {c.name} overlap while both are alive",
                    got=f"{b.name}: {b.offset}+{b.nbytes}, steps {b.first}-{b.last}; "
                    f"{c.name}: {c.offset}+{c.nbytes}, steps {c.first}-{c.last}",
                )
        alive.add(i)


def peak_bytes(buffers: Sequence[Buffer]) -> int:
    """The largest sum of live bytes at any step: no arena can be smaller."""
    delta: dict[int, int] = {}
    for b in buffers:
        if not b.pinned:
            delta[b.first] = delta.get(b.first, 0) + b.nbytes
            delta[b.last + 1] = delta.get(b.last + 1, 0) - b.nbytes
    peak = now = 0
    for t in sorted(delta):
        now += delta[t]
        peak = max(peak, now)
    return peak
