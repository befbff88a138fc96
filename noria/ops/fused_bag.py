"""Rows looked up and pooled in one go: made by passes of `embedding_bag` and what is like it."""

from __future__ import annotations

from noria.core.errors import ArgumentError
from noria.ir.opdef import lookup, op
from noria.ir.program import Spec
from noria.ops.common import need_float, require_same_shape
from noria.ops.embedding import check_bag, embedding_bag
from noria.ops.numeric import in_float32
from noria.ops.packed import row_count
from noria.ops.rules import by_decomposition


@op
def fused_bag(table, ids, row_splits=None, weights=None, *, mode="sum"):
    """`embedding_bag` in one go, made by passes; modes 'sum', 'max', and without row_splits 'mean'.

    Halves are rounded once, at the end.
    """
    check_bag(ids, weights, row_splits, mode)
    if row_splits is not None and mode == "mean":
        raise ArgumentError("packed bags are added or compared here", got="mode='mean'")
    if weights is not None:
        need_float(weights)
        require_same_shape(ids, weights, "weights")
    rows = lookup("embedding").infer([table, ids], {})[0]
    lead = ids.shape[:-1] if row_splits is None else (row_count(row_splits),)
    return Spec((*lead, *rows.shape[ids.ndim :]), table.dtype)


@fused_bag.compute
@in_float32
def _(xp, table, ids, row_splits, weights, mode):
    look_up = lookup("embedding")
    rows = look_up.run(xp, [table, ids], look_up.bind_attrs({}))[0]
    if weights is not None:
        rows = rows * weights.reshape(*ids.shape, *(1,) * (rows.ndim - ids.ndim))
    kind = "reduce" if row_splits is None else "sequence"
    pool = lookup(f"{kind}_{mode}")
    attrs = pool.bind_attrs({"axis": ids.ndim - 1} if row_splits is None else {})
    return pool.run(xp, [rows] if row_splits is None else [rows, row_splits], attrs)[0]


@fused_bag.decompose
def _(table, ids, row_splits=None, weights=None, mode="sum"):
    return embedding_bag(table, ids, weights, row_splits=row_splits, mode=mode)


@fused_bag.grad
def _(op, gs, vjp):
    return by_decomposition(op, gs, vjp)
