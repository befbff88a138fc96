"""Reductions of ONNX, and what depends on the order of numbers along an axis."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from noria.convert.onnx.handlers import Node, onnx_op
from noria.convert.onnx.math import dtype_name
from noria.core.dtypes import is_float, to_numpy
from noria.ir.opdef import vocabulary as o
from noria.ops.common import axes_of, shaped
from noria.ops.reduce import reduced_shape

NAMES = ("Sum", "Mean", "Max", "Min", "Prod", "L1", "L2", "LogSum", "LogSumExp", "SumSquare")


@onnx_op(*(f"Reduce{n}" for n in NAMES))
def reduction(node: Node, x: Any, axes: Any = None) -> Any:
    listed = node.axes(axes)
    if not listed and node.attr("noop_with_empty_axes", 0):
        return _of_one(node.op_type, x)
    axis = tuple(listed) if listed else None
    dtype = dtype_name(x)
    out = _reduced(node.op_type, x, axis, bool(node.attr("keepdims", 1)))
    return out if dtype_name(out) == dtype else o.cast(out, dtype=dtype)


def _of_one(kind: str, x: Any) -> Any:
    """Nothing is reduced, but what is done to each element is done."""
    if kind in ("ReduceL1", "ReduceL2"):
        return o.abs(x)
    if kind == "ReduceSumSquare":
        return o.square(x)
    return o.log(x) if kind == "ReduceLogSum" else x


def _reduced(kind: str, x: Any, axis: Any, keepdims: bool) -> Any:
    how = {"axis": axis, "keepdims": keepdims}
    if kind in ("ReduceMax", "ReduceMin"):
        return _extreme(kind, x, **how)
    if kind == "ReduceLogSumExp":
        return o.logsumexp(_float(x), **how)
    if kind == "ReduceMean" and not is_float(dtype_name(x)):
        return o.reduce_mean(o.cast(x, dtype="float64"), **how)
    simple = {"ReduceSum": "reduce_sum", "ReduceMean": "reduce_mean", "ReduceProd": "reduce_prod"}
    if kind in simple:
        return getattr(o, simple[kind])(x, **how)
    if kind == "ReduceL1":
        return o.reduce_sum(o.abs(x), **how)
    if kind == "ReduceLogSum":
        return o.log(_float(o.reduce_sum(x, **how)))
    squares = o.reduce_sum(o.square(x), **how)
    return squares if kind == "ReduceSumSquare" else o.sqrt(_float(squares))


def _float(x: Any) -> Any:
    return x if is_float(dtype_name(x)) else o.cast(x, dtype="float64")


def _extreme(kind: str, x: Any, axis: Any, keepdims: bool) -> Any:
    """Of booleans as of 0 and 1; of nothing: the end of what the dtype has."""
    dtype, shape = dtype_name(x), shaped(x).shape
    if any(shape[a] == 0 for a in axes_of(axis, len(shape))):
        out = reduced_shape(o.fill.infer_fn(shape=shape, value=0, dtype=dtype), axis, keepdims)
        return o.fill(shape=out, value=_end(dtype, kind == "ReduceMin"), dtype=dtype)
    if dtype == "bool":
        x = o.cast(x, dtype="uint8")
    fn = o.reduce_max if kind == "ReduceMax" else o.reduce_min
    return fn(x, axis=axis, keepdims=keepdims)


def _end(dtype: str, top: bool) -> Any:
    if dtype == "bool":
        return top
    if is_float(dtype):
        return math.inf if top else -math.inf
    limits = np.iinfo(to_numpy(dtype))
    return int(limits.max if top else limits.min)


@onnx_op("ArgMax", "ArgMin")
def arg_extreme(node: Node, x: Any) -> Any:
    axis, keepdims = node.attr("axis", 0), bool(node.attr("keepdims", 1))
    fn = o.argmax if node.op_type == "ArgMax" else o.argmin
    if not node.attr("select_last_index", 0):
        return fn(x, axis=axis, keepdims=keepdims)
    at = axis % len(shaped(x).shape)
    turned = o.slice(x, axes=(at,), starts=(None,), stops=(None,), steps=(-1,))
    first = fn(turned, axis=at, keepdims=keepdims)
    size = shaped(x).shape[at]
    last = size - 1 if isinstance(size, int) else o.sub(o.dim_value(dim=size), 1)
    return o.sub(last, first)


@onnx_op("TopK", since=10)
def topk(node: Node, x: Any, k: Any) -> Any:
    (count,) = node.sizes(k, "k")
    return _topk(node, x, count)


@onnx_op("TopK")
def topk_before_10(node: Node, x: Any) -> Any:
    return _topk(node, x, node.need("k"))


def _topk(node: Node, x: Any, count: Any) -> Any:
    return o.topk(
        x,
        k=count,
        axis=node.attr("axis", -1),
        largest=bool(node.attr("largest", 1)),
        sorted=bool(node.attr("sorted", 1)),
    )
