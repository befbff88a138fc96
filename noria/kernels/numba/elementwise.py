"""Elementwise ops, optimiser updates and `fused` as generated loops, in any memory layout."""

from __future__ import annotations

from collections.abc import Sequence

from noria.core.dtypes import itemsize
from noria.ir.program import Operator, Shape, Value
from noria.kernels.call import Call
from noria.kernels.numba.body import Body, body_of
from noria.kernels.numba.codegen import Form, form_of, table_end
from noria.kernels.numba.launch import launch
from noria.kernels.numba.map_loop import map_source
from noria.kernels.numba.space import Space, fold, memory_order, spread_strides
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
    same_memory,
)
from noria.ops.fused import ELEMENTWISE, UPDATES, iteration_space

_sources: dict[Form, str] = {}


def map_loop(body: Body, space: Space, bound: BoundOp, name: str) -> Prepared:
    form = form_of(body, space)
    source = _sources.get(form)
    if source is None:
        source = _sources[form] = map_source(form)
    end = table_end(space)
    size = 1
    for n in space.sizes:
        size *= n
    moved = sum(a.nbytes for a in (*bound.inputs, *bound.outputs) if a is not None)
    threads, ops = bound.threads, size * body.cost

    def emit(ins: list[int], outs: list[int], packs: list[int], scratch: int) -> list[Call]:
        table = [*ins, *outs, *end]
        return [launch(name, source, "map", table, threads=threads, bytes=moved, ops=ops)]

    return Prepared(emit, in_place=in_place_pairs(bound), work=float(ops))


def in_place_pairs(bound: BoundOp) -> list[tuple[int, int]]:
    """(output, input) pairs whose elements lie at the same places."""
    return [
        (o, i)
        for o, out in enumerate(bound.outputs)
        for i, a in enumerate(bound.inputs)
        if a is not None and _lies_like(a, out)
    ]


def _lies_like(a: Array, b: Array) -> bool:
    if a.shape != b.shape or itemsize(a.dtype) != itemsize(b.dtype):
        return False
    return same_memory(a.shape, a.strides, b.strides)


class Elementwise(Kernel):
    """Every element of the output from one element of each input."""

    name = "numba:elementwise"
    ops = (*sorted(ELEMENTWISE | UPDATES), "floor_divide", "remainder", "prelu")

    def accepts(self, op: Operator) -> None:
        body_of(op)

    def layout(self, op: Operator, given: Sequence[str | None]) -> Layouts:
        space = op.outputs[0].shape
        layout = PLAIN if op.type in UPDATES else common_layout(op.inputs, given, space)
        wanted = [layout if v is not None and is_full(v.shape, space) else None for v in op.inputs]
        return wanted, [layout] * len(op.outputs)

    def bind(self, bound: BoundOp) -> Prepared:
        return map_loop(body_of(bound.op), _map_space(bound), bound, self.name)


def _map_space(bound: BoundOp) -> Space:
    op, main = bound.op, bound.outputs[0]
    space = op.outputs[0].shape
    strides = []
    for v, a in zip(op.inputs, bound.inputs, strict=True):
        if v is None or a is None:
            raise Declined("an input is absent")
        strides.append(spread_strides(v.shape, a, space))
    strides += [a.strides for a in bound.outputs]
    return fold(space, main.shape, strides, memory_order(main.strides))


def is_full(shape: Shape, space: Shape) -> bool:
    """Is an operand of that shape not broadcast?"""
    pairs = zip(shape, space, strict=False)
    return len(shape) == len(space) and all(d == s or d != 1 for d, s in pairs)


def common_layout(
    inputs: Sequence[Value | None], given: Sequence[str | None], space: Shape
) -> str:
    """channels_last if an input of the full shape comes in so, and the rank has one."""
    full = [g for v, g in zip(inputs, given, strict=True) if v is not None and is_full(v.shape, space)]
    return LAST if len(space) > 2 and LAST in full else PLAIN


register(Elementwise())
