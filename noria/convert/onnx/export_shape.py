"""Ops that make or move numbers, as ONNX."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from noria.convert.onnx.export_graph import (
    INT64_MAX,
    INT64_MIN,
    Graph,
    element_type,
    emitter,
)
from noria.core.dims import Dim, Size, product, prove_equal
from noria.core.dtypes import to_numpy
from noria.ir.program import Operator

LARGE = 16  # elements from which on a filled array is not kept as such

# ---- making --------------------------------------------------------------------------------------


@emitter("fill")
def fill(g: Graph, op: Operator) -> str:
    shape, dtype = op.outputs[0].shape, to_numpy(op.attrs["dtype"])
    sizes = [d for d in shape if isinstance(d, int)]
    if len(sizes) == len(shape) and math.prod(sizes) <= LARGE:
        return g.constant(np.full(sizes, op.attrs["value"], dtype))
    number = np.full(1, op.attrs["value"], dtype)
    return g.node("ConstantOfShape", g.shape(shape), value=number)


@emitter("constant")
def constant(g: Graph, op: Operator) -> str:
    return g.constant(op.attrs["value"])


@emitter("dim_value")
def dim_value(g: Graph, op: Operator) -> str:
    return g.size(op.attrs["dim"])


@emitter("arange")
def arange(g: Graph, op: Operator) -> str:
    ends, dtype = [op.attrs[k] for k in ("start", "stop", "step")], op.attrs["dtype"]
    if all(isinstance(e, (int, Dim)) for e in ends):
        out = g.node("Range", *(g.size(e) for e in ends))
        return out if dtype == "int64" else g.node("Cast", out, to=element_type(dtype))
    wide = dtype if dtype == "float64" else "float32"
    out = g.node("Range", *(g.constant(e, wide) for e in ends))
    return out if dtype == wide else g.node("Cast", out, to=element_type(dtype))


@emitter("eye")
def eye(g: Graph, op: Operator) -> str:
    rows, columns = op.outputs[0].shape
    row = g.node("Range", g.size(0), g.size(rows), g.size(1))
    column = g.node("Range", g.size(0), g.size(columns), g.size(1))
    diagonal = g.node("Add", row, g.size(op.attrs["k"]))
    hit = g.node("Equal", g.node("Unsqueeze", diagonal, g.ints(1)), column)
    return g.node("Cast", hit, to=element_type(op.attrs["dtype"]))


# ---- the same numbers in another shape -----------------------------------------------------------


def reshaped(g: Graph, x: str, shape: Sequence[Size]) -> str:
    """x in this shape."""
    return g.node("Reshape", x, g.shape(shape), allowzero=1)


@emitter("reshape", "flatten")
def reshape(g: Graph, op: Operator, x: str) -> str:
    return reshaped(g, x, op.outputs[0].shape)


def _listed(axis: Any) -> tuple[int, ...]:
    return (axis,) if isinstance(axis, int) else tuple(axis)


@emitter("squeeze")
def squeeze(g: Graph, op: Operator, x: str) -> str:
    axes = _listed(op.attrs["axis"])
    return g.node("Squeeze", x, g.ints(*axes)) if axes else x


@emitter("unsqueeze")
def unsqueeze(g: Graph, op: Operator, x: str) -> str:
    axes = _listed(op.attrs["axis"])
    return g.node("Unsqueeze", x, g.ints(*axes)) if axes else x


@emitter("transpose")
def transpose(g: Graph, op: Operator, x: str) -> str:
    n, perm = op.operands[0].ndim, op.attrs["perm"]
    return g.node("Transpose", x, perm=None if perm is None else [a % n for a in perm])


@emitter("broadcast_to")
def broadcast_to(g: Graph, op: Operator, x: str) -> str:
    return g.node("Expand", x, g.shape(op.outputs[0].shape))


@emitter("tile")
def tile(g: Graph, op: Operator, x: str) -> str:
    repeats = op.attrs["repeats"]
    return g.node(
        "Tile", x, g.shape(_listed(repeats) if not isinstance(repeats, Dim) else [repeats])
    )


@emitter("sum_to")
def sum_to(g: Graph, op: Operator, x: str) -> str:
    """Axes that broadcasting would have made, summed."""
    value, out = op.operands[0], op.outputs[0]
    lead = value.ndim - out.ndim
    axes = [i for i in range(value.ndim) if i < lead or _was_one(value, out, i, lead)]
    summed = g.node("ReduceSum", x, g.ints(*axes)) if axes else x
    return reshaped(g, summed, out.shape) if axes else summed


def _was_one(value: Any, out: Any, axis: int, lead: int) -> bool:
    size = out.shape[axis - lead]
    return prove_equal(size, 1) is True and prove_equal(value.shape[axis], 1) is not True


# ---- joining and cutting -------------------------------------------------------------------------


@emitter("concat")
def concat(g: Graph, op: Operator, *xs: str) -> str:
    return g.node("Concat", *xs, axis=op.attrs["axis"])


@emitter("split")
def split(g: Graph, op: Operator, x: str) -> Any:
    axis = op.attrs["axis"]
    if len(op.outputs) == 1:
        return x
    sizes = g.shape([v.shape[axis] for v in op.outputs])
    return g.node("Split", x, sizes, outputs=len(op.outputs), axis=axis)


def sliced(
    g: Graph, x: str, axis: int, start: Size | None, stop: Size | None, step: int = 1
) -> str:
    """x[start:stop:step] along one axis."""
    parts = [g.vector(v) for v in _ends(start, stop, step)]
    return g.node("Slice", x, *parts, g.ints(axis), g.ints(step))


def _ends(start: Size | None, stop: Size | None, step: int) -> tuple[Size, Size]:
    first, last = (0, INT64_MAX) if step > 0 else (INT64_MAX, INT64_MIN)
    return first if start is None else start, last if stop is None else stop


@emitter("slice")
def slice_(g: Graph, op: Operator, x: str) -> str:
    axes, steps = _listed(op.attrs["axes"]), op.attrs["steps"]
    steps = (1,) * len(axes) if steps is None else steps
    ends = [_ends(*e) for e in zip(op.attrs["starts"], op.attrs["stops"], steps, strict=True)]
    if not axes:
        return x
    starts, stops = (g.shape([e[i] for e in ends]) for i in (0, 1))
    return g.node("Slice", x, starts, stops, g.ints(*axes), g.ints(*steps))


@emitter("pad")
def pad(g: Graph, op: Operator, x: str) -> str:
    pads, mode = op.attrs["pads"], op.attrs["mode"]
    if not pads:
        return x
    around = g.shape([p[0] for p in pads] + [p[1] for p in pads])
    value = g.like(op.attrs["value"], op.operands[0]) if mode == "constant" else None
    return g.node("Pad", x, around, value, mode=mode)


@emitter("roll")
def roll(g: Graph, op: Operator, x: str) -> str:
    value, shifts, axis = op.operands[0], _listed(op.attrs["shift"]), op.attrs["axis"]
    if axis is None:
        flat = reshaped(g, x, (product(value.shape),))
        return reshaped(g, _rolled(g, flat, 0, sum(shifts)), value.shape)
    for a, shift in zip(_listed(axis), shifts, strict=True):
        x = _rolled(g, x, a, shift)
    return x


def _rolled(g: Graph, x: str, axis: int, shift: int) -> str:
    """The last `shift` elements, modulo the size, in front of the others."""
    shape = g.node("Shape", x)
    size = g.node("Gather", shape, g.ints(axis))
    some = g.node("Max", size, g.ints(1))
    cut = g.node("Sub", size, g.node("Mod", g.ints(shift), some))
    end = g.ints(INT64_MAX)
    tail = g.node("Slice", x, cut, end, g.ints(axis))
    return g.node("Concat", tail, g.node("Slice", x, g.ints(0), cut, g.ints(axis)), axis=axis)
