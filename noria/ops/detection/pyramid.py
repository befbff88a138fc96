"""Detections of RetinaNet from all levels of its pyramid.  (Lin et al., 2017)"""

from __future__ import annotations

from typing import Any

import numpy as np

from noria.core.errors import ArgumentError, ShapeError
from noria.ir.opdef import op
from noria.ir.program import Spec
from noria.ops.common import need_float, need_rank, require_equal
from noria.ops.detection.boxes import box_clip, box_transform
from noria.ops.detection.geometry import need_columns, numpy_only
from noria.ops.detection.suppression import (
    best_first,
    greedy,
    joined,
    new_symbol,
    overlap_of,
    splits_of,
)


@op(outputs=("detections", "row_splits"))
def retinanet_detections(
    image_info,
    *levels,
    size,
    score_threshold=0.05,
    top_k=1000,
    iou_threshold=0.3,
    eta=1.0,
    keep=100,
):
    """Detections [size, 6], of each image the best first, and row_splits [N + 1].

    image_info: (height, width, scale) [N, 3]; levels: for each level deltas [N, M, 4], scores
    [N, M, C], and anchors [M, 4] in pixels of the image. Of each level the top_k (-1: all) scores
    above the threshold (0 on the last level) are decoded, brought to the original size and clipped;
    then each class is suppressed as in `nms`, and the `keep` (-1: all) best of all stay.
    A detection is [class, score, *box]; class 1 is the first column of scores. size: name of a new
    symbol.
    """
    if not levels or len(levels) % 3:
        raise ArgumentError("levels are deltas, scores and anchors in turn", got=str(len(levels)))
    need_columns(image_info, 3, "image_info")
    need_float(image_info, *levels)
    for deltas, scores, anchors in _triples(levels):
        need_rank(deltas, 3, what="deltas")
        need_rank(scores, 3, what="scores")
        need_rank(anchors, 2, what="anchors")
        if deltas.shape[2] != 4 or anchors.shape[1] != 4:
            raise ShapeError("boxes have 4 coordinates", got=f"{deltas}, {anchors}")
        require_equal(deltas.shape[1], anchors.shape[0], "numbers of anchors")
        require_equal(deltas.shape[1], scores.shape[1], "numbers of boxes and of scores")
        for value in (deltas, scores):
            require_equal(value.shape[0], image_info.shape[0], "numbers of images")
    found = Spec((new_symbol(size), 6), levels[1].dtype)
    return found, Spec((image_info.shape[0] + 1,), "int64")


def _triples(levels: Any) -> list[Any]:
    return list(zip(levels[0::3], levels[1::3], levels[2::3], strict=True))


def _candidates(deltas: Any, scores: Any, anchors: Any, info: Any, least: float, k: int) -> Any:
    """(class, score, box) [K, 6] of one level of one image."""
    classes, flat = scores.shape[1], scores.reshape(-1)
    chosen = best_first(flat, np.flatnonzero(flat > flat.dtype.type(least)), k)
    row = chosen // classes
    height, width, scale = info
    boxes = box_transform(anchors[row], deltas[row], clip=float("inf")) / scale
    right, bottom = (np.floor(v / scale + np.float32(0.5)) - 1 for v in (width, height))
    boxes = box_clip(boxes, right.astype(boxes.dtype), bottom.astype(boxes.dtype))
    return np.column_stack([chosen % classes, flat[chosen], boxes]).astype(scores.dtype)


@retinanet_detections.compute
def _(xp, image_info, *levels, size, score_threshold, top_k, iou_threshold, eta, keep):
    numpy_only(xp, "retinanet_detections")
    triples = _triples(levels)
    overlap, rows = overlap_of(4, False), []
    for n, info in enumerate(image_info):
        parts = []
        for i, (deltas, scores, anchors) in enumerate(triples):
            least = score_threshold if i < len(triples) - 1 else 0.0
            parts.append(_candidates(deltas[n], scores[n], anchors, info, least, top_k))
        table = np.concatenate(parts)
        kept = []
        for c in np.unique(table[:, 0]):
            own = np.flatnonzero(table[:, 0] == c)
            order = best_first(table[:, 1], own)
            kept.append(greedy(table[:, 2:], order, iou_threshold, overlap, eta=eta))
        chosen = best_first(table[:, 1], joined(kept, (), np.int64), keep)
        rows.append(table[chosen] + np.array([1, 0, 0, 0, 0, 0], table.dtype))
    return joined(rows, (6,), levels[1].dtype), splits_of([len(r) for r in rows])
