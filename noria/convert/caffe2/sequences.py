"""Ragged rows moved about: packed, padded, tiled, gathered; lengths and ranges."""

from __future__ import annotations

from typing import Any

import numpy as np

from noria.convert.caffe2.common import behind
from noria.convert.caffe2.handlers import Node, caffe2_op
from noria.convert.caffe2.ragged import (
    first_of_equals,
    largest_size,
    packed_size,
    places_of,
    row_numbers,
    sorted_in_rows,
    step_numbers,
)
from noria.core.dims import product
from noria.core.errors import ArgumentError
from noria.ir.opdef import vocabulary as o
from noria.ops.ragged import sequence_mask, sequence_pad, sequence_unpad
from noria.ops.sequence import sequence_splits

# ---- lengths, ids, ranges ----------------------------------------------------------------------


@caffe2_op("LengthsToSegmentIds")
def lengths_to_segment_ids(op, lengths):
    return o.cast(row_numbers(op, lengths), dtype="int32")


@caffe2_op("SegmentIdsToLengths")
def segment_ids_to_lengths(op, ids, like=None):
    """How many steps each segment has; like: as many segments as it has rows."""
    ids = o.cast(ids, dtype="int64")
    count = like.shape[0] if like is not None else largest_size(op, o.add(ids, 1), "segments")
    ones = o.fill(shape=ids.shape, value=1, dtype="int32")
    return o.scatter_rows(ids, ones, shape=(count,))


@caffe2_op("SegmentIdsToRanges")
def segment_ids_to_ranges(op, ids, like=None):
    lengths = segment_ids_to_lengths(op, ids, like)
    return lengths_to_ranges(op, lengths)


@caffe2_op("LengthsToRanges")
def lengths_to_ranges(op, lengths):
    """(start, length) of each row: [N, 2]."""
    starts = o.cast(o.cumsum(lengths, axis=0, exclusive=True), dtype=lengths.dtype)
    return o.concat(o.unsqueeze(starts, axis=1), o.unsqueeze(lengths, axis=1), axis=1)


@caffe2_op("LengthsToOffsets")
def lengths_to_offsets(op, lengths):
    starts = o.cast(o.cumsum(lengths, axis=0, exclusive=True), dtype=lengths.dtype)
    if not op.attr("include_last_offset", False):
        return starts
    return o.concat(
        starts, o.reshape(o.cast(o.reduce_sum(lengths), dtype=lengths.dtype), shape=(1,))
    )


@caffe2_op("LengthsToWeights")
def lengths_to_weights(op, lengths):
    """1 / length^power for each step of a row."""
    weights = o.pow(o.cast(lengths, dtype="float32"), -op.attr("power", 0.5))
    return o.gather(weights, row_numbers(op, lengths))


@caffe2_op("LengthsSplit")
def lengths_split(op, lengths, parts=None):
    """Each length in n nearly equal parts, the larger ones first: [N * n]."""
    n = op.attr("n_split", 0) if parts is None else int(op.const(parts, "the parts").item())
    if n < 1:
        raise ArgumentError("n_split is 1 or more", got=str(n))
    whole = o.unsqueeze(o.floor_divide(lengths, n), axis=1)
    left = o.unsqueeze(o.remainder(lengths, n), axis=1)
    more = o.less(np.arange(n, dtype=np.int64), o.cast(left, dtype="int64"))
    split = o.add(whole, o.cast(more, dtype=lengths.dtype))
    return o.reshape(split, shape=(lengths.shape[0] * n,))


# ---- rows repeated, gathered -------------------------------------------------------------------


@caffe2_op("LengthsTile")
def lengths_tile(op, x, lengths):
    """Row n as often as lengths[n] says."""
    return o.gather(x, row_numbers(op, lengths))


@caffe2_op("LengthsGather")
def lengths_gather(op, x, lengths, indices):
    """The rows at the indices, one behind the other."""
    lengths, indices = (o.cast(v, dtype="int64") for v in (lengths, indices))
    starts = o.cumsum(lengths, axis=0, exclusive=True)
    chosen = o.gather(lengths, indices)
    size = packed_size(op, chosen)
    return o.gather(x, o.ragged_range(o.gather(starts, indices), chosen, size=size))


@caffe2_op("GatherRanges")
def gather_ranges(op, x, ranges):
    """x at ranges [N, M, 2] of (start, length), one behind the other; and the sums [N]."""
    flat = o.reshape(o.cast(ranges, dtype="int64"), shape=(product(ranges.shape[:2]), 2))
    starts, lengths = (_column(flat, i) for i in (0, 1))
    places = o.ragged_range(starts, lengths, size=packed_size(op, lengths))
    sums = o.reduce_sum(o.slice(ranges, axes=(2,), starts=(1,), stops=(2,)), axis=(1, 2))
    return o.gather(x, places), o.cast(sums, dtype="int32")


def _column(x: Any, i: int) -> Any:
    return o.squeeze(o.slice(x, axes=(1,), starts=(i,), stops=(i + 1,)), axis=1)


@caffe2_op("GatherRangesToDense")
def gather_ranges_to_dense(op, x, ranges, key=None):
    """One matrix [N, lengths[j]] for each of M ranges; zeros for a range of another length.

    key: [T], by which the numbers of a range are put in order
    """
    widths = op.ints("lengths")
    if len(widths) != len(op.outputs) or any(w < 1 for w in widths):
        raise ArgumentError("one positive length an output is needed", got=str(widths))
    out = []
    for j, width in enumerate(widths):
        pair = o.slice(o.cast(ranges, dtype="int64"), axes=(1,), starts=(j,), stops=(j + 1,))
        pair = o.reshape(pair, shape=(ranges.shape[0], 2))
        starts, lengths = _column(pair, 0), _column(pair, 1)
        fits = o.unsqueeze(o.equal(lengths, width), axis=1)
        places = o.add(o.unsqueeze(starts, axis=1), np.arange(width, dtype=np.int64))
        places = o.where(fits, places, 0)
        if isinstance(x.shape[0], int) and x.shape[0] == 0:
            out.append(o.fill(shape=(ranges.shape[0], width), value=0, dtype=x.dtype))
            continue
        if key is not None:
            order = o.argsort(o.gather(key, places), axis=1)
            places = o.take_along_axis(places, order, axis=1)
        zero = o.fill(shape=(), value=0, dtype=x.dtype)
        out.append(o.where(fits, o.gather(x, places), zero))
    return tuple(out)


# ---- with padding ------------------------------------------------------------------------------


@caffe2_op("PackSegments")
def pack_segments(op, lengths, x):
    """[T, ...] -> [N, longest, ...], and which of it is there; longer rows are cut.

    `max_length` fixes the width; `pad_minf` pads floats with -infinity
    """
    lengths = o.cast(lengths, dtype="int64")
    width: Any = op.attr("max_length", -1)
    if width == -1:
        width = largest_size(op, lengths, "longest")
    kept = o.minimum(lengths, o.dim_value(dim=width))
    inside = sequence_mask(kept, size=width)
    starts = o.cumsum(lengths, axis=0, exclusive=True)
    places = o.add(o.unsqueeze(starts, axis=1), o.arange(stop=width))
    value = float("-inf") if op.attr("pad_minf", False) else op.attr("padding_value", 0)
    empty = o.cast(o.fill(shape=(), value=float(value)), dtype=x.dtype)
    more = o.broadcast_to(empty, shape=(1, *x.shape[1:]))
    rows = o.concat(x, more, axis=0)  # so that there is something to take where nothing is
    taken = o.gather(rows, o.where(inside, places, o.dim_value(dim=x.shape[0])))
    return taken, inside


@caffe2_op("UnpackSegments")
def unpack_segments(op, lengths, x):
    """The first lengths[n] steps of each row of [N, L, ...], packed."""
    lengths = o.cast(lengths, dtype="int64")
    lengths = o.minimum(lengths, o.dim_value(dim=x.shape[1]))
    values, _ = sequence_unpad(x, lengths, size=packed_size(op, lengths))
    return values


@caffe2_op("PackRNNSequence")
def pack_rnn_sequence(op, x, lengths):
    """[T, ...] -> [longest, N, ...], zeros behind each row."""
    width = largest_size(op, lengths, "longest")
    return _turned(sequence_pad(x, sequence_splits(lengths), size=width))


@caffe2_op("UnpackRNNSequence")
def unpack_rnn_sequence(op, x, lengths):
    values, _ = sequence_unpad(_turned(x), lengths, size=packed_size(op, lengths))
    return values


def _turned(x: Any) -> Any:
    return o.transpose(x, perm=(1, 0, *range(2, len(x.shape))))


@caffe2_op("ReversePackedSegs")
def reverse_packed_segs(op, x, lengths):
    """[longest, N, ...] with the first lengths[n] steps of each row turned round."""
    steps = o.unsqueeze(o.arange(stop=x.shape[0]), axis=1)
    lengths = o.cast(lengths, dtype="int64")
    places = o.where(o.less(steps, lengths), o.sub(o.sub(lengths, 1), steps), steps)
    places = o.broadcast_to(behind(places, len(x.shape) - 2), shape=x.shape)
    return o.take_along_axis(x, places, axis=0)


@caffe2_op("LengthsPad")
def lengths_pad(op, x, lengths):
    """Every row filled up to `target_length` steps, packed again: [N * target, ...]."""
    target = op.attr("target_length", -1)
    if target < 0:
        raise ArgumentError("the argument 'target_length' is missing")
    value = op.attr("padding_value", -1.0)
    padded = sequence_pad(x, sequence_splits(lengths), value, size=target)
    return o.reshape(padded, shape=(lengths.shape[0] * target, *x.shape[1:]))


def _widths(op: Node) -> tuple[int, int]:
    before = op.attr("padding_width", 1)
    after = op.attr("end_padding_width", -1)
    after = before if after < 0 else after
    if before < 0:
        raise ArgumentError("padding_width is 0 or more", got=str(before))
    return before, after


def _one_row(x: Any) -> Any:
    return o.reshape(o.dim_value(dim=x.shape[0]), shape=(1,))


@caffe2_op("AddPadding")
def add_padding(op, x, lengths=None, start=None, end=None):
    """Steps of padding in front of and behind each row: (values, lengths)."""
    before, after = _widths(op)
    lengths = _one_row(x) if lengths is None else o.cast(lengths, dtype="int64")
    longer = o.add(lengths, before + after)
    total = x.shape[0] + lengths.shape[0] * (before + after)
    rows, steps = row_numbers(op, longer, total), step_numbers(op, longer, total)
    end = start if end is None else end
    extra = [_padding(x, v) for v in (start, end)]
    source = o.concat(x, *extra, axis=0)
    starts = o.gather(o.cumsum(lengths, axis=0, exclusive=True), rows)
    places = o.add(starts, o.sub(steps, before))
    behind_row = o.greater_equal(steps, o.add(o.gather(lengths, rows), before))
    size = o.dim_value(dim=x.shape[0])
    places = o.where(o.less(steps, before), size, o.where(behind_row, o.add(size, 1), places))
    return o.gather(source, places), o.cast(longer, dtype="int32")


def _padding(x: Any, value: Any) -> Any:
    """One step of padding, zeros by default."""
    if value is None:
        return o.fill(shape=(1, *x.shape[1:]), value=0, dtype=x.dtype)
    return o.cast(o.reshape(value, shape=(1, *x.shape[1:])), dtype=x.dtype)


@caffe2_op("RemovePadding")
def remove_padding(op, x, lengths=None):
    """What AddPadding does, undone: (values, lengths)."""
    before, after = _widths(op)
    lengths = _one_row(x) if lengths is None else o.cast(lengths, dtype="int64")
    starts = o.add(o.cumsum(lengths, axis=0, exclusive=True), before)
    shorter = o.sub(lengths, before + after)
    total = x.shape[0] - lengths.shape[0] * (before + after)
    return o.gather(x, o.ragged_range(starts, shorter, size=total)), o.cast(shorter, dtype="int32")


@caffe2_op("GatherPadding")
def gather_padding(op, x, lengths=None):
    """Sums of what AddPadding put in front of the rows and behind them."""
    before, after = _widths(op)
    lengths = _one_row(x) if lengths is None else o.cast(lengths, dtype="int64")
    stops = o.cumsum(lengths, axis=0)
    ends = ((o.sub(stops, lengths), before), (o.sub(stops, after), after))
    sums = []
    for first, width in ends:
        places = o.add(o.unsqueeze(first, axis=1), np.arange(width, dtype=np.int64))
        flat = o.reshape(places, shape=(lengths.shape[0] * width,))
        sums.append(o.reduce_sum(o.gather(x, flat), axis=0))
    return (o.add(*sums),) if len(op.outputs) == 1 else tuple(sums)


@caffe2_op("PadEmptySamples")
def pad_empty_samples(op, lengths, *features):
    """A step of zeros for each empty row: (lengths, values, ...)."""
    longer = o.maximum(lengths, 1)
    wide, old = o.cast(longer, dtype="int64"), o.cast(lengths, dtype="int64")
    out = [longer]
    for x in features:
        size = packed_size(op, wide)
        rows, steps = row_numbers(op, wide, size), step_numbers(op, wide, size)
        places = o.add(o.gather(o.cumsum(old, axis=0, exclusive=True), rows), steps)
        empty = o.equal(o.gather(old, rows), 0)
        source = o.concat(x, _padding(x, None), axis=0)
        out.append(o.gather(source, o.where(empty, o.dim_value(dim=x.shape[0]), places)))
    return tuple(out)


# ---- best of each row, lists of ids ------------------------------------------------------------


@caffe2_op("LengthsTopK")
def lengths_top_k(op, x, lengths):
    """The k largest of each row [N, k] and their places in it; 0 and -1 where a row is shorter."""
    k = op.attr("k", 1)
    lengths = o.cast(lengths, dtype="int64")
    order = sorted_in_rows(x, row_numbers(op, lengths, x.shape[0]), descending=True)
    starts = o.unsqueeze(o.cumsum(lengths, axis=0, exclusive=True), axis=1)
    ranks = np.arange(k, dtype=np.int64)
    there = o.less(ranks, o.unsqueeze(lengths, axis=1))
    order = o.concat(order, o.fill(shape=(1,), value=0, dtype="int64"), axis=0)
    values = o.concat(x, o.fill(shape=(1,), value=0, dtype=x.dtype), axis=0)
    places = o.gather(order, o.where(there, o.add(starts, ranks), 0))
    zero = o.fill(shape=(), value=0, dtype=x.dtype)
    best = o.where(there, o.gather(values, places), zero)
    return best, o.cast(o.where(there, o.sub(places, starts), -1), dtype="int32")


@caffe2_op("FlexibleTopK")
def flexible_top_k(op, x, counts):
    """The counts[n] largest of each row of [..., C], packed: values, and where they were."""
    width = x.shape[-1]
    rows = o.reshape(x, shape=(product(x.shape[:-1]), width))
    counts = o.cast(o.reshape(counts, shape=(rows.shape[0],)), dtype="int64")
    order = o.argsort(rows, axis=1, descending=True)
    size = packed_size(op, counts)
    values, _ = sequence_unpad(o.take_along_axis(rows, order, axis=1), counts, size=size)
    places, _ = sequence_unpad(order, counts, size=size)
    return values, places


@caffe2_op("MergeIdLists")
def merge_id_lists(op, *pairs):
    """The ids of all lists of a row, each once, in order: (lengths, values)."""
    lengths, values = pairs[::2], pairs[1::2]
    rows = o.concat(*[row_numbers(op, n, v.shape[0]) for n, v in zip(lengths, values, strict=True)])
    joined = o.concat(*values)
    order = sorted_in_rows(joined, rows)
    rows, joined = o.gather(rows, order), o.gather(joined, order)
    kept = places_of(op, first_of_equals(rows, joined))
    count = lengths[0].shape[0]
    ones = o.fill(shape=(kept.shape[0],), value=1, dtype="int32")
    return o.scatter_rows(o.gather(rows, kept), ones, shape=(count,)), o.gather(joined, kept)


@caffe2_op("DenseVectorToIdList")
def dense_vector_to_id_list(op, x):
    """Which columns of each row are set (above 0.5): (lengths, ids)."""
    there = o.greater(x, 0.5)
    places = o.nonzero(there, size=op.symbol("ids"))
    lengths = o.reduce_sum(o.cast(there, dtype="int32"), axis=1)
    return o.cast(lengths, dtype="int32"), o.cast(_column(places, 1), dtype="int32")


@caffe2_op("BooleanMaskLengths")
def boolean_mask_lengths(op, lengths, mask):
    """How many steps of each row a mask keeps."""
    rows = row_numbers(op, lengths, mask.shape[0])
    return o.scatter_rows(rows, o.cast(mask, dtype=lengths.dtype), shape=lengths.shape)


@caffe2_op("LengthsToShape")
def lengths_to_shape(op, lengths):
    """(how many rows, their common length): int32 [2]."""
    count = o.reshape(o.cast(o.dim_value(dim=lengths.shape[0]), dtype="int32"), shape=(1,))
    first = o.slice(lengths, axes=(0,), starts=(0,), stops=(1,))
    return o.concat(count, o.cast(first, dtype="int32"))


@caffe2_op("FlexibleTopKGradient")
def flexible_top_k_gradient(op, x, counts, places, dy):
    """The gradients of the values at their places, zeros elsewhere."""
    rows = product(x.shape[:-1])
    owner = row_numbers(op, o.reshape(counts, shape=(rows,)), places.shape[0])
    at = o.concat(o.unsqueeze(owner, axis=1), o.unsqueeze(places, axis=1), axis=1)
    zeros = o.fill(shape=(rows, x.shape[-1]), value=0, dtype=dy.dtype)
    return o.reshape(o.scatter_nd(zeros, at, dy, reduction="add"), shape=x.shape)
