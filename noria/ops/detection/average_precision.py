"""How good a detector is: mean average precision over classes, and mean IoU of segmentations."""

from __future__ import annotations

from typing import Any

import numpy as np

from noria.core.errors import ArgumentError, ShapeError
from noria.ir.opdef import op
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Spec
from noria.ops.common import need_float, need_integer, need_rank, require_equal
from noria.ops.detection.geometry import BoxOverlap, numpy_only
from noria.ops.detection.suppression import joined, new_symbol, splits_of
from noria.ops.numeric import spec_of
from noria.ops.packed import checked_splits, row_count

TYPES = ("integral", "11point")


@op(
    outputs=(
        "value",
        "objects",
        "hits",
        "hit_splits",
        "misses",
        "miss_splits",
    )
)
def detection_map(
    detections,
    detection_splits,
    labels,
    label_splits,
    state=None,
    objects=None,
    hits=None,
    hit_splits=None,
    misses=None,
    miss_splits=None,
    *,
    classes,
    size,
    overlap=0.5,
    difficult=True,
    kind="integral",
    skipped=0,
):
    """Mean average precision, float32 [], and what it is of, to go on with the next batch.

    detections: [D, 6], class, score and box in fractions of the image, to which it is clipped;
    labels: [L, 6], class, whether it is difficult, and box, or [L, 5] without the second; both
    packed by splits [N + 1] of the images. A detection is a hit if the object of its class it
    overlaps most, by more than `overlap`, was not hit before, in order of falling scores.
    difficult: whether difficult objects count; what overlaps one is else neither hit nor miss.
    kind: "integral", the sum of precision * growth of recall; "11point", the mean over recalls
    0, 0.1 ... 1 of the best precision at that recall or a higher one (VOC 2007).
    skipped: classes of exactly so many objects do not count (what Fluid's background_label does).
    State, given if `state` (integers [1], absent: 1) is not 0, and given back: objects, integers
    [classes]; hits and misses [size, 2], score and 1 or 0 for each detection, packed by class.
    """
    need_float(detections, labels, hits, misses)
    need_integer(state, objects)
    need_rank(detections, 2, what="detections")
    need_rank(labels, 2, what="labels")
    if detections.shape[1] != 6 or labels.shape[1] not in (5, 6):
        raise ShapeError(
            "detections have 6 columns, labels 5 or 6", got=f"{detections} and {labels}"
        )
    if kind not in TYPES:
        raise ArgumentError("unknown kind", expected=" or ".join(TYPES), got=repr(kind))
    require_equal(row_count(detection_splits), row_count(label_splits), "numbers of images")
    given = [v is not None for v in (objects, hits, hit_splits, misses, miss_splits)]
    if any(given) != all(given):
        raise ArgumentError("state is objects, hits and misses with their splits, or nothing")
    pairs = Spec((new_symbol(size), 2), detections.dtype)
    splits = Spec((classes + 1,), "int64")
    return (
        Spec((), "float32"),
        Spec((classes,), "int64"),
        pairs,
        splits,
        pairs,
        splits,
    )


class _Counts:
    """Of each class: objects, and (score, hit, miss) of each detection."""

    def __init__(self) -> None:
        self.objects: dict[int, int] = {}
        self.found: dict[int, list[np.ndarray]] = {}

    def resume(self, objects: Any, hits: Any, hit_splits: Any, misses: Any, splits: Any) -> None:
        self.objects = dict(enumerate(objects.reshape(-1).tolist()))
        own = np.split(hits, checked_splits(np, hit_splits, len(hits))[1:-1])
        other = np.split(misses, checked_splits(np, splits, len(misses))[1:-1])
        for c, (hit, miss) in enumerate(zip(own, other, strict=True)):
            if len(hit) != len(miss):
                raise ArgumentError("hits and misses are of the same detections")
            if len(hit):
                self.found[c] = [np.column_stack([hit, miss[:, 1]])]

    def add(self, found: np.ndarray, objects: np.ndarray, overlap: float, difficult: bool) -> None:
        """Detections and objects of one image."""
        easy = np.ones(len(objects), bool)
        if objects.shape[1] == 6 and not difficult:
            easy = np.abs(objects[:, 1]) < 1e-6
        kinds = objects[:, 0].astype(np.int64)
        for c in np.unique(kinds[easy]).tolist():
            self.objects[c] = self.objects.get(c, 0) + int(np.sum(easy & (kinds == c)))
        labels = found[:, 0].astype(np.int64)
        for c in np.unique(labels).tolist():
            own, there = found[labels == c], kinds == c
            rows = _judged(own, objects[there, -4:], easy[there], overlap)
            self.found.setdefault(c, []).append(rows)

    def rows(self, c: int, dtype: Any) -> np.ndarray:
        return joined(self.found.get(c, []), (3,), dtype)


def _judged(found: np.ndarray, objects: np.ndarray, easy: np.ndarray, overlap: float) -> np.ndarray:
    """(score, hit, miss) of detections of one class in one image that count."""
    if not len(objects):
        misses = np.ones(len(found))
        return np.column_stack([found[:, 1], np.zeros(len(found)), misses])
    found = found[np.argsort(-found[:, 1], kind="stable")]
    iou, taken, rows = BoxOverlap(True), np.zeros(len(objects), bool), []
    for row in found:
        overlaps = iou(np.clip(row[2:], 0, 1), objects)
        best = int(np.argmax(overlaps))
        if not overlaps[best] > overlap:
            rows.append((row[1], 0, 1))
        elif easy[best]:
            rows.append((row[1], int(not taken[best]), int(taken[best])))
            taken[best] = True
    return np.array(rows).reshape(-1, 3)


def _average_precision(rows: np.ndarray, objects: int, kind: str) -> float:
    rows = rows[np.argsort(-rows[:, 0], kind="stable")]
    hits, misses = np.cumsum(rows[:, 1]), np.cumsum(rows[:, 2])
    with np.errstate(divide="ignore", invalid="ignore"):
        precision, recall = hits / (hits + misses), hits / np.float64(objects)
    if kind == "11point":
        best = [precision[recall >= j / 10].max(initial=0) for j in range(11)]
        return float(np.mean(best))
    growth = np.abs(np.diff(recall, prepend=0))
    return float(np.sum(np.where(growth > 1e-6, precision * growth, 0)))


@detection_map.compute
def _(
    xp,
    detections,
    detection_splits,
    labels,
    label_splits,
    state,
    objects,
    hits,
    hit_splits,
    misses,
    miss_splits,
    classes,
    size,
    overlap,
    difficult,
    kind,
    skipped,
):
    numpy_only(xp, "detection_map")
    counts = _Counts()
    if objects is not None and (state is None or state.reshape(-1)[0]):
        counts.resume(objects, hits, hit_splits, misses, miss_splits)
    found = np.split(detections, checked_splits(np, detection_splits, len(detections))[1:-1])
    there = np.split(labels, checked_splits(np, label_splits, len(labels))[1:-1])
    for own, known in zip(found, there, strict=True):
        counts.add(own, known, overlap, difficult)
    dtype = detections.dtype
    scores = [
        _average_precision(counts.rows(c, dtype), n, kind) if c in counts.found else 0.0
        for c, n in sorted(counts.objects.items())
        if n != skipped
    ]
    rows = [counts.rows(c, dtype) for c in range(classes)]
    flat, splits = joined(rows, (3,), dtype), splits_of([len(r) for r in rows])
    total = np.array([counts.objects.get(c, 0) for c in range(classes)], np.int64)
    value = np.float32(np.mean(scores) if scores else 0)
    return np.asarray(value), total, flat[:, [0, 1]], splits, flat[:, [0, 2]], splits


# ---- segmentation ------------------------------------------------------------------------------


def mean_iou(
    predictions: Any, labels: Any, *, classes: int, wrong: Any = 0, correct: Any = 0
) -> tuple[Any, Any, Any]:
    """(mean IoU float32 [], wrong int64 [classes], correct int64 [classes]) of classes of pixels.

    predictions, labels: integers of one shape. wrong and correct: the counts so far. A pixel that
    is wrong counts for the class it has and for the one it should have; the IoU of a class is
    correct / (wrong + correct), the mean over those that occur.
    """
    need_integer(spec_of(predictions), spec_of(labels))
    hit = o.equal(predictions, labels)
    outside = classes  # of no class: one-hot gives zeros

    def counted(ids: Any, chosen: Any) -> Any:
        flat = o.flatten(o.where(chosen, o.cast(ids, dtype="int64"), outside))
        return o.reduce_sum(o.one_hot(flat, depth=classes, dtype="int64"), axis=0)

    miss = o.logical_not(hit)
    correct = o.add(counted(labels, hit), correct)
    wrong = o.add(o.add(counted(labels, miss), counted(predictions, miss)), wrong)
    total = o.add(wrong, correct)
    share = o.div(o.cast(correct, dtype="float32"), o.cast(o.maximum(total, 1), dtype="float32"))
    seen = o.reduce_sum(o.cast(o.greater(total, 0), dtype="float32"))
    return o.div(o.reduce_sum(share), seen), wrong, correct
