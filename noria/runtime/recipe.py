"""How a Plan is bound to other sizes without asking its kernels: traced once, computed after that.

A recipe belongs to a mold, whose memory it fills. Its first segment is what the memory must have
room for, and the shapes of what is fed and fetched; the others are the steps that any size is part
of, those that are alike together. What no trace serves is bound in the ordinary way, and traced
then, so that the next sizes like these find it.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from noria.core.dims import symbols_of
from noria.core.dtypes import to_numpy
from noria.ir.program import Value
from noria.kernels.call import Call
from noria.kernels.traced import Trace, Untraceable
from noria.runtime.arena import ALIGNMENT
from noria.runtime.buffers import Buffers, Item
from noria.runtime.emission import Emission
from noria.runtime.items import again
from noria.runtime.memory import Buffer
from noria.runtime.operands import Operands, view_at
from noria.runtime.plan import Step
from noria.runtime.prepare import Choice, choose, notes_of
from noria.runtime.recast import MOST, Program, Segments
from noria.runtime.tape import RowFailed, Tape
from noria.runtime.workspace import Piece

if TYPE_CHECKING:
    from noria.runtime.bind import Bound
    from noria.runtime.mold import Mold


SEEN = (1, 2, 4, 8)  # after so many times that a mold served it is worth a recipe
PATIENCE = 16  # failures after which nothing more is traced
LARGE = 1 << 16  # bytes that do not last for the sake of other sizes


class Recipe:
    """Of one mold.

    bound:   the Bound it is made after
    rows:    of its tape; makers: the item behind each
    first:   rows of the prologue that compute what depends on sizes, behind those of the tape
    commits: the values that it copies into states
    """

    def __init__(self, bound: Bound, mold: Mold) -> None:
        self.bound, self.mold, self.how = bound, mold, bound._how
        self.symbols = sorted(bound.sizes)
        rare = [bound.rare[i].item for i in mold.sized_rare]
        self._calls = {**mold.calls, **{item: _native(self.how, item) for item in rare}}
        self.makers = [item for item in mold.items for _ in self._calls[item]]
        self.rows = [row for item in mold.items for row in self._calls[item]]
        self.first = [row for item in rare for row in self._calls[item]]
        self._row: dict[Item, int] = {}
        for row, item in enumerate((*self.makers, *(i for i in rare for _ in self._calls[i]))):
            self._row.setdefault(item, row)
        self.commits = [v for _, v in bound.memory.commits]
        self._views = self._shown()
        self.own = Own(bound, rare)
        self._steps = _together([mold.items[i] for i in self._sized()], rare)
        self._segments = Segments([*self.rows, *self.first], 1 + len(self._steps))
        self._patience = PATIENCE

    def _shown(self) -> list[tuple[Value, int]]:
        """(value, address) of those that are fed, fetched or committed, and have symbolic shapes"""
        bound, program = self.bound, self.bound.plan.program
        shown = dict.fromkeys((*program.block.inputs, *program.outputs.values(), *self.commits))
        return [(v, self.how.address(bound.memory.of[v])) for v in shown if symbols_of(v.shape)]

    def _sized(self) -> list[int]:
        """The items that make rows of which sizes are part, or where values depending on them
        are."""
        return [
            i
            for i, item in enumerate(self.mold.items)
            if not item.step.view and (item.step.symbols or i in self.mold.sized)
        ]

    @property
    def segments(self) -> int:
        """How many there are."""
        return len(self._segments.programs)

    def place(self, row: int) -> str:
        """Where in the user's program a row comes from."""
        return self.makers[row].step.op.where()

    def run(self, sizes: Mapping[str, int], own: int) -> tuple[array[int], list[int]]:
        """(rows and tables, segments of which no trace serves) for these sizes.

        own: where `own` has memory
        """
        return self._segments.run([*[sizes[s] for s in self.symbols], own])

    def explain(self, failure: RowFailed, sizes: Mapping[str, int], own: int) -> NoReturn:
        """Tells why a row failed that was made for these sizes. own: as in `run`."""
        how, operands = self.how, Operands(sizes, self.how.plan.kinds)
        memory = self.own.moved(how.memory, operands, own)
        there = how.plan, operands, memory, how.arena, how.threads, how.blocks
        Emission(*there).explain(self.makers[failure.row], failure)

    def learn(self, missing: Sequence[int], sizes: Mapping[str, int]) -> bool:
        """Traces these segments at these sizes; False if not all of them could be."""
        for number in missing:
            if len(self._segments.programs[number]) == MOST or not self._patience:
                return False
            program = self._traced(number, sizes)
            if program is None:
                self._patience -= 1
                return False
            self._segments.add(number, program)
        return True

    def arrays(self, block: array[int]) -> dict[Value, np.ndarray]:
        """The views, in the memory of the mold."""
        found, at, words = {}, 0, self._segments.words(block, 0)
        for v, address in self._views:
            rank = v.ndim
            shape, strides = words[at : at + rank], words[at + rank : at + 2 * rank]
            found[v] = view_at(address, tuple(shape), to_numpy(v.dtype), tuple(strides))
            at += 2 * rank
        return found

    # ---- tracing -------------------------------------------------------------------------------

    def _traced(self, number: int, sizes: Mapping[str, int]) -> Program | None:
        """What binding a segment does; None where something had to know a size."""
        trace = Trace()
        numbers = {s: trace.size(i, sizes[s]) for i, s in enumerate(self.symbols)}
        operands = Operands(numbers, self.how.plan.kinds)
        try:
            with trace.running():
                if number == 0:
                    self._trace_memory(trace, operands)
                    return Program(trace, [])
                own = trace.size(len(self.symbols), None)
                memory = self.own.moved(self.how.memory, operands, own)
                steps = self._steps[number - 1]
                return Program(trace, self._trace_steps(steps, operands, memory))
        except Exception:  # kernels may do anything with what is no int; they are asked again
            return None

    def _trace_memory(self, trace: Trace, operands: Operands) -> None:
        if not (self.mold.has_place(operands) and self.own.has_room(operands)):
            raise Untraceable("the memory does not serve")
        for v, _ in self._views:
            a = operands.array(v)
            trace.words += (*a.shape, *a.strides)

    def _trace_steps(
        self, items: Sequence[Item], operands: Operands, memory: Buffers
    ) -> list[tuple[int, Call]]:
        """Rows of the tape, and where they are."""
        how, step = self.how, items[0].step
        choices = self._choices(step, operands)
        there = how.plan, operands, memory, how.arena, how.threads, how.blocks
        emit = Emission(*there).one
        rows: list[tuple[int, Call]] = []
        for item in items:
            if choices and not self.mold.suffices(item, choices[step.alike]):
                raise Untraceable("it asks for other memory")
            calls, old = emit(again(item, choices)), self._calls[item]
            if callable(calls) or [c.name for c in calls] != [c.name for c in old]:
                raise Untraceable("it has other rows")
            rows += enumerate(calls, self._row.get(item, 0))
        return rows

    def _choices(self, step: Step, operands: Operands) -> dict[int, Choice]:
        if step.kernel is None:
            return {}
        how, known = self.how, notes_of(self.how.plan, self.how.threads)
        notes = dict(known.get(step.alike, {}))  # none of a trace are kept
        return {step.alike: choose(step, how.plan, how.threads, operands, notes)}


class Own:
    """What the prologue computes for one set of sizes: each Bound has memory of its own for that.

    nbytes: of all
    """

    def __init__(self, bound: Bound, rare: Sequence[Item]) -> None:
        self._of = bound.memory.of
        self._rooms: dict[Buffer, tuple[int, int]] = {}  # (offset, bytes)
        self.nbytes = 0
        for v in (v for item in rare if not item.step.view for v in item.outputs):
            room = -(-max(2 * self._of[v].nbytes, 1) // ALIGNMENT) * ALIGNMENT
            self._rooms[self._of[v]] = self.nbytes, room
            self.nbytes += room
        self._values = [v for v in bound.plan.sized if self._of.get(v) in self._rooms]

    def has_room(self, operands: Operands) -> bool:
        """Is there enough for these sizes?"""
        return all(operands.array(v).nbytes <= self._rooms[self._of[v]][1] for v in self._values)

    def moved(self, memory: Buffers, operands: Operands, address: int) -> Buffers:
        """Memory in which it lies there."""
        moved = {
            buffer: Buffer(buffer.name, room, -1, -1, address + offset)
            for buffer, (offset, room) in self._rooms.items()
        }
        made = memory.for_sizes(operands.array, operands.known, 0)
        made.of = memory.of | {v: moved[self._of[v]] for v in self._values}
        return made


def _native(how: Emission, item: Item) -> list[Call]:
    calls = how.one(item)
    if callable(calls):
        raise Untraceable("a step of Python")
    return calls


def _together(*items: Sequence[Item]) -> list[list[Item]]:
    """Those that are alike together, in each of some lists."""
    found: dict[Any, list[Item]] = {}
    for which, some in enumerate(items):
        for item in some:
            key = item if item.step.kernel is None else (which, item.step.alike)
            found.setdefault(key, []).append(item)
    return list(found.values())


def learn(bound: Bound, mold: Mold, tried: Recipe | None, missing: Sequence[int]) -> None:
    """Traces, for other sizes, what was bound by asking: what a recipe lacked, or all of it."""
    if tried is not None and mold.recipe is tried:
        tried.learn(missing, bound.sizes)
    elif mold.recipe is None and mold.casts in SEEN and may_be_traced(bound, mold):
        mold.recipe = traced(bound, mold)


def may_be_traced(bound: Bound, mold: Mold) -> bool:
    """Does all that runs consist of rows of one tape, which sizes do not reorder?"""
    plan, of = bound.plan, bound.memory.of
    if bound._plain or plan.learns or bound.groups or mold.sized_roots:
        return False
    if not all(item in mold.calls for item in mold.items):
        return False
    return all(v in of for v in plan.program.outputs.values()) and _lasts(bound, mold)


def _lasts(bound: Bound, mold: Mold) -> bool:
    """Makes what the prologue needs for other sizes last; False if that is too large."""
    sized, of = bound.plan.sized, bound.memory.of
    pieces = {p.address: p for rare in bound.rare for p in rare.pieces}
    for rare in [bound.rare[i] for i in mold.sized_rare]:
        for v in rare.item.inputs:
            piece = None if v is None or v in sized else pieces.get(of[v].address or 0)
            if piece is not None and piece.nbytes > LARGE:
                return False
            if piece is not None:
                piece.lasting = True
    return True


def traced(bound: Bound, mold: Mold) -> Recipe | None:
    """The recipe of a mold that just served a Bound; None if some step cannot be traced."""
    try:
        recipe = Recipe(bound, mold)
    except Untraceable:
        return None
    return recipe if recipe.learn(range(recipe.segments), bound.sizes) else None


class Followed:
    """The prologue of a Bound that followed a recipe.

    like: of the Bound the recipe was made after; tape: what depends on sizes; own: its memory
    """

    def __init__(self, like: Any, tape: Tape, own: Piece) -> None:
        self._like, self._tape, self._own, self._epoch = like, tape, own, -1

    @property
    def nbytes(self) -> int:
        """Memory of what is kept."""
        return int(self._like.nbytes)

    def run(self, epoch: int) -> None:
        """Compute what is older than `epoch`."""
        self._like.run(epoch)
        if self._epoch != epoch:
            self._tape.run()
            self._epoch = epoch
