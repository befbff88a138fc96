"""Pooling of regions whose bins are moved: deformable position-sensitive pooling.

Inputs are those of `roi`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from noria.core.errors import ArgumentError, ShapeError
from noria.ir.opdef import op
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Spec
from noria.ops.common import need_float, pair, require_equal, require_same_shape
from noria.ops.detection.geometry import numpy_only
from noria.ops.detection.windows import (
    finite_regions,
    image_ids,
    need_regions,
    pooled_size,
    round_away,
)
from noria.ops.numeric import in_float32


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
    require_equal(moves.shape[0], rois.shape[0], "numbers of moves and of regions")
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
    if moves is not None and np.isnan(moves).any():
        raise ArgumentError("moves must be numbers", got="NaN")
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
