"""Elementwise arithmetic, activations, comparisons."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from noria.convert.fluid.broadcast import aligned
from noria.convert.fluid.handlers import Op, fluid_op
from noria.core.dtypes import is_integer
from noria.ir.opdef import vocabulary as o
from noria.ops.numeric import spec_of

# ---- two values --------------------------------------------------------------------------------


def _binary(op: Op, fn: Callable[[Any, Any], Any]) -> dict[str, Any]:
    x, y = aligned(op.input("X"), op.input("Y"), op.attr("axis", -1))
    return {"Out": fn(x, y)}


def _divided(x: Any, y: Any) -> Any:
    """Integers are divided towards zero, as C does."""
    if is_integer(spec_of(x).dtype) and is_integer(spec_of(y).dtype):
        size = o.floor_divide(o.abs(x), o.abs(y))
        return o.mul(size, o.mul(o.sign(x), o.sign(y)))
    return o.div(x, y)


def _floored(x: Any, y: Any) -> Any:
    return _divided(x, y) if is_integer(spec_of(x).dtype) else o.floor(o.div(x, y))


ELEMENTWISE: dict[str, Callable[[Any, Any], Any]] = {
    "elementwise_add": lambda x, y: o.add(x, y),
    "elementwise_sub": lambda x, y: o.sub(x, y),
    "elementwise_mul": lambda x, y: o.mul(x, y),
    "elementwise_div": _divided,
    "elementwise_max": lambda x, y: o.maximum(x, y),
    "elementwise_min": lambda x, y: o.minimum(x, y),
    "elementwise_pow": lambda x, y: o.pow(x, y),
    "elementwise_mod": lambda x, y: o.remainder(x, y),
    "elementwise_floordiv": _floored,
    "minus": lambda x, y: o.sub(x, y),
}


@fluid_op(*ELEMENTWISE)
def elementwise(op: Op) -> dict[str, Any]:
    return _binary(op, ELEMENTWISE[op.type])


COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "equal": lambda x, y: o.equal(x, y),
    "not_equal": lambda x, y: o.not_equal(x, y),
    "less_than": lambda x, y: o.less(x, y),
    "less_equal": lambda x, y: o.less_equal(x, y),
    "greater_than": lambda x, y: o.greater(x, y),
    "greater_equal": lambda x, y: o.greater_equal(x, y),
}


@fluid_op(*COMPARE)
def compare(op: Op) -> dict[str, Any]:
    return _binary(op, COMPARE[op.type])


LOGICAL = {
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
