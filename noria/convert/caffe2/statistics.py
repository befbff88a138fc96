"""Histograms and percentiles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from noria.convert.caffe2.common import numel
from noria.convert.caffe2.features import columns_of
from noria.convert.caffe2.handlers import Node, caffe2_op
from noria.convert.caffe2.ragged import row_numbers
from noria.core.errors import ArgumentError, ShapeError
from noria.ir.opdef import vocabulary as o
from noria.ops.loops import while_loop


@caffe2_op("Histogram")
def histogram(op, *xs):
    """How many numbers of all inputs lie in each [edge, next edge): int64."""
    edges = np.array(op.floats("bin_edges"), np.float32)
    if len(edges) < 2 or (np.diff(edges) <= 0).any():
        raise ArgumentError("at least two rising edges are needed", got=str(edges)[:60])
    total: Any = None
    for x in xs:
        flat = o.reshape(x, shape=(numel(x), 1))
        bounds = edges.astype(np.float64 if x.dtype == "float64" else np.float32)
        inside = o.logical_and(o.greater_equal(flat, bounds[:-1]), o.less(flat, bounds[1:]))
        counts = o.reduce_sum(o.cast(inside, dtype="int64"), axis=0)
        total = counts if total is None else o.add(total, counts)
    return total


@caffe2_op("Percentile")
def percentile(op, x, pairs, lengths):
    """Where each number lies among sorted (value, percentile) pairs of its column, interpolated."""
    values, ranks = (o.squeeze(c, axis=1) for c in columns_of(pairs, 2))
    lengths = o.cast(lengths, dtype="int64")
    owner = row_numbers(op, lengths, pairs.shape[0])
    columns = o.gather(x, owner, axis=1)
    below = o.cast(o.greater(columns, values), dtype="int64")
    turned = o.transpose(below, perm=(1, 0))
    count = o.scatter_rows(owner, turned, shape=(x.shape[1], x.shape[0]))
    count = o.transpose(count, perm=(1, 0))
    first = o.cumsum(lengths, axis=0, exclusive=True)
    last = o.sub(pairs.shape[0], 1)
    at = o.minimum(o.add(first, count), last)
    before = o.maximum(o.sub(at, 1), 0)
    high, low = o.gather(values, at), o.gather(values, before)
    top, bottom = o.gather(ranks, at), o.gather(ranks, before)
    span = o.where(o.equal(high, low), 1.0, o.sub(high, low))
    between = o.add(bottom, o.mul(o.div(o.sub(x, low), span), o.sub(top, bottom)))
    out = o.where(o.equal(count, 0), 0.0, between)
    out = o.where(o.equal(x, high), top, out)
    return o.where(o.greater_equal(count, lengths), 1.0, out)


@caffe2_op("SelfBinningHistogram")
def self_binning_histogram(op, *xs):
    """(edges of bins from the smallest number to just beyond the largest, counts int64).

    The last count is 0; numbers below the first edge (of logarithmic bins) are in the first bin.
    """
    bins, spacing = op.attr("num_bins", 0), op.attr("bin_spacing", "linear")
    if bins < 1 or spacing not in ("linear", "logarithmic"):
        raise ArgumentError("bad bins", expected="num_bins of 1 or more", got=f"{bins}, {spacing}")
    flat = [o.reshape(x, shape=(numel(x),)) for x in xs]
    x = o.concat(*flat) if len(flat) > 1 else flat[0]
    if isinstance(x.shape[0], int) and x.shape[0] == 0:
        empty = o.fill(shape=(bins + 1,), value=0, dtype=x.dtype)
        return empty, o.cast(empty, dtype="int64")
    low, high = o.reduce_min(x), o.reduce_max(x)
    edges, top = _edges(op, bins, spacing, low, high)
    inner = o.reduce_sum(o.cast(o.less_equal(edges, o.unsqueeze(x, axis=1)), dtype="int64"), axis=1)
    counts = _counted(inner, bins, x.shape[0])
    single = o.less_equal(o.slice(edges, axes=(0,), starts=(bins,), stops=(bins + 1,)), top[0])
    first = o.equal(np.arange(bins + 1), 0)
    every = o.where(first, o.dim_value(dim=x.shape[0]), 0)
    last = o.equal(np.arange(bins + 1), bins)
    return o.where(o.logical_and(single, last), top[1], edges), o.where(single, every, counts)


def _counted(place: Any, bins: int, total: Any) -> Any:
    """How many are in each bin; place: how many edges are not above a number."""
    at = o.maximum(o.sub(place, 1), 0)
    inside = o.cast(o.less_equal(place, bins), dtype="int64")
    return o.scatter_rows(at, inside, shape=(bins + 1,))


def _edges(op: Node, bins: int, spacing: str, low: Any, high: Any) -> tuple[Any, tuple[Any, Any]]:
    """(edges, (the largest number, the last edge))"""
    if spacing == "logarithmic":
        start = op.attr("logspace_start", 1e-24)
        low, high = o.maximum(low, start), o.maximum(high, start)
    end = o.add(low, o.mul(o.sub(high, low), 1.0001))
    parts = (np.arange(bins + 1) / bins).astype(
        np.float32 if low.dtype == "float32" else np.float64
    )
    if spacing == "linear":
        edges = o.add(o.mul(o.sub(end, low), parts), low)
    else:
        edges = o.mul(o.exp(o.mul(o.sub(o.log(end), o.log(low)), parts)), low)
    return edges, (high, end)


@caffe2_op("BisectPercentile")
def bisect_percentile(op, x):
    """The percentile of each number of a column among its sorted ones, interpolated between the
    upper end of the one below and the lower end of the one above."""
    names = ("percentile_raw", "percentile_mapping", "percentile_lower", "percentile_upper")
    tables = [np.array(op.floats(n), np.float32) for n in names]
    lengths = op.ints("lengths")
    if len({len(t) for t in tables}) != 1 or sum(lengths) != len(tables[0]) or 0 in lengths:
        raise ArgumentError("tables do not fit the lengths", got=str(lengths)[:60])
    if len(x.shape) != 2 or x.shape[1] != len(lengths):
        raise ShapeError("one column a length is needed", expected=str(len(lengths)), got=str(x))
    out, start = [], 0
    for column, length in enumerate(lengths):
        cell = o.slice(x, axes=(1,), starts=(column,), stops=(column + 1,))
        out.append(_bisected(cell, *(t[start : start + length] for t in tables)))
        start += length
    return o.concat(*out, axis=1) if len(out) > 1 else out[0]


def _bisected(x: Any, raw: Any, mapped: Any, lower: Any, upper: Any) -> Any:
    """One column [N, 1]."""
    count = o.reduce_sum(o.cast(o.less_equal(raw, x), dtype="int64"), axis=1, keepdims=True)
    k = o.clip(o.sub(count, 1), low=0, high=len(raw) - 1)
    above = o.minimum(o.add(k, 1), len(raw) - 1)
    near, far = o.gather(raw, k), o.gather(raw, above)
    w = o.div(o.sub(x, near), o.add(o.sub(far, near), 1e-10))
    between = o.add(o.mul(o.sub(1.0, w), o.gather(upper, k)), o.mul(w, o.gather(lower, above)))
    out = o.where(o.equal(near, x), o.gather(mapped, k), between)
    out = o.where(o.less(x, raw[0]), 0.0, out)
    return o.where(o.greater(x, raw[-1]), 1.0, out)


@caffe2_op("Quantile")
def quantile(op, *xs):
    """The number [1] that this share of all numbers (`abs`: of their sizes) is not above.

    Found by halving the range until it is within `tol` of its ends, as Caffe2 does.
    """
    share, tol = op.attr("quantile", -1.0), op.attr("tol", 1e-3)
    if not (0 <= share <= 1 and tol > 0):
        raise ArgumentError("quantile lies in [0, 1], tol above 0", got=f"{share}, {tol}")
    flat = [o.reshape(x, shape=(numel(x),)) for x in xs]
    x = o.concat(*flat) if len(flat) > 1 else flat[0]
    x = o.abs(x) if op.attr("abs", True) else x
    if x.shape[0] == 0:
        raise ArgumentError("a quantile of no numbers")
    count = o.dim_value(dim=x.shape[0])
    wanted = o.cast(o.ceil(o.mul(o.cast(count, dtype="float32"), np.float32(share))), dtype="int64")
    low, high = o.reduce_min(x), o.reduce_max(x)
    lowest = o.logical_or(o.equal(wanted, 0), o.greater_equal(_not_above(x, low), wanted))
    first = o.where(lowest, low, high)
    found = o.logical_or(lowest, o.equal(wanted, count))
    _, high, _ = while_loop(_wider_than(tol), _halved(x, wanted), (low, first, found))
    return o.reshape(high, shape=(1,))


def _not_above(x: Any, limit: Any) -> Any:
    return o.reduce_sum(o.cast(o.less_equal(x, limit), dtype="int64"))


def _wider_than(tol: float) -> Callable[[Any], Any]:
    def going(carry: Any) -> Any:
        low, high, found = carry
        bound = o.mul(o.add(o.abs(high), o.abs(low)), tol)
        return o.logical_and(o.greater(o.sub(high, low), bound), o.logical_not(found))

    return going


def _halved(x: Any, wanted: Any) -> Callable[[Any], Any]:
    """One turn of the search; it ends too where nothing lies between two neighbouring floats."""

    def turn(carry: Any) -> Any:
        low, high, _ = carry
        middle = o.add(low, o.mul(o.sub(high, low), 0.5))
        count = _not_above(x, middle)
        stuck = o.logical_or(o.equal(middle, low), o.equal(middle, high))
        found = o.logical_or(stuck, o.equal(count, wanted))
        new_high = o.where(o.greater_equal(count, wanted), middle, high)
        return o.where(o.less(count, wanted), middle, low), new_high, found

    return turn
