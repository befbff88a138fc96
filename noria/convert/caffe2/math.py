"""Elementwise operators: arithmetic, functions of one number, comparisons, bits."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np

from noria.convert.caffe2.common import as_like, behind, numel, pullback, scalar
from noria.convert.caffe2.handlers import Node, caffe2_op
from noria.core.dtypes import is_float, is_integer, to_numpy
from noria.core.errors import ArgumentError
from noria.ir.opdef import vocabulary as o
from noria.ops.activation import softsign

# ---- of one value ------------------------------------------------------------------------------

UNARY: dict[str, Callable[[Any], Any]] = {
    "Abs": lambda x: o.abs(x),
    "Acos": lambda x: o.acos(x),
    "Asin": lambda x: o.asin(x),
    "Atan": lambda x: o.atan(x),
    "BitwiseNot": lambda x: o.bitwise_not(x),
    "Cbrt": lambda x: o.mul(o.sign(x), o.pow(o.abs(x), 1.0 / 3.0)),
    "Ceil": lambda x: o.ceil(x),
    "Cos": lambda x: o.cos(x),
    "Cosh": lambda x: o.cosh(x),
    "Cube": lambda x: o.mul(o.square(x), x),
    "Erf": lambda x: o.erf(x),
    "Exp": lambda x: o.exp(x),
    "Floor": lambda x: o.floor(x),
    "Log": lambda x: o.log(x),
    "Log1p": lambda x: o.log1p(x),
    "Negative": lambda x: o.neg(x),
    "Not": lambda x: o.logical_not(x),
    "Reciprocal": lambda x: o.reciprocal(x),
    "RSqrt": lambda x: o.rsqrt(x),
    "Rsqrt": lambda x: o.rsqrt(x),
    "Sigmoid": lambda x: o.sigmoid(x),
    "Sign": lambda x: o.sign(x),
    "Sin": lambda x: o.sin(x),
    "Sinh": lambda x: o.sinh(x),
    "Softplus": lambda x: o.softplus(x),
    "Softsign": softsign,
    "Sqr": lambda x: o.square(x),
    "Sqrt": lambda x: o.sqrt(x),
    "Tan": lambda x: o.tan(x),
    "Tanh": lambda x: o.tanh(x),
}


def _define_unary(name: str, fn: Callable[[Any], Any]) -> None:
    @caffe2_op(name)
    def handler(op, x):
        return fn(x)


for _name, _fn in UNARY.items():
    _define_unary(_name, _fn)

# gradients from x, or from y and what it tells of the slope
BY_INPUT: tuple[str, ...] = (
    "Abs",
    "Acos",
    "Asin",
    "Atan",
    "Cos",
    "Cosh",
    "Cube",
    "Erf",
    "Log",
    "Sin",
    "Sinh",
)
BY_INPUT += ("Softsign", "Sqr", "Tan")
BY_OUTPUT: dict[str, Callable[[Any], Any]] = {
    "Cbrt": lambda y: o.div(1.0 / 3.0, o.square(y)),
    "Reciprocal": lambda y: o.neg(o.square(y)),
    "RSqrt": lambda y: o.mul(o.mul(o.square(y), y), -0.5),
    "Rsqrt": lambda y: o.mul(o.mul(o.square(y), y), -0.5),
    "Sigmoid": lambda y: o.mul(y, o.sub(1.0, y)),
    "Softplus": lambda y: o.sub(1.0, o.exp(o.neg(y))),
    "Sqrt": lambda y: o.div(0.5, y),
    "Tanh": lambda y: o.sub(1.0, o.square(y)),
}


GRADIENT_FIRST = ("Cbrt", "Cube", "RSqrt", "Rsqrt")  # operators that take (dy, x) or (dy, y)


def _define_gradient(name: str) -> None:
    @caffe2_op(f"{name}Gradient")
    def handler(op, x, dy):
        x, dy = (dy, x) if name in GRADIENT_FIRST else (x, dy)
        if name in BY_OUTPUT:
            return o.mul(dy, BY_OUTPUT[name](x))
        return pullback(UNARY[name], [x], [dy], [0])[0]


for _name in (*BY_INPUT, *BY_OUTPUT):
    _define_gradient(_name)


@caffe2_op("Logit")
def logit(op, x):
    eps = op.attr("eps", 1e-6)
    x = o.clip(x, low=eps, high=1.0 - eps)
    return o.log(o.div(x, o.sub(1.0, x)))


@caffe2_op("LogitGradient")
def logit_gradient(op, x, dy):
    eps = op.attr("eps", 1e-6)
    inside = o.logical_and(o.greater_equal(x, eps), o.less_equal(x, 1.0 - eps))
    return o.where(inside, o.div(dy, o.mul(x, o.sub(1.0, x))), 0.0)


@caffe2_op("Clip")
def clip(op, x):
    return o.clip(x, **_limits(op))


@caffe2_op("ClipGradient")
def clip_gradient(op, y, dy):
    limits = _limits(op)
    if "low" in limits:
        dy = o.where(o.greater(y, limits["low"]), dy, 0.0)
    return o.where(o.less(y, limits["high"]), dy, 0.0) if "high" in limits else dy


def _limits(op: Node) -> dict[str, float]:
    found = {
        new: op.attr(old, 0.0) for old, new in (("min", "low"), ("max", "high")) if op.has(old)
    }
    return found


@caffe2_op("Scale")
def scale(op, x):
    return o.mul(x, op.attr("scale", 1.0))


@caffe2_op("Mod")
def mod(op, x):
    """C's remainder, which has the sign of x, or that of the divisor (sign_follow_divisor)."""
    divisor = op.attr("divisor", 0)
    if divisor == 0:
        raise ArgumentError("a divisor that is not 0 is needed")
    if op.attr("sign_follow_divisor", False):
        return o.remainder(x, divisor)
    return o.sub(x, o.mul(_truncated(x, divisor), divisor))


@caffe2_op("StumpFunc")
def stump_func(op, x):
    high, low = op.attr("high_value", 0.0), op.attr("low_value", 0.0)
    above = o.greater(x, op.attr("threshold", 0.0))
    return o.where(above, _like(x, high), _like(x, low))


def _like(x: Any, value: float) -> Any:
    return o.fill(shape=x.shape, value=value, dtype=x.dtype)


@caffe2_op("StumpFuncIndex")
def stump_func_index(op, x):
    """Positions of what is not above the threshold, and of what is."""
    above = o.greater(o.reshape(x, shape=(numel(x),)), op.attr("threshold", 0.0))
    return tuple(
        o.squeeze(o.nonzero(side, size=op.symbol("stumps")), axis=1)
        for side in (o.logical_not(above), above)
    )


@caffe2_op("IsNaN")
def is_nan(op, x):
    return o.cast(o.isnan(x), dtype="uint8")


@caffe2_op("NanCheck")
def nan_check(op, x, *others):
    """x itself. What is not finite is found by the Executor's `check_finite`."""
    return o.identity(x)


@caffe2_op("ReplaceNaN")
def replace_nan(op, x):
    return o.where(o.isnan(x), op.attr("value", 0.0), x)


# ---- of two values -----------------------------------------------------------------------------


def _truncated(a: Any, b: Any) -> Any:
    """Quotient of integers towards zero, as C has it."""
    q = o.floor_divide(a, b)
    left = o.sub(a, o.mul(q, b))
    up = o.logical_and(o.less(q, 0), o.not_equal(left, 0))
    return o.add(q, o.cast(up, dtype=q.dtype))


def divided(a: Any, b: Any) -> Any:
    """a / b, towards zero for integers."""
    return _truncated(a, b) if is_integer(a.dtype) else o.div(a, b)


BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "Add": lambda a, b: o.logical_or(a, b) if a.dtype == "bool" else o.add(a, b),
    "Sub": lambda a, b: o.sub(a, b),
    "Mul": lambda a, b: o.logical_and(a, b) if a.dtype == "bool" else o.mul(a, b),
    "Div": divided,
    "EQ": lambda a, b: o.equal(a, b),
    "NE": lambda a, b: o.not_equal(a, b),
    "LT": lambda a, b: o.less(a, b),
    "LE": lambda a, b: o.less_equal(a, b),
    "GT": lambda a, b: o.greater(a, b),
    "GE": lambda a, b: o.greater_equal(a, b),
    "And": lambda a, b: o.logical_and(a, b),
    "Or": lambda a, b: o.logical_or(a, b),
    "Xor": lambda a, b: o.logical_xor(a, b),
    "BitwiseAnd": lambda a, b: o.bitwise_and(a, b),
    "BitwiseOr": lambda a, b: o.bitwise_or(a, b),
    "BitwiseXor": lambda a, b: o.bitwise_xor(a, b),
}
ON_BITS = {"BitwiseAnd": "And", "BitwiseOr": "Or", "BitwiseXor": "Xor"}


def _define_binary(name: str) -> None:
    @caffe2_op(name)
    def handler(op, a, b):
        word = ON_BITS.get(name, name) if a.dtype == "bool" else name
        return BINARY[word](a, as_like(op, a, b))


for _name in BINARY:
    _define_binary(_name)


@caffe2_op("Pow")
def power(op, x, exponent=None):
    if exponent is not None:
        return o.pow(x, as_like(op, x, exponent))
    return o.cast(o.pow(x, op.attr("exponent", 0.0)), dtype=x.dtype)


@caffe2_op("AddGradient", "SubGradient", "MulGradient")
def arithmetic_gradient(op, dc, a, b):
    fn = BINARY[op.type.removesuffix("Gradient")]
    return pullback(lambda x, y: fn(x, as_like(op, x, y)), [a, b], [dc], [0, 1])


@caffe2_op("DivGradient")
def div_gradient(op, *given):
    """(dC, A, B), or in older nets (B, C, dC): C is the quotient."""
    if len(given) == 3:
        b, c, dc = given
        db = o.neg(o.div(o.mul(dc, c), as_like(op, c, b)))
        return o.div(dc, as_like(op, c, b)), o.sum_to(db, shape=_legacy_shape(op, c, b, db))
    dc, a, b, c = given
    return pullback(lambda x, y: divided(x, as_like(op, x, y)), [a, b], [dc], [0, 1])


def _legacy_shape(op: Node, c: Any, b: Any, db: Any) -> Any:
    return as_like(op, c, b).shape


@caffe2_op("PowGradient")
def pow_gradient(op, x, exponent, *rest):
    """(X, exponent, Y, dY), or (X, Y, dY) where the exponent is an argument."""
    if len(rest) == 1:
        n = op.attr("exponent", 0.0)
        return o.mul(o.mul(rest[0], n), o.pow(x, n - 1.0))
    return pullback(lambda a, b: o.pow(a, as_like(op, a, b)), [x, exponent], rest[1:], [0, 1])


@caffe2_op("SquaredDifference")
def squared_difference(op, a, b):
    return o.square(o.sub(a, as_like(op, a, b)))


# ---- of any number -----------------------------------------------------------------------------


@caffe2_op("Sum")
def sum_(op, *xs):
    return reduce(o.add, xs) if len(xs) > 1 else o.identity(*xs)


@caffe2_op("Mean")
def mean(op, *xs):
    return o.mul(reduce(o.add, xs), 1.0 / len(xs)) if len(xs) > 1 else o.identity(*xs)


@caffe2_op("MeanGradient")
def mean_gradient(op, dy):
    part = o.mul(dy, 1.0 / len(op.outputs))
    return (part,) * len(op.outputs)


@caffe2_op("Max")
def max_(op, *xs):
    return reduce(o.maximum, xs) if len(xs) > 1 else o.identity(*xs)


@caffe2_op("Min")
def min_(op, *xs):
    return reduce(o.minimum, xs) if len(xs) > 1 else o.identity(*xs)


@caffe2_op("MaxGradient", "MinGradient")
def extreme_gradient(op, y, dy, *xs):
    """The gradient goes to every input that is the extreme one."""
    return tuple(o.where(o.equal(x, y), dy, 0.0) for x in xs)


@caffe2_op("WeightedSum")
def weighted_sum(op, *pairs):
    terms = [o.mul(x, scalar(w)) for x, w in zip(pairs[::2], pairs[1::2], strict=True)]
    return reduce(o.add, terms)


@caffe2_op("WeightedSumGradient")
def weighted_sum_gradient(op, dy, *pairs):
    weights = pairs[1::2]
    outs = tuple(o.mul(dy, scalar(w)) for w in weights)
    if op.attr("grad_on_w", False):
        outs += tuple(o.reshape(o.reduce_sum(o.mul(dy, x)), shape=(1,)) for x in pairs[::2])
    return outs


@caffe2_op("ScatterWeightedSum", "WeightedScatterSum")
def scatter_weighted_sum(op, x, w0, ids, *pairs):
    """Rows of x at ids are multiplied by w0, each time anew; then rows of every pair are added."""
    ids = o.unsqueeze(o.cast(ids, dtype="int64"), axis=1)
    factors = o.broadcast_to(o.cast(scalar(w0), dtype=x.dtype), shape=(ids.shape[0], *x.shape[1:]))
    out = o.scatter_nd(x, ids, factors, reduction="mul")
    for rows, w in zip(pairs[::2], pairs[1::2], strict=True):
        out = o.scatter_nd(out, ids, o.mul(rows, scalar(w)), reduction="add")
    return out


# ---- choice ------------------------------------------------------------------------------------


@caffe2_op("Where")
def where(op, chosen, x, y):
    """x where the condition holds, else y; broadcast_on_rows: one condition a row."""
    if op.attr("broadcast_on_rows", 0) and len(x.shape) > 1:
        chosen = o.unsqueeze(chosen, axis=tuple(range(1, len(x.shape))))
    return o.where(chosen, x, y)


@caffe2_op("IsMemberOf")
def is_member_of(op, x):
    """Whether each element is one of the argument `value`."""
    values = op.floats("value") if is_float(x.dtype) else op.ints("value")
    listed = np.array(values, to_numpy(x.dtype))
    return o.reduce_any(o.equal(o.unsqueeze(x, axis=len(x.shape)), listed), axis=len(x.shape))


@caffe2_op("SquareRootDivide")
def square_root_divide(op, x, scale):
    """Each row by the square root of its scale; rows of scale 0 stay as they are."""
    root = o.sqrt(o.cast(scale, dtype=x.dtype))
    root = o.where(o.equal(scale, 0), 1.0, root)
    return o.div(x, o.unsqueeze(root, axis=tuple(range(1, len(x.shape)))))


@caffe2_op("RowMul")
def row_mul(op, x, w):
    """Each row of x times its number of w [N]."""
    return o.mul(x, behind(o.reshape(w, shape=(x.shape[0],)), len(x.shape) - 1))


@caffe2_op("SumInt")
def sum_int(op, *xs):
    return reduce(o.add, xs) if len(xs) > 1 else o.identity(*xs)


@caffe2_op("SumRelu")
def sum_relu(op, *xs):
    return o.relu(sum_(op, *xs))


@caffe2_op("SumReduceLike")
def sum_reduce_like(op, x, like):
    """x summed to the shape that broadcasts to it, as the second input of Add would stand."""
    beside = as_like(op, x, like)
    return o.reshape(o.sum_to(x, shape=beside.shape), shape=like.shape)


@caffe2_op("Perplexity")
def perplexity(op, x):
    """The geometric mean of 1 / x, over all of it."""
    return o.exp(o.neg(o.reduce_mean(o.log(x))))


@caffe2_op("ByteWeightDequant")
def byte_weight_dequant(op, x):
    """uint8 from `min` to `max` as float32."""
    low, high = op.attr("min", -3.0), op.attr("max", 3.0)
    out = o.add(o.mul(o.cast(x, dtype="float32"), (high - low) / 255.0), low)
    return o.reshape(out, shape=tuple(op.ints("shape", [-1])))


@caffe2_op("HasElements", "IsEmpty")
def has_elements(op, *xs):
    """Whether any input holds a number, or none does."""
    found = [o.greater(o.dim_value(dim=numel(x)), 0) for x in xs]
    some = reduce(o.logical_or, found)
    return some if op.type == "HasElements" else o.logical_not(some)
