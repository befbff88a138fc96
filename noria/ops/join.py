"""Putting values together along an axis, and taking them apart again."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from noria.core.dims import Size
from noria.core.errors import ArgumentError, ShapeError
from noria.ir.opdef import op
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Shape, Spec, as_shape
from noria.ops.common import axis_of, require_equal, shaped


@op(promote=True)
def concat(*xs, axis=0):
    """Values one after another along an axis; their other sizes must be equal.

    Raises ShapeError if they are not, ArgumentError for no values at all.
    """
    if not xs or any(x is None for x in xs):
        raise ArgumentError("concat needs one value or more", got=f"{len(xs)}")
    first = xs[0]
    at = axis_of(axis, first.ndim)
    shape = list(first.shape)
    for x in xs[1:]:
        if x.ndim != first.ndim:
            raise ShapeError("values of one rank are needed", expected=str(first), got=str(x))
        for i, size in enumerate(x.shape):
            shape[i] = shape[i] + size if i == at else _agreed(shape[i], size, i)
    return Spec(shape, first.dtype)


@concat.compute
def _(xp, *xs, axis):
    return xp.concatenate(xs, axis=axis)


@concat.grad
def _(xs, g, axis):
    at = axis_of(axis, xs[0].ndim)
    return _several(o.split(g, sizes=tuple(x.shape[at] for x in xs), axis=at))


def _agreed(a: Size, b: Size, axis: int) -> Size:
    """The common size: the number, where the other is a symbol."""
    require_equal(a, b, f"the sizes of axis {axis} of what is concatenated")
    return b if isinstance(b, int) else a


@op
def split(x, *, num=None, sizes=None, axis=0):
    """Consecutive parts of x along an axis: `num` equal ones, or one of each of `sizes`.

    As many outputs as parts. Raises ShapeError if the parts do not make up the axis.
    """
    at = axis_of(axis, x.ndim)
    parts = _parts(x.shape[at], num, sizes)
    return [Spec((*x.shape[:at], size, *x.shape[at + 1 :]), x.dtype) for size in parts]


@split.compute
def _(xp, x, num, sizes, axis):
    parts = _parts(x.shape[axis], num, sizes)
    return xp.split(x, list(itertools.accumulate(parts))[:-1], axis=axis)


@split.grad
def _(gs, op, axis):
    parts = [
        g if g is not None else o.fill(shape=out.shape, value=0.0, dtype=out.dtype)
        for g, out in zip(gs, op.outputs, strict=True)
    ]
    return o.concat(*parts, axis=axis)


def _parts(total: Size, num: Any, sizes: Any) -> Shape:
    """The sizes of the parts."""
    if (num is None) == (sizes is None):
        raise ArgumentError("give either num or sizes", got=f"{num=}, {sizes=}")
    if num is not None:
        if not isinstance(num, int) or num < 1:
            raise ArgumentError("num must be a positive integer", got=repr(num))
        require_equal(total, num * (total // num), f"the axis and {num} equal parts of it")
        return (total // num,) * num
    parts = as_shape(sizes)
    if not parts:
        raise ArgumentError("sizes must name one part or more", got=repr(sizes))
    require_equal(total, sum(parts[1:], parts[0]), "the axis and the sum of its parts")
    return parts


# ---- composed ----------------------------------------------------------------------------------


def stack(*xs: Any, axis: int = 0) -> Any:
    """Values of one shape along a new axis, which counts in the result."""
    return concat(*(o.unsqueeze(x, axis=axis) for x in xs), axis=axis)


def unstack(x: Any, *, axis: int = 0) -> list[Any]:
    """The slices of x along an axis whose size is a number, without that axis."""
    shape = shaped(x).shape
    at = axis_of(axis, len(shape))
    count = shape[at]
    if not isinstance(count, int):
        raise ShapeError(f"a symbolic number of values: axis {axis} is {count}", got=str(x))
    parts = _several(split(x, num=count, axis=at)) if count else []
    return [o.squeeze(part, axis=at) for part in parts]


def _several(result: Any) -> Sequence[Any]:
    """An op with one output returns it alone."""
    return result if isinstance(result, (tuple, list)) else (result,)
