"""Elementwise ops, optimiser updates and `fused` as generated loops, in any memory layout."""

from __future__ import annotations

from collections.abc import Sequence

from noria.ir.program import Operator, Shape, Value
from noria.kernels.numba.body import body_of
from noria.kernels.numba.codegen import form_of
from noria.kernels.numba.generate import prepare, source_of
from noria.kernels.numba.space import fold, kept_strides, memory_order, spread_strides, whole
from noria.kernels.registry import (
    LAST,
    PLAIN,
    Array,
    BoundOp,
    Declined,
    Kernel,
    Layouts,
    Prepared,
    register,
    strides_of,
)
from noria.ops.fused import ELEMENTWISE, UPDATES, iteration_space, reduction_axes


class Elementwise(Kernel):
    """Every element of the outputs from one element of each input."""

    name = "numba:elementwise"
    ops = (*sorted(ELEMENTWISE | UPDATES), "floor_divide", "fmod", "remainder")

    def accepts(self, op: Operator) -> None:
        body_of(op)

    def layout(self, op: Operator, given: Sequence[str | None]) -> Layouts:
        space = op.outputs[0].shape
        layout = PLAIN if op.type in UPDATES else common_layout(op.inputs, given, space)
        return wanted(op.inputs, space, layout), [layout] * len(op.outputs)

    def bind(self, bound: BoundOp) -> Prepared:
        op, main = bound.op, bound.outputs[0]
        body = bound.note("body", body_of, op)
        if bound.note("alike", _all_full, op) and all_dense(bound):
            space = whole(main.size, len(op.inputs) + len(op.outputs))
            source = bound.note("source", lambda: source_of(form_of(body, space)))
            return prepare(body, space, bound, self.name, source)
        declared = op.outputs[0].shape
        strides = [*input_strides(bound, op.inputs, declared), *(a.strides for a in bound.outputs)]
        loops = fold(declared, main.shape, strides, memory_order(main.strides))
        return prepare(body, loops, bound, self.name)


class Prelu(Kernel):
    """Elementwise, but that the weights lie along axis 1 of x."""

    name = "numba:prelu"
    ops = ("prelu",)

    def layout(self, op: Operator, given: Sequence[str | None]) -> Layouts:
        layout = given[0] or PLAIN
        return [layout, None], [layout]

    def bind(self, bound: BoundOp) -> Prepared:
        x, weight = bound.inputs
        assert x is not None and weight is not None
        space = bound.op.outputs[0].shape
        along = [0] * len(space)
        along[min(1, len(space) - 1)] = weight.strides[0] if weight.shape[0] > 1 else 0
        strides = [x.strides, along, bound.outputs[0].strides]
        loops = fold(space, x.shape, strides, memory_order(x.strides))
        return prepare(body_of(bound.op), loops, bound, self.name)


class Fused(Kernel):
    """A `fused` body: one loop, whose outputs are kept or reduced along the same axes."""

    name = "numba:fused"
    ops = ("fused",)

    def accepts(self, op: Operator) -> None:
        results, space = body_of(op).results, iteration_space(op.blocks["body"])
        for o, v in enumerate(op.blocks["body"].outputs):
            if o not in results and v.shape != space:
                raise Declined(f"output {v.name} has not the shape of the loop")

    def layout(self, op: Operator, given: Sequence[str | None]) -> Layouts:
        body = op.blocks["body"]
        space = iteration_space(body)
        updates = any(inner.type in UPDATES for inner in body.operators)
        layout = PLAIN if updates else common_layout(body.inputs, given, space)
        results = set(body_of(op).results)
        given_out = [PLAIN if o in results else layout for o in range(len(op.outputs))]
        return wanted(body.inputs, space, layout), given_out

    def bind(self, bound: BoundOp) -> Prepared:
        block, body = bound.op.blocks["body"], body_of(bound.op)
        space = iteration_space(block)
        axes = next((a for a in map(reduction_axes, block.operators) if a is not None), ())
        strides = input_strides(bound, block.inputs, space)
        results = set(body.results)
        for o, a in enumerate(bound.outputs):
            strides.append(kept_strides(a, axes, len(space)) if o in results else a.strides)
        main = _main(bound, block.inputs, space, results)
        loops = fold(space, main.shape, strides, memory_order(main.strides), axes)
        return prepare(body, loops, bound, self.name)


def _main(bound: BoundOp, inputs: Sequence[Value], space: Shape, results: set[int]) -> Array:
    """The operand of the full shape whose memory is walked in order."""
    kept = [a for o, a in enumerate(bound.outputs) if o not in results]
    pairs = zip(inputs, bound.inputs, strict=True)
    full = kept + [a for v, a in pairs if a is not None and is_full(v.shape, space)]
    if not full:
        raise Declined("no operand has the full shape")
    return full[0]


def input_strides(
    bound: BoundOp, declared: Sequence[Value | None], space: Shape
) -> list[tuple[int, ...]]:
    """Strides of all inputs along the axes of the space."""
    strides = []
    for v, a in zip(declared, bound.inputs, strict=True):
        if v is None or a is None:
            raise Declined("an input is absent")
        strides.append(spread_strides(v.shape, a, space))
    return strides


def _all_full(op: Operator) -> bool:
    """Is nothing broadcast, so that memory without gaps is one loop?"""
    space = op.outputs[0].shape
    values = (*op.inputs, *op.outputs)
    full = all(v is not None and len(v.shape) == len(space) for v in values)
    return full and any(d != 1 for d in space) and all(is_full(v.shape, space) for v in op.operands)


def all_dense(bound: BoundOp) -> bool:
    """Do all operands lie alike, without gaps?"""
    strides = strides_of(bound.outputs[0].shape, PLAIN)
    operands = (*bound.inputs, *bound.outputs)
    return all(a is not None and a.strides == strides for a in operands)


def is_full(shape: Shape, space: Shape) -> bool:
    """Is an operand of that shape not broadcast?"""
    pairs = zip(shape, space, strict=False)
    return len(shape) == len(space) and all(d == s or d != 1 for d, s in pairs)


def common_layout(inputs: Sequence[Value | None], given: Sequence[str | None], space: Shape) -> str:
    """channels_last if an input of the full shape comes in so, and the rank has one."""
    full = [
        g for v, g in zip(inputs, given, strict=True) if v is not None and is_full(v.shape, space)
    ]
    return LAST if len(space) > 2 and LAST in full else PLAIN


def wanted(inputs: Sequence[Value | None], space: Shape, layout: str) -> list[str | None]:
    """The layout for inputs of the full shape; of the others any will do."""
    return [layout if v is not None and is_full(v.shape, space) else None for v in inputs]


register(Elementwise())
register(Prelu())
register(Fused())
