"""Taking elements by their positions.

Ids are integers; negative ones count from the end, as NumPy has it. An id that is out of range
raises ArgumentError in the reference. Inside a Program compiled by XLA nothing can be raised: there
a float taken out of range is NaN.
"""

from __future__ import annotations

import numpy as np

from noria.core.dims import symbol
from noria.core.dtypes import to_numpy
from noria.core.errors import ArgumentError, EngineError, ShapeError
from noria.ir.opdef import op
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Spec, as_shape
from noria.ops.common import axis_of, need_integer, require_equal
from noria.ops.positions import in_range, index_depth, nd_index

# ---- whole slices ------------------------------------------------------------------------------


@op
def gather(x, ids, *, axis=0):
    """Slices of x at `ids` along an axis, which is replaced by the axes of ids (numpy.take).

    ids: integers of any shape. The gradient adds up where an id occurs several times.
    """
    need_integer(ids)
    at = axis_of(axis, x.ndim)
    return Spec((*x.shape[:at], *ids.shape, *x.shape[at + 1 :]), x.dtype)


@gather.compute
def _(xp, x, ids, axis):
    return xp.take(x, in_range(xp, ids, x.shape[axis]), axis=axis)


@gather.work
def _(ids, out):
    return 0.0, ids.nbytes + 2.0 * out.nbytes


@gather.grad
def _(x, ids, g, axis):
    at = axis_of(axis, x.ndim)
    if at == 0:
        return o.scatter_rows(ids, g, shape=x.shape), None
    picked = range(at, at + ids.ndim)
    others = [i for i in range(g.ndim) if i not in picked]
    rows = o.transpose(g, perm=(*picked, *others))
    shape = (x.shape[at], *x.shape[:at], *x.shape[at + 1 :])
    back = (*range(1, at + 1), 0, *range(at + 1, x.ndim))
    return o.transpose(o.scatter_rows(ids, rows, shape=shape), perm=back), None


@op
def gather_nd(x, ids):
    """x[ids[..., 0], ids[..., 1], ...]: what the last axis of ids, of size m, points at.

    ids: [..., m] with 1 <= m <= rank of x; the result is [..., *x.shape[m:]].
    """
    m = index_depth(x, ids)
    return Spec((*ids.shape[:-1], *x.shape[m:]), x.dtype)


@gather_nd.compute
def _(xp, x, ids):
    return x[nd_index(xp, x, ids)]


@gather_nd.work
def _(ids, out):
    return 0.0, ids.nbytes + 2.0 * out.nbytes


@gather_nd.grad
def _(x, ids, g):
    zeros = o.fill(shape=x.shape, value=0.0, dtype=g.dtype)
    return o.scatter_nd(zeros, ids, g, reduction="add"), None


# ---- single elements ---------------------------------------------------------------------------


@op
def take_along_axis(x, ids, *, axis):
    """For each slice along the axis its own elements: out[i, j] = x[i, ids[i, j]] for axis 1.

    ids: integers of the rank of x, of the same sizes except along the axis.
    """
    need_integer(ids)
    at = axis_of(axis, x.ndim)
    if ids.ndim != x.ndim:
        raise ShapeError("ids must have the rank of x", expected=f"{x.ndim}", got=str(ids))
    for i, (size, wanted) in enumerate(zip(ids.shape, x.shape, strict=True)):
        if i != at:
            require_equal(wanted, size, f"axis {i} of x and of ids")
    return Spec(ids.shape, x.dtype)


@take_along_axis.compute
def _(xp, x, ids, axis):
    return xp.take_along_axis(x, in_range(xp, ids, x.shape[axis]), axis=axis)


@take_along_axis.work
def _(ids, out):
    return 0.0, ids.nbytes + 2.0 * out.nbytes


@take_along_axis.grad
def _(x, ids, g, axis):
    zeros = o.fill(shape=x.shape, value=0.0, dtype=g.dtype)
    return o.scatter_elements(zeros, ids, g, axis=axis, reduction="add"), None


# ---- positions ---------------------------------------------------------------------------------


@op
def one_hot(ids, *, depth, axis=-1, dtype="float32"):
    """1 at the position each id names along a new axis of size `depth`, 0 elsewhere.

    An id outside [0, depth), negative ones included, gives zeros only. axis counts in the result.
    """
    need_integer(ids)
    at = axis_of(axis, ids.ndim + 1)
    return Spec((*ids.shape[:at], *as_shape(depth), *ids.shape[at:]), dtype)


@one_hot.compute
def _(xp, ids, depth, axis, dtype):
    at = axis_of(axis, ids.ndim + 1)
    places = np.arange(depth).reshape((depth, *(1,) * (ids.ndim - at)))
    return (xp.expand_dims(ids, at) == places).astype(to_numpy(dtype))


@op
def nonzero(x, *, size):
    """The positions of what is true or not 0, in row-major order: int64 [size, rank of x].

    size: name of a new symbol, for how many there are; only the data tell. XLA cannot compile it.
    """
    if not isinstance(size, str):
        raise ArgumentError("size must be the name of a new symbol", got=repr(size))
    return Spec((symbol(size), x.ndim), "int64")


@nonzero.compute
def _(xp, x, size):
    if xp is not np:
        raise EngineError(
            "XLA cannot compile nonzero: only the data tell its size",
            hint="ops.where keeps the size, or run this Program by another engine",
        )
    return np.argwhere(x != 0)
