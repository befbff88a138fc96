"""Arithmetic and mathematical functions, element by element, with NumPy broadcasting.

Two arrays of different dtypes are first cast to their common one (`core/dtypes.promote`).
"""

from __future__ import annotations

import math
from typing import Any

from noria.core.dtypes import is_float
from noria.core.errors import ArgumentError, DTypeError
from noria.ir.opdef import op
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Spec
from noria.ops.common import broadcast, need_float

IN_PLACE_1 = ((0, 0),)
IN_PLACE_2 = ((0, 0), (0, 1))


def _arith(x: Spec, y: Spec) -> Spec:
    return Spec(broadcast(_number(x), y), x.dtype)


def _number(x: Spec) -> Spec:
    if x.dtype == "bool":
        raise DTypeError("arithmetic needs numbers", got=str(x), hint="ops.cast, or logical_and/or")
    return x


# ---- two arguments -----------------------------------------------------------------------------


@op(promote=True, overwrites=IN_PLACE_2)
def add(x, y):
    """x + y."""
    return _arith(x, y)


@add.compute
def _(xp, x, y):
    return x + y


@add.grad
def _(x, y, g):
    return o.sum_to(g, shape=x.shape), o.sum_to(g, shape=y.shape)


@op(promote=True, overwrites=IN_PLACE_2)
def sub(x, y):
    """x - y."""
    return _arith(x, y)


@sub.compute
def _(xp, x, y):
    return x - y


@sub.grad
def _(x, y, g):
    return o.sum_to(g, shape=x.shape), o.sum_to(o.neg(g), shape=y.shape)


@op(promote=True, overwrites=IN_PLACE_2)
def mul(x, y):
    """x * y."""
    return _arith(x, y)


@mul.compute
def _(xp, x, y):
    return x * y


@mul.grad
def _(x, y, g):
    return o.sum_to(o.mul(g, y), shape=x.shape), o.sum_to(o.mul(g, x), shape=y.shape)


@op(promote=True, overwrites=IN_PLACE_2)
def div(x, y):
    """x / y. Integers are divided as float32."""
    out = _arith(x, y)
    return out if is_float(out.dtype) else Spec(out.shape, "float32")


@div.compute
def _(xp, x, y):
    if xp.issubdtype(x.dtype, xp.integer):
        x, y = x.astype(xp.float32), y.astype(xp.float32)
    return xp.true_divide(x, y)


@div.grad
def _(x, y, out, g):
    gx = o.div(g, y)
    return o.sum_to(gx, shape=x.shape), o.sum_to(o.neg(o.mul(gx, out)), shape=y.shape)


@op(promote=True, overwrites=IN_PLACE_2)
def pow(x, y):
    """x to the power y. Gradient in y where x > 0."""
    return _arith(x, y)


@pow.compute
def _(xp, x, y):
    return xp.power(x, y)


@pow.grad
def _(x, y, out, g):
    one = o.fill(shape=(), value=1.0, dtype=y.dtype)
    slope = o.where(o.equal(y, 0.0), 0.0, o.mul(y, o.pow(x, o.sub(y, one))))
    gx = o.mul(g, slope)
    log = o.log(o.where(o.greater(x, 0.0), x, 1.0))
    return o.sum_to(gx, shape=x.shape), o.sum_to(o.mul(g, o.mul(out, log)), shape=y.shape)


@op(promote=True, overwrites=IN_PLACE_2)
def maximum(x, y):
    """The larger of x and y; NaN if either is. The gradient of a tie is shared equally."""
    return _arith(x, y)


@maximum.compute
def _(xp, x, y):
    return xp.maximum(x, y)


@maximum.grad
def _(x, y, g):
    return _extremum_grad(x, y, g, o.greater(x, y))


@op(promote=True, overwrites=IN_PLACE_2)
def minimum(x, y):
    """The smaller of x and y; NaN if either is. The gradient of a tie is shared equally."""
    return _arith(x, y)


@minimum.compute
def _(xp, x, y):
    return xp.minimum(x, y)


@minimum.grad
def _(x, y, g):
    return _extremum_grad(x, y, g, o.less(x, y))


def _extremum_grad(x: Any, y: Any, g: Any, x_wins: Any) -> tuple[Any, Any]:
    share = o.where(o.equal(x, y), 0.5, o.cast(x_wins, dtype=g.dtype))
    share = o.cast(share, dtype=g.dtype)
    return (
        o.sum_to(o.mul(g, share), shape=x.shape),
        o.sum_to(o.mul(g, o.sub(1.0, share)), shape=y.shape),
    )


@op(promote=True, overwrites=IN_PLACE_2)
def floor_divide(x, y):
    """floor(x / y), of the inputs' dtype; integers divided by zero give zero."""
    return _arith(x, y)


@floor_divide.compute
def _(xp, x, y):
    if not xp.issubdtype(x.dtype, xp.integer):
        return xp.floor_divide(x, y)
    return xp.where(y == 0, 0, xp.floor_divide(x, xp.where(y == 0, 1, y)))


@floor_divide.grad
def _(g):
    return None, None


@op(promote=True, overwrites=IN_PLACE_2)
def remainder(x, y):
    """x - floor(x / y) * y: the sign of y, as Python's %; integers modulo zero give zero."""
    return _arith(x, y)


@remainder.compute
def _(xp, x, y):
    if not xp.issubdtype(x.dtype, xp.integer):
        return xp.remainder(x, y)
    return xp.where(y == 0, 0, xp.remainder(x, xp.where(y == 0, 1, y)))


@remainder.grad
def _(x, y, g):
    gy = o.neg(o.mul(g, o.floor_divide(x, y)))
    return o.sum_to(g, shape=x.shape), o.sum_to(gy, shape=y.shape)


@op(promote=True, overwrites=IN_PLACE_2)
def fmod(x, y):
    """x - trunc(x / y) * y: the sign of x, as C's fmod; integers modulo zero give zero."""
    return _arith(x, y)


@fmod.compute
def _(xp, x, y):
    if not xp.issubdtype(x.dtype, xp.integer):
        return xp.fmod(x, y)
    return xp.where(y == 0, 0, xp.fmod(x, xp.where(y == 0, 1, y)))


@fmod.grad
def _(x, y, out, g):
    gy = o.neg(o.mul(g, o.round(o.div(o.sub(x, out), y))))
    return o.sum_to(g, shape=x.shape), o.sum_to(gy, shape=y.shape)


# ---- one argument, any number ------------------------------------------------------------------


@op(overwrites=IN_PLACE_1)
def neg(x):
    """-x."""
    return _number(x)


@neg.compute
def _(xp, x):
    return -x


@neg.grad
def _(g):
    return o.neg(g)


@op(overwrites=IN_PLACE_1)
def abs(x):
    """|x|. The gradient at 0 is 0."""
    return _number(x)


@abs.compute
def _(xp, x):
    return xp.abs(x)


@abs.grad
def _(x, g):
    return o.mul(g, o.sign(x))


@op(overwrites=IN_PLACE_1)
def sign(x):
    """-1, 0 or 1; NaN stays NaN. The gradient is 0."""
    return _number(x)


@sign.compute
def _(xp, x):
    return xp.sign(x)


@sign.grad
def _(g):
    return None


@op(overwrites=IN_PLACE_1)
def square(x):
    """x * x."""
    return _number(x)


@square.compute
def _(xp, x):
    return x * x


@square.grad
def _(x, g):
    return o.mul(g, o.mul(x, 2.0))


# ---- one argument, floats ----------------------------------------------------------------------


@op(overwrites=IN_PLACE_1)
def exp(x):
    """e to the power x."""
    need_float(x)
    return x


@exp.compute
def _(xp, x):
    return xp.exp(x)


@exp.grad
def _(out, g):
    return o.mul(g, out)


@op(overwrites=IN_PLACE_1)
def expm1(x):
    """exp(x) - 1, accurate near 0."""
    need_float(x)
    return x


@expm1.compute
def _(xp, x):
    return xp.expm1(x)


@expm1.grad
def _(out, g):
    return o.mul(g, o.add(out, 1.0))


@op(overwrites=IN_PLACE_1)
def log(x):
    """Natural logarithm; -inf at 0, NaN below."""
    need_float(x)
    return x


@log.compute
def _(xp, x):
    return xp.log(x)


@log.grad
def _(x, g):
    return o.div(g, x)


@op(overwrites=IN_PLACE_1)
def log1p(x):
    """log(1 + x), accurate near 0."""
    need_float(x)
    return x


@log1p.compute
def _(xp, x):
    return xp.log1p(x)


@log1p.grad
def _(x, g):
    return o.div(g, o.add(x, 1.0))


@op(overwrites=IN_PLACE_1)
def sqrt(x):
    """Square root; NaN below 0."""
    need_float(x)
    return x


@sqrt.compute
def _(xp, x):
    return xp.sqrt(x)


@sqrt.grad
def _(out, g):
    return o.div(o.mul(g, 0.5), out)


@op(overwrites=IN_PLACE_1)
def rsqrt(x):
    """1 / sqrt(x)."""
    need_float(x)
    return x


@rsqrt.compute
def _(xp, x):
    return 1 / xp.sqrt(x)


@rsqrt.grad
def _(x, out, g):
    return o.div(o.mul(o.mul(g, -0.5), out), x)


@op(overwrites=IN_PLACE_1)
def reciprocal(x):
    """1 / x."""
    need_float(x)
    return x


@reciprocal.compute
def _(xp, x):
    return 1 / x


@reciprocal.grad
def _(out, g):
    return o.neg(o.mul(g, o.square(out)))


@op(overwrites=IN_PLACE_1)
def sin(x):
    """Sine, of radians."""
    need_float(x)
    return x


@sin.compute
def _(xp, x):
    return xp.sin(x)


@sin.grad
def _(x, g):
    return o.mul(g, o.cos(x))


@op(overwrites=IN_PLACE_1)
def cos(x):
    """Cosine, of radians."""
    need_float(x)
    return x


@cos.compute
def _(xp, x):
    return xp.cos(x)


@cos.grad
def _(x, g):
    return o.neg(o.mul(g, o.sin(x)))


@op(overwrites=IN_PLACE_1)
def tanh(x):
    """Hyperbolic tangent."""
    need_float(x)
    return x


@tanh.compute
def _(xp, x):
    return xp.tanh(x)


@tanh.grad
def _(out, g):
    return o.mul(g, o.sub(1.0, o.square(out)))


@op(overwrites=IN_PLACE_1)
def erf(x):
    """2/sqrt(pi) times the integral of exp(-t^2) from 0 to x."""
    need_float(x)
    return x


@erf.compute
def _(xp, x):
    return erf_of(xp, x)


@erf.grad
def _(x, g):
    return o.mul(g, o.mul(o.exp(o.neg(o.square(x))), 2 / math.sqrt(math.pi)))


def erf_of(xp: Any, x: Any) -> Any:
    """erf of an array: the standard library's for NumPy, jax.scipy's for jax."""
    if xp.__name__ == "numpy":
        return xp.vectorize(math.erf, otypes=[float])(x).astype(x.dtype) if x.size else x
    from jax.scipy.special import erf as jax_erf

    return jax_erf(x)


@op(overwrites=IN_PLACE_1)
def floor(x):
    """The largest whole number not above x. The gradient is 0."""
    need_float(x)
    return x


@floor.compute
def _(xp, x):
    return xp.floor(x)


@floor.grad
def _(g):
    return None


@op(overwrites=IN_PLACE_1)
def ceil(x):
    """The smallest whole number not below x. The gradient is 0."""
    need_float(x)
    return x


@ceil.compute
def _(xp, x):
    return xp.ceil(x)


@ceil.grad
def _(g):
    return None


@op(overwrites=IN_PLACE_1)
def round(x):
    """The nearest whole number, ties to even. The gradient is 0."""
    need_float(x)
    return x


@round.compute
def _(xp, x):
    return xp.round(x)


@round.grad
def _(g):
    return None


@op(overwrites=IN_PLACE_1)
def clip(x, *, low=None, high=None):
    """x kept within [low, high]; None: no bound; NaN stays NaN. The gradient is 0 outside.

    The bounds of integers are whole numbers.
    """
    for bound in (low, high):
        if bound is not None and not is_float(_number(x).dtype) and bound != int(bound):
            raise ArgumentError("the bounds of integers are whole numbers", got=f"{bound}, {x}")
    if low is not None and high is not None and low > high:
        raise ArgumentError("clip needs low <= high", got=f"low={low}, high={high}")
    return _number(x)


@clip.compute
def _(xp, x, low, high):
    out = x if low is None else xp.maximum(x, xp.asarray(low, x.dtype))
    return out if high is None else xp.minimum(out, xp.asarray(high, x.dtype))


@clip.grad
def _(x, out, g):
    return o.where(o.equal(x, out), g, 0.0)
