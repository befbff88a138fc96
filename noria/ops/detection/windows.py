"""What pooling over regions shares: which region is of which image, and weights along each axis.

Many ways to pool are separable: a pooled element is rows @ feature map @ columns, where the weights
of rows [R, PH, H] depend on the vertical extent of regions only, those of columns on the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from noria.core.errors import ArgumentError, ShapeError
from noria.ir.program import Spec
from noria.ops.common import need_float, need_integer, need_rank, pair, require_equal

MOST_SAMPLES = 4096  # along one axis of one bin


def need_regions(x: Spec, rois: Spec, batch: Spec, columns: int) -> None:
    """Raises unless these are a feature map [N, C, H, W], regions [R, columns], and ids [R]."""
    need_float(x, rois)
    need_integer(batch)
    need_rank(x, 4)
    need_rank(rois, 2, what="rois")
    need_rank(batch, 1, what="batch")
    if 0 in x.shape[2:]:
        raise ShapeError("regions lie in a feature map that has elements", got=str(x))
    if rois.shape[1] != columns:
        raise ShapeError(f"a region has {columns} numbers", got=str(rois))
    require_equal(rois.shape[0], batch.shape[0], "numbers of regions and of their images")


def pooled_size(size: Any) -> tuple[int, ...]:
    """(height, width) of what is pooled. Raises ArgumentError unless both are positive."""
    out = pair(size, 2, "size")
    if min(out) < 1:
        raise ArgumentError("size must be positive", got=repr(size))
    return out


def image_ids(batch: np.ndarray, images: int) -> np.ndarray:
    """The ids, after a check that there are such images."""
    if ((batch < 0) | (batch >= images)).any():
        raise ArgumentError(
            "a region is of an image that is not there",
            expected=f"0 <= id < {images}",
            got=np.array2string(batch, threshold=8),
        )
    return batch.astype(np.int64, copy=False)


def finite_regions(rois: np.ndarray) -> np.ndarray:
    """Regions in float64, after a check that they are numbers."""
    if not np.isfinite(rois).all():
        raise ArgumentError("regions must be finite", got="NaN or infinity")
    return rois.astype(np.float64)


def round_away(x: np.ndarray) -> np.ndarray:
    """To the nearest whole number, halves away from 0, as C's round."""
    return np.asarray(np.sign(x) * np.floor(np.abs(x) + 0.5))


def sample_counts(lengths: np.ndarray, pooled: int, samples: int) -> np.ndarray:
    """Samples along one axis of the bins of each region; 0: as many as the bin has pixels."""
    if samples > 0:
        return np.full(len(lengths), samples)
    counts = np.ceil(lengths / pooled)
    if (counts > MOST_SAMPLES).any():
        raise ArgumentError(
            "a region is too large for one sample a pixel",
            expected=f"at most {MOST_SAMPLES} in a bin",
            got=str(counts.max()),
            hint="give a number of samples",
        )
    return np.maximum(counts, 0).astype(np.int64)


# ---- weights along one axis --------------------------------------------------------------------


def linear_taps(place: np.ndarray, size: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The two (element, weight) between which a place lies; weight 0 for one beyond [-1, size].

    A place beyond the first or the last element but not so far has that element's value.
    """
    outside = ~((place >= -1) & (place <= size))
    place = np.clip(np.where(outside, 0, place), 0, max(size - 1, 0))
    low = np.floor(place).astype(np.int64)
    part = place - low
    high = np.minimum(low + 1, max(size - 1, 0))
    return [(low, np.where(outside, 0, 1 - part)), (high, np.where(outside, 0, part))]


def sampled_weights(
    start: np.ndarray, length: np.ndarray, pooled: int, counts: np.ndarray, size: int
) -> np.ndarray:
    """[R, pooled, size]: means of linear interpolation at `counts` places in each bin."""
    weights = np.zeros((len(start), pooled, size))
    region, part = np.arange(len(start))[:, None], np.arange(pooled)[None]
    bins = (length / pooled)[:, None]
    for i in range(int(counts.max(initial=0))):
        place = start[:, None] + (part + (i + 0.5) / np.maximum(counts, 1)[:, None]) * bins
        share = ((i < counts) / np.maximum(counts, 1))[:, None]
        for element, weight in linear_taps(place, size):
            weights[region, part, element] += weight * share
    return weights


def mean_weights(start: np.ndarray, end: np.ndarray, size: int) -> np.ndarray:
    """[R, pooled, size]: means over the elements from start up to end [R, pooled]; 0 for none."""
    at = np.arange(size)
    seen = (start[..., None] <= at) & (at < end[..., None])
    return seen / np.maximum(seen.sum(-1, keepdims=True), 1)


def hat(place: np.ndarray) -> np.ndarray:
    """Weight of an element for linear interpolation so far from it."""
    return np.maximum(1 - np.abs(place), 0)


def hat_integral(place: np.ndarray) -> np.ndarray:
    """Integral of `hat` up to a place."""
    near = np.clip(place, -1, 1)
    return np.where(near < 0, (near + 1) ** 2 / 2, 1 - (1 - near) ** 2 / 2)


# ---- pooling -----------------------------------------------------------------------------------


def _support(weights: np.ndarray) -> list[slice]:
    """Of each region, the elements that have a weight."""
    used = (weights != 0).any(axis=1)
    if not used.shape[1]:
        return [slice(0, 0)] * len(used)
    first = used.argmax(1)
    end = used.shape[1] - used[:, ::-1].argmax(1)
    return [
        slice(a, b) if u.any() else slice(0, 0) for a, b, u in zip(first, end, used, strict=True)
    ]


def pool(x: np.ndarray, batch: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """[R, C, PH, PW] from x [N, C, H, W] by weights [R, PH, H] and [R, PW, W]."""
    rows, columns = rows.astype(x.dtype), columns.astype(x.dtype)
    out = np.zeros((len(batch), x.shape[1], rows.shape[1], columns.shape[1]), x.dtype)
    for r, (down, along) in enumerate(zip(_support(rows), _support(columns), strict=True)):
        patch = x[batch[r], :, down, along]
        out[r] = rows[r][:, down] @ (patch @ columns[r][:, along].T)
    return out


def unpool(
    grad: np.ndarray,
    batch: np.ndarray,
    rows: np.ndarray,
    columns: np.ndarray,
    shape: Sequence[int],
) -> np.ndarray:
    """The transpose of `pool`: [N, C, H, W] from [R, C, PH, PW]."""
    rows, columns = rows.astype(grad.dtype), columns.astype(grad.dtype)
    total = np.zeros(tuple(shape), grad.dtype)
    for r, (down, along) in enumerate(zip(_support(rows), _support(columns), strict=True)):
        total[batch[r], :, down, along] += rows[r][:, down].T @ grad[r] @ columns[r][:, along]
    return total
