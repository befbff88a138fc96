"""Functions of boxes that are plain mathematics: compositions of ops, so they have gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from noria.core.dtypes import as_dtype, to_numpy
from noria.core.errors import ArgumentError, ShapeError
from noria.ir.opdef import vocabulary as o
from noria.ops.common import need_rank
from noria.ops.numeric import cast_like, spec_of

LARGEST_GROWTH = math.log(1000.0 / 16.0)  # of a side, in a logarithm: Detectron's clip
CODES = ("center_size", "corner", "corner_size")


def _columns(x: Any, count: int) -> list[Any]:
    """The last axis, of size `count`, as that many values without it."""
    if x.ndim == 0 or x.shape[-1] != count:
        raise ShapeError(f"the last axis must have {count} coordinates", got=str(spec_of(x)))
    cuts = [o.slice(x, axes=(-1,), starts=(i,), stops=(i + 1,)) for i in range(count)]
    return [o.squeeze(c, axis=(-1,)) for c in cuts]


def _stack(columns: Sequence[Any]) -> Any:
    return o.concat(*(o.unsqueeze(c, axis=(-1,)) for c in columns), axis=-1)


def _centers(boxes: Any, normalized: bool) -> tuple[Any, Any, Any, Any]:
    """(centre x, centre y, width, height), each without the last axis."""
    x1, y1, x2, y2 = _columns(boxes, 4)
    extra = 0.0 if normalized else 1.0
    width, height = o.add(o.sub(x2, x1), extra), o.add(o.sub(y2, y1), extra)
    return o.add(x1, o.mul(width, 0.5)), o.add(y1, o.mul(height, 0.5)), width, height


def _corners(x: Any, y: Any, width: Any, height: Any, less: float) -> Any:
    """Boxes [..., 4] around centres; x2 and y2 are `less` smaller than half the size would say."""
    half_w, half_h = o.mul(width, 0.5), o.mul(height, 0.5)
    right, bottom = o.add(x, half_w), o.add(y, half_h)
    if less:
        right, bottom = o.sub(right, less), o.sub(bottom, less)
    return _stack([o.sub(x, half_w), o.sub(y, half_h), right, bottom])


def box_iou(a: Any, b: Any, *, normalized: bool = True) -> Any:
    """Intersection over union [N, M] of boxes a [N, 4] and b [M, 4].

    normalized: false for pixels, whose boxes are x2 - x1 + 1 wide. Two boxes without area give NaN.
    """
    need_rank(spec_of(a), 2, what="a")
    need_rank(spec_of(b), 2, what="b")
    extra = 0.0 if normalized else 1.0
    ax1, ay1, ax2, ay2 = _columns(o.unsqueeze(a, axis=(1,)), 4)
    bx1, by1, bx2, by2 = _columns(o.unsqueeze(b, axis=(0,)), 4)

    def length(low: Any, high: Any) -> Any:
        return o.add(o.sub(high, low), extra) if extra else o.sub(high, low)

    width = o.maximum(length(o.maximum(ax1, bx1), o.minimum(ax2, bx2)), 0.0)
    height = o.maximum(length(o.maximum(ay1, by1), o.minimum(ay2, by2)), 0.0)
    common = o.mul(width, height)
    area_a = o.mul(length(ax1, ax2), length(ay1, ay2))
    area_b = o.mul(length(bx1, bx2), length(by1, by2))
    return o.div(common, o.sub(o.add(area_a, area_b), common))


# ---- boxes and deltas --------------------------------------------------------------------------


def box_encode(boxes: Any, priors: Any, variances: Any = None, *, normalized: bool = True) -> Any:
    """Deltas [N, M, 4] that lead from each prior to each box.  (Girshick et al., 2014)

    boxes: [N, 4]; priors: [M, 4]; variances: [M, 4] or [4], which the deltas are divided by.
    (dx, dy) is the way between centres in widths and heights of the prior, (dw, dh) the logarithm
    of the ratio of sizes. In pixels (not normalized) the centre of a box is (x1 + x2) / 2, that of
    a prior half a pixel farther, as Fluid has it.
    """
    px, py, pw, ph = _centers(o.unsqueeze(priors, axis=(0,)), normalized)
    x1, y1, x2, y2 = _columns(o.unsqueeze(boxes, axis=(1,)), 4)
    _, _, width, height = _centers(o.unsqueeze(boxes, axis=(1,)), normalized)
    x, y = o.mul(o.add(x1, x2), 0.5), o.mul(o.add(y1, y2), 0.5)
    deltas = _stack(
        [
            o.div(o.sub(x, px), pw),
            o.div(o.sub(y, py), ph),
            o.log(o.abs(o.div(width, pw))),
            o.log(o.abs(o.div(height, ph))),
        ]
    )
    return deltas if variances is None else o.div(deltas, cast_like(variances, deltas))


def box_decode(
    deltas: Any,
    priors: Any,
    variances: Any = None,
    *,
    normalized: bool = True,
    code: str = "center_size",
) -> Any:
    """Boxes [..., 4] that deltas [..., 4] lead to, from priors [..., 4] which broadcast.

    variances: [..., 4] or [4], which the deltas are multiplied by.
    code: "center_size" as `box_encode` has it; "corner": deltas are added to the corners;
    "corner_size": after they were multiplied by the sizes of the prior (Caffe's SSD).
    """
    if code not in CODES:
        raise ArgumentError("unknown code", expected=" or ".join(CODES), got=repr(code))
    if variances is not None:
        deltas = o.mul(deltas, cast_like(variances, deltas))
    if code == "corner":
        return o.add(priors, deltas)
    px, py, pw, ph = _centers(priors, normalized)
    if code == "corner_size":
        return o.add(priors, o.mul(deltas, _stack([pw, ph, pw, ph])))
    dx, dy, dw, dh = _columns(deltas, 4)
    x, y = o.add(o.mul(dx, pw), px), o.add(o.mul(dy, ph), py)
    width, height = o.mul(o.exp(dw), pw), o.mul(o.exp(dh), ph)
    return _corners(x, y, width, height, 0.0 if normalized else 1.0)


def box_transform(
    boxes: Any,
    deltas: Any,
    *,
    weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
    clip: float = LARGEST_GROWTH,
    legacy: bool = False,
    normalized: bool = False,
) -> Any:
    """Boxes [..., 4] after deltas [..., 4] were applied, as Detectron does it.

    weights: the deltas are divided by them; clip: the most a logarithm of growth may be.
    legacy: x2 and y2 are one pixel larger than they should be (the first Caffe2); normalized: boxes
    are not of pixels, see `noria.ops.detection`.
    """
    x, y, width, height = _centers(boxes, normalized)
    dx, dy, dw, dh = _columns(o.div(deltas, _constant(weights, deltas)), 4)
    x, y = o.add(o.mul(dx, width), x), o.add(o.mul(dy, height), y)
    width = o.mul(o.exp(o.minimum(dw, clip)), width)
    height = o.mul(o.exp(o.minimum(dh, clip)), height)
    return _corners(x, y, width, height, 0.0 if legacy or normalized else 1.0)


def rotated_box_transform(
    boxes: Any,
    deltas: Any,
    *,
    weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
    clip: float = LARGEST_GROWTH,
    bounds: tuple[float, float] | None = (-90.0, 90.0),
) -> Any:
    """Rotated boxes [..., 5] after deltas [..., 5] were applied; the last is an angle in radians.

    bounds: angles outside are moved into them by one period.  (Ma et al., 2018)
    """
    x, y, width, height, angle = _columns(boxes, 5)
    dx, dy, dw, dh, da = _columns(o.div(deltas, _constant((*weights, 1.0), deltas)), 5)
    angle = o.add(angle, o.mul(da, 180.0 / math.pi))
    if bounds is not None:
        low, high = bounds
        if high <= low or (high - low) % 180:
            raise ArgumentError("bounds must be half turns apart", got=repr(bounds))
        below, above = o.less(angle, low), o.greater(angle, high)
        angle = o.where(
            below, o.add(angle, high - low), o.where(above, o.sub(angle, high - low), angle)
        )
    return _stack(
        [
            o.add(o.mul(dx, width), x),
            o.add(o.mul(dy, height), y),
            o.mul(o.exp(o.minimum(dw, clip)), width),
            o.mul(o.exp(o.minimum(dh, clip)), height),
            angle,
        ]
    )


def _constant(numbers: Sequence[float], like: Any) -> np.ndarray:
    """A vector of numbers in the dtype of `like`."""
    return np.asarray(numbers, to_numpy(as_dtype(like.dtype)))


def box_clip(boxes: Any, right: Any, bottom: Any) -> Any:
    """Boxes [..., 4] with x kept in [0, right] and y in [0, bottom], which broadcast to [...]."""
    x1, y1, x2, y2 = _columns(boxes, 4)

    def kept(value: Any, limit: Any) -> Any:
        return o.maximum(o.minimum(value, limit), 0.0)

    return _stack([kept(x1, right), kept(y1, bottom), kept(x2, right), kept(y2, bottom)])


def rotated_box_clip(boxes: Any, right: Any, bottom: Any, *, within: float = 1.0) -> Any:
    """Rotated pixel boxes [..., 5]; those not turned by more than `within` degrees are clipped.

    There is no one way to clip a rotated box: others stay as they are.
    """
    x, y, width, height, angle = _columns(boxes, 5)
    half_w, half_h = o.mul(o.sub(width, 1.0), 0.5), o.mul(o.sub(height, 1.0), 0.5)
    corners = _stack([o.sub(x, half_w), o.sub(y, half_h), o.add(x, half_w), o.add(y, half_h)])
    x1, y1, x2, y2 = _columns(box_clip(corners, right, bottom), 4)
    sizes = [o.add(o.sub(x2, x1), 1.0), o.add(o.sub(y2, y1), 1.0)]
    clipped = _stack([o.mul(o.add(x1, x2), 0.5), o.mul(o.add(y1, y2), 0.5), *sizes, angle])
    upright = o.less_equal(o.abs(angle), within)
    return o.where(o.unsqueeze(upright, axis=(-1,)), clipped, boxes)


def polygon_from_offsets(offsets: Any, *, stride: float = 4.0) -> Any:
    """Coordinates of corners from offsets to them [N, 2 K, H, W]: x and y in turn (EAST, 2017).

    A channel of x becomes stride * column - offset, one of y stride * row - offset.
    """
    need_rank(spec_of(offsets), 4, what="offsets")
    _, channels, height, width = offsets.shape
    if not isinstance(channels, int) or channels % 2:
        raise ShapeError("offsets must have an even number of channels", got=str(offsets.shape))
    columns = o.mul(o.cast(o.arange(stop=width), dtype="float32"), stride)
    rows = o.mul(o.cast(o.arange(stop=height), dtype="float32"), stride)
    rows = o.reshape(rows, shape=(height, 1))
    x = o.broadcast_to(columns, shape=(1, height, width))
    y = o.broadcast_to(rows, shape=(1, height, width))
    places = o.tile(o.concat(x, y, axis=0), repeats=(channels // 2, 1, 1))
    return o.sub(cast_like(places, offsets), offsets)
