"""Ids: one-hot, buckets, hashes, uniques, look-ups; the best of rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from noria.convert.caffe2.common import axis_arg, numel
from noria.convert.caffe2.handlers import Node, caffe2_op
from noria.convert.caffe2.ragged import first_of_equals, places_of, row_numbers
from noria.core.dims import dim_min, product
from noria.core.errors import ArgumentError, ShapeError
from noria.ir.opdef import vocabulary as o

# ---- one-hot -----------------------------------------------------------------------------------


@caffe2_op("OneHot")
def one_hot(op, ids, size):
    depth = int(op.const(size, "the number of classes").item())
    ids = o.reshape(o.cast(ids, dtype="int64"), shape=(numel(ids),))
    return o.one_hot(ids, depth=depth)


@caffe2_op("SegmentOneHot")
def segment_one_hot(op, lengths, ids, size):
    """1 for every id of a row: [N, size]."""
    depth = int(op.const(size, "the number of classes").item())
    rows = o.one_hot(o.cast(ids, dtype="int64"), depth=depth)
    places = row_numbers(op, lengths, ids.shape[0])
    return o.minimum(o.scatter_rows(places, rows, shape=(lengths.shape[0], depth)), 1.0)


def _repeated_columns(op: Node, x: Any, lengths: Any, width: Any) -> Any:
    """Column j of a matrix lengths[j] times: [N, width]."""
    rows = o.reshape(x, shape=(x.shape[0], product(x.shape[1:])))
    return o.gather(rows, row_numbers(op, lengths, width), axis=1)


@caffe2_op("BatchOneHot")
def batch_one_hot(op, x, lengths, values):
    """Each column j against its lengths[j] values: [N, sum of lengths]."""
    columns = _repeated_columns(op, x, lengths, values.shape[0])
    return o.cast(o.equal(columns, values), dtype=x.dtype)


# ---- buckets -----------------------------------------------------------------------------------


@caffe2_op("Bucketize")
def bucketize(op, x):
    """How many of the sorted boundaries are below each number (x in (b[i - 1], b[i]])."""
    bounds = np.array(op.floats("boundaries"), np.float32)
    if (np.diff(bounds) < 0).any():
        raise ArgumentError("boundaries must be sorted", got=str(bounds)[:60])
    above = o.greater(o.unsqueeze(x, axis=len(x.shape)), bounds)
    return o.cast(o.reduce_sum(o.cast(above, dtype="int32"), axis=len(x.shape)), dtype="int32")


def _buckets(op: Node, x: Any, lengths: Any, bounds: Any) -> Any:
    """For every column the number of its own boundaries below each number: int64 [N, D]."""
    columns = _repeated_columns(op, x, lengths, bounds.shape[0])
    above = o.cast(o.greater(columns, bounds), dtype="int64")
    owner = row_numbers(op, lengths, bounds.shape[0])
    turned = o.transpose(above, perm=(1, 0))
    counts = o.scatter_rows(owner, turned, shape=(lengths.shape[0], x.shape[0]))
    return o.transpose(counts, perm=(1, 0))


@caffe2_op("BatchBucketize")
def batch_bucketize(op, x, indices, bounds, lengths):
    """Buckets of the columns at the indices: [N, len(indices)]."""
    chosen = o.gather(x, o.cast(indices, dtype="int64"), axis=1)
    return o.cast(_buckets(op, chosen, lengths, bounds), dtype="int32")


@caffe2_op("BatchBucketOneHot")
def batch_bucket_one_hot(op, x, lengths, bounds):
    """The bucket of every column as one-hot, lengths[j] + 1 wide each, side by side."""
    found = _buckets(op, x, lengths, bounds)
    widths = o.add(o.cast(lengths, dtype="int64"), 1)
    firsts = o.cumsum(widths, axis=0, exclusive=True)
    total = bounds.shape[0] + lengths.shape[0]
    return o.reduce_max(o.one_hot(o.add(found, firsts), depth=total), axis=1)


# ---- ids ---------------------------------------------------------------------------------------


@caffe2_op("IndexHash")
def index_hash(op, ids):
    """A hash below `modulo` of the bytes of each id, in the arithmetic of its own dtype."""
    modulo, bits = op.attr("modulo", 0), 64 if ids.dtype == "int64" else 32
    if not 0 < modulo < 1 << (bits - 1):
        raise ArgumentError("modulo must be positive and fit the ids", got=str(modulo))
    wide = o.cast(ids, dtype="int64")
    start = _wrapped(op.attr("seed", 0) * 0xDEADBEEF, bits)
    hashed: Any = o.fill(shape=ids.shape, value=start, dtype="int64")
    for k in range(bits // 8):
        byte = o.remainder(o.floor_divide(wide, 1 << (8 * k)), 256)
        signed = o.sub(o.remainder(o.add(byte, 128), 256), 128)
        hashed = o.add(o.mul(hashed, 65537), signed)
    if bits == 32:
        hashed = o.sub(o.remainder(o.add(hashed, 1 << 31), 1 << 32), 1 << 31)
    return o.cast(o.remainder(hashed, modulo), dtype=ids.dtype)


def _wrapped(number: int, bits: int) -> int:
    half = 1 << (bits - 1)
    return (number + half) % (2 * half) - half


@caffe2_op("Unique")
def unique(op, x):
    """Each number once, in order; and for each element where its number is (int32)."""
    if len(x.shape) != 1:
        raise ShapeError("a vector is needed", got=str(x))
    order = o.argsort(x, axis=0)
    ordered = o.gather(x, order)
    new = first_of_equals(ordered, ordered)
    places = o.sub(o.cumsum(o.cast(new, dtype="int64"), axis=0), 1)
    zeros = o.fill(shape=x.shape, value=0, dtype="int64")
    remapping = o.scatter_nd(zeros, o.unsqueeze(order, axis=1), places)
    return o.gather(ordered, places_of(op, new)), o.cast(remapping, dtype="int32")


@caffe2_op("FindDuplicateElements")
def find_duplicate_elements(op, x):
    """Positions of what was there before: int64, rising."""
    order = o.argsort(x, axis=0)
    ordered = o.gather(x, order)
    again = o.cast(o.logical_not(first_of_equals(ordered, ordered)), dtype="int64")
    zeros = o.fill(shape=x.shape, value=0, dtype="int64")
    return places_of(op, o.scatter_nd(zeros, o.unsqueeze(order, axis=1), again))


@caffe2_op("Find")
def find(op, data, query):
    """The last position of each number of the query in the data, else `missing_value`."""
    missing = op.attr("missing_value", -1)
    if isinstance(data.shape[0], int) and data.shape[0] == 0:
        return o.fill(shape=query.shape, value=missing, dtype="int32")
    hit = o.equal(o.unsqueeze(query, axis=len(query.shape)), data)
    places = o.where(hit, o.arange(stop=data.shape[0]), -1)
    last = o.reduce_max(places, axis=len(query.shape))
    return o.cast(o.where(o.less(last, 0), missing, last), dtype="int32")


# ---- best of rows ------------------------------------------------------------------------------


@caffe2_op("TopK")
def top_k(op, x):
    """(values, places, places in the whole); 0 and -1 where the axis has fewer than k."""
    axis, k = axis_arg(op, x, -1), op.attr("k", -1)
    if k < 1:
        raise ArgumentError("k is 1 or more", got=str(k))
    size = x.shape[axis]
    values, places = o.topk(x, k=dim_min(size, k), axis=axis)
    inner, outer = product(x.shape[axis + 1 :]), product(x.shape[:axis])
    first = o.mul(o.arange(stop=outer), o.dim_value(dim=size * inner))
    shape = (*x.shape[:axis], 1, *x.shape[axis + 1 :])
    starts = o.add(o.unsqueeze(first, axis=1), o.unsqueeze(o.arange(stop=inner), axis=0))
    flat = o.add(o.reshape(starts, shape=shape), o.mul(places, o.dim_value(dim=inner)))
    missing = k - dim_min(size, k)
    if not (isinstance(missing, int) and missing == 0):
        pads = tuple((0, missing) if i == axis else (0, 0) for i in range(len(x.shape)))
        values = o.pad(values, pads=pads)
        places, flat = (o.pad(v, pads=pads, value=-1) for v in (places, flat))
    return values, places, o.reshape(flat, shape=(numel(flat),))


@caffe2_op("TopKGradient")
def top_k_gradient(op, g, places, x):
    """The gradients of the values, at their places; places of -1 take no part."""
    axis = axis_arg(op, x, -1)
    zeros = o.fill(shape=x.shape, value=0, dtype=g.dtype)
    there = o.greater_equal(places, 0)
    places = o.cast(o.where(there, places, 0), dtype="int64")
    return o.scatter_elements(zeros, places, o.where(there, g, 0.0), axis=axis, reduction="add")
