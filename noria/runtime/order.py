"""The order of operators in which fewer bytes are alive at the worst moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from heapq import heappop, heappush
from math import prod

from noria.core.dims import evaluate, symbols_of
from noria.core.dtypes import itemsize
from noria.ir.nested import has_effect
from noria.ir.opdef import lookup
from noria.ir.program import Operator, Program, Value, symbols_told, symbols_used
from noria.ops.fused import overwrites_of

TYPICAL = 32  # taken for every symbol: a Plan does not know its sizes
WORTH = 0.97  # of the largest live set; for less gain nothing leaves its neighbours in the cache


def low_peak(program: Program, order: Sequence[Operator]) -> list[Operator]:
    """The same operators in an order whose largest live set is smaller, or as they are.

    Of those that could be next the one that takes least, less what it frees; of equals the
    earliest. Operators with effects keep their order, and what gives a state its new value comes
    after all that read the old one before.
    """
    live = Live(program, order)
    found = _Greedy(order, live, _needed(program, order)).run()
    return found if live.peak(found) <= WORTH * live.peak(order) else list(order)


class Live:
    """Bytes alive as operators run; a view takes none, nor what is computed in place.

    nbytes: of each value that has memory of its own; uses: operators that read it. State and
    inputs stay, and are not counted.
    """

    def __init__(self, program: Program, order: Sequence[Operator]) -> None:
        self._source: dict[Value, Value] = {}  # of a view: whose memory it shows
        self.uses: dict[Value, int] = {}
        self.nbytes: dict[Value, int] = {}
        for op in order:
            self._add(op)
        for v in program.roots():
            self.uses[self.of(v)] = self.uses.get(self.of(v), 0) + 1
        self.read = {op: {self.of(v) for v in op.operands} & self.nbytes.keys() for op in order}

    def _add(self, op: Operator) -> None:
        for v in {self.of(v) for v in op.operands}:
            self.uses[v] = self.uses.get(v, 0) + 1
        views = lookup(op.type).views
        for o, v in enumerate(op.outputs):
            source = op.inputs[views[o]] if o in views else None
            if source is None:
                self.nbytes[v] = _nbytes(v)
            else:
                self._source[v] = self.of(source)

    def of(self, v: Value) -> Value:
        """The value whose memory it has."""
        return self._source.get(v, v)

    def taken(self, op: Operator) -> int:
        """Bytes of its outputs."""
        return sum(self.nbytes.get(v, 0) for v in op.outputs)

    def freed(self, op: Operator, left: dict[Value, int]) -> list[Value]:
        """What nobody reads after it. left: operators that still read a value"""
        return [v for v in self.read[op] if left[v] == 1]

    def peak(self, order: Sequence[Operator]) -> int:
        """The largest live set."""
        left, now, peak = dict(self.uses), 0, 0
        for op in order:
            freed, taken = self.freed(op, left), self.taken(op)
            now += taken
            peak = max(peak, now - min(taken, self._in_place(op, freed)))
            for v in self.read[op]:
                left[v] -= 1
            unread = [v for v in op.outputs if v in self.nbytes and v not in left]
            now -= sum(self.nbytes[v] for v in (*freed, *unread))
        return peak

    def _in_place(self, op: Operator, freed: Sequence[Value]) -> int:
        """Bytes of inputs whose memory the outputs may take."""
        inputs = {op.inputs[i] for _, i in overwrites_of(op) if i < len(op.inputs)}
        given = {self.of(v) for v in inputs if v is not None}
        return sum(self.nbytes[v] for v in given.intersection(freed))


def _nbytes(v: Value) -> int:
    typical = dict.fromkeys(symbols_of(v.shape), TYPICAL)
    return prod(evaluate(d, typical) for d in v.shape) * itemsize(v.dtype)


def _needed(program: Program, order: Sequence[Operator]) -> list[set[int]]:
    """For each operator the numbers of those that must have run."""
    maker: dict[Value | str, int] = {}
    readers: dict[Value, list[int]] = {}
    replaced = {v: program.state[n].value for n, v in program.updates.items()}
    found: list[set[int]] = []
    casts = casts_of(order)
    effect: set[int] = set()  # the last operator that had one
    for i, op in enumerate(order):
        wanted: list[Value | str] = [*op.operands, *symbols_used(op)]
        mine = {maker[k] for k in wanted if k in maker}
        for v in op.outputs:
            mine.update(readers.get(replaced[v], ()) if v in replaced else ())
            maker[v] = i
        for symbol in symbols_told(op):
            maker.setdefault(symbol, i)
        for v in read_by(op, casts):
            readers.setdefault(v, []).append(i)
        if has_effect(op):
            mine, effect = mine | effect, {i}
        found.append(mine - {i})
    return found


def casts_of(order: Sequence[Operator]) -> dict[Value, Value]:
    """What casts make -> what of. Who reads a cast of state may come to read the state instead
    (`runtime/casts.py`), so its new value waits for those readers too."""
    return {op.outputs[0]: op.operands[0] for op in order if op.type == "cast"}


def read_by(op: Operator, casts: Mapping[Value, Value]) -> list[Value]:
    """What an operator reads, or might."""
    return [*op.operands, *(casts[v] for v in op.operands if v in casts)]


class _Greedy:
    """List scheduling: operators that could run wait in a heap, by the bytes they would add."""

    def __init__(self, order: Sequence[Operator], live: Live, needed: Sequence[set[int]]) -> None:
        self.order, self.live = order, live
        self.left = dict(live.uses)
        self.waits = [len(n) for n in needed]
        self.after: list[list[int]] = [[] for _ in order]
        self.readers: dict[Value, list[int]] = {}
        for i, op in enumerate(order):
            for j in needed[i]:
                self.after[j].append(i)
            for v in live.read[op]:
                self.readers.setdefault(v, []).append(i)
        self.heap: list[tuple[int, int]] = []
        self.done = [False] * len(order)

    def run(self) -> list[Operator]:
        for i, waits in enumerate(self.waits):
            if not waits:
                self._offer(i)
        out = []
        while self.heap:
            added, i = heappop(self.heap)
            if not self.done[i] and added == self._added(i):  # else it was offered again since
                self._take(i)
                out.append(self.order[i])
        return out

    def _added(self, i: int) -> int:
        op = self.order[i]
        freed = self.live.freed(op, self.left)
        return self.live.taken(op) - sum(self.live.nbytes[v] for v in freed)

    def _offer(self, i: int) -> None:
        heappush(self.heap, (self._added(i), i))

    def _take(self, i: int) -> None:
        self.done[i] = True
        for v in self.live.read[self.order[i]]:
            self.left[v] -= 1
            for j in self.readers[v] if self.left[v] == 1 else ():
                if not self.done[j] and not self.waits[j]:
                    self._offer(j)  # it would free v now
        for j in self.after[i]:
            self.waits[j] -= 1
            if not self.waits[j]:
                self._offer(j)
