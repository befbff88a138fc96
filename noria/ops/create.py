"""Values made from attributes alone, casts, and values that only pass through.

Sizes among the attributes (`shape`, `n`, `stop` ...) may be symbolic.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from noria.core.dims import Dim, Size, ceil_div, dim_max, symbol
from noria.core.dtypes import as_dtype, is_float, is_integer, to_numpy
from noria.core.errors import ArgumentError, DTypeError, EngineError
from noria.ir.opdef import op
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Spec
from noria.ops.common import axis_of, shaped

# ---- from attributes ---------------------------------------------------------------------------


@op
def fill(*, shape, value, dtype="float32"):
    """An array of one number everywhere. ArgumentError if the dtype cannot hold the number."""
    out = Spec(shape, dtype)
    if not isinstance(value, (bool, int, float)):
        raise ArgumentError("the value must be a number", got=repr(value))
    if is_integer(out.dtype):
        limits = np.iinfo(to_numpy(out.dtype))
        if value != value or not limits.min <= value <= limits.max or value != int(value):
            raise ArgumentError(f"{out.dtype} cannot hold the value", got=repr(value))
    return out


@fill.compute
def _(xp, shape, value, dtype):
    number = int(value) if is_integer(dtype) else value
    return xp.full(shape, number, to_numpy(dtype))


@op
def constant(*, value):
    """The given numpy.ndarray. It is not copied: do not change it afterwards."""
    if not isinstance(value, np.ndarray):
        raise ArgumentError("the value must be an array", got=type(value).__name__)
    return Spec(value.shape, value.dtype)


@constant.compute
def _(xp, value):
    return xp.asarray(value)


@op
def arange(*, start=0, stop, step=1, dtype="int64"):
    """start, start + step, ... before stop: [ceil((stop - start) / step)].

    start and stop may be symbolic sizes, beside an integer step.
    """
    if as_dtype(dtype) == "bool":
        raise DTypeError("arange makes numbers", got="bool")
    return Spec((_count(start, stop, step),), dtype)


@arange.compute
def _(xp, start, stop, step, dtype):
    whole = all(isinstance(v, int) for v in (start, step))
    steps = xp.arange(_count(start, stop, step), dtype="int64" if whole else "float64")
    return (start + steps * step).astype(to_numpy(dtype))


def _count(start: Any, stop: Any, step: Any) -> Size:
    """How many numbers `arange` gives."""
    numbers = (start, stop, step)
    if step == 0 or not all(isinstance(v, (int, float, Dim)) for v in numbers):
        raise ArgumentError("arange needs numbers, and a step that is not 0", got=f"{numbers}")
    if not any(isinstance(v, Dim) for v in numbers):
        if all(isinstance(v, int) for v in numbers):
            return len(range(start, stop, step))
        if not all(math.isfinite(v) for v in numbers):
            raise ArgumentError("arange needs finite numbers", got=f"{numbers}")
        return max(0, math.ceil((stop - start) / step))
    if any(isinstance(v, float) for v in numbers) or isinstance(step, Dim):
        raise ArgumentError(
            "symbolic sizes go with whole numbers and a step that is known", got=f"{numbers}"
        )
    span = stop - start if step > 0 else start - stop
    return dim_max(ceil_div(span, abs(step)), 0)


@op
def eye(*, n, m=None, k=0, dtype="float32"):
    """Ones on the `k`-th diagonal (above the main one if k > 0), zeros elsewhere: [n, m or n]."""
    if not isinstance(k, int):
        raise ArgumentError("k must be an integer", got=repr(k))
    return Spec((n, n if m is None else m), dtype)


@eye.compute
def _(xp, n, m, k, dtype):
    return xp.eye(n, m, k, dtype=to_numpy(dtype))


@op
def dim_value(*, dim):
    """A size, symbolic or not, as an int64 scalar."""
    if isinstance(dim, bool) or not isinstance(dim, (int, Dim)):
        raise ArgumentError("a size is an integer or a symbolic size", got=repr(dim))
    return Spec((), "int64")


@dim_value.compute
def _(xp, dim):
    return xp.full((), dim, "int64")


@op
def dim_from(n, *, size):
    """A size that data tell, the counterpart of `dim_value`: an empty uint8 [n, 0].

    n: an integer scalar, not negative; size: name of a new symbol, which stands for n in the shapes
    and attributes of other ops. Raises ArgumentError, when it runs, for a negative n. XLA cannot
    compile it.
    """
    if n.ndim or not is_integer(n.dtype):
        raise DTypeError("a size is an integer scalar", got=str(n))
    if not isinstance(size, str):
        raise ArgumentError("size must be the name of a new symbol", got=repr(size))
    return Spec((symbol(size), 0), "uint8")


@dim_from.compute
def _(xp, n, size):
    if xp is not np:
        raise EngineError("XLA cannot compile dim_from: only the data tell a size")
    if n < 0:
        raise ArgumentError("a size that data tell is negative", got=f"{size} = {int(n)}")
    return np.empty((int(n), 0), np.uint8)


# ---- from one value ----------------------------------------------------------------------------


@op
def cast(x, *, dtype):
    """x as another dtype.

    To bool: whether it is not 0. Floats to integers: towards zero; what does not fit, NaN
    included, gives an arbitrary integer.
    """
    return Spec(x.shape, dtype)


@cast.compute
def _(xp, x, dtype):
    return x.astype(to_numpy(dtype))


@cast.grad
def _(x, g):
    return o.cast(g, dtype=x.dtype) if is_float(x.dtype) else None


@op(views={0: 0})
def identity(x):
    """x itself, under another name."""
    return x


@identity.compute
def _(xp, x):
    return x


@identity.grad
def _(g):
    return g


@op(views={0: 0})
def stop_gradient(x):
    """x, through which no gradient flows."""
    return x


@stop_gradient.compute
def _(xp, x):
    return x


@stop_gradient.grad
def _():
    return None


@op(views={0: 0})
def later(x, after):
    """x, in the same memory, but not before `after` is known.

    What is computed from it is neither merged with what is computed from x, nor computed as early:
    so `passes/recompute.py` says when to compute something again.
    """
    return x


@later.compute
def _(xp, x, after):
    return x


@later.grad
def _(g):
    return g, None


# ---- composed ----------------------------------------------------------------------------------


def full_like(x: Any, value: bool | int | float, dtype: Any = None) -> Any:
    """An array of one number, of the shape of x, and of its dtype unless one is given."""
    x = shaped(x)
    return fill(shape=x.shape, value=value, dtype=as_dtype(x.dtype if dtype is None else dtype))


def zeros_like(x: Any, dtype: Any = None) -> Any:
    """Zeros of the shape of x, and of its dtype unless one is given."""
    return full_like(x, 0, dtype)


def ones_like(x: Any, dtype: Any = None) -> Any:
    """Ones of the shape of x, and of its dtype unless one is given."""
    return full_like(x, 1, dtype)


def size_of(x: Any, *, axis: int) -> Any:
    """The size of one axis, as an int64 scalar. Raises ArgumentError if there is no such axis."""
    shape = shaped(x).shape
    return dim_value(dim=shape[axis_of(axis, len(shape))])
