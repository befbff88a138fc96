"""What depends on the order of numbers along an axis: where the extremes are, sorting, the top k.

Ties keep their order: the element with the lower index comes first. NaN counts as the largest.
"""

from __future__ import annotations

from typing import Any

from noria.core.dims import Dim, known_ge
from noria.core.errors import ArgumentError, ShapeError
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


# ---- composed ----------------------------------------------------------------------------------


def sort(x: Any, *, axis: int = -1, descending: bool = False) -> Any:
    """x in order along an axis."""
    x = shaped(x)
    return o.take_along_axis(x, argsort(x, axis=axis, descending=descending), axis=axis)
