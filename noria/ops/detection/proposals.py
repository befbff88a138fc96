"""Regions that a first stage proposes for a second one.  (Ren et al., Faster R-CNN, 2015;
Lin et al., Feature Pyramid Networks, 2017)

Sizes and packed lists are as in `nms`; an image is described by (height, width, scale), scale being
how much larger it is than the original.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from noria.core.errors import ShapeError
from noria.ir.opdef import op
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Spec
from noria.ops.common import need_float, need_rank, require_equal
from noria.ops.detection.boxes import (
    box_clip,
    box_transform,
    rotated_box_clip,
    rotated_box_transform,
)
from noria.ops.detection.geometry import need_columns, numpy_only
from noria.ops.detection.suppression import (
    best_first,
    greedy,
    joined,
    new_symbol,
    overlap_of,
    splits_of,
)
from noria.ops.numeric import spec_of

# ---- anchors and deltas become regions ---------------------------------------------------------


@op(outputs=("rois", "scores", "row_splits"))
def generate_proposals(
    scores,
    deltas,
    image_info,
    anchors,
    variances=None,
    *,
    size,
    pre_limit=6000,
    post_limit=1000,
    iou_threshold=0.7,
    min_size=16.0,
    eta=1.0,
    stride=None,
    scaled_sizes=False,
    legacy=False,
    at_least_one=False,
    normalized=False,
    bounds=(-90.0, 90.0),
    within=1.0,
):
    """Regions [size, D], scores [size] and row_splits [N + 1] that a network proposes, best first.

    scores: [N, A, H, W]; deltas: [N, A D, H, W], D 4 or, of rotated boxes, 5; image_info: [N, 3];
    anchors: [H, W, A, D], or [A, D] that are moved by `stride` from position to position;
    variances: of the shape of anchors, which deltas are multiplied by.
    The pre_limit best (0: all) become boxes, as in `box_transform` (legacy, normalized: too) or
    `rotated_box_transform` (bounds), clipped to the image, as in `rotated_box_clip` (within).
    Those stay whose sides are not below min_size: at the scale of the image, or, with scaled_sizes,
    of the original, and then 1 at least. Then suppression as in `nms` (none if iou_threshold is 0
    or less), and the post_limit best (0: all).
    at_least_one: an image without any has one of zeros.
    """
    need_float(scores, deltas, image_info, anchors, variances)
    need_rank(scores, 4, what="scores")
    need_rank(deltas, 4, what="deltas")
    need_columns(image_info, 3, "image_info")
    need_rank(anchors, 4 if stride is None else 2, what="anchors")
    width = anchors.shape[-1]
    if width not in (4, 5):
        raise ShapeError("an anchor has 4 or 5 coordinates", got=str(anchors))
    require_equal(anchors.shape[-2], scores.shape[1], "numbers of anchors")
    require_equal(deltas.shape[1], scores.shape[1] * width, "channels of deltas")
    for value in (deltas, image_info):
        require_equal(value.shape[0], scores.shape[0], "numbers of images")
    for axis in (2, 3):
        require_equal(deltas.shape[axis], scores.shape[axis], "positions")
    if stride is None:
        for axis in (0, 1):
            require_equal(anchors.shape[axis], scores.shape[axis + 2], "positions")
    found = new_symbol(size)
    splits = Spec((scores.shape[0] + 1,), "int64")
    return Spec((found, width), deltas.dtype), Spec((found,), scores.dtype), splits


def _all_anchors(anchors: np.ndarray, height: int, width: int, stride: float | None) -> np.ndarray:
    """[H W A, D]"""
    if stride is None:
        return anchors.reshape(-1, anchors.shape[-1])
    move = np.zeros((height, width, 1, anchors.shape[-1]), anchors.dtype)
    for i in (0, 1) if anchors.shape[-1] == 5 else (0, 1, 2, 3):
        along = np.arange(width)[None] if i % 2 == 0 else np.arange(height)[:, None]
        move[..., 0, i] = along * stride
    return (anchors + move).reshape(-1, anchors.shape[-1])


def _regions(anchors: Any, deltas: Any, info: Any, how: Any) -> tuple[np.ndarray, np.ndarray]:
    """(regions clipped to the image, which of them are large enough and inside)."""
    height, width, scale = (info.dtype.type(v) for v in info)
    extra = info.dtype.type(0 if how["normalized"] else 1)
    right, bottom = width - extra, height - extra
    least = max(how["min_size"], 1.0) if how["scaled_sizes"] else how["min_size"] * scale
    if anchors.shape[1] == 5:
        moved = rotated_box_transform(anchors, deltas, bounds=how["bounds"])
        boxes = rotated_box_clip(moved, right, bottom, within=how["within"])
        center, sides = boxes[:, :2], boxes[:, 2:4]
    else:
        moved = box_transform(anchors, deltas, legacy=how["legacy"], normalized=how["normalized"])
        boxes = box_clip(moved, right, bottom)
        sides = boxes[:, 2:] - boxes[:, :2] + extra
        center = boxes[:, :2] + sides / 2
        if how["scaled_sizes"]:
            sides = (boxes[:, 2:] - boxes[:, :2]) / scale + extra
    fits = (sides >= least).all(1) & (center[:, 0] < width) & (center[:, 1] < height)
    return boxes, fits


def _propose(scores: Any, deltas: Any, info: Any, anchors: Any, variances: Any, how: Any) -> Any:
    """(regions, scores) of one image; scores [H W A], deltas and anchors [H W A, D]."""
    order = best_first(scores, np.arange(len(scores)), how["pre_limit"] or -1)
    moved = deltas[order] if variances is None else deltas[order] * variances[order]
    boxes, fits = _regions(anchors[order], moved, info, how)
    boxes, best = boxes[fits], scores[order][fits]
    if not len(boxes) and how["at_least_one"]:
        return np.zeros((1, anchors.shape[1]), boxes.dtype), np.zeros(1, best.dtype)
    if how["iou_threshold"] <= 0:
        return boxes, best
    overlap = overlap_of(boxes.shape[1], how["normalized"], touching=True)
    limit = how["post_limit"] if how["post_limit"] > 0 else -1
    kept = greedy(
        boxes, np.arange(len(boxes)), how["iou_threshold"], overlap, eta=how["eta"], limit=limit
    )
    return boxes[kept], best[kept]


@generate_proposals.compute
def _(xp, scores, deltas, image_info, anchors, variances, size, stride, **how):
    numpy_only(xp, "generate_proposals")
    width = anchors.shape[-1]
    height, across = scores.shape[2:]
    shapes = _all_anchors(anchors, height, across, stride)
    factors = None if variances is None else variances.reshape(-1, width)
    rows, values = [], []
    for own, change, info in zip(scores, deltas, image_info, strict=True):
        line = own.transpose(1, 2, 0).reshape(-1)
        moves = change.transpose(1, 2, 0).reshape(-1, width)
        boxes, best = _propose(line, moves, info, shapes, factors, how)
        rows.append(boxes)
        values.append(best)
    packed = joined(rows, (width,), deltas.dtype), joined(values, (), scores.dtype)
    return *packed, splits_of([len(r) for r in rows])


def transform_rois(
    rois: Any,
    deltas: Any,
    image_info: Any,
    *,
    weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
    apply_scale: bool = True,
    legacy: bool = False,
    normalized: bool = False,
    rotated: bool = False,
    bounds: tuple[float, float] | None = (-90.0, 90.0),
    within: float = 1.0,
) -> tuple[Any, Any]:
    """(boxes [R, K D], float32 how many of each image [N]) after deltas [R, K D] for K classes.

    rois: [R, D] of one image, or [R, 1 + D] with the number of the image first; D is 4 or, with
    `rotated`, 5; image_info: [N, 3]. Regions are brought to the original size first, boxes are
    clipped to the original image, and, with apply_scale, brought back. weights, legacy and
    normalized: as in `box_transform`; bounds: as in `rotated_box_transform`; within: as in
    `rotated_box_clip`.
    """
    width = 5 if rotated else 4
    need_rank(spec_of(rois), 2, what="rois")
    columns, total = rois.shape[1], deltas.shape[1]
    if columns not in (width, width + 1) or not isinstance(total, int) or total % width:
        raise ShapeError(
            f"regions and deltas of {width} coordinates are needed",
            got=f"{rois.shape} and {deltas.shape}",
        )
    images, count = image_info.shape[0], rois.shape[0]
    if columns == width:
        require_equal(images, 1, "images of regions without a number")
        ids = o.fill(shape=(count,), value=0, dtype="int64")
    else:
        first = o.slice(rois, axes=(1,), starts=(0,), stops=(1,))
        ids = o.cast(o.squeeze(first, axis=(1,)), dtype="int64")
        rois = o.slice(rois, axes=(1,), starts=(1,), stops=(None,))
    info = o.gather(image_info, ids)  # [R, 3]
    height, across, scale = (
        o.slice(info, axes=(1,), starts=(i,), stops=(i + 1,)) for i in range(3)
    )
    corners = o.div(o.slice(rois, axes=(1,), starts=(0,), stops=(4,)), scale)
    if rotated:
        angle = o.slice(rois, axes=(1,), starts=(4,), stops=(5,))
        corners = o.concat(corners, angle, axis=1)
    boxes = o.unsqueeze(corners, axis=(1,))  # [R, 1, D]
    moves = o.reshape(deltas, shape=(count, total // width, width))
    extra = 0.0 if normalized else 1.0
    right = o.sub(o.floor(o.add(o.div(across, scale), 0.5)), extra)
    bottom = o.sub(o.floor(o.add(o.div(height, scale), 0.5)), extra)
    if rotated:
        moved = rotated_box_transform(boxes, moves, weights=weights, bounds=bounds)
        out = rotated_box_clip(moved, right, bottom, within=within)
    else:
        how: dict[str, Any] = {"weights": weights, "legacy": legacy, "normalized": normalized}
        out = box_clip(box_transform(boxes, moves, **how), right, bottom)
    if apply_scale:
        factors = [scale] * 4
        if rotated:
            factors.append(o.div(scale, scale))
        out = o.mul(out, o.unsqueeze(o.concat(*factors, axis=1), axis=(1,)))
    own = o.equal(o.unsqueeze(ids, axis=(1,)), o.arange(stop=images))
    counts = o.reduce_sum(o.cast(own, dtype="float32"), axis=0)
    return o.reshape(out, shape=(count, total)), counts


def box_assign(decoded: Any, scores: Any, priors: Any) -> Any:
    """Of boxes [R, C 4] for C classes the one [4] of the class with the best score [R, C].

    The first class, the background, is left out; if there is no other: the prior [R, 4].
    """
    rows, classes = scores.shape
    if isinstance(classes, int) and classes < 2:
        return priors
    boxes = o.reshape(decoded, shape=(rows, classes, 4))
    best = o.argmax(o.slice(scores, axes=(1,), starts=(1,), stops=(None,)), axis=1)
    at = o.reshape(o.add(best, 1), shape=(rows, 1, 1))
    at = o.broadcast_to(at, shape=(rows, 1, 4))
    return o.squeeze(o.take_along_axis(boxes, at, axis=1), axis=(1,))
