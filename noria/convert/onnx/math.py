"""Arithmetic, comparisons, logic, bits and mathematical functions of ONNX."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np

from noria.convert.onnx.handlers import Node, onnx_op, scalar
from noria.core.dtypes import as_dtype, is_float, is_integer
from noria.core.errors import FormatError
from noria.ir.opdef import vocabulary as o
from noria.ops.common import shaped


def dtype_name(x: Any) -> str:
    """The dtype of a Value or an array as Programs call it."""
    return as_dtype(x.dtype)


def is_text(x: Any) -> bool:
    """Whether it is an array of strings, which only a conversion can compute on."""
    return isinstance(x, np.ndarray) and x.dtype.kind == "O"


# ---- two inputs --------------------------------------------------------------------------------


def quotient(x: Any, y: Any) -> Any:
    """x / y; of integers cut off towards zero."""
    if is_float(dtype_name(x)):
        return o.div(x, y)
    return o.floor_divide(o.sub(x, o.fmod(x, y)), y)


def power(x: Any, y: Any) -> Any:
    """x to the power y, in the dtype of x."""
    dtype = dtype_name(x)
    if is_integer(dtype) and is_float(dtype_name(y)):
        wide = o.pow(o.cast(x, dtype="float64"), o.cast(y, dtype="float64"))
        return o.cast(wide, dtype=dtype)
    return o.pow(x, o.cast(y, dtype=dtype))


_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "Add": lambda x, y: o.add(x, y),
    "Sub": lambda x, y: o.sub(x, y),
    "Mul": lambda x, y: o.mul(x, y),
    "Div": quotient,
    "Pow": power,
    "And": lambda x, y: o.logical_and(x, y),
    "Or": lambda x, y: o.logical_or(x, y),
    "Xor": lambda x, y: o.logical_xor(x, y),
    "Equal": lambda x, y: o.equal(x, y),
    "Less": lambda x, y: o.less(x, y),
    "Greater": lambda x, y: o.greater(x, y),
    "LessOrEqual": lambda x, y: o.less_equal(x, y),
    "GreaterOrEqual": lambda x, y: o.greater_equal(x, y),
    "BitwiseAnd": lambda x, y: o.bitwise_and(x, y),
    "BitwiseOr": lambda x, y: o.bitwise_or(x, y),
    "BitwiseXor": lambda x, y: o.bitwise_xor(x, y),
}


@onnx_op(*_ARITHMETIC, since=7)
def binary(node: Node, x: Any, y: Any) -> Any:
    if is_text(x) or is_text(y):  # Equal takes them
        return np.asarray(node.const(x, "x") == node.const(y, "y"))
    return _ARITHMETIC[node.op_type](x, y)


@onnx_op("Add", "Sub", "Mul", "Div", "Pow", "And", "Or", "Xor", "Equal", "Less", "Greater")
def binary_before_7(node: Node, x: Any, y: Any) -> Any:
    """Broadcasting was asked for: the axes of y are those of x from `axis` on."""
    if node.attr("broadcast", 0) and "axis" in node.attrs:
        rank, at = len(shaped(x).shape), node.attr("axis")
        behind = rank - (at % rank) - len(shaped(y).shape)
        if behind > 0:
            last = len(shaped(y).shape)
            y = o.unsqueeze(y, axis=tuple(range(last, last + behind)))
    return _ARITHMETIC[node.op_type](x, y)


@onnx_op("Mod")
def mod(node: Node, x: Any, y: Any) -> Any:
    if node.attr("fmod", 0):
        return o.fmod(x, y)
    return o.remainder(x, y)


@onnx_op("BitShift")
def bit_shift(node: Node, x: Any, y: Any) -> Any:
    direction = node.need("direction")
    if direction not in ("LEFT", "RIGHT"):
        raise FormatError("bits are shifted LEFT or RIGHT", where=str(node), got=repr(direction))
    return o.shift_left(x, y) if direction == "LEFT" else o.shift_right(x, y)


# ---- any number of inputs ----------------------------------------------------------------------


@onnx_op("Max", "Min", "Sum")
def variadic(node: Node, *xs: Any) -> Any:
    return reduce({"Max": o.maximum, "Min": o.minimum, "Sum": o.add}[node.op_type], xs)


@onnx_op("Mean")
def mean(node: Node, *xs: Any) -> Any:
    return o.div(reduce(o.add, xs), float(len(xs)))


# ---- one input ---------------------------------------------------------------------------------

_UNARY = {
    "Abs": "abs",
    "Acos": "acos",
    "Acosh": "acosh",
    "Asin": "asin",
    "Asinh": "asinh",
    "Atan": "atan",
    "Atanh": "atanh",
    "BitwiseNot": "bitwise_not",
    "Ceil": "ceil",
    "Cos": "cos",
    "Cosh": "cosh",
    "Erf": "erf",
    "Exp": "exp",
    "Floor": "floor",
    "IsNaN": "isnan",
    "Log": "log",
    "Neg": "neg",
    "Not": "logical_not",
    "Reciprocal": "reciprocal",
    "Round": "round",
    "Sign": "sign",
    "Sin": "sin",
    "Sinh": "sinh",
    "Sqrt": "sqrt",
    "Tan": "tan",
    "Tanh": "tanh",
}


@onnx_op(*_UNARY)
def unary(node: Node, x: Any) -> Any:
    return getattr(o, _UNARY[node.op_type])(x)


@onnx_op("IsInf")
def is_inf(node: Node, x: Any) -> Any:
    positive, negative = node.attr("detect_positive", 1), node.attr("detect_negative", 1)
    found = o.isinf(x)
    if positive and negative:
        return found
    if not positive and not negative:
        return o.logical_and(found, o.logical_not(found))
    side = o.greater(x, 0.0) if positive else o.less(x, 0.0)
    return o.logical_and(found, side)


@onnx_op("Clip", since=11)
def clip(node: Node, x: Any, low: Any = None, high: Any = None) -> Any:
    if low is not None:
        x = o.maximum(x, low)
    return x if high is None else o.minimum(x, high)


@onnx_op("Clip")
def clip_before_11(node: Node, x: Any) -> Any:
    return o.clip(x, low=node.attr("min"), high=node.attr("max"))


@onnx_op("Where")
def where(node: Node, condition: Any, x: Any, y: Any) -> Any:
    if is_text(x) or is_text(y):
        chosen = node.const(condition, "the condition")
        return np.where(chosen, node.const(x, "x"), node.const(y, "y"))
    return o.where(condition, x, y)


@onnx_op("CumSum", "CumProd")
def cumulative(node: Node, x: Any, axis: Any) -> Any:
    how = {
        "axis": int(scalar(node.const(axis, "the axis"))),
        "exclusive": bool(node.attr("exclusive", 0)),
        "reverse": bool(node.attr("reverse", 0)),
    }
    total = o.cumsum(x, **how) if node.op_type == "CumSum" else o.cumprod(x, **how)
    return o.cast(total, dtype=dtype_name(x))
