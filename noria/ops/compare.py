"""Comparisons, logic, and choosing between two values, element by element, with broadcasting.

Two arrays of different dtypes are first cast to their common one. What is compared has no gradient.
"""

from __future__ import annotations

from typing import Any

from noria.core.dtypes import as_dtype, is_float
from noria.core.errors import DTypeError
from noria.ir.opdef import op
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Spec
from noria.ops.common import broadcast, shaped


def _compared(x: Spec, y: Spec) -> Spec:
    return Spec(broadcast(x, y), "bool")


def _need_bool(*values: Spec) -> None:
    for v in values:
        if v.dtype != "bool":
            raise DTypeError(
                "booleans are needed", expected="bool", got=str(v), hint="ops.not_equal(x, 0)"
            )


# ---- comparisons -------------------------------------------------------------------------------


@op(promote=True)
def equal(x, y):
    """x == y. NaN equals nothing."""
    return _compared(x, y)


@equal.compute
def _(xp, x, y):
    return xp.equal(x, y)


@op(promote=True)
def not_equal(x, y):
    """x != y. NaN differs from everything."""
    return _compared(x, y)


@not_equal.compute
def _(xp, x, y):
    return xp.not_equal(x, y)


@op(promote=True)
def less(x, y):
    """x < y. False where either is NaN."""
    return _compared(x, y)


@less.compute
def _(xp, x, y):
    return xp.less(x, y)


@op(promote=True)
def less_equal(x, y):
    """x <= y. False where either is NaN."""
    return _compared(x, y)


@less_equal.compute
def _(xp, x, y):
    return xp.less_equal(x, y)


@op(promote=True)
def greater(x, y):
    """x > y. False where either is NaN."""
    return _compared(x, y)


@greater.compute
def _(xp, x, y):
    return xp.greater(x, y)


@op(promote=True)
def greater_equal(x, y):
    """x >= y. False where either is NaN."""
    return _compared(x, y)


@greater_equal.compute
def _(xp, x, y):
    return xp.greater_equal(x, y)


# ---- logic -------------------------------------------------------------------------------------


@op
def logical_and(x, y):
    """Both. DTypeError unless x and y are bool."""
    _need_bool(x, y)
    return _compared(x, y)


@logical_and.compute
def _(xp, x, y):
    return xp.logical_and(x, y)


@op
def logical_or(x, y):
    """Either. DTypeError unless x and y are bool."""
    _need_bool(x, y)
    return _compared(x, y)


@logical_or.compute
def _(xp, x, y):
    return xp.logical_or(x, y)


@op
def logical_xor(x, y):
    """One of them, not both. DTypeError unless x and y are bool."""
    _need_bool(x, y)
    return _compared(x, y)


@logical_xor.compute
def _(xp, x, y):
    return xp.logical_xor(x, y)


@op
def logical_not(x):
    """The opposite. DTypeError unless x is bool."""
    _need_bool(x)
    return x


@logical_not.compute
def _(xp, x):
    return xp.logical_not(x)


# ---- kinds of numbers --------------------------------------------------------------------------


@op
def isnan(x):
    """Whether it is NaN; never for integers."""
    return Spec(x.shape, "bool")


@isnan.compute
def _(xp, x):
    return xp.isnan(x)


@op
def isinf(x):
    """Whether it is +inf or -inf; never for integers."""
    return Spec(x.shape, "bool")


@isinf.compute
def _(xp, x):
    return xp.isinf(x)


@op
def isfinite(x):
    """Whether it is neither NaN nor infinite; always for integers."""
    return Spec(x.shape, "bool")


@isfinite.compute
def _(xp, x):
    return xp.isfinite(x)


# ---- choosing ----------------------------------------------------------------------------------


@op(promote=(1, 2), overwrites=((0, 1), (0, 2)))
def where(cond, x, y):
    """x where cond is true, y elsewhere; all three broadcast. DTypeError unless cond is bool."""
    _need_bool(cond)
    return Spec(broadcast(cond, x, y), x.dtype)


@where.compute
def _(xp, cond, x, y):
    return xp.where(cond, x, y)


@where.grad
def _(cond, x, y, g):
    return (
        None,
        o.sum_to(o.where(cond, g, 0.0), shape=x.shape) if is_float(x.dtype) else None,
        o.sum_to(o.where(cond, 0.0, g), shape=y.shape) if is_float(y.dtype) else None,
    )


# ---- composed ----------------------------------------------------------------------------------


def allclose(
    x: Any, y: Any, *, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> Any:
    """Whether |x - y| <= atol + rtol * |y| everywhere: bool scalar. Equal infinities are close."""
    x, y = _as_floats(x), _as_floats(y)
    limit = o.add(o.mul(o.abs(y), rtol), atol)
    near = o.logical_and(o.less_equal(o.abs(o.sub(x, y)), limit), o.isfinite(y))
    close = o.logical_or(near, o.equal(x, y))
    if equal_nan:
        close = o.logical_or(close, o.logical_and(o.isnan(x), o.isnan(y)))
    return o.reduce_all(close)


def _as_floats(x: Any) -> Any:
    """Integers and booleans as float64, in which differences do not wrap around."""
    x = shaped(x)
    return x if is_float(as_dtype(x.dtype)) else o.cast(x, dtype="float64")
