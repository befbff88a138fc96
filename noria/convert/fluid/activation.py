"""Functions of each element."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from noria.convert.fluid.handlers import Op, fluid_op
from noria.convert.fluid.math import number
from noria.ir.opdef import vocabulary as o
from noria.ops import activation as a


def _away_from_zero(x: Any) -> Any:
    """Halves are rounded away from zero, as C does."""
    return o.mul(o.sign(x), o.floor(o.add(o.abs(x), 0.5)))


# the functions by name; `op` gives the attributes
UNARY: dict[str, Callable[[Any, Op], Any]] = {
    "abs": lambda x, op: o.abs(x),
    "acos": lambda x, op: o.acos(x),
    "asin": lambda x, op: o.asin(x),
    "atan": lambda x, op: o.atan(x),
    "brelu": lambda x, op: o.clip(
        x, low=float(op.attr("t_min", 0.0)), high=float(op.attr("t_max", 24.0))
    ),
    "ceil": lambda x, op: o.ceil(x),
    "cos": lambda x, op: o.cos(x),
    "cosh": lambda x, op: o.cosh(x),
    "elu": lambda x, op: o.elu(x, alpha=op.attr("alpha", 1.0)),
    "erf": lambda x, op: o.erf(x),
    "exp": lambda x, op: o.exp(x),
    "expm1": lambda x, op: o.expm1(x),
    "floor": lambda x, op: o.floor(x),
    "gelu": lambda x, op: o.gelu(
        x, approximate="tanh" if op.attr("approximate", False) else "none"
    ),
    "hard_shrink": lambda x, op: a.hard_shrink(x, threshold=op.attr("threshold", 0.5)),
    "hard_sigmoid": lambda x, op: o.hard_sigmoid(
        x, slope=op.attr("slope", 0.2), offset=op.attr("offset", 0.5)
    ),
    "leaky_relu": lambda x, op: o.leaky_relu(x, negative_slope=op.attr("alpha", 0.02)),
    "log": lambda x, op: o.log(x),
    "log10": lambda x, op: o.mul(o.log(x), 0.4342944819032518),
    "log1p": lambda x, op: o.log1p(x),
    "log2": lambda x, op: o.mul(o.log(x), 1.4426950408889634),
    "logsigmoid": lambda x, op: a.log_sigmoid(x),
    "log_softmax": lambda x, op: o.log_softmax(x, axis=op.attr("axis", -1)),
    "mish": lambda x, op: o.mish(x),
    "reciprocal": lambda x, op: o.reciprocal(x),
    "relu": lambda x, op: o.relu(x),
    "relu6": lambda x, op: o.clip(x, low=0.0, high=float(op.attr("threshold", 6.0))),
    "round": lambda x, op: _away_from_zero(x),
    "rsqrt": lambda x, op: o.rsqrt(x),
    "selu": lambda x, op: o.mul(
        o.elu(x, alpha=op.attr("alpha", 1.6732632423543772)),
        float(op.attr("scale", 1.0507009873554805)),
    ),
    "sigmoid": lambda x, op: o.sigmoid(x),
    "sign": lambda x, op: o.sign(x),
    "silu": lambda x, op: o.silu(x),
    "sin": lambda x, op: o.sin(x),
    "sinh": lambda x, op: o.sinh(x),
    "soft_relu": lambda x, op: _soft_relu(x, float(op.attr("threshold", 40.0))),
    "softplus": lambda x, op: o.softplus(
        x, beta=op.attr("beta", 1.0), threshold=op.attr("threshold", float("inf"))
    ),
    "softshrink": lambda x, op: a.soft_shrink(x, threshold=op.attr("lambda", 0.5)),
    "softsign": lambda x, op: a.softsign(x),
    "sqrt": lambda x, op: o.sqrt(x),
    "square": lambda x, op: o.square(x),
    "stanh": lambda x, op: o.mul(
        o.tanh(o.mul(x, float(op.attr("scale_a", 0.67)))), float(op.attr("scale_b", 1.7159))
    ),
    "swish": lambda x, op: a.swish(x, beta=op.attr("beta", 1.0)),
    "tan": lambda x, op: o.tan(x),
    "tanh": lambda x, op: o.tanh(x),
    "tanh_shrink": lambda x, op: a.tanh_shrink(x),
    "thresholded_relu": lambda x, op: a.thresholded_relu(x, threshold=op.attr("threshold", 1.0)),
}


@fluid_op(*UNARY)
def unary(op: Op) -> dict[str, Any]:
    return {"Out": UNARY[op.type](op.input("X"), op)}


def _soft_relu(x: Any, threshold: float) -> Any:
    return o.softplus(o.clip(x, low=-threshold, high=threshold), threshold=float("inf"))


@fluid_op("hard_swish")
def hard_swish(op: Op) -> dict[str, Any]:
    """x * clip(x + offset, 0, threshold) / scale."""
    x = op.input("X")
    numbers = tuple(float(op.attr(n, d)) for n, d in DEFAULT_HARD_SWISH)
    if numbers == (6.0, 6.0, 3.0):
        return {"Out": o.hard_swish(x)}
    threshold, scale, offset = numbers
    gate = o.clip(o.add(x, offset), low=0.0, high=threshold)
    return {"Out": o.mul(x, o.mul(gate, 1.0 / scale))}


DEFAULT_HARD_SWISH = (("threshold", 6.0), ("scale", 6.0), ("offset", 3.0))


@fluid_op("pow")
def power(op: Op) -> dict[str, Any]:
    return {"Out": o.pow(op.input("X"), number(op, "FactorTensor", "factor", 1.0))}


@fluid_op("softmax")
def softmax(op: Op) -> dict[str, Any]:
    return {"Out": o.softmax(op.input("X"), axis=op.attr("axis", -1))}


@fluid_op("maxout")
def maxout(op: Op) -> dict[str, Any]:
    return {"Out": a.maxout(op.input("X"), op.need_attr("groups"), axis=op.attr("axis", 1))}


@fluid_op("prelu")
def prelu(op: Op) -> dict[str, Any]:
    """mode "all": one slope; "channel": one for each channel; "element": one for each element."""
    x, alpha, mode = op.input("X"), op.input("Alpha"), op.attr("mode", "all")
    rank = len(x.shape)
    shapes = {
        "all": (1,) * rank,
        "channel": (1, x.shape[1], *(1,) * (rank - 2)) if rank > 1 else (1,),
        "element": (1, *x.shape[1:]),
    }
    slope = o.reshape(alpha, shape=shapes[mode])
    return {"Out": o.where(o.greater(x, 0.0), x, o.mul(x, slope))}
