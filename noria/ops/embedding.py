"""Rows of a table by their ids, with dense or sparse gradients."""

from __future__ import annotations

from typing import Any

import numpy as np

from noria.core.dims import known_ge
from noria.core.errors import ArgumentError, ShapeError
from noria.ir.opdef import op
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Spec
from noria.ir.sparse import SparseGrad
from noria.ops.common import need_float, need_integer, require_same_shape
from noria.ops.numeric import spec_of


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
    mode: str = "sum",
    padding_idx: int | None = None,
    sparse: bool = False,
) -> Any:
    """Sum or mean of the rows of each bag.

    table: [rows, D]; ids: integers [..., L], a bag of L ids; weights: [..., L], what each row is
    multiplied by, for mode "sum"; out: [..., D]. Ids that are padding_idx are left out, of the mean
    too; the mean of an empty bag is 0.
    """
    if mode not in ("sum", "mean") or (mode == "mean" and weights is not None):
        raise ArgumentError(
            "embedding_bag adds, or averages without weights",
            expected="mode 'sum', or 'mean' without weights",
            got=f"mode={mode!r}",
        )
    axis = spec_of(ids).ndim - 1
    if axis < 0:
        raise ShapeError("ids need an axis of bags", got=str(spec_of(ids)))
    rows = o.embedding(table, ids, padding_idx=padding_idx, sparse=sparse)
    if weights is not None:
        require_same_shape(spec_of(ids), spec_of(weights), "weights")
        rows = o.mul(rows, o.unsqueeze(weights, axis=axis + 1))
    if padding_idx is None:
        return (o.reduce_sum if mode == "sum" else o.reduce_mean)(rows, axis=axis)
    kept = o.unsqueeze(o.not_equal(ids, padding_idx), axis=axis + 1)
    total = o.reduce_sum(o.where(kept, rows, 0.0), axis=axis)
    if mode == "sum":
        return total
    count = o.maximum(o.reduce_sum(kept, axis=axis), 1)
    return o.div(total, o.cast(count, dtype=spec_of(total).dtype))
