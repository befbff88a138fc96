"""Taking and putting by position, as ONNX."""

from __future__ import annotations

import numpy as np

from noria.convert.onnx.export_graph import Graph, element_type, emitter
from noria.core.dtypes import to_numpy
from noria.ir.program import Operator, Value


def as_index(g: Graph, name: str, value: Value) -> str:
    """Integers in a dtype that ONNX takes for positions."""
    if value.dtype in ("int32", "int64"):
        return name
    return g.node("Cast", name, to=element_type("int64"))


def wide_index(g: Graph, name: str, value: Value) -> str:
    """Integers as int64."""
    return name if value.dtype == "int64" else g.node("Cast", name, to=element_type("int64"))


@emitter("gather")
def gather(g: Graph, op: Operator, x: str, ids: str) -> str:
    return g.node("Gather", x, as_index(g, ids, op.operands[1]), axis=op.attrs["axis"])


@emitter("embedding")
def embedding(g: Graph, op: Operator, table: str, ids: str) -> str:
    return g.node("Gather", table, as_index(g, ids, op.operands[1]), axis=0)


@emitter("field_ids")
def field_ids(g: Graph, op: Operator, ids: str) -> str:
    first = np.cumsum([0, *op.attrs["sizes"][:-1]])
    return g.node("Add", ids, g.constant(first.astype(to_numpy(op.operands[0].dtype))))


@emitter("gather_nd")
def gather_nd(g: Graph, op: Operator, x: str, ids: str) -> str:
    return g.node("GatherND", x, wide_index(g, ids, op.operands[1]))


@emitter("take_along_axis")
def take_along_axis(g: Graph, op: Operator, x: str, ids: str) -> str:
    return g.node("GatherElements", x, as_index(g, ids, op.operands[1]), axis=op.attrs["axis"])


@emitter("scatter_elements")
def scatter_elements(g: Graph, op: Operator, x: str, ids: str, updates: str) -> str:
    how = {"axis": op.attrs["axis"], "reduction": op.attrs["reduction"]}
    return g.node("ScatterElements", x, as_index(g, ids, op.operands[1]), updates, **how)


@emitter("scatter_nd")
def scatter_nd(g: Graph, op: Operator, x: str, ids: str, updates: str) -> str:
    how = op.attrs["reduction"]
    return g.node("ScatterND", x, wide_index(g, ids, op.operands[1]), updates, reduction=how)


@emitter("one_hot")
def one_hot(g: Graph, op: Operator, ids: str) -> str:
    """ids == 0, 1, 2, ... along a new axis: ONNX's own operator counts negative ids from behind."""
    out, value = op.outputs[0], op.operands[0]
    axis = op.attrs["axis"] % out.ndim
    classes = g.node("Range", g.size(0), g.size(out.shape[axis]), g.size(1))
    if further := out.ndim - 1 - axis:
        classes = g.node("Unsqueeze", classes, g.ints(*range(1, 1 + further)))
    ids = g.node("Unsqueeze", wide_index(g, ids, value), g.ints(axis))
    return g.node("Cast", g.node("Equal", ids, classes), to=element_type(out.dtype))


@emitter("nonzero")
def nonzero(g: Graph, op: Operator, x: str) -> str:
    if op.operands[0].dtype != "bool":
        x = g.node("Cast", x, to=element_type("bool"))
    return g.node("Transpose", g.node("NonZero", x), perm=(1, 0))
