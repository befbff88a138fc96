"""Where every byte of a step lives: lifetimes -> sharing in place -> offsets in one arena.

Memory is planned on buffers, not on values: a view and its source are one buffer, and so are an
output and the input it overwrites. `check_plan` proves afterwards, from the steps alone, that no
two buffers alive at one moment overlap.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from noria.core.errors import EngineError
from noria.kernels.numba import jit

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


def place(buffers: Sequence[Buffer], peak: int | None = None) -> int:
    """Give each unpinned buffer an offset; returns the arena's size in bytes.

    One after the other, each at the lowest offset that is free during its whole life: in the order
    of their lives, and if that does not come close to the largest live set, which no arena can
    undercut, the largest first, or those of the longest life first; the best of all.
    (Pisarchyk and Lee, "Efficient memory management for deep neural net inference", 2020)
    peak: `peak_bytes(buffers)`, if it is known
    """
    todo = [b for b in buffers if b.address is None and b.nbytes > 0]
    least = peak_bytes(todo) if peak is None else peak
    total, offsets = 0, np.zeros(0, np.int64)
    if todo:
        rows = np.array([(b.first, b.last, b.nbytes) for b in todo], np.int64)
        for keys in _orders(*rows.T):
            found = _offsets(rows, np.lexsort(keys))
            if not offsets.size or found[0] < total:
                total, offsets = found
            if total <= CLOSE * least + NOTHING:
                break
    for b, offset in zip(todo, offsets.tolist(), strict=True):
        b.offset = offset
    for b in buffers:
        if not b.pinned and b.nbytes == 0:
            b.offset = 0
    return total


def _orders(first: Any, last: Any, nbytes: Any) -> Iterator[tuple[Any, Any]]:
    """In which buffers may be placed: (second key, first key)."""
    yield -nbytes, first
    yield first - last, -nbytes
    yield -nbytes, first - last


# Lowest offsets of buffers (first, last, nbytes) in an order; `placed` has those that have theirs,
# by offset. Quadratic, but 4,000 buffers take some milliseconds.
_PLACE = f"""
def place(args):
    rows = load_int64(args, 0)
    order = load_int64(args, 1)
    offsets = load_int64(args, 2)
    placed = load_int64(args, 3)
    total = int64(0)
    for n in range(load_int64(args, 4)):
        i = load_int64(order, n)
        first = load_int64(rows, 3 * i)
        last = load_int64(rows, 3 * i + 1)
        nbytes = load_int64(rows, 3 * i + 2)
        at = int64(0)
        p = 0
        while p < n:
            j = load_int64(placed, p)
            if load_int64(rows, 3 * j) <= last and load_int64(rows, 3 * j + 1) >= first:
                start = load_int64(offsets, j)
                if start - at >= nbytes:
                    p = n
                else:
                    end = start + (load_int64(rows, 3 * j + 2) + {ALIGN - 1}) // {ALIGN} * {ALIGN}
                    at = max(at, end)
            p += 1
        store_int64(offsets, i, at)
        p = n
        while p > 0 and load_int64(offsets, load_int64(placed, p - 1)) > at:
            store_int64(placed, p, load_int64(placed, p - 1))
            p -= 1
        store_int64(placed, p, i)
        total = max(total, at + (nbytes + {ALIGN - 1}) // {ALIGN} * {ALIGN})
    store_int64(args, 5, total)
    return 0
"""


def _offsets(rows: np.ndarray, order: np.ndarray) -> tuple[int, np.ndarray]:
    """(arena, offsets) of buffers (first, last, nbytes) placed in an order."""
    offsets, placed = np.zeros((2, len(rows)), np.int64)
    arrays = (rows, order, offsets, placed)
    table = np.array([*(a.ctypes.data for a in arrays), len(rows), 0], np.int64)
    jit.compile_source(_PLACE, "place")(table.ctypes.data)
    return int(table[5]), offsets


def ready() -> bool:
    """Whether `place` is compiled; asked within `jit.deferred`, it becomes one of those missing."""
    return jit.compile_source(_PLACE, "place").address != 0


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
    rows = [(b.first, b.last + 1, b.nbytes) for b in buffers if b.address is None]
    if not rows:
        return 0
    first, behind, nbytes = np.array(rows, np.int64).T
    begin = int(first.min())
    change = np.zeros(int(behind.max()) - begin + 1, np.int64)
    np.add.at(change, first - begin, nbytes)
    np.subtract.at(change, behind - begin, nbytes)
    return int(np.cumsum(change).max())
