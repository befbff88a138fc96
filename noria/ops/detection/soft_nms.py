"""Other ways to suppress: scores that decay, neighbours that merge, a limit over all classes.

Sizes, packed lists and boxes are as in `nms`.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from noria.core.errors import ArgumentError, ShapeError
from noria.ir.opdef import op
from noria.ir.program import Spec
from noria.ops.common import need_float, need_rank, require_equal
from noria.ops.detection.geometry import Overlap, numpy_only
from noria.ops.detection.suppression import (
    POLYGONS,
    SOFT,
    best_first,
    best_of_all,
    decayed,
    greedy,
    joined,
    new_symbol,
    overlap_of,
    soft,
    splits_of,
)
from noria.ops.packed import checked_splits, row_count


def _of_images(boxes: Spec, scores: Spec, widths: tuple[int, ...]) -> int:
    """Width of boxes [N, M, D] that go with scores [N, C, M]."""
    need_float(boxes, scores)
    need_rank(boxes, 3, what="boxes")
    need_rank(scores, 3, what="scores")
    require_equal(boxes.shape[0], scores.shape[0], "numbers of images")
    require_equal(boxes.shape[1], scores.shape[2], "numbers of boxes and of scores")
    if boxes.shape[2] not in widths:
        raise ShapeError("boxes have another number of coordinates", got=str(boxes))
    return int(boxes.shape[2])


@op(outputs=("detections", "index", "row_splits"))
def matrix_nms(
    boxes,
    scores,
    *,
    size,
    score_threshold=0.0,
    post_threshold=0.0,
    top_k=-1,
    keep=-1,
    background=0,
    normalized=True,
    sigma=None,
):
    """Detections [size, 6], ids int64 [size], row_splits [N + 1]: scores decay instead of boxes
    being dropped.  (Wang et al., SOLOv2, 2020)

    boxes: [N, M, 4]; scores: [N, C, M]. Of each class but the background the top_k (-1: all) scores
    above the threshold are multiplied by the least, over better boxes j, of (1 - IoU with j) /
    (1 - the largest IoU of j with a better one), or with sigma by the ratio of
    exp(-sigma IoU^2); what is not above post_threshold goes, and the best `keep` of an image stay,
    best first. A detection is [class, score, *box]; the id is image * M + box.
    """
    _of_images(boxes, scores, (4,))
    found = new_symbol(size)
    return (
        Spec((found, 6), boxes.dtype),
        Spec((found,), "int64"),
        Spec((boxes.shape[0] + 1,), "int64"),
    )


@matrix_nms.compute
def _(
    xp,
    boxes,
    scores,
    size,
    score_threshold,
    post_threshold,
    top_k,
    keep,
    background,
    normalized,
    sigma,
):
    numpy_only(xp, "matrix_nms")
    overlap = overlap_of(4, normalized)
    rows, ids, counts = [], [], []
    for n, (shapes, lines) in enumerate(zip(boxes, scores, strict=True)):
        found: list[np.ndarray] = [np.zeros((0, 3))]  # class, score, box
        for c, line in enumerate(lines):
            if c == background:
                continue
            chosen = np.flatnonzero(line > line.dtype.type(score_threshold))
            order = best_first(line, chosen, top_k)
            new = decayed(shapes[order], line[order], overlap, sigma)
            stays = new > line.dtype.type(post_threshold)
            where = order[stays]
            found.append(np.stack([np.full(len(where), c), new[stays], where], axis=1))
        table = np.concatenate(found)
        table = table[best_first(table[:, 1], np.arange(len(table)), keep)]
        place = table[:, 2].astype(np.int64)
        rows.append(np.concatenate([table[:, :2], shapes[place]], axis=1))
        ids.append(n * len(shapes) + place)
        counts.append(len(place))
    return joined(rows, (6,), boxes.dtype), joined(ids, (), np.int64), splits_of(counts)


# ---- neighbours that merge ---------------------------------------------------------------------


@op(outputs=("detections", "row_splits"))
def locality_aware_nms(
    boxes,
    scores,
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
    """Detections [size, 2 + D] and row_splits [N + 1]: boxes merge with those before them, then
    `multiclass_nms`.  (Zhou et al., EAST, 2017)

    boxes: [N, M, D], D of 4 coordinates or the corners of polygons (8, 16, 24, 32), in the order
    of rows of a feature map; scores: [N, C, M]. A box that overlaps the one before it by more than
    iou_threshold is averaged into it, by scores, and the scores are added up. Classes of an image
    share its boxes: what merged for one stays merged for the next, as Fluid has it.
    """
    width = _of_images(boxes, scores, (4, *POLYGONS))
    found = Spec((new_symbol(size), width + 2), boxes.dtype)
    return found, Spec((boxes.shape[0] + 1,), "int64")


def _merge(
    shapes: np.ndarray, scores: np.ndarray, threshold: float, overlap: Overlap
) -> np.ndarray:
    """Merges in place; ids of those that were not merged into another."""
    heads: list[int] = []
    for i in range(len(shapes)):
        head = heads[-1] if heads else -1
        if head < 0 or not overlap(shapes[i], shapes[head : head + 1])[0] > threshold:
            heads.append(i)
            continue
        total = scores[i] + scores[head]
        shapes[head] = (shapes[i] * scores[i] + shapes[head] * scores[head]) / total
        scores[head] = total
    return np.array(heads, np.int64)


@locality_aware_nms.compute
def _(
    xp,
    boxes,
    scores,
    size,
    iou_threshold,
    score_threshold,
    eta,
    top_k,
    keep,
    background,
    normalized,
):
    numpy_only(xp, "locality_aware_nms")
    boxes, scores = boxes.copy(), scores.copy()
    overlap = overlap_of(boxes.shape[2], normalized)
    rows, counts = [], []
    for shapes, lines in zip(boxes, scores, strict=True):
        kept = {}
        for c, line in enumerate(lines):
            if c == background:
                continue
            heads = _merge(shapes, line, iou_threshold, overlap)
            chosen = heads[line[heads] > line.dtype.type(score_threshold)]
            order = best_first(line, chosen, top_k)
            kept[c] = greedy(shapes, order, iou_threshold, overlap, eta=eta)
        kept = best_of_all(kept, lines, keep)
        for c, k in kept.items():
            labels = np.full((len(k), 1), c, boxes.dtype)
            rows.append(np.concatenate([labels, lines[c][k][:, None], shapes[k]], axis=1))
        counts.append(sum(map(len, kept.values())))
    return joined(rows, (boxes.shape[2] + 2,), boxes.dtype), splits_of(counts)


# ---- a limit over all classes ------------------------------------------------------------------


@op(outputs=("scores", "boxes", "classes", "row_splits", "kept", "class_counts"))
def limited_nms(
    all_scores,
    all_boxes,
    image_splits=None,
    *,
    size,
    iou_threshold=0.3,
    score_threshold=0.05,
    limit=100,
    method="hard",
    sigma=0.5,
    soft_threshold=0.001,
    shared_boxes=False,
    background_first=True,
    normalized=False,
):
    """Suppression in each class, then the best `limit` of each image over all (0: no limit).

    all_scores: [T, C]; all_boxes: [T, C * D], or [T, D] for all classes (shared_boxes), D 4 or, for
    rotated boxes, 5; image_splits: [N + 1], which rows are of which image (absent: one image).
    background_first: the first class is the background, which is left out; else it is the last
    column of the scores, and has no boxes. method: "hard", or the soft ones "linear" and "gaussian"
    with sigma, where what falls below soft_threshold goes.
    Results: scores [size], boxes [size, D], classes int64 [size] (1 is the first that is not
    the background), class by class; row_splits [N + 1]; kept int64 [size], the row in the image;
    class_counts int64 [N, C], of the background 0.
    """
    need_float(all_scores, all_boxes)
    need_rank(all_scores, 2, what="all_scores")
    need_rank(all_boxes, 2, what="all_boxes")
    require_equal(all_scores.shape[0], all_boxes.shape[0], "numbers of rows")
    if method not in SOFT:
        raise ArgumentError("unknown method", expected=" or ".join(SOFT), got=repr(method))
    images = 1 if image_splits is None else row_count(image_splits)
    classes, width = _class_layout(all_scores, all_boxes, shared_boxes, background_first)
    found = new_symbol(size)
    return (
        Spec((found,), all_scores.dtype),
        Spec((found, width), all_boxes.dtype),
        Spec((found,), "int64"),
        Spec((images + 1,), "int64"),
        Spec((found,), "int64"),
        Spec((images, classes), "int64"),
    )


def _class_layout(scores: Any, boxes: Any, shared: bool, first: bool) -> tuple[int, int]:
    """(classes with the background, coordinates of a box)."""
    classes, total = scores.shape[1], boxes.shape[1]
    if not isinstance(classes, int) or not isinstance(total, int):
        raise ShapeError("numbers of classes must be known", got=f"{scores.shape}, {boxes.shape}")
    lists = 1 if shared else classes if first else classes - 1
    if lists < 1 or total not in (4 * lists, 5 * lists):
        raise ShapeError(
            f"boxes of {lists} classes have 4 or 5 coordinates each", got=f"{total} columns"
        )
    return classes, total // lists


@limited_nms.compute
def _(
    xp,
    all_scores,
    all_boxes,
    image_splits,
    size,
    iou_threshold,
    score_threshold,
    limit,
    method,
    sigma,
    soft_threshold,
    shared_boxes,
    background_first,
    normalized,
):
    numpy_only(xp, "limited_nms")
    classes, width = _class_layout(all_scores, all_boxes, shared_boxes, background_first)
    overlap = overlap_of(width, normalized, touching=True)
    most = limit if limit > 0 else -1
    shapes = all_boxes.reshape(len(all_boxes), all_boxes.shape[1] // width, width)
    splits = np.array([0, len(all_scores)]) if image_splits is None else image_splits
    splits = checked_splits(np, splits, len(all_scores))

    def suppressed(boxes: np.ndarray, line: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        chosen = np.flatnonzero(line > line.dtype.type(score_threshold))
        if method != "hard":
            how = {"threshold": iou_threshold, "method": method, "sigma": sigma}
            return soft(boxes, line, chosen, overlap, score_threshold=soft_threshold, **how)
        return greedy(boxes, best_first(line, chosen), iou_threshold, overlap, limit=most), line

    less = int(not background_first)
    scores, boxes, labels, rows = [], [], [], []
    counts = np.zeros((len(splits) - 1, classes), np.int64)
    for image, (a, b) in enumerate(pairwise(splits)):
        own = [shapes[a:b, 0 if shared_boxes else c - less] for c in range(1, classes)]
        lines = np.zeros((classes, b - a), all_scores.dtype)
        kept = {}
        for c in range(1, classes):
            kept[c], lines[c] = suppressed(own[c - 1], all_scores[a:b, c - less])
        for c, k in best_of_all(kept, lines, most).items():
            scores.append(lines[c][k])
            boxes.append(own[c - 1][k])
            labels.append(np.full(len(k), c, np.int64))
            rows.append(k)
            counts[image, c] = len(k)
    return (
        joined(scores, (), all_scores.dtype),
        joined(boxes, (width,), all_boxes.dtype),
        joined(labels, (), np.int64),
        splits_of(counts.sum(1).tolist()),
        joined(rows, (), np.int64),
        counts,
    )
