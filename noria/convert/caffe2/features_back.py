"""Back from shards and merged features to what they were made of."""

from __future__ import annotations

from typing import Any

from noria.convert.caffe2.common import numel
from noria.convert.caffe2.features import by_example, grouped, shards_of
from noria.convert.caffe2.handlers import Node, caffe2_op
from noria.convert.caffe2.ragged import packed_size, row_numbers
from noria.core.errors import ArgumentError
from noria.ir.opdef import vocabulary as o


@caffe2_op("GatherByKey")
def gather_by_key(op, keys, *parts):
    """The values of all keys, from the shards that Partition would have made of them."""
    if not parts:
        raise ArgumentError("at least one shard is needed")
    flat = o.reshape(keys, shape=(numel(keys),))
    places: Any = o.fill(shape=flat.shape, value=0, dtype="int64")
    offset: Any = 0
    for own, part in zip(shards_of(flat, len(parts)), parts, strict=True):
        rank = o.cumsum(o.cast(own, dtype="int64"), axis=0, exclusive=True)
        places = o.where(own, o.add(rank, o.dim_value(dim=offset)), places)
        offset = offset + part.shape[0]
    values = o.concat(*parts, axis=0) if len(parts) > 1 else parts[0]
    rows = o.gather(values, places)
    return o.reshape(rows, shape=(*keys.shape, *values.shape[1:]))


def _taken_apart(op: Node, sizes: list[Any], grad: Any) -> tuple[Any, ...]:
    """Steps that lie example by example, in each those of every input, as one packed list an input.

    sizes: int64 [N] of each input, how many steps each example has of it
    """
    every = by_example(sizes)
    starts = o.reshape(
        o.cumsum(every, axis=0, exclusive=True), shape=(sizes[0].shape[0], len(sizes))
    )
    out = []
    for k, mine in enumerate(sizes):
        first = o.squeeze(o.slice(starts, axes=(1,), starts=(k,), stops=(k + 1,)), axis=1)
        out.append(o.gather(grad, o.ragged_range(first, mine, size=packed_size(op, mine))))
    return tuple(out)


@caffe2_op("MergeSingleListFeatureTensorsGradient", "MergeSingleMapFeatureTensorsGradient")
def merge_single_gradient(op, *blobs):
    """(lengths, presence) of each input, gradient of the values -> gradients of their values"""
    pairs = grouped(blobs[:-1], 2)
    sizes = [o.where(there, o.cast(n, dtype="int64"), 0) for n, there in pairs]
    return _taken_apart(op, sizes, blobs[-1])


@caffe2_op("MergeMultiScalarFeatureTensorsGradient")
def merge_multi_scalars_gradient(op, *blobs):
    """lengths of each input, gradient of the values -> gradients of their values"""
    sizes = [o.cast(n, dtype="int64") for (n,) in grouped(blobs[:-1], 1)]
    return _taken_apart(op, sizes, blobs[-1])


@caffe2_op("MergeMultiListFeatureTensorsGradient", "MergeMultiMapFeatureTensorsGradient")
def merge_multi_lists_gradient(op, *blobs):
    """(lengths, lengths of lists) of each input, gradient of the values -> gradients of theirs"""
    sizes = []
    for lengths, inner in grouped(blobs[:-1], 2):
        owner = row_numbers(op, lengths, inner.shape[0])
        wide = o.cast(inner, dtype="int64")
        sizes.append(o.scatter_rows(owner, wide, shape=lengths.shape))
    return _taken_apart(op, sizes, blobs[-1])


@caffe2_op("QuantDecodeGradient")
def quant_decode_gradient(op, codebook, *blobs):
    """Codes, then a gradient for each of them: what each entry of the codebook gets together."""
    half, rest = divmod(len(blobs), 2)
    if rest or not half:
        raise ArgumentError("codes and as many gradients are needed", got=str(len(blobs)))
    total: Any = None
    for codes, grad in zip(blobs[:half], blobs[half:], strict=True):
        count = numel(codes)
        flat = o.reshape(o.cast(codes, dtype="int64"), shape=(count,))
        rows = o.reshape(grad, shape=(count, *codebook.shape[1:]))
        mine = o.scatter_rows(flat, rows, shape=codebook.shape)
        total = mine if total is None else o.add(total, mine)
    return total


@caffe2_op("LengthsTopKGradient")
def lengths_top_k_gradient(op, lengths, places, dy):
    """The gradients of the best [N, k] at their places in the packed rows, zeros elsewhere."""
    lengths = o.cast(lengths, dtype="int64")
    starts = o.unsqueeze(o.cumsum(lengths, axis=0, exclusive=True), axis=1)
    size = packed_size(op, lengths)
    steps = row_numbers(op, lengths, size).shape[0]
    there = o.greater_equal(places, 0)
    behind = o.dim_value(dim=steps)
    at = o.where(there, o.add(o.cast(places, dtype="int64"), starts), behind)
    flat = o.reshape(at, shape=(numel(at),))
    grad = o.reshape(dy, shape=(numel(dy),))
    made = o.scatter_rows(flat, grad, shape=(steps + 1,))
    return o.slice(made, axes=(0,), starts=(0,), stops=(steps,))
