"""What lies in memory at each step of a bound plan, and what for.

Memory is planned on buffers; a buffer holds one value after another. What a value is for is read
off the data flow: made in the forward part and read in the backward part, it is kept; made in the
backward part, it is a gradient; the rest comes and goes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from noria.ir.program import Value
from noria.runtime.bind import Bound
from noria.runtime.buffers import Item
from noria.runtime.memory import Buffer
from noria.runtime.profiling.phases import BACKWARD, FORWARD, PACK, REORDER, phase_of, phases

STATE, KEPT, GRADIENTS, TEMPORARY, WORKSPACE = (
    "parameters and state",
    "kept for backward",
    "gradients",
    "temporaries",
    "workspace",
)
CATEGORIES = (STATE, KEPT, GRADIENTS, TEMPORARY, WORKSPACE)


@dataclass(frozen=True, slots=True)
class Live:
    """Something in memory while items first .. last run. source: the user's line that made it."""

    name: str
    nbytes: int
    category: str
    first: int
    last: int
    op: str = ""
    source: str = ""


@dataclass(frozen=True, eq=False)
class MemoryProfile:
    """Bytes in memory over the items of a plan.

    live:   everything, each with its life
    totals: int64 [categories, items], in the order of CATEGORIES
    items:  those of the plan; phases: of each
    arena_bytes: the block in which all but state lies
    """

    live: Sequence[Live]
    totals: np.ndarray
    items: Sequence[Item]
    phases: Sequence[str]
    arena_bytes: int

    @property
    def total(self) -> np.ndarray:
        """int64 [items]: all categories together."""
        return self.totals.sum(axis=0)

    @property
    def peak(self) -> int:
        """The item at which most lies in memory; 0 in an empty plan."""
        return int(self.total.argmax()) if self.totals.size else 0

    @property
    def peak_bytes(self) -> int:
        return int(self.total.max()) if self.totals.size else 0

    def at(self, item: int) -> list[Live]:
        """What is alive while an item runs, the largest first; state is one entry."""
        alive = [b for b in self.live if b.first <= item <= b.last]
        return sorted(alive, key=lambda b: -b.nbytes)


def memory_profile(bound: Bound) -> MemoryProfile:
    """The memory of a plan with real sizes."""
    items = bound.items
    end = max(len(items) - 1, 0)
    of = phases(bound.plan.program, [s.op for s in bound.plan.steps])
    kinds = [phase_of(item, of) for item in items]
    live = [Live("state", _outside(bound), STATE, 0, end)]
    live += _values(bound, kinds, end) + _workspace(bound, end)
    totals = np.zeros((len(CATEGORIES), len(items)), np.int64)
    for b in live:
        totals[CATEGORIES.index(b.category), b.first : b.last + 1] += b.nbytes
    return MemoryProfile(live, totals, items, kinds, bound.arena_bytes)


def _outside(bound: Bound) -> int:
    """Bytes of state, and of what is computed once from it."""
    return sum(a.nbytes for a in bound.state.values()) + bound.prologue.nbytes


def _workspace(bound: Bound, end: int) -> list[Live]:
    """Scratch of kernels, and packed copies that are made anew in each step."""
    found = []
    seen: set[Buffer] = set()
    for item in bound.items:
        for buffer in (*item.packs, *([item.scratch] if item.scratch else [])):
            if buffer not in seen and not buffer.pinned and buffer.nbytes:
                seen.add(buffer)
                found.append(_life(buffer, WORKSPACE, end, item))
    return found


def _values(bound: Bound, kinds: Sequence[str], end: int) -> list[Live]:
    """One entry for each value, for as long as it is what its buffer holds."""
    held: dict[Buffer, list[tuple[int, Value, Item | None]]] = {}
    of = bound.memory.of
    for v in bound.plan.program.block.inputs:
        held.setdefault(of[v], []).append((0, v, None))
    for t, item in enumerate(bound.items):
        for v in () if item.pack is not None or item.step.view else item.outputs:
            buffer = of.get(v)
            inside = buffer is not None and not buffer.pinned and buffer.nbytes
            if inside and not _is_shared(item, v, bound):
                held.setdefault(of[v], []).append((t, v, item))
    found = []
    for buffer, values in held.items():
        for i, (t, v, maker) in enumerate(values):
            later = values[i + 1][0] - 1 if i + 1 < len(values) else min(buffer.last, end)
            if later >= t:
                category = _category(t, v, kinds, bound)
                found.append(_live(v.name, buffer.nbytes, category, t, later, maker))
    return found


def _is_shared(item: Item, v: Value, bound: Bound) -> bool:
    """A reorder of nothing: the value is where it was."""
    source = item.inputs[0] if item.reorders else None
    return source is not None and bound.memory.of.get(source) is bound.memory.of[v]


def _category(t: int, v: Value, kinds: Sequence[str], bound: Bound) -> str:
    made = _phase_at(t, kinds)
    last = bound.memory.last.get(v, t)
    if made == FORWARD:
        kept = last < len(kinds) and _phase_at(last, kinds) != FORWARD
        return KEPT if kept else TEMPORARY
    return GRADIENTS if made == BACKWARD else TEMPORARY


def _phase_at(t: int, kinds: Sequence[str]) -> str:
    """The phase at an item; copies belong to what comes behind them."""
    return next((k for k in kinds[t:] if k not in (PACK, REORDER)), FORWARD)


def _life(buffer: Buffer, category: str, end: int, maker: Item) -> Live:
    first, last = max(buffer.first, 0), min(buffer.last, end)
    return _live(buffer.name, buffer.nbytes, category, first, last, maker)


def _live(name: str, nbytes: int, category: str, first: int, last: int, maker: Item | None) -> Live:
    op = maker.step.op if maker is not None else None
    kind, source = ("feed", "") if op is None else (op.type, str(op.source or ""))
    return Live(name, nbytes, category, first, last, kind, source)
