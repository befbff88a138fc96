"""Arithmetic of two values, comparisons, and what is computed of a whole value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from noria.convert.fluid.broadcast import aligned
from noria.convert.fluid.handlers import Op, fluid_op
from noria.core.dtypes import is_integer
from noria.core.errors import ShapeError
from noria.ir.opdef import vocabulary as o
from noria.ops.numeric import cast_like, spec_of

Function = Callable[[Any, Any], Any]


def one(x: Any) -> Any:
    """A scalar as Fluid has it: one element, [1]."""
    return o.reshape(x, shape=(1,))


def number(op: Op, slot: str, attr: str, default: Any) -> Any:
    """A number that is a scalar input where the model gives one, else an attribute."""
    given = op.get(slot)
    return op.attr(attr, default) if given is None else o.reshape(given, shape=())


# ---- two values --------------------------------------------------------------------------------


def _binary(op: Op, fn: Function) -> Any:
    x, y = aligned(op.input("X"), op.input("Y"), op.attr("axis", -1))
    return fn(x, y)


def _truncated(x: Any, y: Any) -> Any:
    """Integers are divided towards zero, as C does."""
    if is_integer(spec_of(x).dtype) and is_integer(spec_of(y).dtype):
        size = o.floor_divide(o.abs(x), o.abs(y))
        return o.mul(size, o.mul(o.sign(x), o.sign(y)))
    return o.div(x, y)


def _whole(x: Any, y: Any) -> Any:
    return _truncated(x, y) if is_integer(spec_of(x).dtype) else o.floor(o.div(x, y))


ELEMENTWISE: dict[str, Function] = {
    "elementwise_add": lambda x, y: o.add(x, y),
    "elementwise_sub": lambda x, y: o.sub(x, y),
    "elementwise_mul": lambda x, y: o.mul(x, y),
    "elementwise_div": _truncated,
    "elementwise_max": lambda x, y: o.maximum(x, y),
    "elementwise_min": lambda x, y: o.minimum(x, y),
    "elementwise_pow": lambda x, y: o.pow(x, y),
    "elementwise_mod": lambda x, y: o.remainder(x, y),
    "elementwise_floordiv": _whole,
    "minus": lambda x, y: o.sub(x, y),
}


@fluid_op(*ELEMENTWISE)
def elementwise(op: Op) -> dict[str, Any]:
    out = _binary(op, ELEMENTWISE[op.type])
    return {"Out": _scaled(op, out)}


def _scaled(op: Op, out: Any) -> Any:
    """`Scale_out` of quantised models, which multiplies the result."""
    scale = op.attr("Scale_out", 1.0)
    return out if scale == 1.0 else o.mul(out, scale)


COMPARE: dict[str, Function] = {
    "equal": lambda x, y: o.equal(x, y),
    "not_equal": lambda x, y: o.not_equal(x, y),
    "less_than": lambda x, y: o.less(x, y),
    "less_equal": lambda x, y: o.less_equal(x, y),
    "greater_than": lambda x, y: o.greater(x, y),
    "greater_equal": lambda x, y: o.greater_equal(x, y),
}


@fluid_op(*COMPARE)
def compare(op: Op) -> dict[str, Any]:
    return {"Out": _binary(op, COMPARE[op.type])}


@fluid_op("equal_reduce", "equal_all")
def equal_reduce(op: Op) -> dict[str, Any]:
    x, y = op.input("X"), op.input("Y")
    if tuple(x.shape) != tuple(y.shape) and len(x.shape) == len(y.shape):
        return {"Out": np.array([False])}
    return {"Out": one(o.reduce_all(_binary(op, COMPARE["equal"])))}


@fluid_op("allclose")
def allclose(op: Op) -> dict[str, Any]:
    x, y = op.input("Input"), op.input("Other")
    atol, rtol = op.attr("atol", 1e-8), op.attr("rtol", 1e-5)
    near = o.less_equal(o.abs(o.sub(x, y)), o.add(o.mul(o.abs(y), float(rtol)), float(atol)))
    near = o.logical_or(near, o.equal(x, y))  # infinities
    if op.attr("equal_nan", False):
        near = o.logical_or(near, o.logical_and(o.isnan(x), o.isnan(y)))
    return {"Out": one(o.reduce_all(near))}


LOGICAL: dict[str, Function] = {
    "logical_and": lambda x, y: o.logical_and(x, y),
    "logical_or": lambda x, y: o.logical_or(x, y),
    "logical_xor": lambda x, y: o.logical_xor(x, y),
}


@fluid_op(*LOGICAL)
def logical(op: Op) -> dict[str, Any]:
    return {"Out": LOGICAL[op.type](op.input("X"), op.input("Y"))}


@fluid_op("logical_not")
def logical_not(op: Op) -> dict[str, Any]:
    return {"Out": o.logical_not(op.input("X"))}


@fluid_op("kron")
def kron(op: Op) -> dict[str, Any]:
    x, y = op.input("X"), op.input("Y")
    rank = max(len(x.shape), len(y.shape))
    left = (1,) * (rank - len(x.shape)) + tuple(x.shape)
    right = (1,) * (rank - len(y.shape)) + tuple(y.shape)
    spread = o.mul(
        o.reshape(x, shape=[s for d in left for s in (d, 1)]),
        o.reshape(y, shape=[s for d in right for s in (1, d)]),
    )
    return {"Out": o.reshape(spread, shape=[a * b for a, b in zip(left, right, strict=True)])}


@fluid_op("cross")
def cross(op: Op) -> dict[str, Any]:
    x, y = op.input("X"), op.input("Y")
    axis = op.attr("dim", 9)
    if axis == 9:  # the highest rank Fluid has: not said
        axis = next((i for i, d in enumerate(x.shape) if d == 3), None)
    if axis is None or x.shape[axis] != 3:
        raise ShapeError("a cross product needs an axis of size 3", got=str(tuple(x.shape)))
    a, b = (o.split(v, num=3, axis=axis) for v in (x, y))
    parts = [o.sub(o.mul(a[i], b[j]), o.mul(a[j], b[i])) for i, j in ((1, 2), (2, 0), (0, 1))]
    return {"Out": o.concat(*parts, axis=axis)}


@fluid_op("dist")
def dist(op: Op) -> dict[str, Any]:
    apart = o.abs(o.sub(op.input("X"), op.input("Y")))
    return {"Out": one(power_sum(apart, op.attr("p", 2.0), None, False))}


# ---- one value ---------------------------------------------------------------------------------


@fluid_op("scale")
def scale(op: Op) -> dict[str, Any]:
    x = op.input("X")
    by, bias = number(op, "ScaleTensor", "scale", 1.0), op.attr("bias", 0.0)
    if is_integer(spec_of(x).dtype) and isinstance(by, float):
        by, bias = int(by), int(bias)
    by = by if isinstance(by, (int, float)) else cast_like(by, x)
    if op.attr("bias_after_scale", True):
        out = x if isinstance(by, (int, float)) and by == 1 else o.mul(x, by)
        out = out if bias == 0 else o.add(out, bias)
    else:
        out = o.mul(x if bias == 0 else o.add(x, bias), by)
    return {"Out": o.identity(out) if out is x else out}


@fluid_op("increment")
def increment(op: Op) -> dict[str, Any]:
    x = op.input("X")
    step = op.attr("step", 1.0)
    return {"Out": o.add(x, int(step) if is_integer(spec_of(x).dtype) else float(step))}


@fluid_op("cast")
def cast(op: Op) -> dict[str, Any]:
    return {"Out": o.cast(op.input("X"), dtype=op.dtype("out_dtype"))}


@fluid_op("clip")
def clip(op: Op) -> dict[str, Any]:
    x = op.input("X")
    low, high = number(op, "Min", "min", None), number(op, "Max", "max", None)
    if all(v is None or isinstance(v, (int, float)) for v in (low, high)):
        return {"Out": o.clip(x, low=low, high=high)}
    out = x if low is None else o.maximum(x, low)
    return {"Out": out if high is None else o.minimum(out, high)}


@fluid_op("sum")
def add_all(op: Op) -> dict[str, Any]:
    total, *others = op.inputs("X")
    for x in others:
        total = o.add(total, x)
    return {"Out": total if others else o.identity(total)}


@fluid_op("isfinite", "isinf", "isnan")
def finite(op: Op) -> dict[str, Any]:
    """Of the whole value: isfinite whether all are, the others whether any is."""
    x = op.input("X")
    if op.type == "isfinite":
        return {"Out": one(o.reduce_all(o.isfinite(x)))}
    return {"Out": one(o.reduce_any(o.isinf(x) if op.type == "isinf" else o.isnan(x)))}


@fluid_op("isfinite_v2", "isinf_v2", "isnan_v2")
def finite_each(op: Op) -> dict[str, Any]:
    tests = {"isfinite_v2": o.isfinite, "isinf_v2": o.isinf, "isnan_v2": o.isnan}
    return {"Out": tests[op.type](op.input("X"))}


# ---- norms -------------------------------------------------------------------------------------


def power_sum(size: Any, p: float, axis: Any, keepdims: bool) -> Any:
    """The p-norm of what is not negative, for any p, 0 and infinities included."""
    how = {"axis": axis, "keepdims": keepdims}
    if p == float("inf"):
        return o.reduce_max(size, **how)
    if p == float("-inf"):
        return o.reduce_min(size, **how)
    if p == 0:
        return o.reduce_sum(cast_like(o.not_equal(size, 0.0), size), **how)
    if p == 1:
        return o.reduce_sum(size, **how)
    if p == 2:
        return o.sqrt(o.reduce_sum(o.square(size), **how))
    return o.pow(o.reduce_sum(o.pow(size, float(p)), **how), 1.0 / p)


@fluid_op("p_norm")
def p_norm(op: Op) -> dict[str, Any]:
    x, axis, keep = op.input("X"), op.attr("axis", -1), bool(op.attr("keepdim", False))
    axis = None if op.attr("asvector", False) else axis
    out = power_sum(o.abs(x), op.attr("porder", 2.0), axis, keep)
    return {"Out": out if out.shape else one(out)}


@fluid_op("norm", "l2_normalize")
def norm(op: Op) -> dict[str, Any]:
    x = op.input("X")
    squares = o.reduce_sum(o.square(x), axis=op.attr("axis", -1), keepdims=True)
    size = o.sqrt(o.add(squares, float(op.attr("epsilon", 1e-10))))
    return {"Norm": size, "Out": o.div(x, size)}


@fluid_op("l1_norm")
def l1_norm(op: Op) -> dict[str, Any]:
    return {"Out": one(o.reduce_sum(o.abs(op.input("X"))))}


@fluid_op("squared_l2_norm")
def squared_l2_norm(op: Op) -> dict[str, Any]:
    return {"Out": one(o.reduce_sum(o.square(op.input("X"))))}


@fluid_op("cos_sim")
def cos_sim(op: Op) -> dict[str, Any]:
    x, y = (o.reshape(v, shape=(v.shape[0], -1)) for v in (op.input("X"), op.input("Y")))
    xn, yn = (o.sqrt(o.reduce_sum(o.square(v), axis=1, keepdims=True)) for v in (x, y))
    out = o.div(o.reduce_sum(o.mul(x, y), axis=1, keepdims=True), o.mul(xn, yn))
    return {"Out": out, "XNorm": xn, "YNorm": yn}


@fluid_op("cvm")
def cvm(op: Op) -> dict[str, Any]:
    use = bool(op.attr("use_cvm", True))
    return {"Y": o.continuous_value_model(op.input("X"), op.input("CVM"), use_counts=use)}
