"""Sums, means and maxima over segments: told by lengths, by ids, of rows looked up."""

from __future__ import annotations

from typing import Any

from noria.convert.caffe2.common import as_float, behind
from noria.convert.caffe2.handlers import Node, caffe2_op
from noria.convert.caffe2.ragged import largest_size, places_of, row_numbers
from noria.core.dims import Size
from noria.core.dtypes import is_float
from noria.core.errors import ShapeError
from noria.ir.opdef import vocabulary as o
from noria.ops.sequence import sequence_mean, sequence_splits

KINDS = ("Sum", "Mean", "WeightedSum", "WeightedMean", "Max", "LogSumExp", "LogMeanExp")


def _need_vector(x: Any, what: str) -> None:
    if len(x.shape) != 1:
        raise ShapeError(f"{what} must be a vector", got=str(x))


def reduced(kind: str, x: Any, ids: Any, count: Size, weights: Any = None) -> Any:
    """Steps of x [T, ...] put together by the segment each belongs to: [count, ...].

    ids: int64 [T], in any order; a segment without steps gives zeros; weights: [T]
    """
    shape = (count, *x.shape[1:])
    x = _weighted(x, weights)
    if kind in ("Sum", "WeightedSum"):
        return o.scatter_rows(ids, x, shape=shape)
    each = o.fill(shape=(x.shape[0],), value=1.0, dtype=x.dtype)
    total = behind(o.scatter_rows(ids, each, shape=(count,)), len(shape) - 1)
    if kind in ("Mean", "WeightedMean"):
        return o.div(o.scatter_rows(ids, x, shape=shape), o.maximum(total, 1.0))
    lowest = o.fill(shape=shape, value=float("-inf"), dtype=x.dtype)
    top = o.scatter_nd(lowest, o.unsqueeze(ids, axis=1), x, reduction="max")
    top = o.where(o.equal(total, 0.0), 0.0, top)
    if kind == "Max":
        return top
    spread = o.exp(o.sub(x, o.gather(o.stop_gradient(top), ids)))
    sums = o.scatter_rows(ids, spread, shape=shape)
    if kind == "LogMeanExp":
        sums = o.div(sums, o.maximum(total, 1.0))
    return o.where(o.equal(total, 0.0), 0.0, o.add(o.log(sums), top))


def _weighted(x: Any, weights: Any) -> Any:
    if weights is None:
        return x
    return o.mul(x, behind(o.cast(weights, dtype=x.dtype), len(x.shape) - 1))


def _looked_up(x: Any, indices: Any) -> Any:
    return as_float(o.embedding(x, o.cast(indices, dtype="int64")))


# ---- by lengths --------------------------------------------------------------------------------


def by_lengths(op: Node, kind: str, x: Any, lengths: Any, weights: Any = None) -> Any:
    """Packed rows of these lengths put together: [T, ...] -> [N, ...]; weights: [T]."""
    _need_vector(lengths, "lengths")
    if not is_float(x.dtype):
        ids = row_numbers(op, lengths, x.shape[0])
        return reduced(kind, x, ids, lengths.shape[0], weights)
    splits, x = sequence_splits(lengths), _weighted(x, weights)
    if kind == "Max":
        return o.sequence_max(x, splits, empty=0.0)
    return (sequence_mean if kind.endswith("Mean") else o.sequence_sum)(x, splits)


@caffe2_op("LengthsSum", "LengthsMean", "LengthsMax")
def lengths_reduce(op, x, lengths):
    return by_lengths(op, op.type.removeprefix("Lengths"), x, lengths)


@caffe2_op("LengthsWeightedSum", "LengthsWeightedMean")
def lengths_weighted(op, x, weights, lengths):
    return by_lengths(op, op.type.removeprefix("Lengths"), x, lengths, weights)


@caffe2_op("SparseLengthsSum", "SparseLengthsMean", "SparseLengthsMax")
def sparse_lengths_reduce(op, x, indices, lengths):
    return by_lengths(op, op.type.removeprefix("SparseLengths"), _looked_up(x, indices), lengths)


@caffe2_op("SparseLengthsWeightedSum", "SparseLengthsWeightedMean")
def sparse_lengths_weighted(op, x, weights, indices, lengths):
    kind = op.type.removeprefix("SparseLengths")
    return by_lengths(op, kind, _looked_up(x, indices), lengths, weights)


@caffe2_op("SparseLengthsPositionalWeightedSum")
def sparse_lengths_positional(op, x, weights, indices, lengths):
    """The weight of a step is that of its place in the row."""
    rows = row_numbers(op, lengths, indices.shape[0])
    ends = o.cumsum(o.cast(lengths, dtype="int64"), axis=0, exclusive=True)
    places = o.sub(o.arange(stop=indices.shape[0]), o.gather(ends, rows))
    return by_lengths(op, "WeightedSum", _looked_up(x, indices), lengths, o.gather(weights, places))


@caffe2_op("LengthsSumGradient", "LengthsMeanGradient")
def lengths_gradient(op, dy, lengths):
    """Every step of a row gets the gradient of the row, or its share."""
    if "Mean" in op.type:
        share = o.maximum(o.cast(lengths, dtype=dy.dtype), 1.0)
        dy = o.div(dy, behind(share, len(dy.shape) - 1))
    return o.gather(dy, row_numbers(op, lengths))


for _prefix in ("SparseLengths", "SparseLengthsIndicesInGradient"):
    caffe2_op(f"{_prefix}SumGradient", f"{_prefix}MeanGradient")(lengths_gradient)


@caffe2_op("LengthsMaxWithMainInputAndForwardOutputGradient")
def lengths_max_gradient(op, y, dy, lengths, x):
    """The gradient of a row goes to all of its largest steps."""
    ids = row_numbers(op, lengths, x.shape[0])
    return o.where(o.equal(x, o.gather(y, ids)), o.gather(dy, ids), 0.0)


@caffe2_op("SparseLengthsIndicesInGradientWeightedSumGradient", "LengthsWeightedSumGradient")
@caffe2_op("SparseLengthsWeightedSumGradient")
def lengths_weighted_gradient(op, weights, dy, lengths):
    rows = o.gather(dy, row_numbers(op, lengths, weights.shape[0]))
    return o.mul(rows, behind(o.cast(weights, dtype=dy.dtype), len(dy.shape) - 1))


@caffe2_op("SparseLengthsIndicesInGradientWeightedSumWithMainInputGradient")
@caffe2_op("LengthsWeightedSumWithMainInputGradient")
def lengths_weighted_main_gradient(op, weights, dy, lengths, x, indices=None):
    """(gradient of every step, gradient of its weight)"""
    rows = o.gather(dy, row_numbers(op, lengths, weights.shape[0]))
    x = x if indices is None else _looked_up(x, indices)
    axes = tuple(range(1, len(rows.shape)))
    along = o.mul(rows, x)
    return _weighted(rows, weights), o.reduce_sum(along, axis=axes) if axes else along


@caffe2_op("SparseLengthsSumSparseLookup")
def sparse_lookup(op, indices, lengths, mapping, weights=None):
    """(rows that indices stand for, lengths, weights) without those mapped to a negative row; a
    mapping that is the one number 0 maps nothing."""
    ids = o.cast(indices, dtype="int64")
    table = o.cast(mapping, dtype="int64")
    if mapping.shape[0] == 1:
        rows = o.where(o.equal(table, 0), ids, table)
    else:
        rows = o.gather(table, ids)
    keep = o.greater_equal(rows, 0)
    owner = row_numbers(op, lengths, indices.shape[0])
    left = o.scatter_rows(owner, o.cast(keep, dtype="int64"), shape=lengths.shape)
    at = places_of(op, keep)
    given = o.cast(o.gather(rows, at), dtype=indices.dtype), o.cast(left, dtype=lengths.dtype)
    return given if weights is None else (*given, o.gather(weights, at))


# ---- by ids ------------------------------------------------------------------------------------


def _segments(op: Node, ids: Any, sorted_ids: bool) -> Size:
    """How many segments there are: `num_segments`, else one more than the largest id."""
    asked = op.attr("num_segments", -1)
    if asked >= 0 and not sorted_ids:
        return int(asked)
    known = op.known(ids)
    if known is not None:
        return int(known.max(initial=-1)) + 1
    if ids.shape[0] == 0:
        return 0
    return largest_size(op, o.add(ids, 1), "segments")


def _by_ids(op: Node, kind: str, x: Any, ids: Any, weights: Any = None) -> Any:
    _need_vector(ids, "segment ids")
    ids = o.cast(ids, dtype="int64")
    return reduced(kind, x, ids, _segments(op, ids, "Unsorted" not in op.type), weights)


_SEGMENTS = [f"{order}Segment" for order in ("Sorted", "Unsorted")]


def _kind_of(op: Node) -> str:
    return next(k for k in sorted(KINDS, key=len, reverse=True) if op.type.endswith(k))


@caffe2_op(*[f"{s}{k}" for s in _SEGMENTS for k in ("Sum", "Mean", "Max")])
@caffe2_op(*[f"SortedSegmentRange{k}" for k in ("Sum", "Mean", "Max", "LogSumExp", "LogMeanExp")])
def segment_reduce(op, x, ids):
    return _by_ids(op, _kind_of(op), x, ids)


@caffe2_op(*[f"{s}WeightedSum" for s in _SEGMENTS])
def segment_weighted(op, x, weights, ids):
    return _by_ids(op, _kind_of(op), x, ids, weights)


@caffe2_op(*[f"Sparse{s}{k}" for s in _SEGMENTS for k in ("Sum", "Mean", "Max")])
def sparse_segment_reduce(op, x, indices, ids):
    return _by_ids(op, _kind_of(op), _looked_up(x, indices), ids)


@caffe2_op(*[f"Sparse{s}WeightedSum" for s in _SEGMENTS])
def sparse_segment_weighted(op, x, weights, indices, ids):
    return _by_ids(op, _kind_of(op), _looked_up(x, indices), ids, weights)


@caffe2_op(*[f"{s}{k}Gradient" for s in _SEGMENTS for k in ("Sum", "Mean")])
@caffe2_op(*[f"Sparse{s}{k}Gradient" for s in _SEGMENTS for k in ("Sum", "Mean")])
def segment_gradient(op, dy, ids):
    """Every step gets the gradient of its segment, or its share."""
    ids = o.cast(ids, dtype="int64")
    if "Mean" in op.type:
        ones = o.fill(shape=ids.shape, value=1.0, dtype=dy.dtype)
        counts = o.scatter_rows(ids, ones, shape=(dy.shape[0],))
        dy = o.div(dy, behind(o.maximum(counts, 1.0), len(dy.shape) - 1))
    return o.gather(dy, ids)


@caffe2_op(*[f"{s}WeightedSumGradient" for s in _SEGMENTS])
@caffe2_op(*[f"Sparse{s}WeightedSumGradient" for s in _SEGMENTS])
def segment_weighted_gradient(op, weights, dy, ids):
    return _weighted(o.gather(dy, o.cast(ids, dtype="int64")), weights)


@caffe2_op(*[f"SortedSegmentRange{k}Gradient" for k in ("Sum", "Mean", "Max")])
@caffe2_op(*[f"SortedSegmentRangeLog{k}ExpGradient" for k in ("Sum", "Mean")])
def segment_range_gradient(op, x, y, dy, ids):
    """A step gets the gradient of its segment as far as it has part in it; all largest ones do."""
    ids = o.cast(ids, dtype="int64")
    if "Mean" in op.type:
        ones = o.fill(shape=ids.shape, value=1.0, dtype=dy.dtype)
        counts = o.scatter_rows(ids, ones, shape=(dy.shape[0],))
        dy = o.div(dy, behind(o.maximum(counts, 1.0), len(dy.shape) - 1))
    steps, top = o.gather(dy, ids), o.gather(y, ids)
    if "RangeMax" in op.type:
        return o.where(o.equal(x, top), steps, 0.0)
    return o.mul(steps, o.exp(o.sub(x, top))) if "Log" in op.type else steps


# ---- rows of 8 bits ----------------------------------------------------------------------------


def _dequantised(x: Any, scale_bias: Any, indices: Any) -> Any:
    """Rows of uint8 times a scale plus a bias, [rows, 2], each row its own."""
    indices = o.cast(indices, dtype="int64")
    rows = o.cast(o.gather(x, indices), dtype="float32")
    pairs = o.gather(scale_bias, indices)
    scale, bias = (o.slice(pairs, axes=(1,), starts=(i,), stops=(i + 1,)) for i in (0, 1))
    return o.add(o.mul(rows, scale), bias)


@caffe2_op("SparseLengthsSum8BitsRowwise", "SparseLengthsMean8BitsRowwise")
def sparse_lengths_8bits(op, x, indices, lengths, scale_bias):
    kind = "Mean" if "Mean" in op.type else "Sum"
    return by_lengths(op, kind, _dequantised(x, scale_bias, indices), lengths)


@caffe2_op("SparseLengthsWeightedSum8BitsRowwise", "SparseLengthsWeightedMean8BitsRowwise")
def sparse_lengths_weighted_8bits(op, x, weights, indices, lengths, scale_bias):
    kind = "WeightedMean" if "Mean" in op.type else "WeightedSum"
    return by_lengths(op, kind, _dequantised(x, scale_bias, indices), lengths, weights)


@caffe2_op("FloatToRowwiseQuantized8Bits")
def to_rowwise_8bits(op, x):
    """(uint8 rows, [rows, 2] of scale and smallest number)"""
    low = o.reduce_min(x, axis=1, keepdims=True)
    span = o.sub(o.reduce_max(x, axis=1, keepdims=True), low)
    flat = o.less(span, 1e-10)
    scale = o.where(flat, 1.0, o.div(span, 255.0))
    levels = o.minimum(o.floor(o.add(o.div(o.sub(x, low), scale), 0.5)), 255.0)
    return o.cast(o.where(flat, 0.0, levels), dtype="uint8"), o.concat(scale, low, axis=1)


@caffe2_op("Rowwise8BitQuantizedToFloat")
def from_rowwise_8bits(op, x, scale_bias):
    return _dequantised(x, scale_bias, o.arange(stop=x.shape[0]))
