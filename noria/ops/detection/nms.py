"""Suppression of boxes that overlap better ones.

How many are left only the data tell: `size` is the name of a new symbol for it, and XLA cannot
compile these ops. Lists of several images are packed, with row_splits [N + 1] as in `sequence`.
Boxes are [x1, y1, x2, y2]; see `noria.ops.detection` for `normalized`.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from noria.core.dims import product
from noria.core.errors import ArgumentError, ShapeError
from noria.ir.opdef import op
from noria.ir.program import Spec
from noria.ops.common import need_float, need_integer, need_rank, require_equal
from noria.ops.detection.geometry import common_area, numpy_only
from noria.ops.detection.suppression import (
    POLYGONS,
    best_first,
    best_of_all,
    greedy,
    joined,
    new_symbol,
    overlap_of,
    splits_of,
)
from noria.ops.packed import checked_splits, row_count


def _need_width(boxes: Spec, *widths: int) -> int:
    width = boxes.shape[-1]
    if width not in widths:
        raise ShapeError(
            "boxes have as many coordinates as",
            expected=" or ".join(map(str, widths)),
            got=str(boxes),
        )
    return int(width)


@op
def nms(
    boxes,
    scores,
    *,
    size,
    iou_threshold=0.5,
    score_threshold=None,
    limit=-1,
    eta=1.0,
    normalized=True,
):
    """Ids int64 [size], best first, of the boxes that overlap no better one by more than a bound.

    boxes: [N, 4], or rotated [N, 5]; scores: [N]; of equal scores the first box is better.
    score_threshold: only scores above it take part; limit: how many stay at most, -1 for all; eta:
    below 1, multiplies the threshold after each box that stays, while it is above 0.5.
    """
    need_float(boxes, scores)
    need_rank(boxes, 2, what="boxes")
    need_rank(scores, 1, what="scores")
    _need_width(boxes, 4, 5)
    require_equal(boxes.shape[0], scores.shape[0], "numbers of boxes and of scores")
    return Spec((new_symbol(size),), "int64")


@nms.compute
def _(xp, boxes, scores, size, iou_threshold, score_threshold, limit, eta, normalized):
    numpy_only(xp, "nms")
    chosen = np.arange(len(scores))
    if score_threshold is not None:
        chosen = chosen[scores > scores.dtype.type(score_threshold)]
    overlap = overlap_of(boxes.shape[1], normalized, touching=True)
    order = best_first(scores, chosen)
    return greedy(boxes, order, iou_threshold, overlap, eta=eta, limit=limit)


# ---- all classes of all images -----------------------------------------------------------------


@op
def non_max_suppression(
    boxes,
    scores,
    limit=None,
    iou_threshold=None,
    score_threshold=None,
    *,
    size,
    centers=False,
):
    """(image, class, box) int64 [size, 3] of what `nms` leaves of each class of each image.

    boxes: [N, M, 4], two opposite corners [y1, x1, y2, x2] in any order, or with `centers`
    [x, y, width, height]; scores: [N, C, M]. limit: at most so many of each class (absent or 0:
    none at all); iou_threshold (absent: 0) and score_threshold (absent: no matter), scalars or [1].
    """
    need_float(boxes, scores, iou_threshold, score_threshold)
    need_integer(limit)
    need_rank(boxes, 3, what="boxes")
    need_rank(scores, 3, what="scores")
    _need_width(boxes, 4)
    require_equal(boxes.shape[0], scores.shape[0], "numbers of images")
    require_equal(boxes.shape[1], scores.shape[2], "numbers of boxes and of scores")
    for value in (limit, iou_threshold, score_threshold):
        if value is not None:
            require_equal(product(value.shape), 1, "elements of a limit or threshold and one")
    return Spec((new_symbol(size), 3), "int64")


def _upright(boxes: np.ndarray, centers: bool) -> np.ndarray:
    """Boxes with the smaller coordinates first."""
    if centers:
        half = boxes[..., 2:] / 2
        return np.concatenate([boxes[..., :2] - half, boxes[..., :2] + half], axis=-1)
    low = np.minimum(boxes[..., :2], boxes[..., 2:])
    return np.concatenate([low, np.maximum(boxes[..., :2], boxes[..., 2:])], axis=-1)


def _proper_overlap(one: np.ndarray, many: np.ndarray) -> np.ndarray:
    """IoU, 0 for boxes without an area."""
    common = common_area(one, many, True)
    area = np.prod(many[:, 2:] - many[:, :2], axis=1)
    own = np.prod(one[2:] - one[:2])
    union = area + own - common
    empty = (area <= 0) | (own <= 0) | (union <= 0)
    return np.where(empty, many.dtype.type(0), common / np.where(empty, 1, union))


@non_max_suppression.compute
def _(xp, boxes, scores, limit, iou_threshold, score_threshold, size, centers):
    numpy_only(xp, "non_max_suppression")
    most = 0 if limit is None else max(int(limit.reshape(-1)[0]), 0)
    bound = 0.0 if iou_threshold is None else float(iou_threshold.reshape(-1)[0])
    if not 0 <= bound <= 1:
        raise ArgumentError("iou_threshold must be in [0, 1]", got=str(bound))
    least = None if score_threshold is None else score_threshold.reshape(-1)[0]
    found = []
    for image, class_id in np.ndindex(scores.shape[:2]):
        line = scores[image, class_id]
        chosen = np.arange(len(line)) if least is None else np.flatnonzero(line > least)
        order = best_first(line, chosen)
        shapes = _upright(boxes[image], centers)
        kept = greedy(shapes, order, bound, _proper_overlap, limit=most)
        found.append(np.stack([np.full_like(kept, image), np.full_like(kept, class_id), kept], 1))
    return joined(found, (3,), np.int64)


@op(outputs=("detections", "index", "row_splits"))
def multiclass_nms(
    boxes,
    scores,
    row_splits=None,
    *,
    size,
    iou_threshold=0.3,
    score_threshold=0.0,
    eta=1.0,
    top_k=-1,
    keep=-1,
    background=-1,
    normalized=True,
):
    """Detections [size, 2 + D] of all images, their ids int64 [size], and row_splits [N + 1].

    A detection is [class, score, *shape]. Classes come in order, and within each the best first.
    boxes: [N, M, D] with scores [N, C, M] for all classes the same shapes, of D = 4 coordinates or
    the corners of polygons (8, 16, 24, 32); the id of one is image * M + box. Or, with row_splits,
    boxes [T, C, 4] with scores [T, C], rows of each image packed: a box for each class, whose id is
    row * C + class, and which come by id within each class.
    Each class but the `background`: `nms` of the top_k (-1: all) scores above the threshold. Then,
    over all classes, the best `keep` (-1: all) of each image.
    """
    need_float(boxes, scores)
    need_rank(boxes, 3, what="boxes")
    need_rank(scores, 3 if row_splits is None else 2, what="scores")
    require_equal(boxes.shape[0], scores.shape[0], "first axes of boxes and of scores")
    found = new_symbol(size)
    if row_splits is None:
        width = _need_width(boxes, 4, *POLYGONS)
        require_equal(boxes.shape[1], scores.shape[2], "numbers of boxes and of scores")
        images = boxes.shape[0]
    else:
        width = _need_width(boxes, 4)
        require_equal(boxes.shape[1], scores.shape[1], "numbers of classes")
        images = row_count(row_splits)
    return (
        Spec((found, width + 2), boxes.dtype),
        Spec((found,), "int64"),
        Spec((images + 1,), "int64"),
    )


@multiclass_nms.compute
def _(
    xp,
    boxes,
    scores,
    row_splits,
    size,
    iou_threshold,
    score_threshold,
    eta,
    top_k,
    keep,
    background,
    normalized,
):
    numpy_only(xp, "multiclass_nms")
    overlap = overlap_of(boxes.shape[2], normalized)

    def survivors(shapes: np.ndarray, line: np.ndarray) -> np.ndarray:
        chosen = np.flatnonzero(line > line.dtype.type(score_threshold))
        order = best_first(line, chosen, top_k)
        return greedy(shapes, order, iou_threshold, overlap, eta=eta)

    rows, ids, counts = [], [], []
    for shapes, lines, first in _images(boxes, scores, row_splits):
        kept = {c: survivors(shapes[c], lines[c]) for c in range(len(lines)) if c != background}
        kept = best_of_all(kept, lines, keep)
        if row_splits is not None:
            kept = {c: np.sort(found) for c, found in kept.items()}
        rows += [_rows(c, lines[c][k], shapes[c][k]) for c, k in kept.items()]
        step = (1, 0) if row_splits is None else (scores.shape[1], 1)
        ids += [first + k * step[0] + c * step[1] for c, k in kept.items()]
        counts.append(sum(map(len, kept.values())))
    detections = joined(rows, (boxes.shape[2] + 2,), boxes.dtype)
    return detections, joined(ids, (), np.int64), splits_of(counts)


def _images(boxes: Any, scores: Any, row_splits: Any) -> Any:
    """Of each image: (shapes of each class [C, M, D], scores [C, M], the first id)."""
    if row_splits is None:
        for n, (shapes, lines) in enumerate(zip(boxes, scores, strict=True)):
            shared = np.broadcast_to(shapes, (len(lines), *shapes.shape))
            yield shared, lines, n * shapes.shape[0]
        return
    splits = checked_splits(np, row_splits, len(boxes))
    for a, b in pairwise(splits):
        yield boxes[a:b].swapaxes(0, 1), scores[a:b].T, int(a) * scores.shape[1]


def _rows(class_id: int, scores: np.ndarray, shapes: np.ndarray) -> np.ndarray:
    """Detections [K, 2 + D] of one class."""
    labels = np.full((len(scores), 1), class_id, shapes.dtype)
    return np.concatenate([labels, scores[:, None], shapes], axis=1)


@op(outputs=("marked", "row_splits"))
def detections_or_none(detections, row_splits, *, size, width, rows):
    """Detections [n, D] and row_splits as they are, or if there are none [[-1]] and [0, 1].

    So Fluid says that nothing was found. size, width, rows: names of new symbols for the shapes
    [size, width] and [rows], which only the data tell.
    """
    need_float(detections)
    need_rank(detections, 2, what="detections")
    row_count(row_splits)
    shape = new_symbol(size), new_symbol(width, "width")
    return Spec(shape, detections.dtype), Spec((new_symbol(rows, "rows"),), "int64")


@detections_or_none.compute
def _(xp, detections, row_splits, size, width, rows):
    numpy_only(xp, "detections_or_none")
    if len(detections):
        return detections, row_splits.astype(np.int64)
    return np.full((1, 1), -1, detections.dtype), np.array([0, 1])
