"""Pooling of upright regions of a feature map into a given size.

x: [N, C, H, W]; rois: [R, 4], boxes in coordinates of the image, which `scale` leads to those of
the feature map; batch: integers [R], the image each region is of; size: (PH, PW). The result is
[R, C, PH, PW]. Regions have no gradient but where told. XLA cannot compile these ops.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from noria.core.errors import ArgumentError
from noria.ir.opdef import op
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Spec
from noria.ops.common import need_float, require_same_shape
from noria.ops.detection.geometry import numpy_only
from noria.ops.detection.windows import (
    finite_regions,
    image_ids,
    linear_taps,
    need_regions,
    pool,
    pooled_size,
    round_away,
    sample_counts,
    sampled_weights,
    unpool,
)
from noria.ops.numeric import in_float32

MODES = ("avg", "max")


def _spans(rois: Any, scale: float, aligned: bool) -> list[tuple[np.ndarray, np.ndarray]]:
    """(start, length) of regions on the feature map, vertically and horizontally."""
    edges = finite_regions(rois) * scale - (0.5 if aligned else 0.0)
    spans = []
    for low, high in ((1, 3), (0, 2)):
        length = edges[:, high] - edges[:, low]
        spans.append((edges[:, low], length if aligned else np.maximum(length, 1.0)))
    return spans


def _weights(
    rois: Any, height: int, width: int, *, size: Any, scale: float, samples: int, aligned: bool
) -> tuple[np.ndarray, np.ndarray]:
    spans = _spans(rois, scale, aligned)
    weights = []
    for (start, length), pooled, full in zip(
        spans, pooled_size(size), (height, width), strict=True
    ):
        counts = sample_counts(length, pooled, samples)
        weights.append(sampled_weights(start, length, pooled, counts, full))
    return weights[0], weights[1]


@op
def roi_align(x, rois, batch, *, size, scale=1.0, samples=0, aligned=False, mode="avg"):
    """The mean of linear interpolations in each bin of each region.  (He et al., Mask R-CNN, 2017)

    samples: places along each axis of a bin, 0 for one a pixel; aligned: pixels have their centre
    at half coordinates, and regions may be smaller than a pixel, which they are widened to if not.
    A place farther than one pixel outside counts as 0.
    mode "max": the largest product of an element and its weight of an interpolation (ONNX).
    """
    need_regions(x, rois, batch, 4)
    if mode not in MODES:
        raise ArgumentError("unknown mode", expected="'avg' or 'max'", got=repr(mode))
    return Spec((rois.shape[0], x.shape[1], *pooled_size(size)), x.dtype)


@roi_align.compute
@in_float32
def _(xp, x, rois, batch, mode, **how):
    numpy_only(xp, "roi_align")
    batch = image_ids(batch, len(x))
    if mode == "avg":
        return pool(x, batch, *_weights(rois, x.shape[2], x.shape[3], **how))
    best = None
    for product, _, _ in _products(x, rois, batch, **how):
        best = product if best is None else np.maximum(best, product)
    shape = (len(rois), x.shape[1], *pooled_size(how["size"]))
    return np.zeros(shape, x.dtype) if best is None else best


@roi_align.grad
def _(x, rois, batch, out, g, size, scale, samples, aligned, mode):
    how = {"size": size, "scale": scale, "samples": samples, "aligned": aligned}
    if mode == "max":
        return o.roi_align_max_grad(x, rois, batch, out, g, **how), None, None
    return o.roi_align_grad(g, rois, batch, shape=x.shape, **how), None, None


@op
def roi_align_grad(grad, rois, batch, *, shape, size, scale=1.0, samples=0, aligned=False):
    """Gradient of `roi_align` of means in x, which has that shape, from the one of its result."""
    x = Spec(shape, grad.dtype)
    need_regions(x, rois, batch, 4)
    pooled = Spec((rois.shape[0], x.shape[1], *pooled_size(size)), grad.dtype)
    require_same_shape(pooled, grad, "grad")
    return x


@roi_align_grad.compute
@in_float32
def _(xp, grad, rois, batch, shape, **how):
    numpy_only(xp, "roi_align_grad")
    batch = image_ids(batch, shape[0])
    rows, columns = _weights(rois, shape[2], shape[3], **how)
    return unpool(grad, batch, rows, columns, shape)


@roi_align_grad.grad
def _(rois, batch, g, size, scale, samples, aligned):
    how = {"size": size, "scale": scale, "samples": samples, "aligned": aligned}
    return o.roi_align(g, rois, batch, **how), None, None


def _products(
    x: Any, rois: Any, batch: Any, *, size: Any, scale: float, samples: int, aligned: bool
) -> Iterator[tuple[np.ndarray, Any, np.ndarray]]:
    """(element * weight [R, C, PH, PW], where it is in x, weight) of all that bins sample."""
    (top, tall), (left, wide) = _spans(rois, scale, aligned)
    rows, columns = pooled_size(size)
    down, along = sample_counts(tall, rows, samples), sample_counts(wide, columns, samples)
    image = batch[:, None, None, None]
    channel = np.arange(x.shape[1])[None, :, None, None]
    for i, j in np.ndindex(int(down.max(initial=0)), int(along.max(initial=0))):
        y = top[:, None] + (np.arange(rows) + (i + 0.5) / down[:, None]) * (tall / rows)[:, None]
        z = (
            left[:, None]
            + (np.arange(columns) + (j + 0.5) / along[:, None]) * (wide / columns)[:, None]
        )
        taken = ((i < down) & (j < along))[:, None, None, None]
        inside = _reached(y, x.shape[2])[:, :, None] & _reached(z, x.shape[3])[:, None]
        for row, down_weight in linear_taps(y, x.shape[2]):
            for column, along_weight in linear_taps(z, x.shape[3]):
                at = image, channel, row[:, None, :, None], column[:, None, None]
                weight = (down_weight[:, :, None] * along_weight[:, None] * inside)[:, None]
                weight = weight.astype(x.dtype)
                product = np.where(taken, x[at] * weight, -np.inf).astype(x.dtype)
                yield product, at, weight


def _reached(place: np.ndarray, size: int) -> np.ndarray:
    return (place >= -1) & (place <= size)


@op
def roi_align_max_grad(x, rois, batch, out, grad, *, size, scale=1.0, samples=0, aligned=False):
    """Gradient of `roi_align` of maxima in x: to the first element that gave the largest."""
    need_regions(x, rois, batch, 4)
    pooled = Spec((rois.shape[0], x.shape[1], *pooled_size(size)), x.dtype)
    require_same_shape(pooled, out, "out")
    require_same_shape(pooled, grad, "grad")
    return x


@roi_align_max_grad.compute
@in_float32
def _(xp, x, rois, batch, out, grad, **how):
    numpy_only(xp, "roi_align_max_grad")
    total = np.zeros(x.shape, grad.dtype)
    found = np.zeros(out.shape, bool)
    for product, at, weight in _products(x, rois, image_ids(batch, len(x)), **how):
        hit = (product == out) & ~found
        found |= hit
        np.add.at(total, at, np.where(hit, grad * weight, 0))
    return total.astype(x.dtype)


# ---- the largest of whole pixels ---------------------------------------------------------------


@op(outputs=("out", "argmax"))
def roi_pool(x, rois, batch, *, size, scale=1.0):
    """(largest element [R, C, PH, PW], where: int64, row * W + column) of each bin of each region.

    (Girshick, Fast R-CNN, 2015)  Corners are rounded to whole pixels, x2 and y2 included, and bins
    to those they touch. An empty bin gives 0, at -1.
    """
    need_regions(x, rois, batch, 4)
    shape = (rois.shape[0], x.shape[1], *pooled_size(size))
    return Spec(shape, x.dtype), Spec(shape, "int64")


def _bounds(low: np.ndarray, high: np.ndarray, pooled: int, size: int) -> tuple[Any, Any]:
    """(first, behind the last) pixel [R, pooled] of bins of regions between two pixels."""
    # Single precision decides, where a bin ends on a pixel, as in the frameworks.
    step = np.maximum(high - low + 1, 1).astype(np.float32) / np.float32(pooled)
    part = np.arange(pooled, dtype=np.float32)
    first = np.floor(part * step[:, None]) + low[:, None]
    end = np.ceil((part + 1) * step[:, None]) + low[:, None]
    return tuple(np.clip(edge, 0, size).astype(np.int64) for edge in (first, end))


@roi_pool.compute
def _(xp, x, rois, batch, size, scale):
    numpy_only(xp, "roi_pool")
    batch = image_ids(batch, len(x))
    rows, columns = pooled_size(size)
    edges = round_away(finite_regions(rois) * scale)
    tops, bottoms = _bounds(edges[:, 1], edges[:, 3], rows, x.shape[2])
    lefts, rights = _bounds(edges[:, 0], edges[:, 2], columns, x.shape[3])
    out = np.zeros((len(rois), x.shape[1], rows, columns), x.dtype)
    argmax = np.full(out.shape, -1, np.int64)
    for r, image in enumerate(batch):
        _pool_region(x[image], tops[r], bottoms[r], lefts[r], rights[r], out[r], argmax[r])
    return out, argmax


def _pool_region(
    x: np.ndarray,
    tops: np.ndarray,
    bottoms: np.ndarray,
    lefts: np.ndarray,
    rights: np.ndarray,
    out: np.ndarray,
    argmax: np.ndarray,
) -> None:
    """Bins of one region of x [C, H, W], first along rows of pixels, then down."""
    above = tops.min()
    seen = x[:, above : bottoms.max()]
    for q, (left, right) in enumerate(zip(lefts, rights, strict=True)):
        if left >= right:
            continue
        places = seen[:, :, left:right].argmax(2)
        line = np.take_along_axis(seen, (places + left)[..., None], axis=2)[..., 0]  # [C, rows]
        for p, (top, bottom) in enumerate(zip(tops - above, bottoms - above, strict=True)):
            if top >= bottom:
                continue
            row = line[:, top:bottom].argmax(1)[:, None] + top
            out[:, p, q] = np.take_along_axis(line, row, axis=1)[:, 0]
            column = np.take_along_axis(places, row, axis=1)[:, 0] + left
            argmax[:, p, q] = (row[:, 0] + above) * x.shape[2] + column


@roi_pool.grad
def _(x, batch, argmax, g_out):
    return o.roi_pool_grad(g_out, argmax, batch, shape=x.shape), None, None


@op
def roi_pool_grad(grad, argmax, batch, *, shape):
    """Gradient of `roi_pool` in x, which has that shape, from the one of its result."""
    need_float(grad)
    require_same_shape(grad, argmax, "argmax")
    return Spec(shape, grad.dtype)


@roi_pool_grad.compute
@in_float32
def _(xp, grad, argmax, batch, shape):
    numpy_only(xp, "roi_pool_grad")
    image, channel = image_ids(batch, shape[0])[:, None, None, None], np.arange(shape[1])
    total = np.zeros((shape[0], shape[1], shape[2] * shape[3]), grad.dtype)
    if total.size:
        at = image, channel[None, :, None, None], np.clip(argmax, 0, total.shape[2] - 1)
        np.add.at(total, at, np.where(argmax >= 0, grad, 0))
    return total.reshape(shape)
