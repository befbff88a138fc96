"""Trigonometric and hyperbolic functions and their inverses, element by element, of floats.

Angles are in radians. Outside their domain the inverses are NaN.
"""

from __future__ import annotations

from typing import Any

from noria.ir.opdef import op
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Spec
from noria.ops.common import need_float
from noria.ops.elementwise import IN_PLACE_1
from noria.ops.numeric import in_float32


def _same(x: Spec) -> Spec:
    need_float(x)
    return x


def _one(x: Any) -> Any:
    return o.fill(shape=(), value=1.0, dtype=x.dtype)


@op(overwrites=IN_PLACE_1)
def tan(x):
    """The tangent."""
    return _same(x)


@tan.compute
@in_float32
def _(xp, x):
    return xp.tan(x)


@tan.grad
def _(out, g):
    return o.mul(g, o.add(o.square(out), _one(out)))


@op(overwrites=IN_PLACE_1)
def asin(x):
    """The angle between -pi/2 and pi/2 whose sine is x."""
    return _same(x)


@asin.compute
@in_float32
def _(xp, x):
    return xp.arcsin(x)


@asin.grad
def _(x, g):
    return o.mul(g, o.rsqrt(_one_minus_square(x)))


@op(overwrites=IN_PLACE_1)
def acos(x):
    """The angle between 0 and pi whose cosine is x."""
    return _same(x)


@acos.compute
@in_float32
def _(xp, x):
    return xp.arccos(x)


@acos.grad
def _(x, g):
    return o.neg(o.mul(g, o.rsqrt(_one_minus_square(x))))


@op(overwrites=IN_PLACE_1)
def atan(x):
    """The angle between -pi/2 and pi/2 whose tangent is x."""
    return _same(x)


@atan.compute
@in_float32
def _(xp, x):
    return xp.arctan(x)


@atan.grad
def _(x, g):
    return o.div(g, o.add(o.square(x), _one(x)))


@op(overwrites=IN_PLACE_1)
def sinh(x):
    """(exp(x) - exp(-x)) / 2."""
    return _same(x)


@sinh.compute
@in_float32
def _(xp, x):
    return xp.sinh(x)


@sinh.grad
def _(x, g):
    return o.mul(g, o.cosh(x))


@op(overwrites=IN_PLACE_1)
def cosh(x):
    """(exp(x) + exp(-x)) / 2."""
    return _same(x)


@cosh.compute
@in_float32
def _(xp, x):
    return xp.cosh(x)


@cosh.grad
def _(x, g):
    return o.mul(g, o.sinh(x))


@op(overwrites=IN_PLACE_1)
def asinh(x):
    """log(x + sqrt(x^2 + 1)), the inverse of sinh."""
    return _same(x)


@asinh.compute
@in_float32
def _(xp, x):
    return xp.arcsinh(x)


@asinh.grad
def _(x, g):
    return o.mul(g, o.rsqrt(o.add(o.square(x), _one(x))))


@op(overwrites=IN_PLACE_1)
def acosh(x):
    """log(x + sqrt(x^2 - 1)), the inverse of cosh, for x >= 1."""
    return _same(x)


@acosh.compute
@in_float32
def _(xp, x):
    return xp.arccosh(x)


@acosh.grad
def _(x, g):
    one = _one(x)  # by factors: x^2 - 1 cancels near 1
    return o.mul(g, o.rsqrt(o.mul(o.sub(x, one), o.add(x, one))))


@op(overwrites=IN_PLACE_1)
def atanh(x):
    """log((1 + x) / (1 - x)) / 2, the inverse of tanh."""
    return _same(x)


@atanh.compute
@in_float32
def _(xp, x):
    return xp.arctanh(x)


@atanh.grad
def _(x, g):
    return o.div(g, _one_minus_square(x))


def _one_minus_square(x: Any) -> Any:
    """1 - x^2 by its factors, which does not cancel near 1."""
    one = _one(x)
    return o.mul(o.sub(one, x), o.add(one, x))
