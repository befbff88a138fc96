"""Writing elements at their positions: the counterparts of `gather` and its kin.

Ids are as in `index.py`. What several ids name at once is reduced (add, mul, max, min); with
reduction 'none' one of them wins, and it is not told which.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from noria.core.dims import dim_max, known_ge
from noria.core.errors import ArgumentError, DTypeError, ShapeError
from noria.ir.opdef import op
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Shape, Spec, as_shape
from noria.ops.common import axis_of, need_integer, need_rank, require_equal, require_same_shape
from noria.ops.numeric import widen
from noria.ops.positions import in_range, index_depth, nd_index

_NUMPY: dict[str, Callable[..., Any]] = {
    "none": operator.setitem,
    "add": np.add.at,
    "mul": np.multiply.at,
    "max": np.maximum.at,
    "min": np.minimum.at,
}
_JAX = {"none": "set", "add": "add", "mul": "multiply", "max": "max", "min": "min"}
REDUCTIONS = tuple(_JAX)


def _check(x: Spec, updates: Spec, shape: Shape, reduction: str) -> None:
    """The rules common to all scatters; shape: what updates must have."""
    if reduction not in REDUCTIONS:
        raise ArgumentError(
            "unknown reduction", expected=", ".join(REDUCTIONS), got=repr(reduction)
        )
    if x.dtype == "bool" and reduction != "none":
        raise ArgumentError("booleans are not reduced", expected="'none'", got=repr(reduction))
    if updates.ndim != len(shape):
        raise ShapeError(
            "updates must have as many axes as ids name places",
            expected=f"{len(shape)} axes",
            got=str(updates),
        )
    for i, (size, wanted) in enumerate(zip(updates.shape, shape, strict=True)):
        require_equal(wanted, size, f"axis {i} of the places and of updates")


def _put(xp: Any, x: Any, index: Any, updates: Any, reduction: str) -> Any:
    """x with the updates at a NumPy index."""
    out = widen(x)
    updates = updates.astype(out.dtype)
    if xp is not np:
        out = getattr(out.at[index], _JAX[reduction])(updates)
    else:
        out = out.copy()
        _NUMPY[reduction](out, index, updates)
    return out.astype(x.dtype)


# ---- rows --------------------------------------------------------------------------------------


@op
def scatter_rows(ids, rows, *, shape):
    """Zeros of `shape`, to whose row ids[i] rows[i] is added: a sparse gradient made dense.

    ids: integers of any shape; rows: [*ids.shape, *shape[1:]].
    """
    need_integer(ids)
    out = Spec(shape, rows.dtype)
    if not out.ndim:
        raise ShapeError("a scalar has no rows", got=str(out))
    _check(out, rows, (*ids.shape, *out.shape[1:]), "add")
    return out


@scatter_rows.compute
def _(xp, ids, rows, shape):
    out = xp.zeros(as_shape(shape), rows.dtype)
    return _put(xp, out, in_range(xp, ids, out.shape[0]), rows, "add")


@scatter_rows.grad
def _(ids, g):
    return None, o.gather(g, ids, axis=0)


@op(overwrites=((0, 0),))
def put_rows(table, ids, rows):
    """The table with row ids[i] replaced by rows[i]; ids of size(table) and more are left out, as
    `merge_rows` gives them for places left over.

    table: [R, ...]; ids: integers [n], each row at most once; rows: [n, ...]. No gradient.
    Raises ArgumentError, when it runs, for a negative id.
    """
    need_integer(ids)
    need_rank(ids, 1, what="ids")
    if not table.ndim:
        raise ShapeError("a scalar has no rows", got=str(table))
    require_same_shape(Spec((*ids.shape, *table.shape[1:]), table.dtype), rows, "rows")
    if table.dtype != rows.dtype:
        raise DTypeError("rows have the dtype of the table", expected=table.dtype, got=str(rows))
    return table


@put_rows.compute
def _(xp, table, ids, rows):
    if xp is not np:
        return table.at[xp.where(ids < 0, table.shape[0], ids)].set(rows, mode="drop")
    if (ids < 0).any():
        raise ArgumentError("an id is no row of the table", expected="0 <= id", got=str(ids.min()))
    out, inside = table.copy(), ids < table.shape[0]
    out[ids[inside]] = rows[inside]
    return out


# ---- elements ----------------------------------------------------------------------------------


@op(promote=(0, 2), overwrites=((0, 0),))
def scatter_elements(x, ids, updates, *, axis=0, reduction="none"):
    """x with each update at its place: for axis 1, out[i, ids[i, j]] = updates[i, j].

    ids, updates: of one shape and the rank of x; along other axes they may be smaller than x.
    reduction: 'none' replaces, 'add', 'mul', 'max' and 'min' combine with x and among updates.
    """
    need_integer(ids)
    at = axis_of(axis, x.ndim)
    if ids.ndim != x.ndim:
        raise ShapeError("ids must have the rank of x", expected=f"{x.ndim}", got=str(ids))
    for i, (size, limit) in enumerate(zip(ids.shape, x.shape, strict=True)):
        if i != at and known_ge(limit, size) is False:
            raise ShapeError(f"axis {i} of ids is larger than that of x", got=f"{ids}, {x}")
    _check(x, updates, ids.shape, reduction)
    return x


@scatter_elements.compute
def _(xp, x, ids, updates, axis, reduction):
    at = axis_of(axis, x.ndim)
    index: list[Any] = list(np.indices(ids.shape, sparse=True))
    index[at] = in_range(xp, ids, x.shape[at])
    return _put(xp, x, tuple(index), updates, reduction)


@scatter_elements.grad
def _(x, ids, updates, out, g, axis, reduction):
    at = axis_of(axis, x.ndim)

    def take(v: Any) -> Any:
        return o.take_along_axis(_cropped(v, ids.shape, at), ids, axis=at)

    def put(base: Any, new: Any, how: str) -> Any:
        return o.scatter_elements(base, ids, new, axis=at, reduction=how)

    gx, gu = _scatter_grads(x, updates, out, g, reduction, take, put)
    return gx, None, gu


def _cropped(x: Any, shape: Shape, axis: int) -> Any:
    """x cut to `shape` along all axes but one."""
    axes = [i for i, d in enumerate(shape) if i != axis and d != x.shape[i]]
    if not axes:
        return x
    stops = tuple(dim_max(shape[i], 0) for i in axes)
    return o.slice(x, axes=tuple(axes), starts=(0,) * len(axes), stops=stops)


@op(promote=(0, 2), overwrites=((0, 0),))
def scatter_nd(x, ids, updates, *, reduction="none"):
    """x with updates at x[ids[..., 0], ids[..., 1], ...].

    ids: [..., m] with 1 <= m <= rank of x; updates: [..., *x.shape[m:]].
    reduction: 'none' replaces, 'add', 'mul', 'max' and 'min' combine with x and among updates.
    """
    m = index_depth(x, ids)
    _check(x, updates, (*ids.shape[:-1], *x.shape[m:]), reduction)
    return x


@scatter_nd.compute
def _(xp, x, ids, updates, reduction):
    return _put(xp, x, nd_index(xp, x, ids), updates, reduction)


@scatter_nd.grad
def _(x, ids, updates, out, g, reduction):
    def take(v: Any) -> Any:
        return o.gather_nd(v, ids)

    def put(base: Any, new: Any, how: str) -> Any:
        return o.scatter_nd(base, ids, new, reduction=how)

    gx, gu = _scatter_grads(x, updates, out, g, reduction, take, put)
    return gx, None, gu


# ---- gradients ---------------------------------------------------------------------------------

Take = Callable[[Any], Any]
Put = Callable[[Any, Any, str], Any]


def _scatter_grads(
    x: Any, updates: Any, out: Any, g: Any, reduction: str, take: Take, put: Put
) -> tuple[Any, Any]:
    """Gradients of x and updates. take(v): v at the places; put(base, new, how): new at them."""
    if reduction == "none":
        zeros = o.fill(shape=updates.shape, value=0.0, dtype=g.dtype)
        return put(g, zeros, "none"), take(g)
    if reduction == "add":
        return g, take(g)
    if reduction == "mul":
        return _product_grads(x, updates, g, take, put)
    won = o.cast(o.equal(x, out), dtype=g.dtype)
    won_there = o.cast(o.equal(updates, take(out)), dtype=g.dtype)
    share = o.div(g, put(won, won_there, "add"))
    return o.mul(share, won), o.mul(take(share), won_there)


def _product_grads(x: Any, updates: Any, g: Any, take: Take, put: Put) -> tuple[Any, Any]:
    """Of products, exact where an update is 0: a factor's gradient is the product of the others."""
    zero = o.equal(updates, 0.0)
    filled = o.where(zero, 1.0, updates)
    zero = o.cast(zero, dtype="int64")
    zeros = put(o.fill(shape=x.shape, value=0, dtype="int64"), zero, "add")
    ones = o.fill(shape=x.shape, value=1.0, dtype=g.dtype)
    rest = o.div(take(put(x, filled, "mul")), filled)
    others = o.where(o.equal(take(zeros), zero), rest, 0.0)
    return o.mul(g, put(ones, updates, "mul")), o.mul(take(g), others)
