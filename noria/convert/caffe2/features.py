"""Features of examples: shards, merged feature lists, n-grams."""

from __future__ import annotations

from typing import Any

import numpy as np

from noria.convert.caffe2.common import behind, numel
from noria.convert.caffe2.handlers import Node, caffe2_op
from noria.convert.caffe2.ragged import packed_size, places_of, row_numbers
from noria.core.dims import product
from noria.core.errors import ArgumentError
from noria.ir.opdef import vocabulary as o

# ---- shards ------------------------------------------------------------------------------------


def shards_of(ids: Any, count: int) -> list[Any]:
    """Which elements of a vector belong to each shard, by the remainder of their id."""
    shard = o.remainder(o.cast(ids, dtype="int64"), count)
    return [o.equal(shard, k) for k in range(count)]


def _packed_ids(op: Node, ids: Any, count: int) -> Any:
    if not op.attr("pack_first_input", 0):
        return ids
    wide = o.cast(ids, dtype="int64")
    return o.cast(o.floor_divide(wide, count), dtype=ids.dtype)


def _partitioned(op: Node, ids: Any, others: Any, count: int) -> list[list[Any]]:
    """Of each shard: its ids and its elements of each further input."""
    flat = o.reshape(ids, shape=(numel(ids),))
    places = [places_of(op, own) for own in shards_of(flat, count)]
    first = _packed_ids(op, flat, count)
    rows = [o.reshape(x, shape=(numel(ids), *x.shape[len(ids.shape) :])) for x in others]
    return [[o.gather(x, at) for x in (first, *rows)] for at in places]


@caffe2_op("Partition")
def partition(op, ids, *others):
    """The first shard of every input, then the second of every input, ..."""
    count, rest = divmod(len(op.outputs), 1 + len(others))
    if rest or count < 1:
        raise ArgumentError("outputs must be a multiple of the inputs", got=str(len(op.outputs)))
    return tuple(v for shard in _partitioned(op, ids, others, count) for v in shard)


@caffe2_op("LengthsPartition")
def lengths_partition(op, lengths, ids, *others):
    """As Partition, of rows told by lengths: each shard begins with the lengths in it."""
    count, rest = divmod(len(op.outputs), 2 + len(others))
    if rest or count < 1:
        raise ArgumentError("outputs must be a multiple of the inputs", got=str(len(op.outputs)))
    rows = row_numbers(op, lengths, ids.shape[0])
    sizes = [
        o.scatter_rows(rows, o.cast(own, dtype=lengths.dtype), shape=lengths.shape)
        for own in shards_of(ids, count)
    ]
    parts = _partitioned(op, ids, others, count)
    return tuple(v for n, shard in zip(sizes, parts, strict=True) for v in (n, *shard))


# ---- merged features ---------------------------------------------------------------------------


def by_example(columns: Any) -> Any:
    """Vectors [N] side by side and read row by row: [N * K]."""
    joined = o.concat(*[o.unsqueeze(c, axis=1) for c in columns], axis=1)
    return o.reshape(joined, shape=(numel(joined),))


def _ids(op: Node, count: int) -> np.ndarray:
    ids = np.array(op.ints("feature_ids"), np.int64)
    if len(ids) != count:
        raise ArgumentError("one feature id an input is needed", expected=str(count), got=str(ids))
    return ids


def _present(op: Node, flags: list[Any], ids: np.ndarray) -> tuple[Any, Any, Any]:
    """(features of each example int32, their ids, places among all examples and features)"""
    there = by_example(flags)
    kept = places_of(op, there)
    counts = o.reduce_sum(
        o.cast(o.reshape(there, shape=(flags[0].shape[0], len(ids))), dtype="int32"), axis=1
    )
    keys = o.gather(ids, o.remainder(kept, len(ids)))
    return o.cast(counts, dtype="int32"), keys, kept


@caffe2_op("MergeDenseFeatureTensors")
def merge_dense_features(op, dense, present):
    """(lengths, ids, values) of what is present of [N, features]."""
    ids = _ids(op, dense.shape[1])
    kept = places_of(op, o.reshape(present, shape=(numel(present),)))
    counts = o.cast(o.reduce_sum(o.cast(present, dtype="int32"), axis=1), dtype="int32")
    values = o.gather(o.reshape(dense, shape=(numel(dense),)), kept)
    return counts, o.gather(ids, o.remainder(kept, len(ids))), values


@caffe2_op("MergeSingleScalarFeatureTensors")
def merge_single_scalars(op, *pairs):
    """(values, presence) of each feature -> (lengths, ids, values)"""
    values, flags = pairs[::2], list(pairs[1::2])
    counts, keys, kept = _present(op, flags, _ids(op, len(flags)))
    return counts, keys, o.gather(by_example(values), kept)


@caffe2_op("MergeSingleScalarFeatureTensorsGradient")
def merge_single_scalars_gradient(op, *given):
    """(presence of each feature, gradient of the values) -> gradients, 0 where absent"""
    flags, g = given[:-1], given[-1]
    there = by_example(flags)
    before = o.sub(o.cumsum(o.cast(there, dtype="int64"), axis=0), 1)
    more = o.concat(g, o.fill(shape=(1,), value=0, dtype=g.dtype), axis=0)
    at = o.where(there, before, o.dim_value(dim=g.shape[0]))
    table = o.reshape(o.gather(more, at), shape=(flags[0].shape[0], len(flags)))
    return tuple(o.squeeze(part, axis=1) for part in columns_of(table, len(flags)))


def columns_of(table: Any, count: int) -> list[Any]:
    """The columns of a matrix, [N, 1] each."""
    return [o.slice(table, axes=(1,), starts=(i,), stops=(i + 1,)) for i in range(count)]


def _merge_lists(op: Node, groups: list[tuple[Any, ...]]) -> tuple[Any, ...]:
    """Groups of (lengths, values..., presence): lists of what is present, example by example."""
    lengths, flags = [g[0] for g in groups], [g[-1] for g in groups]
    counts, keys, kept = _present(op, flags, _ids(op, len(groups)))
    own = [o.where(f, o.cast(n, dtype="int64"), 0) for n, f in zip(lengths, flags, strict=True)]
    sizes = o.gather(by_example([o.cast(n, dtype="int64") for n in lengths]), kept)
    firsts, offset = [], 0
    for group, mine in zip(groups, own, strict=True):
        starts = o.cumsum(mine, axis=0, exclusive=True)
        firsts.append(o.add(starts, o.dim_value(dim=offset)))
        offset = offset + group[1].shape[0]
    places = o.ragged_range(o.gather(by_example(firsts), kept), sizes, size=packed_size(op, sizes))
    columns = zip(*[g[1:-1] for g in groups], strict=True)
    merged = [o.gather(o.concat(*c) if len(c) > 1 else c[0], places) for c in columns]
    return counts, keys, o.cast(sizes, dtype="int32"), *merged


def grouped(blobs: Any, width: int) -> list[tuple[Any, ...]]:
    if not blobs or len(blobs) % width:
        raise ArgumentError(f"inputs come in groups of {width}", got=str(len(blobs)))
    return [tuple(blobs[i : i + width]) for i in range(0, len(blobs), width)]


@caffe2_op("MergeSingleListFeatureTensors")
def merge_single_lists(op, *blobs):
    """(lengths, values, presence) of each -> (lengths, ids, lengths of lists, values)"""
    return _merge_lists(op, grouped(blobs, 3))


@caffe2_op("MergeSingleMapFeatureTensors")
def merge_single_maps(op, *blobs):
    """(lengths, keys, values, presence) of each -> (lengths, ids, lengths of maps, keys, values)"""
    return _merge_lists(op, grouped(blobs, 4))


def _merge_multi(op: Node, groups: list[tuple[Any, ...]]) -> tuple[Any, ...]:
    """Groups of (lengths, ids, values...): the features of each example behind one another.

    Where there are lists, (lengths, ids, lengths of lists, values...).
    """
    lengths = [o.cast(g[0], dtype="int64") for g in groups]
    sizes = by_example(lengths)
    firsts, offset = [], 0
    for group, mine in zip(groups, lengths, strict=True):
        firsts.append(o.add(o.cumsum(mine, axis=0, exclusive=True), o.dim_value(dim=offset)))
        offset = offset + group[1].shape[0]
    places = o.ragged_range(by_example(firsts), sizes, size=offset)
    total = lengths[0]
    for mine in lengths[1:]:
        total = o.add(total, mine)
    return o.cast(total, dtype="int32"), places


def _joined(groups: list[tuple[Any, ...]], i: int) -> Any:
    return o.concat(*[g[i] for g in groups]) if len(groups) > 1 else groups[0][i]


@caffe2_op("MergeMultiScalarFeatureTensors")
def merge_multi_scalars(op, *blobs):
    """(lengths, ids, values) of each -> the same of all"""
    groups = grouped(blobs, 3)
    total, places = _merge_multi(op, groups)
    return total, *(o.gather(_joined(groups, i), places) for i in (1, 2))


def _merge_multi_lists(op: Node, groups: list[tuple[Any, ...]]) -> tuple[Any, ...]:
    total, places = _merge_multi(op, groups)
    sizes = o.cast(_joined(groups, 2), dtype="int64")
    starts = o.gather(o.cumsum(sizes, axis=0, exclusive=True), places)
    moved = o.gather(sizes, places)
    steps = sum((g[3].shape[0] for g in groups), 0)
    inner = o.ragged_range(starts, moved, size=steps)
    values = [o.gather(_joined(groups, i), inner) for i in range(3, len(groups[0]))]
    return total, o.gather(_joined(groups, 1), places), o.cast(moved, dtype="int32"), *values


@caffe2_op("MergeMultiListFeatureTensors")
def merge_multi_lists(op, *blobs):
    """(lengths, ids, lengths of lists, values) of each -> the same of all"""
    return _merge_multi_lists(op, grouped(blobs, 4))


@caffe2_op("MergeMultiMapFeatureTensors")
def merge_multi_maps(op, *blobs):
    """(lengths, ids, lengths of maps, keys, values) of each -> the same of all"""
    return _merge_multi_lists(op, grouped(blobs, 5))


# ---- numbers of features -----------------------------------------------------------------------


@caffe2_op("NGramFromCategorical")
def n_gram_from_categorical(op, x):
    """One number for the categories of some columns together; unknown ones count as the first."""
    columns, limits = op.ints("col_ids"), op.ints("categorical_limits")
    values = op.ints("vals")
    if len(columns) != len(limits) or sum(limits) != len(values) or min(limits, default=1) < 1:
        raise ArgumentError("limits do not fit the columns and values", got=f"{columns}, {limits}")
    rows = o.reshape(x, shape=(x.shape[0], product(x.shape[1:])))
    whole = o.cast(o.mul(o.sign(rows), o.floor(o.add(o.abs(rows), 0.5))), dtype="int64")
    total: Any = o.fill(shape=(x.shape[0],), value=0, dtype="int64")
    base, start = 1, 0
    for column, limit in zip(columns, limits, strict=True):
        mine = np.array(values[start : start + limit], np.int64)
        ranks = np.arange(limit, dtype=np.int64)
        cell = o.slice(whole, axes=(1,), starts=(column,), stops=(column + 1,))
        rank = o.reduce_max(o.where(o.equal(cell, mine), ranks, 0), axis=1)
        total = o.add(total, o.mul(rank, base))
        base, start = base * limit, start + limit
    return o.cast(total, dtype="int32")


@caffe2_op("VariableLengthSequencePadding")
def variable_length_sequence_padding(op, x, lengths):
    """[T, N, ...] with zeros behind the first lengths[n] steps of each row."""
    steps = o.unsqueeze(o.arange(stop=x.shape[0]), axis=1)
    there = o.less(steps, o.cast(lengths, dtype="int64"))
    return o.where(behind(there, len(x.shape) - 2), x, o.fill(shape=(), value=0, dtype=x.dtype))


# ---- sizes of leading axes ---------------------------------------------------------------------


@caffe2_op("PrependDim")
def prepend_dim(op, x):
    """[n * dim_size, ...] -> [dim_size, n, ...]"""
    size = op.attr("dim_size", 0)
    if size < 1:
        raise ArgumentError("dim_size is 1 or more", got=str(size))
    return o.reshape(x, shape=(size, x.shape[0] // size, *x.shape[1:]))


@caffe2_op("MergeDim")
def merge_dim(op, x):
    """[a, b, ...] -> [a * b, ...]"""
    return o.reshape(x, shape=(x.shape[0] * x.shape[1], *x.shape[2:]))


# ---- checks that pass --------------------------------------------------------------------------


@caffe2_op("EnforceFinite", "Assert")
def checked(op, x, *others):
    """Nothing is given; what is not finite is found by the Executor's `check_finite`."""
    return ()


@caffe2_op("EnsureClipped")
def ensure_clipped(op, param, *others):
    limits = {
        new: op.attr(old, 0.0) for old, new in (("min", "low"), ("max", "high")) if op.has(old)
    }
    if not others:
        return o.clip(param, **limits)
    ids = o.unsqueeze(o.cast(others[0], dtype="int64"), axis=1)
    rows = o.clip(o.gather(param, o.squeeze(ids, axis=1)), **limits)
    return o.scatter_nd(param, ids, rows)
