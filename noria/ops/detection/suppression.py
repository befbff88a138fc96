"""Which of overlapping shapes stay: greedy, soft and matrix suppression, in NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from noria.core.dims import symbol
from noria.core.errors import ArgumentError
from noria.ops.detection.geometry import (
    BoxOverlap,
    Overlap,
    box_areas,
    polygon_overlap,
    rotated_overlap,
)

PACKED = 8  # boxes kept, after which those that are out are thrown away
POLYGONS = (8, 16, 24, 32)  # coordinates of those that may be suppressed


def best_first(scores: np.ndarray, chosen: np.ndarray, limit: int = -1) -> np.ndarray:
    """The ids `chosen` by falling score, equal ones in their order; the first `limit`, -1: all."""
    order = chosen[np.argsort(-scores[chosen], kind="stable")]
    return order if limit < 0 else order[:limit]


def best_of_all(
    kept: dict[int, np.ndarray], lines: np.ndarray, limit: int
) -> dict[int, np.ndarray]:
    """The `limit` best over all classes (-1: all of them), best first within each class."""
    total = sum(map(len, kept.values()))
    if not -1 < limit < total:
        return kept
    classes = np.repeat(list(kept), [len(k) for k in kept.values()])
    ids = np.concatenate(list(kept.values()))
    order = np.argsort(-lines[classes, ids], kind="stable")[:limit]
    return {c: ids[order[classes[order] == c]] for c in sorted(set(classes[order].tolist()))}


def overlap_of(width: int, normalized: bool, touching: bool = False) -> Overlap:
    """How shapes of so many numbers overlap: boxes of 4, rotated ones of 5, polygons of 2 K."""
    if width == 4:
        return BoxOverlap(normalized, touching)
    return rotated_overlap if width == 5 else polygon_overlap


def greedy(
    shapes: np.ndarray,
    order: np.ndarray,
    threshold: float,
    overlap: Overlap,
    *,
    eta: float = 1.0,
    limit: int = -1,
) -> np.ndarray:
    """Ids of those in `order` that overlap none kept before them by more than the threshold.

    eta: below 1, the threshold is multiplied by it whenever a shape is kept, while above 0.5.
    limit: how many are kept at most, -1 for all.
    """
    bound = shapes.dtype.type(threshold)
    if isinstance(overlap, BoxOverlap) and eta >= 1:
        return order[_greedy_boxes(shapes[order], bound, overlap, limit)]
    kept: list[int] = []
    worst = np.zeros(len(order), shapes.dtype)  # the largest overlap with one that is kept
    while len(order) and len(kept) != limit:
        kept.append(int(order[0]))
        if eta < 1 and bound > 0.5:
            bound *= shapes.dtype.type(eta)
        rest = order[1:]
        found = overlap(shapes[order[0]], shapes[rest]).astype(shapes.dtype, copy=False)
        worst = np.maximum(worst[1:], found)
        alive = worst <= bound  # the threshold never rises: who is out stays out
        order, worst = rest[alive], worst[alive]
    return np.array(kept, np.int64)


def _greedy_boxes(boxes: np.ndarray, bound: Any, overlap: BoxOverlap, limit: int) -> np.ndarray:
    """`greedy` of boxes in their order, fast for tens of thousands: ids of those that stay."""
    columns, areas = np.ascontiguousarray(boxes.T), box_areas(boxes, overlap.normalized)
    ids, alive = np.arange(len(boxes)), np.ones(len(boxes), bool)
    kept: list[int] = []
    place = 0
    while place < len(ids) and len(kept) != limit:
        kept.append(int(ids[place]))
        place += 1
        rest = alive[place:]
        rest &= overlap.of_columns(boxes[kept[-1]], columns[:, place:], areas[place:]) <= bound
        if len(kept) % PACKED == 0:  # the others need not be looked at again
            left = np.flatnonzero(rest) + place
            ids, columns, areas = ids[left], np.ascontiguousarray(columns[:, left]), areas[left]
            alive, place = np.ones(len(ids), bool), 0
        else:
            place += int(rest.argmax()) if rest.any() else len(rest)
    return np.array(kept, np.int64)


SOFT = ("hard", "linear", "gaussian")


def soft(
    shapes: np.ndarray,
    scores: np.ndarray,
    chosen: np.ndarray,
    overlap: Overlap,
    *,
    threshold: float,
    method: str,
    sigma: float,
    score_threshold: float,
) -> tuple[np.ndarray, np.ndarray]:
    """(ids kept, scores that fell with every overlap [N]).  Soft-NMS (Bodla et al., 2017)

    method: "linear" multiplies by 1 - IoU above the threshold, "gaussian" by exp(-IoU^2 / sigma),
    "hard" by 0 above the threshold. What falls below the score threshold is out.
    """
    scores, pending = scores.copy(), chosen.copy()
    kept: list[int] = []
    while len(pending):
        place = int(np.argmax(scores[pending]))
        best = int(pending[place])
        kept.append(best)
        pending[place] = pending[0]  # the first takes the place of the best
        pending = pending[1:]
        iou = overlap(shapes[best], shapes[pending])
        scores[pending] *= _weights(iou, threshold, method, sigma).astype(scores.dtype)
        pending = pending[scores[pending] >= score_threshold]
    return np.array(kept, np.int64), scores


def _weights(iou: np.ndarray, threshold: float, method: str, sigma: float) -> np.ndarray:
    if method == "gaussian":
        return np.exp(-iou * iou / sigma)
    return np.where(iou > threshold, 1 - iou if method == "linear" else 0.0, 1.0)


def decayed(
    shapes: np.ndarray, scores: np.ndarray, overlap: Overlap, sigma: float | None
) -> np.ndarray:
    """Scores of shapes, best first, after each fell with what overlaps it.  (SOLOv2, 2020)

    sigma: of a Gaussian decay; None: a linear one.
    """
    count = len(shapes)
    iou = np.zeros((count, count), shapes.dtype)  # [i, j]: of i with j, which is better
    for i in range(1, count):
        iou[i, :i] = overlap(shapes[i], shapes[:i])
    most = iou.max(1, initial=0)  # of j with any that is better than it
    if sigma is None:
        decay = (1 - iou) / (1 - most)[None]
    else:
        decay = np.exp((most[None] ** 2 - iou**2) * sigma)
    better = np.tri(count, count, -1, dtype=bool)
    return scores * np.min(np.where(better, decay, 1), axis=1, initial=1)


# ---- lists of a size only the data tell --------------------------------------------------------


def new_symbol(name: Any, what: str = "size") -> Any:
    """A symbol for a size only the data tell. Raises ArgumentError for what is no name."""
    if not isinstance(name, str):
        raise ArgumentError(f"{what} must be the name of a new symbol", got=repr(name))
    return symbol(name)


def joined(parts: Sequence[np.ndarray], width: Sequence[int], dtype: Any) -> np.ndarray:
    """Rows one behind another; [0, *width] if there are none."""
    return np.concatenate([np.zeros((0, *width), dtype), *parts]).astype(dtype, copy=False)


def splits_of(counts: Sequence[int]) -> np.ndarray:
    """row_splits [N + 1] of rows of these lengths."""
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
