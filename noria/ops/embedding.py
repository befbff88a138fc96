"""Rows of a table by their ids, or what bags of them add up to; gradients dense or sparse."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from noria.core.dims import known_ge
from noria.core.dtypes import as_dtype, to_numpy
from noria.core.errors import ArgumentError, ShapeError
from noria.ir.opdef import op
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Spec
from noria.ir.sparse import SparseGrad
from noria.ops.common import need_float, need_integer, require_equal, require_same_shape
from noria.ops.numeric import spec_of
from noria.ops.sequence import sequence_mean


@op
def embedding(table, ids, *, padding_idx=None, sparse=False):
    """table[ids].

    table: [rows, ...]; ids: integers [...] with 0 <= id < rows; out: [*ids, *table.shape[1:]].
    padding_idx: the id whose row gets no gradient.
    sparse: the gradient is a pair (ids, rows), of which optimisers change only the rows named;
    otherwise it has the size of the table.
    Raises ArgumentError, when it runs, for an id outside the table; under XLA, which cannot raise,
    its row is NaN.
    """
    need_float(table)
    need_integer(ids)
    if table.ndim < 1:
        raise ShapeError("a table needs an axis of rows", got=str(table))
    if padding_idx is not None:
        _need_row(table, padding_idx)
    return Spec((*ids.shape, *table.shape[1:]), table.dtype)


def _need_row(table: Spec, idx: Any) -> None:
    rows = table.shape[0]
    if not isinstance(idx, int) or idx < 0 or known_ge(rows, idx + 1) is False:
        raise ArgumentError(
            "padding_idx must be a row of the table", expected=f"0 to {rows} - 1", got=repr(idx)
        )


@embedding.compute
def _(xp, table, ids, padding_idx, sparse):
    if xp is np:
        return table[_checked(ids, table.shape[0])]
    known = xp.where(ids < 0, table.shape[0], ids)  # jax would count a negative id from the end
    return xp.take(table, known, axis=0, mode="fill", fill_value=np.nan)


def _checked(ids: np.ndarray, rows: int) -> np.ndarray:
    wrong = (ids < 0) | (ids >= rows)
    if wrong.any():
        raise ArgumentError(
            "an id is outside the table",
            expected=f"0 <= id < {rows}",
            got=str(ids[wrong][0]),
            hint="is the vocabulary larger than the table?",
        )
    return ids


@embedding.work
def _(ids, out):
    return 0.0, ids.nbytes + 2.0 * out.nbytes  # of the table only the rows that are asked for


@embedding.grad
def _(table, ids, g, padding_idx, sparse):
    if padding_idx is not None:
        behind = tuple(range(ids.ndim, g.ndim))
        padding = o.equal(ids, padding_idx)
        g = o.where(o.unsqueeze(padding, axis=behind) if behind else padding, 0.0, g)
    if not sparse:
        return o.scatter_rows(ids, g, shape=table.shape), None
    return SparseGrad(ids, g, table.shape), None


def embedding_bag(
    table: Any,
    ids: Any,
    weights: Any = None,
    *,
    row_splits: Any = None,
    mode: str = "sum",
    padding_idx: int | None = None,
    sparse: bool = False,
) -> Any:
    """Sum, mean or maximum of the rows of each bag.

    table: [rows, D]; ids: integers [..., L], bags of L ids; or [T], packed bags of different
    lengths, where row_splits [N + 1] says which ids are of which bag (see `ops/sequence.py`);
    weights: of the shape of ids, what each row is multiplied by, for mode "sum";
    out: [..., D], or [N, D]. Ids that are padding_idx are left out, of the mean too; the mean and
    the maximum of a bag that has no other ids are 0. Where the rows themselves are not needed, none
    of them is kept in memory.
    """
    check_bag(ids, weights, row_splits, mode)
    axis = spec_of(ids).ndim - 1
    rows = o.embedding(table, ids, padding_idx=padding_idx, sparse=sparse)
    if weights is not None:
        require_same_shape(spec_of(ids), spec_of(weights), "weights")
        rows = o.mul(rows, o.unsqueeze(weights, axis=axis + 1))
    if padding_idx is None:
        return _pooled(mode, rows, axis, row_splits)
    kept = o.unsqueeze(o.not_equal(ids, padding_idx), axis=axis + 1)
    if mode == "max":
        top = _pooled(mode, o.where(kept, rows, -math.inf), axis, row_splits)
        some = _pooled(mode, o.cast(kept, dtype="float32"), axis, row_splits)
        return o.where(o.greater(some, 0.0), top, 0.0)
    total = _pooled("sum", o.where(kept, rows, 0.0), axis, row_splits)
    if mode == "sum":
        return total
    count = _pooled("sum", o.cast(kept, dtype="float32"), axis, row_splits)
    return o.div(total, o.cast(o.maximum(count, 1.0), dtype=spec_of(total).dtype))


def check_bag(ids: Any, weights: Any, row_splits: Any, mode: str) -> None:
    """Raises ArgumentError for a bad mode, ShapeError for ids that are no bags."""
    if mode not in ("sum", "mean", "max") or (mode != "sum" and weights is not None):
        raise ArgumentError(
            "embedding_bag adds, or averages or compares without weights",
            expected="mode 'sum', or 'mean' or 'max' without weights",
            got=f"mode={mode!r}",
        )
    given = spec_of(ids)
    if given.ndim == 0 or (row_splits is not None and given.ndim != 1):
        wanted = "[..., L]" if row_splits is None else "[T] beside row_splits"
        raise ShapeError("ids need an axis of bags", expected=wanted, got=str(given))


def _pooled(mode: str, rows: Any, axis: int, row_splits: Any) -> Any:
    """rows [..., L, D] pooled along `axis`, or [T, D] by row_splits."""
    if row_splits is None:
        return getattr(o, f"reduce_{mode}")(rows, axis=axis)
    if mode == "mean":
        return sequence_mean(rows, row_splits)
    return getattr(o, f"sequence_{mode}")(rows, row_splits)


# ---- many features in one table ----------------------------------------------------------------


@op
def field_ids(ids, *, sizes):
    """Ids of F features as ids of one table, which has the rows of one feature after the other.

    ids: integers [..., F] with 0 <= ids[..., f] < sizes[f]; out: ids[..., f] + sizes[0] + ... +
    sizes[f - 1], of the same dtype.
    Raises ArgumentError, when it runs, for an id outside its feature; under XLA it becomes -1.
    """
    need_integer(ids)
    if ids.ndim == 0:
        raise ShapeError("ids need an axis of features", got=str(ids))
    require_equal(ids.shape[-1], len(sizes), "the number of ids and of features")
    if any(not isinstance(n, int) or n < 1 for n in sizes):
        raise ArgumentError("a feature has one id or more", got=repr(sizes))
    if sum(sizes) - 1 > np.iinfo(to_numpy(ids.dtype)).max:
        raise ArgumentError(f"{ids.dtype} does not hold all ids", got=f"{sum(sizes)} rows")
    return ids


@field_ids.compute
def _(xp, ids, sizes):
    limits = np.array(sizes, np.int64)
    offsets = (np.cumsum(limits) - limits).astype(to_numpy(as_dtype(ids.dtype)))
    wrong = (ids < 0) | (ids >= limits.astype(offsets.dtype))
    if xp is not np:
        return xp.where(wrong, -1, ids + offsets)
    if wrong.any():
        at = tuple(np.argwhere(wrong)[0])
        raise ArgumentError(
            f"an id is outside feature {at[-1]}",
            expected=f"0 <= id < {sizes[at[-1]]}",
            got=str(ids[at]),
        )
    return ids + offsets
