"""Sparse rows made dense, and dense ones sparse."""

from __future__ import annotations

from typing import Any

import numpy as np

from noria.convert.caffe2.features import columns_of
from noria.convert.caffe2.handlers import Node, caffe2_op
from noria.convert.caffe2.ragged import largest_size, row_numbers
from noria.core.errors import ArgumentError
from noria.ir.opdef import vocabulary as o
from noria.ops.random import bernoulli


@caffe2_op("BatchDenseToSparse")
def batch_dense_to_sparse(op, lengths, indices, x):
    """x[n, i] for the indices i of each row n: [T]."""
    return o.gather_nd(x, _coordinates(op, lengths, indices))


def _coordinates(op: Node, lengths: Any, indices: Any) -> Any:
    rows = row_numbers(op, lengths, indices.shape[0])
    columns = o.cast(indices, dtype="int64")
    return o.concat(o.unsqueeze(rows, axis=1), o.unsqueeze(columns, axis=1), axis=1)


@caffe2_op("BatchSparseToDense")
def batch_sparse_to_dense(op, lengths, indices, values, like=None):
    """A matrix of `default_value` with values at the indices of each row."""
    width = op.attr("dense_last_dim", -1) if like is None else like.shape[1]
    if isinstance(width, int) and width < 1:
        raise ArgumentError("the argument 'dense_last_dim' is missing")
    shape = (lengths.shape[0], width)
    empty = o.fill(shape=shape, value=op.attr("default_value", 0.0), dtype=values.dtype)
    return o.scatter_nd(empty, _coordinates(op, lengths, indices), values)


@caffe2_op("SparseToDense")
def sparse_to_dense(op, indices, values, like=None):
    """Zeros, to whose row indices[i] values[i] is added."""
    indices = o.cast(indices, dtype="int64")
    size: Any = op.attr("output_first_dim", 0)
    if like is not None:
        size = like.shape[0]
    elif not size:
        size = largest_size(op, o.add(indices, 1), "dense")
    return o.scatter_rows(indices, values, shape=(size, *values.shape[1:]))


@caffe2_op("SparseToDenseMask")
def sparse_to_dense_mask(op, indices, values, default, lengths=None):
    """[N, len(mask), ...]: the value of each id of `mask` in each row, else the default."""
    mask = np.array(op.ints("mask"), np.int64)
    indices = o.cast(indices, dtype="int64")
    rows = None if lengths is None else row_numbers(op, lengths, indices.shape[0])
    count = 1 if lengths is None else lengths.shape[0]
    hit = o.equal(o.unsqueeze(indices, axis=1), mask)
    found = o.nonzero(hit, size=op.symbol("found"))
    steps, columns = (o.squeeze(c, axis=1) for c in columns_of(found, 2))
    zeros = o.fill(shape=(steps.shape[0],), value=0, dtype="int64")
    owner = zeros if rows is None else o.gather(rows, steps)
    at = o.concat(o.unsqueeze(owner, axis=1), o.unsqueeze(columns, axis=1), axis=1)
    inner = values.shape[1:]
    start = o.broadcast_to(o.reshape(default, shape=inner), shape=(count, len(mask), *inner))
    dense = o.scatter_nd(start, at, o.gather(values, steps))
    there = o.fill(shape=(count, len(mask)), value=False, dtype="bool")
    flags = o.fill(shape=(steps.shape[0],), value=True, dtype="bool")
    there = o.scatter_nd(there, at, flags)
    if lengths is None:
        dense, there = o.squeeze(dense, axis=0), o.squeeze(there, axis=0)
    return dense, there


@caffe2_op("SparseDropoutWithReplacement")
def sparse_dropout_with_replacement(op, x, lengths):
    """With probability `ratio` all ids of a row become one, `replacement_value`: (ids, lengths)."""
    ratio = op.attr("ratio", 0.0)
    if not 0 <= ratio <= 1:
        raise ArgumentError("ratio lies in [0, 1]", got=str(ratio))
    kept = bernoulli(shape=lengths.shape, p=1.0 - ratio)
    old = o.cast(lengths, dtype="int64")
    new = o.where(kept, old, 1)
    value = o.fill(shape=(1,), value=op.attr("replacement_value", 0), dtype=x.dtype)
    starts = o.where(kept, o.cumsum(old, axis=0, exclusive=True), o.dim_value(dim=x.shape[0]))
    places = o.ragged_range(starts, new, size=op.symbol("packed"))
    return o.gather(o.concat(x, value), places), o.cast(new, dtype=lengths.dtype)
