"""Pooling of regions where each bin has channels of its own, or is integrated exactly.

Inputs are those of `roi`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from noria.core.errors import ShapeError
from noria.ir.opdef import op
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Spec
from noria.ops.common import require_same_shape
from noria.ops.detection.geometry import numpy_only
from noria.ops.detection.windows import (
    finite_regions,
    hat,
    hat_integral,
    image_ids,
    mean_weights,
    need_regions,
    pool,
    pooled_size,
    round_away,
    unpool,
)
from noria.ops.numeric import in_float32


def _both(
    weights: Callable[..., np.ndarray], rois: Any, shape: Any, size: Any, scale: float
) -> tuple[np.ndarray, np.ndarray]:
    """Weights of rows and of columns."""
    rows, columns = pooled_size(size)
    down = weights(rois, 1, rows, scale, shape[2])
    return down, weights(rois, 0, columns, scale, shape[3])


# ---- position-sensitive ------------------------------------------------------------------------


def _groups(channels: Any, size: Any) -> int:
    """Channels of the result: those of x for each bin."""
    rows, columns = pooled_size(size)
    if not isinstance(channels, int) or channels % (rows * columns):
        raise ShapeError(
            "x needs channels of its own for each bin",
            expected=f"a multiple of {rows} x {columns}",
            got=str(channels),
        )
    return channels // (rows * columns)


@op
def psroi_pool(x, rois, batch, *, size, scale=1.0):
    """Means over bins of regions, each of its own channels: [R, C / (PH PW), PH, PW].

    (Dai et al., R-FCN, 2016)  Channel (c PH + p) PW + q of x is seen by bin (p, q) of channel c.
    Corners are rounded, x2 and y2 included; an empty bin gives 0.
    """
    need_regions(x, rois, batch, 4)
    return Spec((rois.shape[0], _groups(x.shape[1], size), *pooled_size(size)), x.dtype)


def _bin_means(rois: Any, axis: int, pooled: int, scale: float, size: int) -> np.ndarray:
    """[R, pooled, size]: shares of elements in the mean over each bin, along an axis: 0 x, 1 y."""
    edges = round_away(finite_regions(rois))
    start, end = edges[:, axis] * scale, (edges[:, axis + 2] + 1) * scale
    step = (np.maximum(end - start, 0.1) / pooled)[:, None]
    part = np.arange(pooled)
    first = np.floor(part * step + start[:, None])
    behind = np.ceil((part + 1) * step + start[:, None])
    return mean_weights(first, behind, size)


@psroi_pool.compute
@in_float32
def _(xp, x, rois, batch, size, scale):
    numpy_only(xp, "psroi_pool")
    batch = image_ids(batch, len(x))
    own = x.reshape(len(x), _groups(x.shape[1], size), *pooled_size(size), *x.shape[2:])
    rows, columns = (w.astype(x.dtype) for w in _both(_bin_means, rois, x.shape, size, scale))
    out = np.empty((len(rois), own.shape[1], *own.shape[2:4]), x.dtype)
    for r, image in enumerate(batch):
        along = np.einsum("cpqhw,qw->cpqh", own[image], columns[r])
        out[r] = np.einsum("cpqh,ph->cpq", along, rows[r])
    return out


@psroi_pool.grad
def _(x, rois, batch, g, size, scale):
    return o.psroi_pool_grad(g, rois, batch, shape=x.shape, size=size, scale=scale), None, None


@op
def psroi_pool_grad(grad, rois, batch, *, shape, size, scale=1.0):
    """Gradient of `psroi_pool` in x, which has that shape, from the one of its result."""
    x = Spec(shape, grad.dtype)
    need_regions(x, rois, batch, 4)
    pooled = (rois.shape[0], _groups(x.shape[1], size), *pooled_size(size))
    require_same_shape(Spec(pooled, grad.dtype), grad, "grad")
    return x


@psroi_pool_grad.compute
@in_float32
def _(xp, grad, rois, batch, shape, size, scale):
    numpy_only(xp, "psroi_pool_grad")
    batch = image_ids(batch, shape[0])
    rows, columns = (w.astype(grad.dtype) for w in _both(_bin_means, rois, shape, size, scale))
    total = np.zeros((shape[0], grad.shape[1], *grad.shape[2:], *shape[2:]), grad.dtype)
    for r, image in enumerate(batch):
        total[image] += np.einsum("cpq,ph,qw->cpqhw", grad[r], rows[r], columns[r])
    return total.reshape(shape)


@psroi_pool_grad.grad
def _(rois, batch, g, size, scale):
    return o.psroi_pool(g, rois, batch, size=size, scale=scale), None, None


# ---- exact integrals ---------------------------------------------------------------------------


@op
def prroi_pool(x, rois, batch, *, size, scale=1.0):
    """Integrals of the linear interpolation of x over bins of regions, by their area.

    (Jiang et al., PrRoI pooling, 2018)  Outside x is 0. Has a gradient in the regions, too.
    """
    need_regions(x, rois, batch, 4)
    return Spec((rois.shape[0], x.shape[1], *pooled_size(size)), x.dtype)


def _edges(rois: Any, axis: int, pooled: int, scale: float) -> tuple[Any, Any, Any]:
    """(start, end [R, pooled, 1], length [R, 1, 1]) of bins along an axis: 0 x, 1 y."""
    ends = finite_regions(rois) * scale
    start = ends[:, axis][:, None, None]
    length = np.maximum(ends[:, axis + 2] - ends[:, axis], 0)[:, None, None] / pooled
    part = np.arange(pooled)[None, :, None]
    return start + part * length, start + (part + 1) * length, length


def _integrals(rois: Any, axis: int, pooled: int, scale: float, size: int) -> np.ndarray:
    """[R, pooled, size]: shares of elements in the mean over each bin; 0 if it has no length."""
    start, end, length = _edges(rois, axis, pooled, scale)
    at = np.arange(size)
    found = hat_integral(end - at) - hat_integral(start - at)
    return np.where(length > 0, found / np.where(length > 0, length, 1), 0)


def _slopes(
    rois: Any, axis: int, pooled: int, scale: float, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Derivatives of `_integrals` in the first and in the second edge of regions."""
    start, end, length = _edges(rois, axis, pooled, scale)
    at, part = np.arange(size), np.arange(pooled)[None, :, None]
    mean = _integrals(rois, axis, pooled, scale, size)
    at_start, at_end = hat(start - at), hat(end - at)
    some = length > 0
    scaled = scale / np.where(some, length, 1)
    first = at_end * (1 - (part + 1) / pooled) - at_start * (1 - part / pooled) + mean / pooled
    second = at_end * (part + 1) / pooled - at_start * part / pooled - mean / pooled
    return np.where(some, first * scaled, 0), np.where(some, second * scaled, 0)


@prroi_pool.compute
@in_float32
def _(xp, x, rois, batch, size, scale):
    numpy_only(xp, "prroi_pool")
    return pool(x, image_ids(batch, len(x)), *_both(_integrals, rois, x.shape, size, scale))


@prroi_pool.grad
def _(x, rois, batch, g, size, scale, wanted):
    how = {"size": size, "scale": scale}
    in_x = o.prroi_pool_grad(g, rois, batch, shape=x.shape, **how) if wanted[0] else None
    return in_x, o.prroi_pool_rois_grad(x, rois, batch, g, **how) if wanted[1] else None, None


@op
def prroi_pool_grad(grad, rois, batch, *, shape, size, scale=1.0):
    """Gradient of `prroi_pool` in x, which has that shape, from the one of its result."""
    x = Spec(shape, grad.dtype)
    need_regions(x, rois, batch, 4)
    pooled = Spec((rois.shape[0], x.shape[1], *pooled_size(size)), grad.dtype)
    require_same_shape(pooled, grad, "grad")
    return x


@prroi_pool_grad.compute
@in_float32
def _(xp, grad, rois, batch, shape, size, scale):
    numpy_only(xp, "prroi_pool_grad")
    rows, columns = _both(_integrals, rois, shape, size, scale)
    return unpool(grad, image_ids(batch, shape[0]), rows, columns, shape)


@op
def prroi_pool_rois_grad(x, rois, batch, grad, *, size, scale=1.0):
    """Gradient of `prroi_pool` in the regions [R, 4]."""
    need_regions(x, rois, batch, 4)
    pooled = Spec((rois.shape[0], x.shape[1], *pooled_size(size)), x.dtype)
    require_same_shape(pooled, grad, "grad")
    return rois


@prroi_pool_rois_grad.compute
@in_float32
def _(xp, x, rois, batch, grad, size, scale):
    numpy_only(xp, "prroi_pool_rois_grad")
    batch = image_ids(batch, len(x))
    (tall, wide), (height, width) = pooled_size(size), x.shape[2:]
    down, along = _both(_integrals, rois, x.shape, size, scale)
    left, right = _slopes(rois, 0, wide, scale, width)
    top, bottom = _slopes(rois, 1, tall, scale, height)
    sides = [(down, left), (top, along), (down, right), (bottom, along)]
    found = [np.sum(pool(x, batch, *weights) * grad, axis=(1, 2, 3)) for weights in sides]
    return np.stack(found, axis=1).astype(rois.dtype)
