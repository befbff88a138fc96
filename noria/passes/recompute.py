"""Values of the forward part are computed again in the backward part instead of being kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from noria.core.dims import symbols_of
from noria.core.errors import ArgumentError, MissingError
from noria.ir.emit import Builder, current
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Operator, Program, Value
from noria.passes.recompute_choice import Values, choose

NAME = "recompute"


class Budget:
    """What the values of a step may need at any moment, in bytes, for these sizes.

    Budget(500_000_000, N=32): `recompute` then drops what costs the least time for the memory it
    frees. State is not counted. Raises ArgumentError for what is no number of bytes or no size.
    """

    def __init__(self, nbytes: float, **sizes: int) -> None:
        for name, number in {"nbytes": nbytes, **sizes}.items():
            if isinstance(number, bool) or not isinstance(number, (int, float)) or number < 0:
                raise ArgumentError(f"{name} must be a number >= 0", got=repr(number))
        self.nbytes, self.sizes = int(nbytes), sizes

    def __repr__(self) -> str:
        sizes = "".join(f", {k}={v}" for k, v in self.sizes.items())
        return f"Budget({self.nbytes}{sizes})"


# ---- marks -------------------------------------------------------------------------------------


@contextmanager
def recomputed() -> Iterator[None]:
    """What is traced within is not kept for the backward part but computed again there.

        with noria.recomputed():
            x = self.block(x)

    or, for all calls of a function or module, `noria.recomputed()(block)`. Only what leaves the
    `with` is kept, and what it read, from which the rest is computed again (Chen et al., "Training
    deep nets with sublinear memory cost", 2016). Random operators give the same numbers again. On
    arrays, where nothing is kept, it does nothing.
    """
    builder = current()
    if builder is None:
        yield
        return
    start = len(builder.block.operators)
    yield
    made = [v for op in builder.block.operators[start:] for v in op.outputs]
    if builder.parent is None:
        builder.program.recomputed.append(frozenset(made))


def marked(program: Program, values: Values) -> list[Value]:
    """Saved values made in a marked part, but for those that leave it."""
    part = {v: i for i, made in enumerate(program.recomputed) for v in made}
    leaving: set[Value] = set(program.roots())
    for op in values.operators[: values.forward]:
        mine = {part.get(v) for v in op.outputs}
        leaving.update(v for v in op.operands if v in part and part[v] not in mine)
    return [v for v in values.saved if v in part and v not in leaving and v in values.again]


# ---- the pass ----------------------------------------------------------------------------------


def recompute(program: Program, forward: int, budget: Budget | None = None) -> Program:
    """What was traced within `recomputed`, and what else does not fit into the budget, is computed
    again in the backward part, just before that needs it.

    forward: how many of the operators are the forward part, which comes first
    Results are the same to the last bit: it is the same operators on the same values. The Program
    given is not changed. Raises MissingError if the budget lacks a size.

    Given:
        program p {
          input x: float32[N, 4]
          input g: float32[N, 4]
          tanh: float32[N, 4] = tanh(x)
          exp: float32[N, 4] = exp(tanh)
          reduce_sum: float32[] = reduce_sum(exp)
          mul: float32[N, 4] = mul(g, exp)
          mul_1: float32[N, 4] = mul(mul, g)
          output loss = reduce_sum
          output gx = mul_1
        }
    Result:
        program p {
          input x: float32[N, 4]
          input g: float32[N, 4]
          tanh: float32[N, 4] = tanh(x)
          exp: float32[N, 4] = exp(tanh)
          reduce_sum: float32[] = reduce_sum(exp)
          later: float32[N, 4] = later(x, reduce_sum)
          tanh_1: float32[N, 4] = tanh(later)
          exp_1: float32[N, 4] = exp(tanh_1)
          mul: float32[N, 4] = mul(g, exp_1)
          mul_1: float32[N, 4] = mul(mul, g)
          output loss = reduce_sum
          output gx = mul_1
        }
    """
    values = Values(program, forward)
    dropped = marked(program, values)
    if budget is not None:
        _need_sizes(program, budget)
        dropped = choose(values, budget.sizes, budget.nbytes, dropped)
    return _Rewrite(program, values, dropped).run() if dropped else program


def _need_sizes(program: Program, budget: Budget) -> None:
    wanted = {s for v in program.block.inputs for s in symbols_of(v.shape)}
    missing = sorted(wanted - budget.sizes.keys())
    if missing:
        raise MissingError(
            f"the budget does not say the size {missing[0]}",
            expected=", ".join(sorted(wanted)),
            got=repr(budget),
            hint=f"Budget({budget.nbytes}, {', '.join(f'{s}=32' for s in sorted(wanted))})",
        )


class _Rewrite:
    """The Program with dropped values computed again."""

    def __init__(self, program: Program, values: Values, dropped: Sequence[Value]) -> None:
        self.program, self.values = program, values
        self.out = program.copy()
        self.builder = Builder(self.out, made_by=NAME)
        self.builder.block.operators = []
        self.again: dict[Value, Value] = {}  # a value -> the one computed again
        self.dropped = set(dropped)
        self.there = {*values.saved, *program.block.inputs} - self.dropped
        behind = range(values.forward, len(program.operators))
        self.made = {v: i for i in behind for v in program.operators[i].outputs}
        self.postponed: dict[tuple[Value, Value], Value] = {}
        self.due: dict[int, list[Value]] = {}
        needs = values.needs(dropped)
        for v in dropped:  # in forward order
            self.due.setdefault(needs[v], []).append(v)

    def run(self) -> Program:
        operators = self.builder.block.operators
        for i, op in enumerate(self.program.operators):
            for v in self.due.get(i, ()):
                self._compute(v, self._anchor(i))
            operators.append(op if i < self.values.forward else op.with_inputs(self._renamed(op)))
        return self.out

    def _renamed(self, op: Operator) -> Mapping[Value, Value]:
        return {v: self.again[v] for v in op.operands if v in self.dropped}

    def _anchor(self, i: int) -> Value:
        """What is known last before operator i: a gradient it takes, else what stands before it."""
        operands = [v for v in self.program.operators[i].operands if self.made.get(v, i) < i]
        if operands:
            return max(operands, key=self.made.__getitem__)
        return self.program.operators[i - 1].outputs[0]

    def _compute(self, value: Value, anchor: Value) -> None:
        for op in self.values.again[value]:
            if not any(v in self.again for v in op.outputs):
                self._repeat(op, anchor)

    def _repeat(self, op: Operator, anchor: Value) -> None:
        inputs = tuple(None if v is None else self._input(v, anchor, op) for v in op.inputs)
        names = self.builder.names
        outputs = tuple(Value(names.fresh(v.name), v.shape, v.dtype) for v in op.outputs)
        self.again.update(zip(op.outputs, outputs, strict=True))
        self.builder.append(replace(op, inputs=inputs, outputs=outputs, made_by=NAME))

    def _input(self, v: Value, anchor: Value, op: Operator) -> Value:
        if v not in self.there:
            return self.again.get(v, v)  # itself: state
        key = v, anchor
        if key not in self.postponed:
            with self.builder, self.builder.on_behalf_of(op, NAME):
                self.postponed[key] = o.later(v, anchor)
        return self.postponed[key]
