"""What depends on the order of numbers along an axis: where the extremes are, sorting, the top k.

Ties keep their order: the element with the lower index comes first. NaN counts as the largest.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from noria.core.dims import Dim, known_ge, product, symbol
from noria.core.errors import ArgumentError, EngineError, ShapeError
from noria.ir.opdef import op
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Shape, Spec
from noria.ops.common import axes_of, axis_of, shaped
from noria.ops.numeric import spec_of, widen

# ---- extremes ----------------------------------------------------------------------------------


@op
def argmax(x, *, axis=None, keepdims=False):
    """Index (int64) of the first largest along one axis; None: in the flattened x.

    Raises ShapeError where there is nothing to choose from.
    """
    return _arg_spec(x, axis, keepdims)


@argmax.compute
def _(xp, x, axis, keepdims):
    _arg_spec(spec_of(x), axis, keepdims)
    return xp.argmax(widen(x), axis=axis, keepdims=keepdims)


@op
def argmin(x, *, axis=None, keepdims=False):
    """Index (int64) of the first smallest along one axis; None: in the flattened x.

    A NaN is taken for the smallest, so that it is not overlooked.
    Raises ShapeError where there is nothing to choose from.
    """
    return _arg_spec(x, axis, keepdims)


@argmin.compute
def _(xp, x, axis, keepdims):
    _arg_spec(spec_of(x), axis, keepdims)
    return xp.argmin(widen(x), axis=axis, keepdims=keepdims)


def _arg_spec(x: Spec, axis: int | None, keepdims: bool) -> Spec:
    axes = axes_of(None if axis is None else axis_of(axis, x.ndim), x.ndim)
    if 0 in [x.shape[a] for a in axes]:
        raise ShapeError("there is nothing to choose from", got=f"{x}, {axis=}")
    kept = ((1 if i in axes else d, i in axes) for i, d in enumerate(x.shape))
    return Spec((d for d, gone in kept if keepdims or not gone), "int64")


# ---- sorting -----------------------------------------------------------------------------------


@op
def argsort(x, *, axis=-1, descending=False):
    """Indices (int64) which put x in order along an axis."""
    axis_of(axis, x.ndim)
    return Spec(x.shape, "int64")


@argsort.compute
def _(xp, x, axis, descending):
    return _argsort(xp, x, axis, descending)


def _argsort(xp: Any, x: Any, axis: int, descending: bool) -> Any:
    x = widen(x)
    if not descending:
        return xp.argsort(x, axis=axis, stable=True)
    # Ascending from the other end, then turned round: equal elements keep their order.
    backwards = xp.argsort(xp.flip(x, axis), axis=axis, stable=True)
    return x.shape[axis] - 1 - xp.flip(backwards, axis)


@op(outputs=("values", "indices"))
def topk(x, *, k, axis=-1, largest=True, sorted=True):
    """(values, indices): the k largest along an axis, or the smallest, and where they were (int64).

    sorted: best first; otherwise their order is not told. Raises ArgumentError if k does not fit.
    """
    shape = _top_shape(x.shape, k, axis)
    return Spec(shape, x.dtype), Spec(shape, "int64")


@topk.compute
def _(xp, x, k, axis, largest, sorted):
    at = axis_of(axis, x.ndim)
    _top_shape(x.shape, k, at)
    order = _argsort(xp, x, at, largest)
    indices = order[(slice(None),) * at + (slice(k),)]
    return xp.take_along_axis(x, indices, axis=at), indices


@topk.grad
def _(x, indices, g_values, axis):
    if g_values is None:
        return None
    zeros = o.fill(shape=x.shape, value=0.0, dtype=g_values.dtype)
    return o.scatter_elements(zeros, indices, g_values, axis=axis, reduction="add")


def _top_shape(shape: Shape, k: Any, axis: int) -> Shape:
    at = axis_of(axis, len(shape))
    whole = isinstance(k, (int, Dim)) and not isinstance(k, bool)
    if not whole or known_ge(k, 0) is False or known_ge(shape[at], k) is False:
        raise ArgumentError("bad number to choose", expected=f"0 <= k <= {shape[at]}", got=f"{k=}")
    return (*shape[:at], k, *shape[at + 1 :])


# ---- what is there -----------------------------------------------------------------------------


@op(outputs=("values", "indices", "inverse", "counts"))
def unique(x, *, size, axis=None, sorted=True):
    """What occurs in x, once each: (values, indices, inverse, counts), the last three int64.

    axis:    slices along it are compared; None: the elements of x, which is flattened
    sorted:  in ascending order, slices element by element; otherwise in the order they come first
    size:    name of a new symbol, for how many there are; only the data tell
    indices: where each comes first; inverse: which of them each element of x is; counts: how often
    NaN is equal to NaN. XLA cannot compile it.
    """
    if not isinstance(size, str):
        raise ArgumentError("size must be the name of a new symbol", got=repr(size))
    found = symbol(size)
    if axis is None:
        length, values = product(x.shape), Spec((found,), x.dtype)
    else:
        at = axis_of(axis, x.ndim)
        length = x.shape[at]
        values = Spec((*x.shape[:at], found, *x.shape[at + 1 :]), x.dtype)
    each = Spec((found,), "int64")
    return values, each, Spec((length,), "int64"), each


@unique.compute
def _(xp, x, size, axis, sorted):
    if xp is not np:
        raise EngineError("XLA cannot compile unique: only the data tell its size")
    wide = widen(x)
    if axis is not None:
        wide = np.moveaxis(wide, axis, 0)
    told = np.unique(
        wide,
        return_index=True,
        return_inverse=True,
        return_counts=True,
        axis=None if axis is None else 0,
    )
    _, first, inverse, counts = told
    inverse = inverse.reshape(-1)
    if not sorted:
        order = np.argsort(first, kind="stable")
        place = np.empty_like(order)
        place[order] = np.arange(order.size)
        first, counts, inverse = first[order], counts[order], place[inverse]
    source = x.reshape(-1) if axis is None else x
    return np.take(source, first, axis=axis or 0), first, inverse, counts


@unique.grad
def _(x, indices, g_values, axis):
    """To where each comes first."""
    if g_values is None:
        return None
    flat = (product(x.shape),) if axis is None else x.shape
    at = 0 if axis is None else axis_of(axis, x.ndim)
    order = (at, *(i for i in range(len(flat)) if i != at))
    back = tuple(order.index(i) for i in range(len(flat)))
    rows = o.scatter_rows(
        indices, o.transpose(g_values, perm=order), shape=tuple(flat[i] for i in order)
    )
    return o.reshape(o.transpose(rows, perm=back), shape=x.shape)


# ---- composed ----------------------------------------------------------------------------------


def sort(x: Any, *, axis: int = -1, descending: bool = False) -> Any:
    """x in order along an axis."""
    x = shaped(x)
    return o.take_along_axis(x, argsort(x, axis=axis, descending=descending), axis=axis)
