"""Images: resizing, integral images, regions, encodings of positions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from noria.convert.caffe2.common import pullback
from noria.convert.caffe2.handlers import Node, caffe2_op
from noria.core.errors import ArgumentError, ShapeError
from noria.ir.opdef import vocabulary as o

MAX_SCALES = 64  # of regions: there are as many as their squares

# ---- resizing ----------------------------------------------------------------------------------


def _scales(op: Node, scales: Any, names: tuple[str, ...]) -> list[float]:
    """One factor for each of the named axes, from the input or the arguments."""
    if scales is not None:
        found = [float(v) for v in op.const(scales, "the scales").ravel()]
    else:
        found = [op.attr(f"{name}_scale", 1.0) for name in names]
    if len(found) != len(names) or not all(0 < f < math.inf for f in found):
        raise ArgumentError("scales must be positive", expected=", ".join(names), got=str(found))
    return found


def _resized(x: Any, size: int, scale: float) -> int:
    out = int(np.float32(size) * np.float32(scale))
    if out < 1:
        raise ArgumentError("nothing is left at this scale", expected=str(x), got=str(scale))
    return out


def _spatial(op: Node, x: Any, count: int) -> list[int]:
    first = 1 if op.last else 2
    if len(x.shape) != count + 2:
        raise ShapeError(f"{count} spatial axes are needed", got=str(x))
    axes = list(range(first, first + count))
    if not all(isinstance(x.shape[a], int) for a in axes):
        raise ShapeError("the size of the images must be known", got=str(x))
    return axes


def nearest(op: Node, x: Any, scales: list[float]) -> Any:
    """Each pixel is the one at floor(place / scale)."""
    for axis, scale in zip(_spatial(op, x, len(scales)), scales, strict=True):
        size = x.shape[axis]
        places = np.arange(_resized(x, size, scale), dtype=np.float32) / np.float32(scale)
        x = o.gather(x, np.minimum(places.astype(np.int64), size - 1), axis=axis)
    return x


@caffe2_op("ResizeNearest")
def resize_nearest(op, x, scales=None):
    return nearest(op, x, _scales(op, scales, ("height", "width")))


@caffe2_op("ResizeNearestGradient")
def resize_nearest_gradient(op, dy, x, scales=None):
    factors = _scales(op, scales, ("height", "width"))
    return pullback(lambda v: nearest(op, v, factors), [x], [dy], [0])[0]


@caffe2_op("ResizeNearest3D")
def resize_nearest_3d(op, x):
    return nearest(op, x, _scales(op, None, ("temporal", "height", "width")))


@caffe2_op("ResizeNearest3DGradient")
def resize_nearest_3d_gradient(op, dy, x):
    factors = _scales(op, None, ("temporal", "height", "width"))
    return pullback(lambda v: nearest(op, v, factors), [x], [dy], [0])[0]


@caffe2_op("UpsampleNearest")
def upsample_nearest(op, x):
    return _repeated(x, op.attr("scale", 2))


def _repeated(x: Any, scale: int) -> Any:
    """Every pixel of the last two axes `scale` times along both."""
    h, w = x.shape[-2:]
    lead = x.shape[:-2]
    y = o.broadcast_to(o.reshape(x, shape=(*lead, h, 1, w, 1)), shape=(*lead, h, scale, w, scale))
    return o.reshape(y, shape=(*lead, h * scale, w * scale))


@caffe2_op("UpsampleNearestGradient")
def upsample_nearest_gradient(op, x, dy):
    return pullback(lambda v: _repeated(v, op.attr("scale", 2)), [x], [dy], [0])[0]


def bilinear(op: Node, x: Any, scales: list[float]) -> Any:
    """Corners stay corners; between pixels a weighted mean of the two along each axis."""
    for axis, scale in zip(_spatial(op, x, 2), scales, strict=True):
        size = x.shape[axis]
        out = _resized(x, size, scale)
        step = np.float32((size - 1) / (out - 1) if out > 1 else 0)
        places = np.arange(out, dtype=np.float32) * step
        low = np.minimum(places.astype(np.int64), size - 1)
        weight = (places - low).astype(np.float32).reshape(out, *(1,) * (len(x.shape) - axis - 1))
        below, above = (
            o.gather(x, low, axis=axis),
            o.gather(x, np.minimum(low + 1, size - 1), axis=axis),
        )
        x = o.add(o.mul(below, 1 - weight), o.mul(above, weight))
    return x


@caffe2_op("UpsampleBilinear")
def upsample_bilinear(op, x, scales=None):
    return bilinear(op, x, _scales(op, scales, ("height", "width")))


@caffe2_op("UpsampleBilinearGradient")
def upsample_bilinear_gradient(op, dy, x, scales=None):
    factors = _scales(op, scales, ("height", "width"))
    return pullback(lambda v: bilinear(op, v, factors), [x], [dy], [0])[0]


# ---- sums of areas, regions --------------------------------------------------------------------


@caffe2_op("IntegralImage")
def integral_image(op, x):
    """Sums over all pixels above and to the left: [N, C, H, W] -> [N, C, H + 1, W + 1]."""
    sums = o.cumsum(o.cumsum(x, axis=3), axis=2)
    return o.pad(sums, pads=((0, 0), (0, 0), (1, 0), (1, 0)))


@caffe2_op("IntegralImageGradient")
def integral_image_gradient(op, x, dy):
    """As Caffe2 has it: sums over the gradients above and to the left."""
    h, w = x.shape[2:]
    g = o.slice(dy, axes=(2, 3), starts=(0, 0), stops=(h, w))
    return o.cumsum(o.cumsum(g, axis=3), axis=2)


@caffe2_op("RMACRegions")
def rmac_regions(op, x):
    """Squares at several scales, (image, x1, y1, x2, y2) each.  (Tolias et al., 2016)"""
    n, _, h, w = x.shape
    if not isinstance(h, int) or not isinstance(w, int):
        raise ShapeError("the size of the images must be known", got=str(x))
    scales = op.attr("scales", 3)
    if not 0 <= scales <= MAX_SCALES:
        raise ArgumentError("too many scales", expected=f"at most {MAX_SCALES}", got=str(scales))
    squares = _regions(h, w, scales, op.attr("overlap", 0.4)) if h and w else []
    rows = np.array(squares, np.float32).reshape(-1, 4)
    count = len(rows)
    if count == 0:
        return np.zeros((0, 5), np.float32)
    places = o.arange(stop=n * count)
    image = o.cast(o.unsqueeze(o.floor_divide(places, count), axis=1), dtype="float32")
    return o.concat(image, o.gather(rows, o.remainder(places, count)), axis=1)


def _regions(h: int, w: int, scales: int, overlap: float) -> list[tuple[int, int, int, int]]:
    small = min(h, w)
    steps = 0
    if h != w:
        gaps = [(max(h, w) - small) / k for k in range(1, 7)]
        misses = [abs(np.float32((small**2 - small * g) / small**2) - overlap) for g in gaps]
        steps = 1 + int(np.argmin(misses))
    wide, high = (steps if w > h else 0), (steps if h > w else 0)
    found = []
    for scale in range(1, scales + 1):
        side = 2 * small // (scale + 1)
        if side == 0:
            break
        columns, rows = scale + wide, scale + high
        across = (w - side) / (columns - 1) if columns > 1 else 0.0
        down = (h - side) / (rows - 1) if rows > 1 else 0.0
        for i in range(columns):
            for j in range(rows):
                x1 = min(int(across * i), w - side)
                y1 = min(int(down * j), h - side)
                found.append((x1, y1, x1 + side - 1, y1 + side - 1))
    return found


@caffe2_op("SinusoidPositionEncoding")
def sinusoid_position_encoding(op, positions):
    """[M, K] -> [M, K, size]: sines and cosines by turns, of ever longer waves; the position of a
    row is that of its first column.  (Vaswani et al., 2017)"""
    if len(positions.shape) != 2:
        raise ShapeError("positions must be a matrix", got=str(positions))
    size, alpha = op.attr("embedding_size", 100), op.attr("alpha", 10000.0)
    k = np.arange(size)
    rates = (float(alpha) ** (-k / size)).astype(np.float32)
    phases = np.where(k % 2, np.pi / 2, 0).astype(np.float32)
    first = o.cast(o.slice(positions, axes=(1,), starts=(0,), stops=(1,)), dtype="float32")
    waves = o.sin(o.add(o.mul(o.unsqueeze(first, axis=2), rates), phases))
    waves = o.mul(waves, op.attr("amplitude", 1.0))
    return o.broadcast_to(waves, shape=(*positions.shape, size))
