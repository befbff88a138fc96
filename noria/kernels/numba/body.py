"""What a generated loop computes at each of its points: an op, or the body of `fused`.

A Body is independent of shapes: inputs by number, then steps. The same Body over the same kind of
loops is the same source, so its `key` and the kind of loops name a kernel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

from noria.ir.program import Block, Operator, Value
from noria.kernels.numba.reduction import KINDS, Reduction
from noria.kernels.numba.scalar import COST, RULES
from noria.kernels.numba.term import Lines, Term
from noria.kernels.registry import Declined

SPREAD = ("broadcast_to", "identity")  # the same element: a loop repeats it by itself


@dataclass(frozen=True, slots=True)
class Step:
    """One op: numbers of the values it takes and makes."""

    op: str
    args: tuple[int, ...]
    outs: tuple[int, ...]
    dtypes: tuple[str, ...]
    attrs: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Output:
    """value: its number; reduction: what is done along the reduced axes, None to keep them."""

    value: int
    dtype: str
    reduction: Reduction | None = None


@dataclass(frozen=True, slots=True)
class Body:
    """inputs: their dtypes; the values are numbered from 0, inputs first.

    key: the same for Bodies that compute the same; cost: arithmetic operations a point takes
    """

    key: str
    inputs: tuple[str, ...] = field(compare=False)
    steps: tuple[Step, ...] = field(compare=False)
    outputs: tuple[Output, ...] = field(compare=False)
    cost: int = field(compare=False)

    @property
    def results(self) -> list[int]:
        """Numbers of the outputs that are reduced."""
        return [i for i, o in enumerate(self.outputs) if o.reduction is not None]


def _body(inputs: Sequence[str], steps: Sequence[Step], outputs: Sequence[Output]) -> Body:
    parts = (tuple(inputs), tuple(steps), tuple(outputs))
    return Body(repr(parts), *parts, 1 + sum(COST.get(s.op, 1) for s in steps))


@cache
def copy_body(dtype: str) -> Body:
    """One input, stored as it is."""
    return _body([dtype], [], [Output(0, dtype)])


# ---- from operators ----------------------------------------------------------------------------

_single: dict[tuple[str, ...], Body] = {}
_blocks: WeakKeyDictionary[Block, Body] = WeakKeyDictionary()


def body_of(op: Operator) -> Body:
    """The Body of an elementwise or reducing op, or of `fused`. Raises Declined if there is none.

    A reduction alone is a Body without steps.
    """
    if op.type == "fused":
        block = op.blocks["body"]
        found = _blocks.get(block)
        if found is None:
            found = _blocks[block] = _of_block(block)
        return found
    key = (op.type, repr(op.attrs), *(v.dtype for v in (*op.operands, *op.outputs)))
    found = _single.get(key)
    if found is None:
        found = _single[key] = _of_operator(op)
    return found


def reduction_of(op: Operator) -> Reduction | None:
    """What a reducing op does, None for others."""
    kind = "sum" if op.type == "sum_to" else op.type.removeprefix("reduce_")
    if kind == op.type or kind not in KINDS:
        return None
    return Reduction(kind, op.operands[0].dtype, op.outputs[0].dtype)


def _of_operator(op: Operator) -> Body:
    inputs = [v.dtype for v in op.operands]
    kind = reduction_of(op)
    if kind is not None:
        return _body(inputs, [], [Output(0, kind.to, kind)])
    numbers = tuple(range(len(inputs), len(inputs) + len(op.outputs)))
    step = _step(op, tuple(range(len(inputs))), numbers)
    outputs = [Output(n, v.dtype) for n, v in zip(numbers, op.outputs, strict=True)]
    return _body(inputs, [step], outputs)


def _step(op: Operator, args: tuple[int, ...], outs: tuple[int, ...]) -> Step:
    need_rule(op)
    attrs = {} if op.type in SPREAD else dict(op.attrs)
    attrs.pop("shape", None)
    return Step(op.type, args, outs, tuple(v.dtype for v in op.outputs), attrs)


def need_rule(op: Operator) -> None:
    """Raises Declined for an op this file cannot compute."""
    if op.type not in RULES and op.type not in SPREAD and op.type != "fill":
        raise Declined(f"'{op.type}' is not computed element by element")
    if op.type == "pow" and not op.outputs[0].dtype.startswith(("float", "bfloat")):
        raise Declined("whole numbers are not raised to powers here")


def _of_block(block: Block) -> Body:
    numbers: dict[Value, int] = {v: i for i, v in enumerate(block.inputs)}
    reduced: dict[Value, Output] = {}
    steps = []
    for op in block.operators:
        kind = reduction_of(op)
        if kind is not None:
            reduced[op.outputs[0]] = Output(numbers[op.operands[0]], kind.to, kind)
            continue
        for v in op.outputs:
            numbers[v] = len(numbers)
        args = tuple(numbers[v] for v in op.operands)
        steps.append(_step(op, args, tuple(numbers[v] for v in op.outputs)))
    outputs = [reduced.get(v) or Output(numbers[v], v.dtype) for v in block.outputs]
    return _body([v.dtype for v in block.inputs], steps, outputs)


# ---- to source ---------------------------------------------------------------------------------


def write_body(body: Body, lines: Lines, inputs: Sequence[Term]) -> list[Term]:
    """Writes the steps, each into the outermost loop that knows its arguments; the outputs."""
    values = dict(enumerate(inputs))
    for step in body.steps:
        made = _apply(step, lines, [values[a] for a in step.args])
        for number, dtype, x in zip(step.outs, step.dtypes, made, strict=True):
            values[number] = Term(lines, x.text, dtype, x.level)
    return [values[o.value] for o in body.outputs]


def _apply(step: Step, lines: Lines, args: list[Term]) -> Sequence[Term]:
    if step.op == "fill":
        return [lines.constant(step.attrs["value"], step.attrs["dtype"])]
    if step.op in SPREAD:
        return args[:1]
    made = RULES[step.op](*args, **step.attrs)
    return made if isinstance(made, tuple) else (made,)
