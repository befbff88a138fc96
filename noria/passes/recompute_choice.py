"""Which values are worth computing again in the backward part instead of keeping them.

A model of memory, not a plan of it: every value has a place from the operator that makes it to the
last that reads it. Greedy, as Checkmate's baselines (Jain et al., 2020): always the value that
relieves the moments above the budget most for the time it costs, until none is above it.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from math import prod

import numpy as np

from noria.core.dims import evaluate, symbols_of
from noria.core.dtypes import itemsize
from noria.ir.opdef import lookup
from noria.ir.program import Operator, Program, Spec, Value

FLOPS_PER_BYTE = 10.0  # arithmetic that takes as long as reading or writing a byte
_PRODUCTS = ("linear", "matmul", "conv", "einsum")


def nbytes_of(spec: Spec, sizes: Mapping[str, int]) -> int:
    """0 for what depends on a size that only a run tells."""
    if not symbols_of(spec.shape) <= sizes.keys():
        return 0
    return prod(evaluate(d, sizes) for d in spec.shape) * itemsize(spec.dtype)


def cost_of(op: Operator, sizes: Mapping[str, int]) -> float:
    """Time of an operator, in bytes moved."""
    moved = sum(nbytes_of(v, sizes) for v in (*op.operands, *op.outputs))
    if lookup(op.type).views:
        return 0.0
    if not op.type.startswith(_PRODUCTS) or len(op.operands) < 2:
        return float(moved)
    weight, out = op.operands[1], op.outputs[0]
    outputs = nbytes_of(Spec((out.shape[1 if op.type.startswith("conv") else -1],)), sizes) / 4
    depth = nbytes_of(weight, sizes) / itemsize(weight.dtype) / max(1, outputs)
    flops = 2.0 * nbytes_of(out, sizes) / itemsize(out.dtype) * depth
    return moved + flops / FLOPS_PER_BYTE


class Values:
    """The values of a training Program that live on from its forward to its backward part.

    forward: how many of its operators are the forward part
    saved:   values of the forward part that the backward part reads, in order
    again:   value -> the operators that compute it from values that are there: feeds, state and
             `saved`, in order; only for what can be computed again
    inputs:  value -> the saved values and feeds these operators read
    """

    def __init__(self, program: Program, forward: int) -> None:
        self.operators, self.forward = program.operators, forward
        ahead = self.operators[:forward]
        self.maker = {v: op for op in ahead for v in op.outputs}
        self.first: dict[Value, int] = {}  # operator of the backward part that reads a value
        for i in range(forward, len(self.operators)):
            for v in self.operators[i].operands:
                self.first.setdefault(v, i)
        self.saved = [v for op in ahead for v in op.outputs if v in self.first]
        self.again: dict[Value, list[Operator]] = {}
        self.inputs: dict[Value, list[Value]] = {}
        there = {*self.saved, *program.block.inputs}
        place = {op: i for i, op in enumerate(ahead)}
        self.roots = set(program.roots())
        for v in self.saved:
            found = None if v in self.roots else self._path(v, there)
            if found is not None:
                self.again[v] = sorted(found[0], key=place.__getitem__)
                self.inputs[v] = found[1]

    def _path(self, value: Value, there: set[Value]) -> tuple[set[Operator], list[Value]] | None:
        """(operators, what they read of `there`); None if one of them cannot run twice."""
        operators: set[Operator] = set()
        leaves: dict[Value, None] = {}
        todo = [self.maker[value]]
        while todo:
            op = todo.pop()
            if op in operators:
                continue
            if op.blocks or lookup(op.type).effect not in ("pure", "random"):
                return None
            operators.add(op)
            leaves.update((v, None) for v in op.operands if v in there)
            todo += [self.maker[v] for v in op.operands if v in self.maker and v not in there]
        found = [v for v in leaves if self.maker.get(v) not in operators]
        return (operators, found) if found else None

    def needs(self, dropped: Iterable[Value]) -> dict[Value, int]:
        """Dropped value -> the operator of the backward part before which it must be there."""
        need = {v: self.first[v] for v in dropped}
        for v in sorted(need, key=self._order.__getitem__, reverse=True):
            for u in self.inputs[v]:
                if u in need:
                    need[u] = min(need[u], need[v])
        return need

    @cached_property
    def _order(self) -> dict[Value, int]:
        return {v: i for i, v in enumerate(self.saved)}


class Memory:
    """Bytes in use before each operator, for any choice of dropped values."""

    def __init__(self, values: Values, sizes: Mapping[str, int]) -> None:
        self.values, self.sizes = values, sizes
        operators = values.operators
        self.nbytes = {v: nbytes_of(v, sizes) for op in operators for v in op.outputs}
        self.last = self._last_uses(operators)
        self.last.update(dict.fromkeys(values.roots, len(operators)))
        self.place = {op: i for i, op in enumerate(operators)}
        self.before = self._last_uses(operators[: values.forward])
        kept = np.zeros(len(operators) + 2, np.int64)
        for op in operators:
            for v in self._own(op):
                self._add(kept, self.place[op], self.last.get(v, self.place[op]), self.nbytes[v])
        self.kept = kept

    def _last_uses(self, operators: Sequence[Operator]) -> dict[Value, int]:
        """With the uses of a view those of what it shows."""
        last: dict[Value, int] = {}
        for i in range(len(operators) - 1, -1, -1):
            op = operators[i]
            for v in op.operands:
                last.setdefault(v, i)
            for o, source in lookup(op.type).views.items():
                shown = op.inputs[source]
                assert shown is not None
                last[shown] = max(last[shown], last.get(op.outputs[o], i))
        return last

    @staticmethod
    def _own(op: Operator) -> list[Value]:
        """The outputs that are no views."""
        views = lookup(op.type).views
        return [v for o, v in enumerate(op.outputs) if o not in views]

    @staticmethod
    def _add(change: np.ndarray, first: int, last: int, nbytes: int) -> None:
        change[first] += nbytes
        change[last + 1] -= nbytes

    def usage(self, dropped: Iterable[Value]) -> np.ndarray:
        """Bytes alive at each operator."""
        change = self.kept.copy()
        for v, need in self.values.needs(dropped).items():
            made = self.place[self.values.maker[v]]
            stays = max(self.before.get(v, made), made)
            if stays + 1 < need:  # gone from after its last use ahead until it is needed
                self._add(change, stays + 1, need - 1, -self.nbytes[v])
        return np.cumsum(change[:-1])

    def excess(self, dropped: Iterable[Value], budget: int) -> float:
        """How much there is above the budget, summed over all operators."""
        return float(np.maximum(self.usage(dropped) - budget, 0).sum())


def choose(
    values: Values, sizes: Mapping[str, int], budget: int, dropped: Sequence[Value] = ()
) -> list[Value]:
    """The values to be dropped, besides those that are already, so that no moment needs more than
    `budget` bytes, as far as that can be had."""
    return _Choice(values, sizes, budget, dropped).run()


class _Choice:
    def __init__(
        self, values: Values, sizes: Mapping[str, int], budget: int, dropped: Sequence[Value]
    ) -> None:
        self.values, self.budget, self.marked = values, budget, set(dropped)
        self.memory = Memory(values, sizes)
        self.price = {
            v: max(sum(cost_of(op, sizes) for op in path), 1.0) for v, path in values.again.items()
        }
        self.chosen = dict.fromkeys(dropped)
        self.excess = self.memory.excess(dropped, budget)

    def run(self) -> list[Value]:
        while self.excess > 0 and self._round():
            pass
        self._keep_after_all()
        return [v for v in self.values.saved if v in self.chosen]

    def _gain(self, v: Value) -> float:
        """What dropping one more would relieve, for the time it costs."""
        after = self.memory.excess([*self.chosen, v], self.budget)
        return (self.excess - after) / self.price[v]

    def _round(self) -> bool:
        """Drop values, the best first, until that helps no more; whether any was dropped.

        Gains shrink as others are dropped, so one that is still the best when it is looked at again
        is the best of all (Minoux, 1978).
        """
        open_ = [v for v in self.values.saved if v in self.price and v not in self.chosen]
        queue = [(-self._gain(v), i, len(self.chosen)) for i, v in enumerate(open_)]
        queue = [entry for entry in queue if entry[0] < 0]
        heapq.heapify(queue)
        before = len(self.chosen)
        while queue and self.excess > 0:
            _, i, seen = heapq.heappop(queue)
            if seen == len(self.chosen):
                self.chosen[open_[i]] = None
                self.excess = self.memory.excess(self.chosen, self.budget)
                continue
            gain = self._gain(open_[i])
            if gain > 0:
                heapq.heappush(queue, (-gain, i, len(self.chosen)))
        return len(self.chosen) > before

    def _keep_after_all(self) -> None:
        """What later choices made unnecessary, the costliest first."""
        for v in sorted(self.chosen.keys() - self.marked, key=self.price.__getitem__, reverse=True):
            rest = [u for u in self.chosen if u is not v]
            excess = self.memory.excess(rest, self.budget)
            if excess <= self.excess:
                del self.chosen[v]
                self.excess = excess
