"""What looks at other steps of the same row: windows, convolution, the best columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from noria.core.errors import ArgumentError
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Spec
from noria.ops.common import need_rank, require_equal, require_same_shape
from noria.ops.numeric import cast_like, spec_of
from noria.ops.packed import filled, need_steps
from noria.ops.ragged import places_below, sequence_starts
from noria.ops.sequence import sequence_lengths, sequence_splits


def sequence_windows(
    x: Any,
    row_splits: Any,
    *,
    length: int,
    start: int = 0,
    pad: Any = 0,
    before: Any = None,
    after: Any = None,
) -> Any:
    """For each step, `length` neighbouring steps of its row: [T, ...] -> [T, length, ...].

    start: the first of them, counted from the step itself (-1: the one before it)
    before: [max(0, -start), ...], the steps that stand before the first one of every row;
    after: [max(0, start + length - 1), ...], those behind its last; default: the number `pad`
    Raises ArgumentError for a length below 1, ShapeError for edges that do not fit.
    """
    need_steps(x)
    if not isinstance(length, int) or length < 1:
        raise ArgumentError("a window has one step or more", got=f"{length=}")
    up, down, total = max(0, -start), max(0, start + length - 1), x.shape[0]
    head, tail = _edge(x, before, up, pad, "before"), _edge(x, after, down, pad, "after")
    ids = o.sequence_ids(row_splits, total=total)
    first, end = (o.unsqueeze(o.gather(row_splits, i), axis=1) for i in (ids, o.add(ids, 1)))
    place = o.add(
        o.unsqueeze(o.arange(stop=total), axis=1), o.arange(start=start, stop=start + length)
    )
    late = o.add(o.sub(place, end), o.dim_value(dim=total))
    place = o.where(
        o.less(place, first), o.sub(place, first), o.where(o.less(place, end), place, late)
    )
    return o.gather(o.concat(head, x, tail, axis=0), o.add(place, up))


def _edge(x: Any, rows: Any, count: int, pad: Any, what: str) -> Any:
    if rows is None:
        return filled(pad, x, count)
    require_same_shape(Spec((count, *x.shape[1:]), x.dtype), spec_of(rows), what)
    return rows


def sequence_conv(
    x: Any,
    row_splits: Any,
    weight: Any,
    bias: Any = None,
    *,
    length: int,
    start: int = 0,
    before: Any = None,
    after: Any = None,
) -> Any:
    """Convolution along the steps of each row: [T, D] -> [T, M].

    weight: [M, length * D], the window's steps one after another; bias: [M]; the others as of
    `sequence_windows`: with start = -(length // 2) a step is in the middle of its window.
    """
    need_rank(spec_of(x), 2)
    options = {"length": length, "start": start, "before": before, "after": after}
    windows = sequence_windows(x, row_splits, **options)
    return o.linear(o.reshape(windows, shape=(x.shape[0], length * x.shape[1])), weight, bias)


def sequence_topk_mean(
    x: Any,
    row_splits: Any,
    column_splits: Any,
    *,
    channels: int,
    rows: Any,
    topks: Sequence[int],
    size: str,
) -> Any:
    """(means, columns): of the largest numbers of each row of ragged images.

    means: [rows, channels * len(topks)]; columns: int64 [rows, channels, max(topks)], where they
    are, the largest first, -1 where there are fewer

    x: [T], image n after image n - 1, each [channels, rows of n, columns of n]
    row_splits, column_splits: [N + 1], the rows and the columns of each image; rows: all of them
    topks: how many of the largest are added up, and what the sum is divided by, even where there
    are fewer columns; size: the name of a new symbol, for the columns that are looked at
    (Chen et al., 2018: top-k average pooling of MatchPyramid.)
    """
    need_rank(spec_of(x), 1)
    if not topks or min(topks) < 1:
        raise ArgumentError("topks are positive numbers", got=repr(topks))
    heights, widths = sequence_lengths(row_splits), sequence_lengths(column_splits)
    require_equal(heights.shape[0], widths.shape[0], "the images of rows and of columns")
    column = places_below(widths, size=size, least=max(topks))
    begin, width = _row_places(heights, widths, row_splits, channels, rows)
    place = o.where(o.less(column, width), o.add(begin, column), o.dim_value(dim=x.shape[0]))
    low = o.fill(shape=(1,), value=-np.inf, dtype=spec_of(x).dtype)
    best, columns = o.topk(o.gather(o.concat(x, low, axis=0), place), k=max(topks))
    there = o.less(np.arange(max(topks)), width)
    best, columns = o.where(there, best, 0.0), o.where(there, columns, -1)
    sums = o.gather(o.cumsum(best, axis=2), np.array(topks) - 1, axis=2)
    means = o.div(sums, cast_like(np.array(topks, np.float32), x))
    return o.reshape(means, shape=(rows, channels * len(topks))), columns


def _row_places(
    heights: Any, widths: Any, row_splits: Any, channels: int, rows: Any
) -> tuple[Any, Any]:
    """Where each row of each channel begins [rows, channels, 1], how long it is [rows, 1, 1]."""
    image = o.sequence_ids(row_splits, total=rows)
    areas = o.mul(heights, widths)
    starts = sequence_starts(sequence_splits(o.mul(areas, channels)))
    start, width, area = (o.gather(v, image) for v in (starts, widths, areas))
    row = o.sub(o.arange(stop=rows), o.gather(sequence_starts(row_splits), image))
    first = o.unsqueeze(o.add(start, o.mul(row, width)), axis=(1, 2))
    channel = o.mul(o.unsqueeze(area, axis=(1, 2)), np.arange(channels)[:, None])
    return o.add(first, channel), o.unsqueeze(width, axis=(1, 2))
