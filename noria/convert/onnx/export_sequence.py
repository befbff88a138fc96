"""Ops over packed rows as ONNX: values and row_splits stay two ordinary inputs of the model."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from noria.convert.onnx.export_graph import INT64_MAX, Graph, emitter
from noria.convert.onnx.export_index import wide_index
from noria.core.dims import Size
from noria.core.dtypes import to_numpy
from noria.ir.program import Operator, Value


@dataclass(frozen=True)
class Rows:
    """Names of int64 vectors [N]: where rows begin and end, and how long they are."""

    starts: str
    ends: str
    lengths: str


def rows_of(g: Graph, splits: str, value: Value) -> Rows:
    """The rows that row_splits [N + 1] divide packed values into."""
    splits = wide_index(g, splits, value)
    starts = g.node("Slice", splits, g.ints(0), g.ints(-1), g.ints(0))
    ends = g.node("Slice", splits, g.ints(1), g.ints(INT64_MAX), g.ints(0))
    return Rows(starts, ends, g.node("Sub", ends, starts))


def row_ids(g: Graph, rows: Rows, total: Size) -> str:
    """The row of each packed position [total]: how many rows have ended before it.

    Ends are counted where they are, one place more than there are positions, and added up.
    """
    size = g.node("Add", g.vector(total), g.ints(1))
    zeros = g.node("ConstantOfShape", size, value=_zero("int64"))
    ones = g.node("ConstantOfShape", g.node("Shape", rows.ends), value=_zero("int64") + 1)
    counts = g.node("ScatterElements", zeros, rows.ends, ones, axis=0, reduction="add")
    counts = g.node("Slice", counts, g.ints(0), g.vector(total), g.ints(0))
    return g.node("CumSum", counts, g.size(0))


def _zero(dtype: str) -> np.ndarray:
    return np.zeros(1, to_numpy(dtype))


def filled(g: Graph, count: Size, like: Value, number: float = 0.0) -> str:
    """[count, further sizes of `like`] of one number."""
    value = _zero(like.dtype) + to_numpy(like.dtype).type(number)
    return g.node("ConstantOfShape", g.shape((count, *like.shape[1:])), value=value)


def _behind(g: Graph, flags: str, like: Value) -> str:
    """[N] with as many axes of size 1 as `like` has further ones."""
    return g.node("Unsqueeze", flags, g.ints(*range(1, like.ndim))) if like.ndim > 1 else flags


def _empty(g: Graph, rows: Rows, like: Value) -> str:
    return _behind(g, g.node("Equal", rows.lengths, g.size(0)), like)


@emitter("sequence_ids")
def sequence_ids(g: Graph, op: Operator, splits: str) -> str:
    return row_ids(g, rows_of(g, splits, op.operands[0]), op.attrs["total"])


@emitter("sequence_expand")
def sequence_expand(g: Graph, op: Operator, values: str, splits: str) -> str:
    ids = row_ids(g, rows_of(g, splits, op.operands[1]), op.attrs["total"])
    return g.node("Gather", values, ids, axis=0)


def _scattered(g: Graph, op: Operator, x: str, rows: Rows, start: float, how: str) -> str:
    """All steps of a row put together."""
    value, out = op.operands[0], op.outputs[0]
    ids = g.node("Unsqueeze", row_ids(g, rows, value.shape[0]), g.ints(1))
    first = filled(g, out.shape[0], value, start)
    return g.node("ScatterND", first, ids, x, reduction=how)


@emitter("sequence_sum")
def sequence_sum(g: Graph, op: Operator, x: str, splits: str) -> str:
    return _scattered(g, op, x, rows_of(g, splits, op.operands[1]), 0.0, "add")


@emitter("sequence_max")
def sequence_max(g: Graph, op: Operator, x: str, splits: str) -> str:
    rows = rows_of(g, splits, op.operands[1])
    largest = _scattered(g, op, x, rows, -math.inf, "max")
    empty = _empty(g, rows, op.operands[0])
    return g.node("Where", empty, g.like(op.attrs["empty"], op.operands[0]), largest)


@emitter("sequence_end")
def sequence_end(g: Graph, op: Operator, x: str, splits: str, empty: str | None = None) -> str:
    value, rows = op.operands[0], rows_of(g, splits, op.operands[1])
    return row_ends(g, x, value, rows, op.outputs[0].shape[0], op.attrs["first"], empty)


def row_ends(
    g: Graph, x: str, value: Value, rows: Rows, count: Size, first: bool, empty: str | None
) -> str:
    """The last step of each row, or the first; `empty` or zeros for a row without steps."""
    places = rows.starts if first else g.node("Sub", rows.ends, g.size(1))
    nothing = g.node("Equal", rows.lengths, g.size(0))
    places = g.node("Where", nothing, g.vector(value.shape[0]), places)
    around = g.node("Concat", x, filled(g, 1, value), axis=0)
    taken = g.node("Gather", around, places, axis=0)
    if empty is None:
        return taken
    return g.node("Where", _behind(g, nothing, value), empty, taken)


@emitter("sequence_place")
def sequence_place(g: Graph, op: Operator, values: str, splits: str) -> str:
    value, rows, total = op.operands[0], rows_of(g, splits, op.operands[1]), op.attrs["total"]
    places = rows.starts if op.attrs["first"] else g.node("Sub", rows.ends, g.size(1))
    nothing = g.node("Equal", rows.lengths, g.size(0))
    places = g.node("Where", nothing, g.vector(total), places)  # one more, which is cut off
    out = filled(g, total + 1, value)
    out = g.node("ScatterND", out, g.node("Unsqueeze", places, g.ints(1)), values)
    return g.node("Slice", out, g.ints(0), g.vector(total), g.ints(0))


@emitter("sequence_shift")
def sequence_shift(g: Graph, op: Operator, x: str, splits: str, start: str | None = None) -> str:
    """Positions one before (or behind) those asked for, in x with the starts behind it."""
    value, rows = op.operands[0], rows_of(g, splits, op.operands[1])
    total, reverse = value.shape[0], op.attrs["reverse"]
    count = op.operands[1].shape[0] - 1
    ids = row_ids(g, rows, total)
    places = g.node("Range", g.size(0), g.size(total), g.size(1))
    ends = g.node("Sub", rows.ends, g.size(1)) if reverse else rows.starts
    at_start = g.node("Equal", places, g.node("Gather", ends, ids, axis=0))
    moved = g.node("Add", places, g.size(1 if reverse else -1))
    begin = g.node("Add", ids, g.size(total))
    around = g.node("Concat", x, start or filled(g, count, value), axis=0)
    return g.node("Gather", around, g.node("Where", at_start, begin, moved), axis=0)
