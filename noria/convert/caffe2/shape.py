"""Operators that only move numbers: shapes, slices, joins, layouts, copies."""

from __future__ import annotations

from typing import Any

import numpy as np

from noria.convert.caffe2.common import axis_arg, numel, pullback
from noria.convert.caffe2.handlers import caffe2_op
from noria.convert.caffe2.tensors import dtype_of
from noria.core.dims import dim_min, prove_equal
from noria.core.dims import product as product_of
from noria.core.errors import ArgumentError, ShapeError
from noria.ir.opdef import vocabulary as o
from noria.ops.common import axis_of

# ---- the same numbers --------------------------------------------------------------------------


@caffe2_op("Alias", "AliasWithName", "Copy", "CopyCPUToGPU", "CopyGPUToCPU", "CopyFromCPUInput")
@caffe2_op("EnsureCPUOutput", "EnsureDense", "Print", "NegateGradient", "StopGradient")
@caffe2_op("CopyOnDeviceLike")
def same(op, x, *others):
    return o.stop_gradient(x) if op.type == "StopGradient" else o.identity(x)


@caffe2_op("DataCouple")
def data_couple(op, *xs):
    """All inputs as they are."""
    return tuple(o.identity(x) for x in xs)


@caffe2_op("Cast")
def cast(op, x):
    return o.cast(x, dtype=dtype_of(op.attr("to", 1), op.where()))


@caffe2_op("FloatToHalf")
def float_to_half(op, x):
    return o.cast(x, dtype="float16")


@caffe2_op("HalfToFloat")
def half_to_float(op, x):
    return o.cast(x, dtype="float32")


@caffe2_op("Reshape")
def reshape(op, x, target=None):
    """A new shape (0: as in x, -1: what remains), and the old one as int64."""
    wanted = op.ints("shape") if target is None else op.const(target, "the shape").ravel().tolist()
    sizes = [x.shape[i] if n == 0 and i < len(x.shape) else n for i, n in enumerate(wanted)]
    return o.reshape(x, shape=tuple(sizes)), _sizes(x)


def _sizes(x: Any) -> Any:
    if not len(x.shape):
        return np.zeros(0, np.int64)
    return o.concat(*[o.reshape(o.dim_value(dim=n), shape=(1,)) for n in x.shape])


@caffe2_op("ResizeLike")
def resize_like(op, x, like):
    return o.reshape(x, shape=like.shape)


@caffe2_op("Flatten", "FlattenToVec")
def flatten(op, x):
    if op.type == "FlattenToVec":
        return o.reshape(x, shape=(numel(x),))
    at = op.attr("axis", 1)
    at = at + len(x.shape) if at < 0 else at
    if not 0 <= at <= len(x.shape):
        raise ArgumentError("axis is out of range", expected=f"0 to {len(x.shape)}", got=str(at))
    return o.reshape(x, shape=(product_of(x.shape[:at]), product_of(x.shape[at:])))


@caffe2_op("ExpandDims")
def expand_dims(op, x):
    dims = op.ints("dims")
    return o.unsqueeze(x, axis=tuple(dims)) if dims else o.identity(x)


@caffe2_op("Squeeze")
def squeeze(op, x):
    dims = op.ints("dims")
    return o.squeeze(x, axis=tuple(dims)) if dims else o.identity(x)


@caffe2_op("Transpose")
def transpose(op, x):
    axes = op.ints("axes")
    return o.transpose(x, perm=tuple(axes) if axes else None)


@caffe2_op("NCHW2NHWC")
def nchw2nhwc(op, x):
    _need_channels(x)
    return o.transpose(x, perm=(0, *range(2, len(x.shape)), 1))


@caffe2_op("NHWC2NCHW")
def nhwc2nchw(op, x):
    _need_channels(x)
    last = len(x.shape) - 1
    return o.transpose(x, perm=(0, last, *range(1, last)))


def _need_channels(x: Any) -> None:
    if len(x.shape) < 3:
        raise ShapeError("images of rank 3 or more are needed", got=str(x))


@caffe2_op("ChannelShuffle")
def channel_shuffle(op, x):
    """Channels counted group by group become counted across groups.  (Zhang et al., 2018)"""
    at = len(x.shape) - 1 if op.last else 1
    groups, channels = op.attr("group", 1), x.shape[at]
    if groups < 1 or (isinstance(channels, int) and channels % groups):
        raise ArgumentError(
            "groups must divide the channels", expected=str(channels), got=str(groups)
        )
    if op.type.endswith("Gradient"):
        groups = channels // groups
    apart = (*x.shape[:at], groups, channels // groups, *x.shape[at + 1 :])
    y = o.reshape(x, shape=apart)
    order = list(range(len(apart)))
    order[at], order[at + 1] = at + 1, at
    return o.reshape(o.transpose(y, perm=tuple(order)), shape=x.shape)


caffe2_op("ChannelShuffleGradient")(channel_shuffle)

# ---- joins and parts ---------------------------------------------------------------------------


@caffe2_op("Concat", "DepthConcat")
def concat(op, *xs):
    """Joined along an axis, or along a new one (add_axis), and the size of each along it."""
    if op.attr("add_axis", 0):
        at = axis_of(op.attr("axis", 1), len(xs[0].shape) + 1)
        joined = o.concat(*[o.unsqueeze(x, axis=at) for x in xs], axis=at)
        return joined, np.ones(len(xs), np.int32)
    default = len(xs[0].shape) - 1 if op.last else 1
    at = axis_arg(op, xs[0], default)
    sizes = [o.reshape(o.cast(o.dim_value(dim=x.shape[at]), dtype="int32"), shape=(1,)) for x in xs]
    return o.concat(*xs, axis=at), o.concat(*sizes)


@caffe2_op("Append")
def append(op, x, more):
    return o.concat(x, more, axis=0)


@caffe2_op("Split", "DepthSplit")
def split(op, x, sizes=None):
    default = len(x.shape) - 1 if op.last else 1
    at = axis_arg(op, x, default)
    parts = op.ints("split") if sizes is None else op.const(sizes, "the sizes").ravel().tolist()
    if op.attr("add_axis", 0):
        return tuple(o.squeeze(p, axis=at) for p in _parts(x, at, [1] * len(op.outputs)))
    if not parts:
        whole = x.shape[at]
        if isinstance(whole, int) and whole % len(op.outputs):
            raise ArgumentError(
                "outputs must divide the axis", expected=str(whole), got=str(len(op.outputs))
            )
        parts = [whole // len(op.outputs)] * len(op.outputs)
    return _parts(x, at, parts)


def _parts(x: Any, axis: int, sizes: list[Any]) -> tuple[Any, ...]:
    total: Any = 0
    for n in sizes:
        total = total + n
    if (
        any(isinstance(n, int) and n < 0 for n in sizes)
        or prove_equal(total, x.shape[axis]) is False
    ):
        raise ShapeError("parts must add up", expected=str(x.shape[axis]), got=str(sizes))
    parts, start = [], 0
    for n in sizes:
        parts.append(o.slice(x, axes=(axis,), starts=(start,), stops=(start + n,)))
        start = start + n
    return tuple(parts)


@caffe2_op("SplitByLengths")
def split_by_lengths(op, x, lengths):
    """As many parts as outputs; each spans as many lengths as the others."""
    numbers = op.const(lengths, "the lengths").ravel()
    at, count = axis_arg(op, x, 0), len(op.outputs)
    if len(numbers) % count:
        raise ArgumentError(
            "outputs must divide the lengths", expected=str(len(numbers)), got=str(count)
        )
    scale = 1
    if op.attr("use_scaling_lengths", False) and numbers.sum():
        scale = x.shape[at] // int(numbers.sum())
    sums = numbers.reshape(count, -1).sum(axis=1) * scale
    return _parts(x, at, [int(n) for n in sums])


@caffe2_op("Slice")
def slice_(op, x, starts=None, ends=None):
    """From start to before end along the first axes; -1 is the end, -2 the last but none, ..."""
    if starts is None or ends is None:
        firsts, lasts = op.ints("starts"), op.ints("ends")
    else:
        firsts = op.const(starts, "the starts").ravel().tolist()
        lasts = op.const(ends, "the ends").ravel().tolist()
    if len(firsts) != len(lasts) or len(firsts) > len(x.shape):
        raise ArgumentError("starts and ends of the first axes", got=f"{firsts} and {lasts}")
    pairs = zip(x.shape, firsts, lasts, strict=False)
    cuts = [(_place(size, a), _place(size, b)) for size, a, b in pairs]
    if any(_known_less(b, a) or _known_less(a, 0) for a, b in cuts):
        raise ArgumentError("a slice is out of range", expected=str(x), got=f"{firsts}:{lasts}")
    starts_, stops = zip(*cuts, strict=True) if cuts else ((), ())
    return o.slice(x, axes=tuple(range(len(cuts))), starts=starts_, stops=stops)


def _place(size: Any, number: int) -> Any:
    """A position of a slice, from the end where it is negative, at most the size."""
    return size + 1 + number if number < 0 else dim_min(size, number)


def _known_less(a: Any, b: Any) -> bool:
    return isinstance(a, int) and isinstance(b, int) and a < b


@caffe2_op("SliceGradient")
def slice_gradient(op, x, *rest):
    numbers, g = rest[:-1], rest[-1]
    return pullback(lambda v: slice_(op, v, *numbers), [x], [g], [0])[0]


# ---- repetition --------------------------------------------------------------------------------


@caffe2_op("Tile")
def tile(op, x, tiles=None, axis=None):
    count = op.attr("tiles", 1) if tiles is None else int(op.const(tiles, "the tiles").item())
    at = op.attr("axis", 0) if axis is None else int(op.const(axis, "the axis").item())
    if count < 0:
        raise ArgumentError("tiles cannot be negative", got=str(count))
    at = axis_of(at, len(x.shape))
    return o.tile(x, repeats=tuple(count if i == at else 1 for i in range(len(x.shape))))


@caffe2_op("TileGradient")
def tile_gradient(op, dy, tiles=None, axis=None):
    count = op.attr("tiles", 1) if tiles is None else int(op.const(tiles, "the tiles").item())
    at = op.attr("axis", 0) if axis is None else int(op.const(axis, "the axis").item())
    at = axis_of(at, len(dy.shape))
    apart = (*dy.shape[:at], count, dy.shape[at] // count, *dy.shape[at + 1 :])
    return o.reduce_sum(o.reshape(dy, shape=apart), axis=at)


@caffe2_op("NumpyTile")
def numpy_tile(op, x, repeats):
    counts = op.const(repeats, "the repeats").ravel().tolist()
    if len(counts) != len(x.shape):
        raise ArgumentError("one repeat an axis is needed", expected=str(x), got=str(counts))
    return o.tile(x, repeats=tuple(counts))


@caffe2_op("Expand")
def expand(op, x, shape):
    """Broadcast to the common shape of x and the one given; sizes of 1 there leave x as it is."""
    wanted = op.const(shape, "the shape").ravel().tolist()
    rank = max(len(wanted), len(x.shape))
    mine = (*(1,) * (rank - len(x.shape)), *x.shape)
    theirs = (*(1,) * (rank - len(wanted)), *wanted)
    pairs = zip(mine, theirs, strict=True)
    sizes = tuple(m if t in (1, -1) else t for m, t in pairs)
    return o.broadcast_to(x, shape=sizes)


@caffe2_op("ExpandGradient")
def expand_gradient(op, dy, x):
    return o.sum_to(dy, shape=x.shape)


# ---- rows --------------------------------------------------------------------------------------


@caffe2_op("Gather")
def gather(op, x, ids):
    axis = axis_of(op.attr("axis", 0), len(x.shape))
    ids = o.cast(ids, dtype="int64")
    if op.attr("match_outer", False) and axis > 0:
        return _gather_rows(x, ids, axis)
    return o.gather(x, ids, axis=axis)


@caffe2_op("BatchGather")
def batch_gather(op, x, ids):
    """out[b, ...] = x[b, ids[...]]; match_outer: each row has ids of its own."""
    ids = o.cast(ids, dtype="int64")
    if op.attr("match_outer", False):
        return _gather_rows(x, ids, 1)
    return o.gather(x, ids, axis=1)


def _gather_rows(x: Any, ids: Any, axis: int) -> Any:
    """out[b, i] = x[b, ids[b, i]] for all axes b before `axis`."""
    outer = x.shape[:axis]
    rows = product_of(outer)
    flat = o.reshape(x, shape=(rows * x.shape[axis], *x.shape[axis + 1 :]))
    inner = ids.shape[axis:]
    places = o.reshape(ids, shape=(rows, product_of(inner)))
    starts = o.mul(o.arange(stop=rows), o.dim_value(dim=x.shape[axis]))
    taken = o.gather(flat, o.add(places, o.unsqueeze(starts, axis=1)))
    return o.reshape(taken, shape=(*outer, *inner, *x.shape[axis + 1 :]))


@caffe2_op("BatchGatherGradient", "GatherGradient")
def batch_gather_gradient(op, x, ids, g):
    fn = batch_gather if op.type.startswith("Batch") else gather
    return pullback(lambda v: fn(op, v, ids), [x], [g], [0])[0]


@caffe2_op("ScatterAssign")
def scatter_assign(op, x, ids, rows):
    """x with rows put at ids, the last of several."""
    ids = o.reshape(o.cast(ids, dtype="int64"), shape=(numel(ids), 1))
    return o.scatter_nd(x, ids, o.reshape(rows, shape=(ids.shape[0], *x.shape[1:])))


@caffe2_op("Scatter")
def scatter(op, x, ids, updates):
    return o.scatter_elements(x, o.cast(ids, dtype="int64"), updates, axis=op.attr("axis", 1))


@caffe2_op("CopyRowsToTensor")
def copy_rows_to_tensor(op, x, ids, row):
    """x with the same row put at every id."""
    ids = o.unsqueeze(o.cast(ids, dtype="int64"), axis=1)
    return o.scatter_nd(x, ids, o.broadcast_to(row, shape=(ids.shape[0], *row.shape)))


@caffe2_op("RemoveDataBlocks")
def remove_data_blocks(op, x, ids):
    """x without the rows at ids, which may be repeated or out of range."""
    rows = o.arange(stop=x.shape[0])
    ids = o.reshape(o.cast(ids, dtype="int64"), shape=(numel(ids),))
    hit = o.equal(o.unsqueeze(rows, axis=1), o.unsqueeze(ids, axis=0))
    left = o.logical_not(o.reduce_any(hit, axis=1))
    kept = o.squeeze(o.nonzero(left, size=op.symbol("kept")), axis=1)
    return o.gather(x, kept)


@caffe2_op("BooleanMask")
def boolean_mask(op, x, mask):
    """Rows of x where the mask holds, and their positions."""
    kept = o.squeeze(o.nonzero(mask, size=op.symbol("kept")), axis=1)
    return o.gather(x, kept), kept


@caffe2_op("BooleanUnmask")
def boolean_unmask(op, *pairs):
    """(mask, values) pairs into one: values fill the places of their masks, in order."""
    masks, values = pairs[::2], pairs[1::2]
    out = o.fill(shape=masks[0].shape, value=0, dtype=values[0].dtype)
    taken = o.fill(shape=masks[0].shape, value=False, dtype="bool")
    for mask, given in zip(masks, values, strict=True):
        mine = o.logical_and(mask, o.logical_not(taken))
        places = o.sub(o.cumsum(o.cast(mask, dtype="int64"), axis=0), 1)
        inside = o.maximum(o.where(mask, places, 0), 0)
        out = o.where(mine, o.gather(given, inside), out)
        taken = o.logical_or(taken, mask)
    return out


@caffe2_op("BatchPermutation")
def batch_permutation(op, x, ids):
    return o.gather(x, o.cast(ids, dtype="int64"))


@caffe2_op("Conditional")
def conditional(op, chosen, yes, no):
    """Row by row from one of two inputs."""
    if len(yes.shape) > 1:
        chosen = o.unsqueeze(chosen, axis=tuple(range(1, len(yes.shape))))
    return o.where(chosen, yes, no)


@caffe2_op("CopyRowsToTensorGradient")
def copy_rows_gradient(op, dy):
    return o.identity(dy)


@caffe2_op("BatchPermutationGradient")
def batch_permutation_gradient(op, ids, dy):
    """Row i goes back to row ids[i]."""
    zeros = o.fill(shape=dy.shape, value=0, dtype=dy.dtype)
    return o.scatter_nd(zeros, o.unsqueeze(o.cast(ids, dtype="int64"), axis=1), dy)


@caffe2_op("QuantDecode")
def quant_decode(op, codebook, *codes):
    """Each code of every further input as its entry of the codebook."""
    return tuple(o.gather(codebook, o.cast(c, dtype="int64")) for c in codes)


@caffe2_op("UnsafeCoalesce")
def unsafe_coalesce(op, *xs):
    """The inputs as they are, and their bytes behind one another."""
    parts = [
        o.reshape(x if x.dtype == "uint8" else o.bitcast(x, dtype="uint8"), shape=(-1,)) for x in xs
    ]
    return *(o.identity(x) for x in xs), o.concat(*parts) if len(parts) > 1 else parts[0]
