"""Texts compared word by word: ragged matrices of scores, images of different sizes, look-ahead.

An image n of a ragged batch is [channels, rows of n, columns of n]; images lie one after another in
one vector [T], and two row_splits say how many rows and columns each has.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from noria.core.dims import Size
from noria.core.errors import ArgumentError
from noria.ir.opdef import vocabulary as o
from noria.ops.common import need_float, need_rank, pair, require_equal
from noria.ops.numeric import spec_of
from noria.ops.ragged import ragged_range, sequence_pad, sequence_starts
from noria.ops.sequence import sequence_lengths, sequence_splits
from noria.ops.sequence_window import sequence_windows

# ---- along the steps ---------------------------------------------------------------------------


def row_conv(x: Any, row_splits: Any, weight: Any) -> Any:
    """Each step and those after it in its row, weighted feature by feature: [T, D] -> [T, D].

    weight: [steps, D], of the step itself first. (Amodei et al., 2015: look-ahead convolution)
    """
    need_rank(spec_of(x), 2)
    need_rank(spec_of(weight), 2, what="weight")
    windows = sequence_windows(x, row_splits, length=weight.shape[0])
    return o.reduce_sum(o.mul(windows, weight), axis=1)


def position_encoding(places: Any, *, size: int, dtype: str = "float32") -> Any:
    """Sines, then cosines, of places, slower and slower ones: [...] -> [..., size].

    places: integers, steps from the start of a row; size: even. Wavelengths rise from 2 pi to
    10000 * 2 pi. (Vaswani et al., 2017)
    """
    half, odd = divmod(size, 2)
    if odd or not half:
        raise ArgumentError("as many sines as cosines", expected="an even size", got=f"{size=}")
    rates = 10000.0 ** -(np.arange(half) / (half - 1) if half > 1 else np.ones(1))
    angle = o.mul(o.unsqueeze(o.cast(places, dtype="float64"), axis=-1), rates)
    return o.cast(o.concat(o.sin(angle), o.cos(angle), axis=-1), dtype=dtype)


def sequence_places(row_splits: Any, *, total: Size) -> Any:
    """How many steps of its row come before each: int64 [total]."""
    ids = o.sequence_ids(row_splits, total=total)
    return o.sub(o.arange(stop=total), o.gather(sequence_starts(row_splits), ids))


# ---- ragged matrices and images ----------------------------------------------------------------


def channels_first(x: Any, row_splits: Any) -> tuple[Any, Any]:
    """The numbers of each row with all steps of its first feature first: (values, row_splits).

    x: [T, F], F a number; values: [T * F], row n being [F, steps of n].
    """
    total, features = x.shape
    lengths = sequence_lengths(row_splits)
    first = o.mul(sequence_starts(row_splits), features)
    starts = o.add(o.unsqueeze(first, axis=1), np.arange(features))
    counts = o.add(o.unsqueeze(lengths, axis=1), np.zeros(features, np.int64))
    starts, counts = (o.reshape(v, shape=(-1,)) for v in (starts, counts))
    places = ragged_range(starts, counts, size=total * features, step=features)
    return o.gather(o.reshape(x, shape=(-1,)), places), o.mul(row_splits, features)


def match_matrix(
    x: Any, x_splits: Any, y: Any, y_splits: Any, weight: Any, *, sizes: tuple[str, str, str]
) -> tuple[Any, Any, Any]:
    """(values, row_splits, products): x_i . weight[:, c, :] . y_j for all steps of pairs of rows.

    x: [Tx, D]; y: [Ty, E]; weight: [D, C, E]; values: [T], of pair n [C, steps of x, steps of y];
    products: [Tx, C, E], x times weight. sizes: names of three new symbols.
    (Wan et al., 2016: match tensor)
    """
    need_float(spec_of(x), spec_of(y), spec_of(weight))
    need_rank(spec_of(weight), 3, what="weight")
    features, channels, others = weight.shape
    x_lengths, y_lengths = sequence_lengths(x_splits), sequence_lengths(y_splits)
    count = x_lengths.shape[0]
    require_equal(count, y_lengths.shape[0], "the rows of x and of y")
    left = o.matmul(x, o.reshape(weight, shape=(features, channels * others)))
    products = o.reshape(left, shape=(x.shape[0], channels, others))
    wide = o.transpose(sequence_pad(products, x_splits, size=sizes[0]), perm=(0, 2, 1, 3))
    other = o.unsqueeze(sequence_pad(y, y_splits, size=sizes[1]), axis=1)
    scores = o.matmul(wide, other, transpose_y=True)
    height, width = scores.shape[2:]
    group = o.arange(stop=count * channels)
    pair_of = o.floor_divide(group, channels)
    rows = o.mul(group, o.dim_value(dim=height))
    rows = ragged_range(rows, o.gather(x_lengths, pair_of), size=x.shape[0] * channels)
    per = o.dim_value(dim=height * channels)
    lengths = o.gather(y_lengths, o.floor_divide(rows, per))
    places = ragged_range(o.mul(rows, o.dim_value(dim=width)), lengths, size=sizes[2])
    areas = o.mul(o.mul(x_lengths, y_lengths), channels)
    return o.gather(o.reshape(scores, shape=(-1,)), places), sequence_splits(areas), products


def ragged_conv2d(
    x: Any,
    row_splits: Any,
    column_splits: Any,
    weight: Any,
    *,
    kernel: Any,
    stride: Any = 1,
    sizes: tuple[str, str],
) -> tuple[Any, Any, Any]:
    """(values [P, O], pixel_splits, windows): convolution of images of different sizes.

    x: [T], see the module; weight: [O, channels * kernel height * kernel width]; pixel_splits:
    [N + 1], the pixels of each result, of ceil(rows / stride) rows; windows: [P, features of
    weight], what weight is multiplied with. Pixels beyond an image are 0; half a kernel is above
    and to the left of a pixel. sizes: names of two new symbols.
    """
    need_rank(spec_of(x), 1)
    need_rank(spec_of(weight), 2, what="weight")
    (kh, kw), (sh, sw) = pair(kernel, what="kernel"), pair(stride, what="stride")
    if min(kh, kw, sh, sw) < 1:
        raise ArgumentError("kernel and stride are positive", got=f"{kernel=}, {stride=}")
    channels, rest = divmod(weight.shape[1], kh * kw)
    if rest:
        raise ArgumentError("weight is no kernel of whole channels", got=str(spec_of(weight)))
    heights, widths = sequence_lengths(row_splits), sequence_lengths(column_splits)
    require_equal(heights.shape[0], widths.shape[0], "the images of rows and of columns")
    image, y, at, counts = _pixels(heights, widths, (sh, sw), sizes)
    bases = sequence_starts(sequence_splits(o.mul(o.mul(heights, widths), channels)))
    base, height, width = (
        o.unsqueeze(o.gather(v, image), axis=(1, 2, 3)) for v in (bases, heights, widths)
    )
    y = o.add(o.unsqueeze(o.mul(y, sh), axis=(1, 2, 3)), np.arange(kh)[:, None] - kh // 2)
    at = o.add(o.unsqueeze(o.mul(at, sw), axis=(1, 2, 3)), np.arange(kw) - kw // 2)
    inside = o.logical_and(_within(y, height), _within(at, width))
    plane = o.mul(o.mul(height, width), np.arange(channels)[:, None, None])
    place = o.add(o.add(base, plane), o.add(o.mul(y, width), at))
    place = o.where(inside, place, o.dim_value(dim=x.shape[0]))
    zero = o.fill(shape=(1,), value=0.0, dtype=spec_of(x).dtype)
    found = o.gather(o.concat(x, zero, axis=0), place)
    windows = o.reshape(found, shape=(found.shape[0], channels * kh * kw))
    return o.linear(windows, weight), sequence_splits(counts), windows


def _within(places: Any, size: Any) -> Any:
    return o.logical_and(o.greater_equal(places, 0), o.less(places, size))


def _pixels(
    heights: Any, widths: Any, stride: tuple[int, int], sizes: tuple[str, str]
) -> tuple[Any, Any, Any, Any]:
    """(image, row, column) of each pixel of the results [P], and how many each has [N]."""
    high, wide = (
        o.floor_divide(o.add(v, s - 1), s) for v, s in zip((heights, widths), stride, strict=True)
    )
    row = ragged_range(o.mul(high, 0), high, size=sizes[0])
    owner = o.sequence_ids(sequence_splits(high), total=row.shape[0])
    lengths = o.gather(wide, owner)
    column = ragged_range(o.mul(lengths, 0), lengths, size=sizes[1])
    of_row = o.sequence_ids(sequence_splits(lengths), total=column.shape[0])
    return o.gather(owner, of_row), o.gather(row, of_row), column, o.mul(high, wide)
