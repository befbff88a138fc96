"""Reductions and orders as ONNX."""

from __future__ import annotations

from typing import Any

from noria.convert.onnx.export_graph import Graph, element_type, emitter
from noria.convert.onnx.export_math import as_number
from noria.convert.onnx.export_shape import reshaped
from noria.ir.program import Operator

REDUCTIONS = {
    "logsumexp": "ReduceLogSumExp", "reduce_max": "ReduceMax", "reduce_mean": "ReduceMean",
    "reduce_min": "ReduceMin", "reduce_prod": "ReduceProd", "reduce_sum": "ReduceSum",
}  # fmt: skip


SUMMED = ("float16", "bfloat16", "float32", "float64", "int32", "int64", "uint32", "uint64")


def _reduction(op_type: str) -> Any:
    def write(g: Graph, op: Operator, x: str) -> str:
        return _reduced(g, op_type, op, x)

    return write


for _name, _op_type in REDUCTIONS.items():
    emitter(_name)(_reduction(_op_type))


def _reduced(g: Graph, op_type: str, op: Operator, x: str, dtype: str | None = None) -> str:
    """dtype: of x, default that of the operator's input."""
    axis, value, out = op.attrs["axis"], op.operands[0], op.outputs[0]
    axes = range(value.ndim) if axis is None else (axis,) if isinstance(axis, int) else axis
    wide = "int64" if out.dtype == "bool" else out.dtype
    if wide != (dtype or value.dtype):
        x = g.node("Cast", x, to=element_type(wide))
    if axes:
        x = g.node(op_type, x, g.ints(*axes), keepdims=op.attrs["keepdims"])
    return x if wide == out.dtype else g.node("Cast", x, to=element_type(out.dtype))


@emitter("reduce_any")
def reduce_any(g: Graph, op: Operator, x: str) -> str:
    return _reduced(g, "ReduceSum", op, _truth(g, op, x), dtype="bool")


@emitter("reduce_all")
def reduce_all(g: Graph, op: Operator, x: str) -> str:
    """None of them is not: ONNX's least of nothing is not true."""
    wrong = g.node("Cast", g.node("Not", _truth(g, op, x)), to=element_type("int64"))
    return g.node("Not", _reduced(g, "ReduceSum", op, wrong, dtype="int64"))


def _truth(g: Graph, op: Operator, x: str) -> str:
    """Whether it is not 0."""
    return x if op.operands[0].dtype == "bool" else g.node("Cast", x, to=element_type("bool"))


@emitter("cumsum")
def cumsum(g: Graph, op: Operator, x: str) -> str:
    how = {k: op.attrs[k] for k in ("exclusive", "reverse")}
    given, out = op.operands[0].dtype, op.outputs[0].dtype
    wide = out if out in SUMMED else "int64"
    x = x if given == wide else g.node("Cast", x, to=element_type(wide))
    x = g.node("CumSum", x, g.size(op.attrs["axis"]), **how)
    return x if wide == out else g.node("Cast", x, to=element_type(out))


def _best(op_type: str) -> Any:
    def write(g: Graph, op: Operator, x: str) -> str:
        axis, x = op.attrs["axis"], as_number(g, x, op.operands[0])
        if axis is not None:
            return g.node(op_type, x, axis=axis, keepdims=op.attrs["keepdims"])
        flat = g.node("Reshape", x, g.ints(-1))
        return reshaped(g, g.node(op_type, flat, axis=0, keepdims=0), op.outputs[0].shape)

    return write


emitter("argmax")(_best("ArgMax"))
emitter("argmin")(_best("ArgMin"))


@emitter("argsort")
def argsort(g: Graph, op: Operator, x: str) -> str:
    axis = op.attrs["axis"]
    count = g.vector(op.operands[0].shape[axis])
    how = {"axis": axis, "largest": op.attrs["descending"], "sorted": 1}
    return g.node("TopK", as_number(g, x, op.operands[0]), count, outputs=2, **how)[1]


@emitter("topk")
def topk(g: Graph, op: Operator, x: str) -> Any:
    how = {k: op.attrs[k] for k in ("axis", "largest", "sorted")}
    return g.node("TopK", x, g.vector(op.attrs["k"]), outputs=2, **how)
