"""Regions that a first stage proposes for a second one.  (Ren et al., Faster R-CNN, 2015;
Lin et al., Feature Pyramid Networks, 2017)

Sizes and packed lists are as in `nms`; an image is described by (height, width, scale), scale being
how much larger it is than the original.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from noria.core.errors import ArgumentError, ShapeError
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
from noria.ops.detection.geometry import box_areas, numpy_only
from noria.ops.detection.suppression import (
    best_first,
    greedy,
    joined,
    new_symbol,
    overlap_of,
    splits_of,
)
from noria.ops.numeric import spec_of
from noria.ops.packed import checked_splits, row_count

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
    need_rank(image_info, 2, what="image_info")
    need_rank(anchors, 4 if stride is None else 2, what="anchors")
    width = anchors.shape[-1]
    if width not in (4, 5):
        raise ShapeError("an anchor has 4 or 5 coordinates", got=str(anchors))
    require_equal(anchors.shape[-2], scores.shape[1], "numbers of anchors")
    require_equal(deltas.shape[1], scores.shape[1] * width, "channels of deltas")
    require_equal(image_info.shape[0], scores.shape[0], "numbers of images")
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


# ---- levels of a pyramid -----------------------------------------------------------------------


@op
def best_rows(scores, *, limit, size):
    """Ids int64 [size] of the `limit` best (0: all) of scores [N], best first; ties in order."""
    need_rank(scores, 1, what="scores")
    if not isinstance(limit, int) or limit < 0:
        raise ArgumentError("limit must be an integer, 0 or more", got=repr(limit))
    return Spec((new_symbol(size),), "int64")


@best_rows.compute
def _(xp, scores, limit, size):
    numpy_only(xp, "best_rows")
    return best_first(scores, np.arange(len(scores)), limit or -1)


def collect_proposals(
    rois: Sequence[Any],
    scores: Sequence[Any],
    splits: Sequence[Any] | None = None,
    *,
    limit: int,
    size: str,
) -> Any:
    """The best regions of all levels: [size, D], or with their row_splits [N + 1].

    rois: of each level [R, D]; scores: [R]; splits: row_splits of each level, then the best of all
    images come image by image. Without splits they come best first.
    """
    every = o.concat(*rois, axis=0) if len(rois) > 1 else rois[0]
    values = o.concat(*scores, axis=0) if len(scores) > 1 else scores[0]
    chosen = o.best_rows(values, limit=limit, size=size)
    if splits is None:
        return o.gather(every, chosen)
    parts = [o.sequence_ids(s, total=r.shape[0]) for r, s in zip(rois, splits, strict=True)]
    images = o.gather(o.concat(*parts, axis=0) if len(parts) > 1 else parts[0], chosen)
    order = o.argsort(images)
    count = splits[0].shape[0] - 1
    own = o.equal(o.unsqueeze(images, axis=(1,)), o.arange(stop=count))
    ends = o.cumsum(o.reduce_sum(o.cast(own, dtype="int64"), axis=0), axis=0)
    start = o.fill(shape=(1,), value=0, dtype="int64")
    return o.gather(every, o.gather(chosen, order)), o.concat(start, ends, axis=0)


@op(outputs=("restore",))
def distribute_proposals(
    rois, row_splits=None, *, sizes, low, high, level=4, scale=224.0, tiny=0.0, first=0
):
    """Regions by the level of the pyramid they belong to, and where each went.

    rois: [R, D], the first of 4 coordinates of pixels at column `first`; row_splits: [N + 1].
    A region of area a belongs to level floor(level + log2(sqrt(a) / scale + tiny)), kept in
    [low, high]. sizes: names of new symbols, for how many there are on each of high - low + 1
    levels. Results: restore int64 [R], the place of each region among those of all levels, each
    level behind the one before; the regions of each level [size, D]; with row_splits those of each
    level, too.
    """
    need_float(rois)
    need_rank(rois, 2, what="rois")
    if not isinstance(sizes, Sequence) or len(sizes) != high - low + 1:
        raise ArgumentError("one size for each level", got=f"{sizes} for {low} to {high}")
    columns = rois.shape[1]
    if not isinstance(columns, int) or columns < first + 4:
        raise ShapeError("a region has 4 coordinates", got=str(rois))
    levels = [Spec((new_symbol(s, "sizes"), columns), rois.dtype) for s in sizes]
    out = [Spec((rois.shape[0],), "int64"), *levels]
    if row_splits is not None:
        out += [Spec((row_count(row_splits) + 1,), "int64")] * len(levels)
    return out


@distribute_proposals.compute
def _(xp, rois, row_splits, sizes, low, high, level, scale, tiny, first):
    numpy_only(xp, "distribute_proposals")
    side = np.sqrt(box_areas(rois[:, first : first + 4], False))
    with np.errstate(divide="ignore"):
        target = np.floor(np.log2(side / rois.dtype.type(scale) + rois.dtype.type(tiny)) + level)
    target = np.clip(np.nan_to_num(target, nan=low), low, high).astype(np.int64)
    order = np.argsort(target, kind="stable")
    restore = np.empty(len(order), np.int64)
    restore[order] = np.arange(len(order))
    levels = [rois[target == k] for k in range(low, high + 1)]
    if row_splits is None:
        return restore, *levels
    splits = checked_splits(np, row_splits, len(rois))
    before = [np.concatenate([[0], np.cumsum(target == k)])[splits] for k in range(low, high + 1)]
    return restore, *levels, *before


# ---- keypoints ---------------------------------------------------------------------------------


@op
def heatmap_keypoints(heatmaps, boxes, *, softmax=False):
    """Keypoints [R, 4, K]: x, y, score and probability of the peak of each heat map.

    (He et al., Mask R-CNN, 2017)  heatmaps: [R, K, S, S], at least 2 wide, over boxes [R, 4 or
    more] of pixels. The peak is moved and its height corrected by a quadratic through its
    neighbours, by at most 1.5 places; softmax: whether the probability is computed, else it is 0.
    """
    need_float(heatmaps, boxes)
    need_rank(heatmaps, 4, what="heatmaps")
    need_rank(boxes, 2, what="boxes")
    require_equal(heatmaps.shape[0], boxes.shape[0], "numbers of regions")
    require_equal(heatmaps.shape[2], heatmaps.shape[3], "sides of heat maps")
    if heatmaps.shape[2] in (0, 1) or boxes.shape[1] in (0, 1, 2, 3):
        raise ShapeError("heat maps of 2 x 2 and boxes of 4", got=f"{heatmaps} and {boxes}")
    return Spec((heatmaps.shape[0], 4, heatmaps.shape[1]), heatmaps.dtype)


@heatmap_keypoints.compute
def _(xp, heatmaps, boxes, softmax):
    regions, points, size, _ = heatmaps.shape
    flat = heatmaps.reshape(regions, points, size * size)
    peak = xp.argmax(flat, axis=2)
    row, column = peak // size, peak % size
    r, k = xp.arange(regions)[:, None], xp.arange(points)[None]

    def near(dy: int, dx: int) -> Any:  # mirrored at the edge
        y, x = row + dy, column + dx
        y = xp.where(y < 0, row + 1, xp.where(y >= size, row - 1, y))
        x = xp.where(x < 0, column + 1, xp.where(x >= size, column - 1, x))
        return heatmaps[r, k, y, x]

    f = {(dy, dx): near(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)}
    bx, by = (f[0, -1] - f[0, 1]) / 2, (f[-1, 0] - f[1, 0]) / 2
    xx = f[0, -1] - 2 * f[0, 0] + f[0, 1]
    yy = f[-1, 0] - 2 * f[0, 0] + f[1, 0]
    xy = (f[1, 1] - f[1, -1] - f[-1, 1] + f[-1, -1]) / 4
    det = xx * yy - xy * xy
    flat_top = xp.abs(det) < 1e-4
    safe = xp.where(flat_top, 1, det)
    dx = xp.where(flat_top, 0, (yy * bx - xy * by) / safe)
    dy = xp.where(flat_top, 0, (xx * by - xy * bx) / safe)
    largest = xp.maximum(xp.abs(dx), xp.abs(dy))
    shrink = xp.where(largest > 1.5, 1.5 / xp.where(largest > 1.5, largest, 1), 1)
    dx, dy = dx * shrink, dy * shrink
    rise = -(bx * dx + by * dy) + (xx * dx * dx + 2 * xy * dx * dy + yy * dy * dy) / 2
    wide = xp.maximum(boxes[:, 2] - boxes[:, 0], 1)[:, None]
    tall = xp.maximum(boxes[:, 3] - boxes[:, 1], 1)[:, None]
    x = boxes[:, 0:1] + (0.5 + column + dx) * wide / size
    y = boxes[:, 1:2] + (0.5 + row + dy) * tall / size
    top = xp.max(flat, axis=2)
    if softmax:
        chance = 1 / xp.sum(xp.exp(flat - top[..., None]), axis=2)
    else:
        chance = xp.zeros_like(top)
    return xp.stack([x, y, f[0, 0] + rise, chance], axis=1).astype(heatmaps.dtype)
