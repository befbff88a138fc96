"""Fluid's operators over ragged batches: sequence_*, lod_reset."""

from __future__ import annotations

from typing import Any

import numpy as np

from noria.convert.fluid.handlers import Lod, Op, fluid_op
from noria.core.errors import ArgumentError
from noria.ir.opdef import vocabulary as o
from noria.ops import ragged, sequence, sequence_window
from noria.ops.join import stack


def absolute(splits: tuple[Any, ...]) -> Any:
    """Where the rows of the outermost level begin among the packed values: [N + 1]."""
    out = splits[-1]
    for outer in reversed(splits[:-1]):
        out = o.gather(out, outer)
    return out


def flat(x: Any) -> Any:
    """[T] of [T, 1]."""
    return o.reshape(x, shape=(-1,))


MOST = 1 << 16  # of what is counted while a model is converted: a file may say anything


def count(op: Op, name: str, default: int | None = None) -> int:
    """An attribute that says how many. Raises ArgumentError for what is no such number."""
    value = op.need_attr(name) if default is None else op.attr(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= MOST:
        raise ArgumentError(
            f"{op.type} has a bad '{name}'", expected=f"1 to {MOST}", got=repr(value)
        )
    return value


# ---- rows as they are --------------------------------------------------------------------------


@fluid_op("lod_reset")
def lod_reset(op: Op) -> dict[str, Any]:
    x, y = op.input("X"), op.get("Y")
    if op.lod("Y"):
        return {"Out": Lod(x, op.lod("Y"))}
    if y is None:
        level = np.array(op.attr("target_lod", ()), np.int64)
    else:
        level = flat(o.cast(y, dtype="int64"))
    kept = op.lod("X") if op.attr("append", False) else ()
    return {"Out": Lod(x, (*kept, level))}


@fluid_op("sequence_reshape")
def sequence_reshape(op: Op) -> dict[str, Any]:
    splits = op.need_lod("X")[-1]
    values, splits = ragged.sequence_reshape(op.input("X"), splits, width=count(op, "new_dim"))
    return {"Out": Lod(values, (splits,))}


@fluid_op("sequence_softmax")
def sequence_softmax(op: Op) -> dict[str, Any]:
    splits = op.need_lod("X")
    return {"Out": Lod(sequence.sequence_softmax(op.input("X"), splits[-1]), splits)}


@fluid_op("sequence_reverse")
def sequence_reverse(op: Op) -> dict[str, Any]:
    splits = op.need_lod("X")
    return {"Y": Lod(ragged.sequence_reverse(op.input("X"), splits[-1]), splits)}


# ---- rows moved --------------------------------------------------------------------------------


@fluid_op("sequence_concat")
def sequence_concat(op: Op) -> dict[str, Any]:
    values = op.inputs("X")
    splits = [op.lod("X", i)[-1] for i in range(len(values))]
    joined, rows = ragged.sequence_concat(*zip(values, splits, strict=True))
    return {"Out": Lod(joined, (rows,))}


@fluid_op("sequence_expand")
def sequence_expand(op: Op) -> dict[str, Any]:
    x, inner, outer = op.input("X"), op.lod("X"), op.need_lod("Y")
    level = op.attr("ref_level", -1) % len(outer)
    copies = outer[level]
    last = level == len(outer) - 1
    total = op.input("Y").shape[0] if last else outer[level + 1].shape[0] - 1
    if not inner:
        return {"Out": Lod(o.sequence_expand(x, copies, total=total))}
    size = op.symbol("expanded")
    values, rows = ragged.sequence_repeat(x, inner[-1], copies, total=total, size=size)
    return {"Out": Lod(values, (rows,))}


@fluid_op("sequence_expand_as")
def sequence_expand_as(op: Op) -> dict[str, Any]:
    splits = op.need_lod("Y")
    expanded = o.sequence_expand(op.input("X"), splits[0], total=op.input("Y").shape[0])
    return {"Out": Lod(expanded, splits)}


@fluid_op("sequence_slice")
def sequence_slice(op: Op) -> dict[str, Any]:
    cut = flat(op.input("Offset")), flat(op.input("Length"))
    splits = op.need_lod("X")[-1]
    values, rows = ragged.sequence_slice(op.input("X"), splits, *cut, size=op.symbol("kept"))
    return {"Out": Lod(values, (rows,))}


@fluid_op("sequence_erase")
def sequence_erase(op: Op) -> dict[str, Any]:
    x, splits = op.input("X"), op.need_lod("X")
    tokens = np.array(op.attr("tokens", ()), np.int64)
    found = o.reduce_any(o.equal(o.reshape(x, shape=(-1, 1)), tokens), axis=1)
    keep = o.logical_not(found)
    values, rows = ragged.sequence_filter(x, splits[-1], keep, size=op.symbol("kept"))
    return {"Out": Lod(values, (*splits[:-1], rows))}


@fluid_op("sequence_scatter")
def sequence_scatter(op: Op) -> dict[str, Any]:
    ids, splits = flat(op.input("Ids")), op.need_lod("Ids")[-1]
    row = o.sequence_ids(splits, total=ids.shape[0])
    places = stack(row, o.cast(ids, dtype="int64"), axis=1)
    added = o.scatter_nd(op.input("X"), places, flat(op.input("Updates")), reduction="add")
    return {"Out": Lod(added, op.lod("X"))}


# ---- padding -----------------------------------------------------------------------------------


@fluid_op("sequence_mask")
def sequence_mask(op: Op) -> dict[str, Any]:
    limit, size = op.get("MaxLenTensor"), op.attr("maxlen", -1)
    if limit is not None:
        size = ragged.places_below(limit, size=op.symbol("longest")).shape[0]
    elif size < 0:
        size = op.symbol("longest")
    return {"Y": ragged.sequence_mask(op.input("X"), size=size, dtype=op.dtype("out_dtype"))}


@fluid_op("sequence_pad")
def sequence_pad(op: Op) -> dict[str, Any]:
    x, splits = op.input("X"), absolute(op.need_lod("X"))
    size = op.attr("padded_length", -1)
    size = op.symbol("longest") if size < 0 else size
    padded = ragged.sequence_pad(x, splits, op.input("PadValue"), size=size)
    return {"Out": Lod(padded), "Length": Lod(sequence.sequence_lengths(splits))}


@fluid_op("sequence_unpad")
def sequence_unpad(op: Op) -> dict[str, Any]:
    x, lengths = op.input("X"), flat(op.input("Length"))
    values, splits = ragged.sequence_unpad(x, lengths, size=op.symbol("packed"))
    values = o.unsqueeze(values, axis=1) if len(x.shape) == 2 else values
    return {"Out": Lod(values, (splits,))}


# ---- over the steps of a row -------------------------------------------------------------------


@fluid_op("sequence_pool")
def sequence_pool(op: Op) -> dict[str, Any]:
    x, splits = op.input("X"), op.need_lod("X")
    kind, pad = op.attr("pooltype", "AVERAGE").upper(), op.attr("pad_value", 0.0)
    pooled = _pooled(x, splits[-1], kind)
    if pad:
        empty = o.equal(sequence.sequence_lengths(splits[-1]), 0)
        axes = tuple(range(1, len(x.shape)))
        pooled = o.where(o.unsqueeze(empty, axis=axes) if axes else empty, pad, pooled)
    out = {"Out": Lod(pooled, splits[:-1])}
    if kind == "MAX" and op.outputs.get("MaxIndex"):
        out["MaxIndex"] = Lod(_first_largest(x, splits[-1]))
    return out


def _pooled(x: Any, splits: Any, kind: str) -> Any:
    if kind in ("LAST", "FIRST"):
        return o.sequence_end(x, splits, first=kind == "FIRST")
    if kind == "SQRT":
        count = o.maximum(sequence.sequence_lengths(splits), 1)
        share = o.div(1.0, o.sqrt(o.cast(count, dtype=x.dtype)))
        axes = tuple(range(1, len(x.shape)))
        return o.mul(o.sequence_sum(x, splits), o.unsqueeze(share, axis=axes) if axes else share)
    pools = {"AVERAGE": sequence.sequence_mean, "SUM": o.sequence_sum, "MAX": o.sequence_max}
    if kind not in pools:
        raise ArgumentError("unknown pooltype", expected=", ".join(pools), got=repr(kind))
    return pools[kind](x, splits)


def _first_largest(x: Any, splits: Any) -> Any:
    """Which packed step has the largest value of its row, the first of several: int32, -1: none."""
    total = x.shape[0]
    top = o.sequence_expand(o.sequence_max(x, splits), splits, total=total)
    place = o.unsqueeze(o.arange(stop=total, dtype="float64"), axis=tuple(range(1, len(x.shape))))
    behind = o.where(o.equal(x, top), o.neg(place), -np.inf)
    first = o.neg(o.sequence_max(behind, splits, empty=1.0))
    return o.cast(first, dtype="int32")


@fluid_op("sequence_conv")
def sequence_conv(op: Op) -> dict[str, Any]:
    x, weight, splits = op.input("X"), op.input("Filter"), op.need_lod("X")
    length, start = count(op, "contextLength"), op.attr("contextStart", 0)
    if abs(start) > MOST:
        raise ArgumentError("a window so far away", expected=f"up to {MOST}", got=f"{start=}")
    if op.attr("contextStride", 1) != 1:
        raise ArgumentError("sequence_conv moves one step", got=f"{op.attr('contextStride')}")
    edges = {}
    padding = op.get("PaddingData") if op.attr("paddingTrainable", False) else None
    if padding is not None:
        above = max(0, -start)
        edges = {"before": padding[:above], "after": padding[above:]}
    windows = sequence_window.sequence_windows(x, splits[-1], length=length, start=start, **edges)
    flat_windows = o.reshape(windows, shape=(x.shape[0], length * x.shape[1]))
    return {"Out": Lod(o.matmul(flat_windows, weight), splits)}


@fluid_op("sequence_enumerate")
def sequence_enumerate(op: Op) -> dict[str, Any]:
    x, splits = op.input("X"), op.need_lod("X")
    length, pad = count(op, "win_size"), op.attr("pad_value", 0)
    windows = sequence_window.sequence_windows(flat(x), splits[-1], length=length, pad=pad)
    return {"Out": Lod(windows, splits)}


@fluid_op("sequence_topk_avg_pooling")
def sequence_topk_avg_pooling(op: Op) -> dict[str, Any]:
    rows, columns = op.need_lod("ROW"), op.need_lod("COLUMN")
    topks = op.need_attr("topks")
    if not topks or max(topks) > MOST:
        raise ArgumentError("bad topks", expected=f"numbers up to {MOST}", got=repr(topks)[:80])
    means, places = sequence_window.sequence_topk_mean(
        flat(op.input("X")),
        rows[-1],
        columns[-1],
        channels=count(op, "channel_num"),
        rows=op.input("ROW").shape[0],
        topks=topks,
        size=op.symbol("columns"),
    )
    places = flat(o.cast(places, dtype="int32"))
    return {"Out": Lod(means, rows), "pos": Lod(places)}
