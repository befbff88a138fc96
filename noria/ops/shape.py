"""The same numbers in another shape: reshaping, reordering axes, broadcasting, tiling.

Shapes among the attributes may hold symbolic sizes. Where an op needs two sizes to be equal and
they are symbolic, they are compared when real sizes are bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from noria.core.dims import Dim, Size, product
from noria.core.errors import ArgumentError, ShapeError
from noria.ir.opdef import op
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Shape, Spec, as_shape
from noria.ops.common import axes_of, axis_of, require_equal, shaped

# ---- reshaping: views --------------------------------------------------------------------------


@op(views={0: 0})
def reshape(x, *, shape):
    """x in row-major order in another shape; one size may be -1: what remains.

    Raises ShapeError if the number of elements differs, or -1 is not determined.
    """
    out = _resolved(x, shape)
    require_equal(product(x.shape), product(out), "the number of elements before and after")
    return Spec(out, x.dtype)


@reshape.compute
def _(xp, x, shape):
    return xp.reshape(x, shape)


@reshape.grad
def _(x, g):
    return o.reshape(g, shape=x.shape)


def _resolved(x: Spec, shape: Any) -> Shape:
    """`shape` with -1 worked out."""
    sizes = (shape,) if isinstance(shape, (int, Dim)) else tuple(shape)
    open_axes = [i for i, d in enumerate(sizes) if not isinstance(d, Dim) and d == -1]
    if not open_axes:
        return as_shape(sizes)
    rest = as_shape(d for i, d in enumerate(sizes) if i not in open_axes)
    known = product(rest)
    if len(open_axes) > 1 or (isinstance(known, int) and known == 0):
        raise ShapeError(
            "-1 stands for one size that the others determine", got=f"{x} as {list(sizes)}"
        )
    at = open_axes[0]
    return (*rest[:at], product(x.shape) // known, *rest[at:])


@op(views={0: 0})
def flatten(x, *, start=0, end=-1):
    """Axes start to end, both included, made one. A scalar becomes [1]."""
    return Spec(_flattened(x.shape, start, end), x.dtype)


@flatten.compute
def _(xp, x, start, end):
    return xp.reshape(x, _flattened(x.shape, start, end))


@flatten.grad
def _(x, g):
    return o.reshape(g, shape=x.shape)


def _flattened(shape: Shape, start: int, end: int) -> Shape:
    rank = len(shape)
    if not rank:
        return (1,)
    first, last = axis_of(start, rank, "start"), axis_of(end, rank, "end")
    if first > last:
        raise ArgumentError("start must not lie behind end", got=f"{start=}, {end=}, rank {rank}")
    return (*shape[:first], product(shape[first : last + 1]), *shape[last + 1 :])


@op(views={0: 0})
def squeeze(x, *, axis):
    """x without the axes named, each of which must have size 1.

    They are always named: a symbolic size that is 1 on some day is not to be squeezed that day.
    """
    axes = axes_of(axis, x.ndim)
    for a in axes:
        require_equal(x.shape[a], 1, f"the size of axis {a} and what can be squeezed")
    return Spec((d for i, d in enumerate(x.shape) if i not in axes), x.dtype)


@squeeze.compute
def _(xp, x, axis):
    return xp.squeeze(x, axis=axes_of(axis, x.ndim))


@squeeze.grad
def _(x, g):
    return o.reshape(g, shape=x.shape)


@op(views={0: 0})
def unsqueeze(x, *, axis):
    """x with new axes of size 1; `axis` (an integer or several) counts in the result."""
    sizes = iter(x.shape)
    new = _new_axes(axis, x.ndim)
    rank = x.ndim + len(new)
    return Spec((1 if i in new else next(sizes) for i in range(rank)), x.dtype)


@unsqueeze.compute
def _(xp, x, axis):
    return xp.expand_dims(x, _new_axes(axis, x.ndim))


@unsqueeze.grad
def _(x, g):
    return o.reshape(g, shape=x.shape)


def _new_axes(axis: int | Sequence[int], ndim: int) -> tuple[int, ...]:
    count = len(axis) if isinstance(axis, Sequence) else 1
    return axes_of(axis, ndim + count)


# ---- reordering --------------------------------------------------------------------------------


@op
def transpose(x, *, perm=None):
    """Axis i of the result is axis perm[i] of x; None: the axes in reverse order."""
    return Spec((x.shape[a] for a in _order(perm, x.ndim)), x.dtype)


@transpose.compute
def _(xp, x, perm):
    return xp.transpose(x, _order(perm, x.ndim))


@transpose.grad
def _(x, g, perm):
    order = _order(perm, x.ndim)
    return o.transpose(g, perm=tuple(order.index(i) for i in range(x.ndim)))


def _order(perm: Sequence[int] | None, ndim: int) -> tuple[int, ...]:
    """The permutation, non-negative."""
    if perm is None:
        return tuple(reversed(range(ndim)))
    named = perm if isinstance(perm, Sequence) else ()
    order = tuple(axis_of(a, ndim, "perm") for a in named)
    if not isinstance(perm, Sequence) or sorted(order) != list(range(ndim)):
        raise ArgumentError(
            "perm must name every axis once", expected=f"an order of {ndim} axes", got=repr(perm)
        )
    return order


# ---- repeating ---------------------------------------------------------------------------------


@op
def broadcast_to(x, *, shape):
    """x repeated along new leading axes and axes of size 1, until it has `shape`.

    Raises ShapeError if x does not broadcast to it.
    """
    out = Spec(shape, x.dtype)
    if x.ndim > out.ndim:
        raise ShapeError("a shape with fewer axes cannot be broadcast to", got=f"{x} to {out}")
    for i, (size, wanted) in enumerate(zip(reversed(x.shape), reversed(out.shape), strict=False)):
        if size != 1:
            require_equal(size, wanted, f"axis {-1 - i} of {x} and of the shape it is broadcast to")
    return out


@broadcast_to.compute
def _(xp, x, shape):
    return xp.broadcast_to(x, shape)


@broadcast_to.grad
def _(x, g):
    return o.sum_to(g, shape=x.shape)


@op
def tile(x, *, repeats):
    """x put side by side with itself, repeats[i] times along axis i."""
    return Spec((d * r for d, r in zip(x.shape, _repeats(repeats, x.ndim), strict=True)), x.dtype)


@tile.compute
def _(xp, x, repeats):
    return xp.tile(x, _repeats(repeats, x.ndim))


@tile.grad
def _(x, g, repeats):
    sizes = zip(_repeats(repeats, x.ndim), x.shape, strict=True)
    apart = o.reshape(g, shape=tuple(d for pair in sizes for d in pair))
    return o.reduce_sum(apart, axis=tuple(range(0, 2 * x.ndim, 2)))


def _repeats(repeats: Any, ndim: int) -> Shape:
    """One count an axis."""
    counts = as_shape(repeats)
    if len(counts) != ndim:
        raise ArgumentError(
            "one number of repeats is needed for each axis", expected=f"{ndim}", got=repr(repeats)
        )
    return counts


# ---- composed ----------------------------------------------------------------------------------


def swapaxes(x: Any, axis1: int, axis2: int) -> Any:
    """x with two axes exchanged."""
    order = list(range(len(shaped(x).shape)))
    a, b = axis_of(axis1, len(order), "axis1"), axis_of(axis2, len(order), "axis2")
    order[a], order[b] = order[b], order[a]
    return transpose(x, perm=tuple(order))


def expand(x: Any, shape: Any) -> Any:
    """`broadcast_to`, where a size of -1 keeps that of x."""
    own = shaped(x).shape
    sizes = list(shape)
    for i in range(1, len(own) + 1):
        if i <= len(sizes) and not isinstance(sizes[-i], Dim) and sizes[-i] == -1:
            sizes[-i] = own[-i]
    return broadcast_to(x, shape=tuple(sizes))


def repeat(x: Any, repeats: Size, *, axis: int) -> Any:
    """Each slice along `axis` `repeats` times in a row: 0 0 1 1 2 2."""
    shape = shaped(x).shape
    a = axis_of(axis, len(shape))
    apart = unsqueeze(x, axis=a + 1)
    wide = broadcast_to(apart, shape=(*shape[: a + 1], repeats, *shape[a + 1 :]))
    return flatten(wide, start=a, end=a + 1)
