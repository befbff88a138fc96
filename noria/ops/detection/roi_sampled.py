"""Pooling of regions that are turned or seen in perspective: linear interpolation anywhere.

Inputs are those of `roi`, but for the form of regions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from noria.ir.opdef import op
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Spec
from noria.ops.common import require_same_shape
from noria.ops.detection.geometry import numpy_only
from noria.ops.detection.windows import (
    finite_regions,
    image_ids,
    linear_taps,
    need_regions,
    pooled_size,
    round_away,
    sample_counts,
)
from noria.ops.numeric import add_at, in_float32

Taps = tuple[Any, Any, Any]  # rows, columns and weights [K, PH, PW]: K elements of each bin


def _gather(x: np.ndarray, batch: np.ndarray, taps: Iterator[Taps], size: Any) -> np.ndarray:
    """[R, C, PH, PW]: sums of weighted elements."""
    out = np.zeros((len(batch), x.shape[1], *size), x.dtype)
    for r, (rows, columns, weights) in enumerate(taps):
        seen = x[batch[r]][:, rows, columns]
        out[r] = np.einsum("ckpq,kpq->cpq", seen, weights.astype(x.dtype))
    return out


def _scatter(grad: np.ndarray, batch: np.ndarray, taps: Iterator[Taps], shape: Any) -> np.ndarray:
    """The transpose of `_gather`."""
    total = np.zeros(shape, grad.dtype)
    for r, (rows, columns, weights) in enumerate(taps):
        parts = grad[r][:, None] * weights.astype(grad.dtype)
        add_at(np, total[batch[r]], (slice(None), rows, columns), parts, unique=False)
    return total


def _around(y: np.ndarray, x: np.ndarray, height: int, width: int) -> Taps:
    """The four elements around each place [S, PH, PW]; weight 0 outside, as in `roi_align`."""
    inside = (y >= -1) & (y <= height) & (x >= -1) & (x <= width)
    rows, columns, weights = [], [], []
    for row, down in linear_taps(y, height):
        for column, along in linear_taps(x, width):
            rows.append(row)
            columns.append(column)
            weights.append(down * along * inside)
    return np.concatenate(rows), np.concatenate(columns), np.concatenate(weights)


# ---- turned ------------------------------------------------------------------------------------


def _rotated_taps(
    rois: Any, space: Any, size: Any, scale: float, samples: int, aligned: bool
) -> Iterator[Taps]:
    height, width = space
    regions = finite_regions(rois)
    center = regions[:, :2] * scale - (0.5 if aligned else 0.0)
    sides = regions[:, 2:4] * scale
    sides = np.maximum(sides, 0.0 if aligned else 1.0)
    tall, wide = pooled_size(size)
    down, along = (
        sample_counts(sides[:, 1], tall, samples),
        sample_counts(sides[:, 0], wide, samples),
    )
    for (cx, cy), (w, h), angle, i, j in zip(
        center, sides, np.deg2rad(regions[:, 4]), down, along, strict=True
    ):
        yy = ((np.arange(tall * i) + 0.5) / max(tall * i, 1) - 0.5) * h
        xx = ((np.arange(wide * j) + 0.5) / max(wide * j, 1) - 0.5) * w
        yy = yy.reshape(tall, i).T[:, None, :, None]  # [I, 1, PH, 1]
        xx = xx.reshape(wide, j).T[None, :, None, :]
        x = xx * np.cos(angle) + yy * np.sin(angle) + cx
        y = yy * np.cos(angle) - xx * np.sin(angle) + cy
        shape = (i * j, tall, wide)
        rows, columns, weights = _around(y.reshape(shape), x.reshape(shape), height, width)
        yield rows, columns, weights / max(i * j, 1)


@op
def roi_align_rotated(x, rois, batch, *, size, scale=1.0, samples=0, aligned=False):
    """`roi_align` of rotated regions [R, 5]: centre, width, height, degrees.  (Ma et al., 2018)"""
    need_regions(x, rois, batch, 5)
    return Spec((rois.shape[0], x.shape[1], *pooled_size(size)), x.dtype)


@roi_align_rotated.compute
@in_float32
def _(xp, x, rois, batch, size, scale, samples, aligned):
    numpy_only(xp, "roi_align_rotated")
    taps = _rotated_taps(rois, x.shape[2:], size, scale, samples, aligned)
    return _gather(x, image_ids(batch, len(x)), taps, pooled_size(size))


@roi_align_rotated.grad
def _(x, rois, batch, g, size, scale, samples, aligned):
    how = {"size": size, "scale": scale, "samples": samples, "aligned": aligned}
    return o.roi_align_rotated_grad(g, rois, batch, shape=x.shape, **how), None, None


@op
def roi_align_rotated_grad(grad, rois, batch, *, shape, size, scale=1.0, samples=0, aligned=False):
    """Gradient of `roi_align_rotated` in x, which has that shape, from the one of its result."""
    x = Spec(shape, grad.dtype)
    need_regions(x, rois, batch, 5)
    pooled = Spec((rois.shape[0], x.shape[1], *pooled_size(size)), grad.dtype)
    require_same_shape(pooled, grad, "grad")
    return x


@roi_align_rotated_grad.compute
@in_float32
def _(xp, grad, rois, batch, shape, size, scale, samples, aligned):
    numpy_only(xp, "roi_align_rotated_grad")
    taps = _rotated_taps(rois, shape[2:], size, scale, samples, aligned)
    return _scatter(grad, image_ids(batch, shape[0]), taps, shape)


# ---- in perspective ----------------------------------------------------------------------------

NEAR = 1e-4  # of a pixel: nearer than that is on a side


def _matrices(corners: np.ndarray, height: int, width: int) -> np.ndarray:
    """[R, 9] from places of the result to places of x, for regions [R, 4, 2]."""
    p0, p1, p2, p3 = corners.transpose(1, 0, 2)
    sides = [np.hypot(*(a - b).T) for a, b in ((p0, p1), (p1, p2), (p2, p3), (p3, p0))]
    tall, wide = (sides[1] + sides[3]) / 2, (sides[0] + sides[2]) / 2
    rows = max(2, height)
    with np.errstate(divide="ignore", invalid="ignore"):
        columns = round_away(wide * (rows - 1) / tall) + 1
    columns = np.clip(np.nan_to_num(columns, posinf=width), None, width)
    columns = np.maximum(columns, 2)
    d1, d2, d3 = p1 - p2, p3 - p2, p0 - p1 + p2 - p3
    below = d1[:, 0] * d2[:, 1] - d2[:, 0] * d1[:, 1] + 1e-5
    m6 = (d3[:, 0] * d2[:, 1] - d2[:, 0] * d3[:, 1]) / below / (columns - 1)
    m7 = (d1[:, 0] * d3[:, 1] - d3[:, 0] * d1[:, 1]) / below / (rows - 1)
    along = (p1 - p0 + (m6 * (columns - 1))[:, None] * p1) / (columns - 1)[:, None]
    down = (p3 - p0 + (m7 * (rows - 1))[:, None] * p3) / (rows - 1)
    return np.stack(
        [along[:, 0], down[:, 0], p0[:, 0], along[:, 1], down[:, 1], p0[:, 1], m6, m7,
         np.ones(len(m6))],
        axis=1,
    )  # fmt: skip


def _in_quad(x: np.ndarray, y: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Whether places lie in a quadrilateral [4, 2] or on one of its sides."""
    on, odd = np.zeros(x.shape, bool), np.zeros(x.shape, bool)
    for (xs, ys), (xe, ye) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        low, high = min(ys, ye), max(ys, ye)
        if abs(ys - ye) < NEAR:
            between = (x > min(xs, xe) - NEAR) & (x < max(xs, xe) + NEAR)
            on |= (np.abs(y - ys) < NEAR) & (np.abs(y - ye) < NEAR) & between
            continue
        at = (y - ys) * (xe - xs) / (ye - ys) + xs
        on |= (np.abs(at - x) < NEAR) & (y > low - NEAR) & (y < high + NEAR)
        crosses = ~((y < low + NEAR) | (y - high > NEAR))
        on |= crosses & (np.abs(at - x) < NEAR)
        odd ^= crosses & (at - x > NEAR)
    return on | odd


def _perspective(rois: Any, shape: Any, size: Any, scale: float) -> Iterator[tuple[Taps, Any]]:
    """(taps, what is seen [PH, PW]) of each region."""
    rows, columns = pooled_size(size)
    height, width = shape[2:]
    corners = finite_regions(rois).reshape(-1, 4, 2) * scale
    v, u = np.mgrid[:rows, :columns]
    for quad, m in zip(corners, _matrices(corners, rows, columns), strict=True):
        with np.errstate(divide="ignore", invalid="ignore"):
            depth = m[6] * u + m[7] * v + m[8]
            x = (m[0] * u + m[1] * v + m[2]) / depth
            y = (m[3] * u + m[4] * v + m[5]) / depth
        x, y = np.nan_to_num(x, nan=-9.0), np.nan_to_num(y, nan=-9.0)
        seen = (x > -0.5 + NEAR) & (x < width - 0.5 - NEAR)
        seen &= (y > -0.5 + NEAR) & (y < height - 0.5 - NEAR) & _in_quad(x, y, quad)
        y, x = np.where(seen, y, 0)[None], np.where(seen, x, 0)[None]
        place, column, weight = _around(y, x, height, width)
        yield (place, column, weight * seen), seen


@op(outputs=("out", "mask", "matrix"))
def roi_perspective_transform(x, rois, batch, *, size, scale=1.0):
    """(out [R, C, PH, PW], mask int32 [R, 1, PH, PW], matrix [R, 9]) of quadrilaterals [R, 8].

    Corners go round from the upper left. Each region is seen as if from its front; the mask tells
    what of that lies in the region and in x, out is 0 elsewhere. matrix: row by row, from places
    (column, row, 1) of the result to places of x.
    """
    need_regions(x, rois, batch, 8)
    rows, columns = pooled_size(size)
    count = rois.shape[0]
    return (
        Spec((count, x.shape[1], rows, columns), x.dtype),
        Spec((count, 1, rows, columns), "int32"),
        Spec((count, 9), x.dtype),
    )


@roi_perspective_transform.compute
@in_float32
def _(xp, x, rois, batch, size, scale):
    numpy_only(xp, "roi_perspective_transform")
    found = list(_perspective(rois, x.shape, size, scale))
    pooled = pooled_size(size)
    out = _gather(x, image_ids(batch, len(x)), (taps for taps, _ in found), pooled)
    mask = np.zeros((len(found), 1, *pooled), np.int32)
    for r, (_, seen) in enumerate(found):
        mask[r, 0] = seen
    corners = finite_regions(rois).reshape(-1, 4, 2) * scale
    return out, mask, _matrices(corners, *pooled).astype(x.dtype)


@roi_perspective_transform.grad
def _(x, rois, batch, g_out, size, scale):
    how = {"size": size, "scale": scale}
    return o.roi_perspective_transform_grad(g_out, rois, batch, shape=x.shape, **how), None, None


@op
def roi_perspective_transform_grad(grad, rois, batch, *, shape, size, scale=1.0):
    """Gradient of `roi_perspective_transform` in x, which has that shape."""
    x = Spec(shape, grad.dtype)
    need_regions(x, rois, batch, 8)
    pooled = Spec((rois.shape[0], x.shape[1], *pooled_size(size)), grad.dtype)
    require_same_shape(pooled, grad, "grad")
    return x


@roi_perspective_transform_grad.compute
@in_float32
def _(xp, grad, rois, batch, shape, size, scale):
    numpy_only(xp, "roi_perspective_transform_grad")
    taps = (taps for taps, _ in _perspective(rois, shape, size, scale))
    return _scatter(grad, image_ids(batch, shape[0]), taps, shape)
