"""Pooling of regions that are turned, moved or seen in perspective: linear interpolation anywhere.

Inputs are those of `roi`, but for the form of regions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from noria.core.errors import ArgumentError, ShapeError
from noria.ir.opdef import op
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Spec
from noria.ops.common import need_float, pair, require_same_shape
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


# ---- moved -------------------------------------------------------------------------------------


def _need_deformable(x: Any, rois: Any, batch: Any, moves: Any, channels: int, group: Any) -> None:
    need_regions(x, rois, batch, 4)
    need_float(moves)
    rows, columns = pair(group, 2, "group")
    if x.shape[1] != channels * rows * columns:
        raise ShapeError(
            "x needs channels of its own for each group",
            expected=f"{channels} x {rows} x {columns}",
            got=str(x.shape[1]),
        )
    if moves is None:
        return
    if moves.ndim != 4 or not isinstance(moves.shape[1], int) or moves.shape[1] % 2:
        raise ShapeError("moves are [R, 2 classes, parts...]", got=str(moves))
    if not moves.shape[1] or channels % (moves.shape[1] // 2):
        raise ArgumentError("classes of moves must divide the channels", got=str(moves))


class _Deformed:
    """Where the bins of regions sample x: channel [C, PH, PW], and of each region places."""

    def __init__(
        self, rois: Any, moves: Any, shape: Any, *, size: Any, channels: int, group: Any,
        part: Any, samples: int, spread: float, scale: float
    ) -> None:  # fmt: skip
        self.size, self.samples, self.spread = pooled_size(size), samples, spread
        self.height, self.width = shape[2:]
        rows, columns = self.size
        tall, wide = pair(group, 2, "group")
        p, q = np.arange(rows), np.arange(columns)
        down = np.clip(p * tall // rows, 0, tall - 1)[:, None]
        along = np.clip(q * wide // columns, 0, wide - 1)
        self.channel = (np.arange(channels)[:, None, None] * tall + down) * wide + along
        edges = round_away(finite_regions(rois))
        self.low = edges[:, :2] * scale - 0.5
        self.sides = np.maximum((edges[:, 2:] + 1) * scale - 0.5 - self.low, 0.1)
        self.moves = moves
        parts = pair(part, 2, "part")
        classes = 1 if moves is None else moves.shape[1] // 2
        self.at = (
            np.arange(channels)[:, None, None] // (channels // classes),
            (p * parts[0] // rows)[:, None],
            q * parts[1] // columns,
        )

    def places(self, r: int) -> Any:
        """(y, x, whether it counts), each [S, C, PH, PW], of one region."""
        (wide, tall), (rows, columns) = self.sides[r], self.size
        x = np.arange(columns) * (wide / columns) + self.low[r, 0]
        y = (np.arange(rows) * (tall / rows) + self.low[r, 1])[:, None]
        if self.moves is not None:
            kind, *place = self.at
            x = x + self.moves[r][(2 * kind, *place)] * self.spread * wide
            y = y + self.moves[r][(2 * kind + 1, *place)] * self.spread * tall
        step = np.arange(self.samples) / self.samples
        i, j = (v.reshape(-1, 1, 1, 1) for v in np.meshgrid(step, step, indexing="ij"))
        shape = (self.samples**2, len(self.channel), rows, columns)
        y = np.broadcast_to(y + i * (tall / rows), shape)
        x = np.broadcast_to(x + j * (wide / columns), shape)
        counted = (x >= -0.5) & (x <= self.width - 0.5) & (y >= -0.5) & (y <= self.height - 0.5)
        return np.clip(y, 0, self.height - 1), np.clip(x, 0, self.width - 1), counted

    def corners(self, y: Any, x: Any) -> Iterator[tuple[Any, Any, Any, Any]]:
        """(element of x, weight, how the weight grows with y, and with x) around places."""
        top, left = np.floor(y).astype(np.int64), np.floor(x).astype(np.int64)
        low, right = np.ceil(y).astype(np.int64), np.ceil(x).astype(np.int64)
        dy, dx = y - top, x - left
        for row, wy, sy in ((top, 1 - dy, -1), (low, dy, 1)):
            for column, wx, sx in ((left, 1 - dx, -1), (right, dx, 1)):
                yield (self.channel, row, column), wy * wx, sy * wx, sx * wy


@op(outputs=("out", "count"))
def deformable_psroi_pool(
    x,
    rois,
    batch,
    moves=None,
    *,
    size,
    channels,
    group=1,
    part=None,
    samples=1,
    spread=0.1,
    scale=1.0,
):
    """(out [R, channels, PH, PW], how many samples counted) of bins that moves [R, 2 K, ...] shift.

    (Dai et al., Deformable Convolutional Networks, 2017)  x: [N, channels * group, H, W]: bins see
    channels of their group of them, as in `psroi_pool`. Each bin is the mean of samples x samples
    linear interpolations inside x. moves: for each of K classes, which share out the channels, a
    way in x and one in y for each of `part` (rows, columns; default: the bins) of the region, in
    `spread` times its size; absent: none. Has gradients in x and in moves.
    """
    _need_deformable(x, rois, batch, moves, channels, group)
    if not isinstance(samples, int) or samples < 1:
        raise ArgumentError("samples must be 1 or more", got=repr(samples))
    out = Spec((rois.shape[0], channels, *pooled_size(size)), x.dtype)
    return out, out


def _deformed(x: Any, rois: Any, moves: Any, part: Any, how: Any) -> _Deformed:
    parts = pooled_size(how["size"]) if part is None else pair(part, 2, "part")
    if moves is not None and tuple(moves.shape[2:]) != tuple(parts):
        raise ShapeError("moves have one place a part", expected=f"{parts}", got=f"{moves.shape}")
    return _Deformed(rois, moves, x.shape, part=parts, **how)


@deformable_psroi_pool.compute
@in_float32
def _(xp, x, rois, batch, moves, part, **how):
    numpy_only(xp, "deformable_psroi_pool")
    batch, deformed = image_ids(batch, len(x)), _deformed(x, rois, moves, part, how)
    out = np.zeros((len(rois), len(deformed.channel), *deformed.size), x.dtype)
    count = np.zeros_like(out)
    for r, image in enumerate(batch):
        y, z, counted = deformed.places(r)
        total = sum(
            x[image][at] * np.where(counted, weight, 0).astype(x.dtype)
            for at, weight, _, _ in deformed.corners(y, z)
        )
        count[r] = counted.sum(0)
        out[r] = np.sum(total, axis=0) / np.maximum(count[r], 1)
    return out, count


@deformable_psroi_pool.grad
def _(x, rois, batch, moves, g_out, size, channels, group, part, samples, spread, scale):
    how = {"size": size, "channels": channels, "group": group, "part": part}
    how |= {"samples": samples, "spread": spread, "scale": scale}
    found = o.deformable_psroi_pool_grad(x, rois, batch, g_out, moves, **how)
    return (found, None, None, None) if moves is None else (found[0], None, None, found[1])


@op(outputs=("in_x", "in_moves"))
def deformable_psroi_pool_grad(
    x,
    rois,
    batch,
    grad,
    moves=None,
    *,
    size,
    channels,
    group=1,
    part=None,
    samples=1,
    spread=0.1,
    scale=1.0,
):
    """Gradients of `deformable_psroi_pool` in x and, if there are any, in moves."""
    _need_deformable(x, rois, batch, moves, channels, group)
    out = Spec((rois.shape[0], channels, *pooled_size(size)), x.dtype)
    require_same_shape(out, grad, "grad")
    return x if moves is None else (x, moves)


@deformable_psroi_pool_grad.compute
@in_float32
def _(xp, x, rois, batch, grad, moves, part, **how):
    numpy_only(xp, "deformable_psroi_pool_grad")
    batch, deformed = image_ids(batch, len(x)), _deformed(x, rois, moves, part, how)
    in_x = np.zeros(x.shape, grad.dtype)
    in_moves = None if moves is None else np.zeros(moves.shape, grad.dtype)
    for r, image in enumerate(batch):
        y, z, counted = deformed.places(r)
        share = np.where(counted, grad[r] / np.maximum(counted.sum(0), 1), 0).astype(grad.dtype)
        slopes = [0.0, 0.0]
        for at, weight, by_y, by_x in deformed.corners(y, z):
            np.add.at(in_x[image], at, share * weight.astype(grad.dtype))
            slopes[0] = slopes[0] + x[image][at] * by_x * share
            slopes[1] = slopes[1] + x[image][at] * by_y * share
        if in_moves is not None:
            kind, *place = deformed.at
            for axis, slope in enumerate(slopes):
                change = np.sum(slope, axis=0) * deformed.spread * deformed.sides[r, axis]
                np.add.at(in_moves[r], (2 * kind + axis, *place), change.astype(grad.dtype))
    return in_x if in_moves is None else (in_x, in_moves)
