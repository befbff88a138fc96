"""Where every byte of a step lives: lifetimes -> sharing in place -> offsets in one arena.

Memory is planned on buffers, not on values: a view and its source are one buffer, and so are an
output and the input it overwrites. `check_plan` proves afterwards, from the steps alone, that no
two buffers alive at one moment overlap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from noria.core.errors import EngineError

ALIGN = 64


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


def place(buffers: Sequence[Buffer]) -> int:
    """Give each unpinned buffer an offset; returns the arena's size in bytes.

    Greedy by size: the largest first, each at the lowest offset free during its whole life
    (Pisarchyk and Lee, "Efficient memory management for deep neural net inference", 2020).
    """
    todo = [b for b in buffers if not b.pinned and b.nbytes > 0]
    todo.sort(key=lambda b: (-b.nbytes, b.first, b.last))
    n = len(todo)
    first, last = np.zeros(n, np.int64), np.zeros(n, np.int64)
    start, stop = np.zeros(n, np.int64), np.zeros(n, np.int64)
    total = 0
    for i, b in enumerate(todo):
        alive = (first[:i] <= b.last) & (last[:i] >= b.first)
        b.offset = _lowest(start[:i][alive], stop[:i][alive], b.nbytes)
        first[i], last[i] = b.first, b.last
        start[i], stop[i] = b.offset, b.offset + _round(b.nbytes)
        total = max(total, int(stop[i]))
    for b in buffers:
        if not b.pinned and b.nbytes == 0:
            b.offset = 0
    return total


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
