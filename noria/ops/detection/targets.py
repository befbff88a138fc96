"""What a two-stage detector is trained for: which anchors and regions, towards which objects.

(Ren et al., Faster R-CNN, 2015)  Objects and regions of all images are packed, with row_splits
[N + 1] as in `sequence`; an image is described by (height, width, scale). `size` names are new
symbols for how many examples there are. A random key (int64 [2], see `random`) draws examples where
there are too many; without one the first are taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from noria.core.errors import ArgumentError
from noria.ir.opdef import op
from noria.ir.program import Spec
from noria.ops.common import need_float, need_integer, need_rank, require_equal
from noria.ops.detection.geometry import box_sizes, iou_matrix, need_columns, numpy_only
from noria.ops.detection.suppression import joined, new_symbol, splits_of
from noria.ops.packed import checked_splits, row_count

CLOSE = 1e-5  # overlaps that differ by less are equal


def _deltas(boxes: np.ndarray, objects: np.ndarray, weights: Sequence[float]) -> np.ndarray:
    """From pixel boxes [K, 4] to objects [K, 4], divided by weights."""
    w, h = box_sizes(boxes, False)
    ow, oh = box_sizes(objects, False)
    x, y = boxes[:, 0] + w / 2, boxes[:, 1] + h / 2
    ox, oy = objects[:, 0] + ow / 2, objects[:, 1] + oh / 2
    found = np.stack([(ox - x) / w, (oy - y) / h, np.log(ow / w), np.log(oh / h)], 1)
    return found / np.asarray(weights, found.dtype)


class _Draw:
    """Takes some of many: at random with a key, else the first."""

    def __init__(self, key: np.ndarray | None) -> None:
        numbers = None if key is None else [int(k) % 2**32 for k in key]
        self.rng = None if numbers is None else np.random.default_rng(numbers)

    def some(self, ids: np.ndarray, count: int) -> np.ndarray:
        if self.rng is None or len(ids) <= count:
            return ids[: max(count, 0)]
        return ids[np.sort(self.rng.choice(len(ids), max(count, 0), replace=False))]


def _need_key(key: Spec | None) -> None:
    if key is not None and (key.dtype, key.shape) != ("int64", (2,)):
        raise ArgumentError("a random key is (seed, step)", expected="int64[2]", got=str(key))


def _need_objects(boxes: Spec, crowd: Spec, splits: Spec, info: Spec) -> Any:
    need_float(boxes, info)
    need_integer(crowd)
    need_columns(boxes, 4, "boxes")
    need_rank(crowd, 1, what="crowd")
    need_columns(info, 3, "image_info")
    require_equal(boxes.shape[0], crowd.shape[0], "numbers of objects")
    images = row_count(splits)
    require_equal(images, info.shape[0], "numbers of images")
    return images


# ---- anchors of the first stage ----------------------------------------------------------------


class _Assigned:
    """Anchors of one image that are examples.

    located: ids whose place is trained, with their objects and weights; scored: ids whose score is,
    the positive ones first.
    """

    def __init__(self, overlaps: np.ndarray, how: Any, draw: _Draw) -> None:
        count, objects = overlaps.shape
        best = overlaps.max(1, initial=0)
        of_object = overlaps.max(0, initial=0)
        close = (np.abs(overlaps - of_object) < CLOSE).any(1) if objects else np.zeros(count, bool)
        positive = (
            np.flatnonzero(close | (best >= how["positive"])) if objects else np.zeros(0, int)
        )
        negative = np.flatnonzero(best < how["negative"])
        if how["count"] > 0:
            positive = draw.some(positive, int(how["fraction"] * how["count"]))
            negative = draw.some(negative, how["count"] - len(positive))
        # An anchor that is both is trained as negative. In its place the first positive one is
        # located again, with weight 0, so that there are as many as were drawn.
        both = np.intersect1d(positive, negative)
        again = np.repeat(positive[:1], len(both))
        positive = np.setdiff1d(positive, negative)
        self.located = np.concatenate([again, positive]).astype(np.int64)
        self.weights = np.concatenate([np.zeros(len(again)), np.ones(len(positive))])
        self.scored = np.concatenate([positive, negative]).astype(np.int64)
        self.positives = len(positive)
        self.object = overlaps.argmax(1) if objects else np.zeros(count, np.int64)


ANCHOR_OUTPUTS = (
    "located",
    "scored",
    "deltas",
    "labels",
    "weights",
    "located_splits",
    "scored_splits",
)


def _anchor_specs(anchors: Any, images: Any, located: Any, scored: Any) -> tuple[Spec, ...]:
    place, score = new_symbol(located, "located"), new_symbol(scored, "scored")
    splits = Spec((images + 1,), "int64")
    return (
        Spec((place,), "int64"),
        Spec((score,), "int64"),
        Spec((place, 4), anchors.dtype),
        Spec((score,), "int64"),
        Spec((place, 4), anchors.dtype),
        splits,
        splits,
    )


def _assign(
    anchors: Any, boxes: Any, kinds: Any, crowd: Any, splits: Any, info: Any, how: Any, draw: _Draw
) -> list[np.ndarray]:
    splits = checked_splits(np, splits, len(boxes))
    parts: list[list[np.ndarray]] = [[] for _ in range(5)]
    for n, (a, b) in enumerate(pairwise(splits)):
        height, width, scale = info[n]
        inside = np.arange(len(anchors))
        if how["straddle"] >= 0:
            away = how["straddle"]
            low = (anchors[:, :2] >= -away).all(1)
            inside = np.flatnonzero(
                low & (anchors[:, 2] < width + away) & (anchors[:, 3] < height + away)
            )
        single = np.flatnonzero(crowd[a:b] == 0)
        objects = boxes[a:b][single] * scale
        found = _Assigned(iou_matrix(anchors[inside], objects, False), how, draw)
        place, score = inside[found.located], inside[found.scored]
        own = found.object[found.located]
        labels = np.zeros(len(score), np.int64)
        labels[: found.positives] = 1
        if kinds is not None:
            chosen = found.object[found.scored[: found.positives]]
            labels[: found.positives] = kinds[a:b][single][chosen]
        weights = np.repeat(found.weights[:, None], 4, axis=1)
        deltas = _deltas(anchors[place], objects[own], (1, 1, 1, 1))
        offset = n * len(anchors)
        for part, new in zip(
            parts, (place + offset, score + offset, deltas, labels, weights), strict=True
        ):
            part.append(new)
    counts = [[len(p) for p in parts[i]] for i in (0, 1)]
    dtype = anchors.dtype
    return [
        joined(parts[0], (), np.int64),
        joined(parts[1], (), np.int64),
        joined(parts[2], (4,), dtype),
        joined(parts[3], (), np.int64),
        joined(parts[4], (4,), dtype),
        splits_of(counts[0]),
        splits_of(counts[1]),
    ]


@op(outputs=ANCHOR_OUTPUTS)
def rpn_target_assign(
    anchors,
    boxes,
    crowd,
    row_splits,
    image_info,
    key=None,
    *,
    located,
    scored,
    count=256,
    fraction=0.5,
    straddle=0.0,
    positive=0.7,
    negative=0.3,
):
    """Examples for the first stage: which anchors, and what they are to predict.

    anchors: [A, 4] in pixels of the image; boxes: objects [T, 4] in pixels of the original, crowd
    integers [T], what is not 0 being no single object. Of an image at most `count` are drawn, at
    most that `fraction` of them positive: anchors that overlap an object by `positive`, or more
    than any other does; negative: those below `negative` for all. straddle: how far an anchor may
    reach out of the image, below 0: any.
    Results: located int64 [located], anchors whose place is trained (image * A + anchor), with
    deltas and weights [located, 4]; scored int64 [scored], those whose score is, with labels int64
    1 or 0; and row_splits of both [N + 1].
    """
    need_float(anchors)
    need_columns(anchors, 4, "anchors")
    _need_key(key)
    images = _need_objects(boxes, crowd, row_splits, image_info)
    return _anchor_specs(anchors, images, located, scored)


@rpn_target_assign.compute
def _(xp, anchors, boxes, crowd, row_splits, image_info, key, located, scored, **how):
    numpy_only(xp, "rpn_target_assign")
    return tuple(_assign(anchors, boxes, None, crowd, row_splits, image_info, how, _Draw(key)))


@op(outputs=(*ANCHOR_OUTPUTS, "positives"))
def retinanet_target_assign(
    anchors,
    boxes,
    labels,
    crowd,
    row_splits,
    image_info,
    *,
    located,
    scored,
    positive=0.5,
    negative=0.4,
):
    """Examples for RetinaNet (Lin et al., 2017): as `rpn_target_assign`, but all there are.

    labels: integers [T], the class of each object, which positive examples have as labels. Also
    positives int64 [N]: how many located examples an image has, and 1.
    """
    need_float(anchors)
    need_columns(anchors, 4, "anchors")
    need_integer(labels)
    need_rank(labels, 1, what="labels")
    require_equal(boxes.shape[0], labels.shape[0], "numbers of objects")
    images = _need_objects(boxes, crowd, row_splits, image_info)
    return *_anchor_specs(anchors, images, located, scored), Spec((images,), "int64")


@retinanet_target_assign.compute
def _(xp, anchors, boxes, labels, crowd, row_splits, image_info, located, scored, **how):
    numpy_only(xp, "retinanet_target_assign")
    how |= {"count": -1, "fraction": -1, "straddle": -1}
    found = _assign(anchors, boxes, labels, crowd, row_splits, image_info, how, _Draw(None))
    return *found, np.diff(found[5]) + 1


# ---- regions of the second stage ---------------------------------------------------------------


@op(outputs=("rois", "labels", "targets", "inside", "outside", "row_splits"))
def sample_proposals(
    rois,
    roi_splits,
    boxes,
    labels,
    crowd,
    box_splits,
    image_info,
    key=None,
    *,
    size,
    classes,
    count=256,
    fraction=0.25,
    foreground=0.5,
    background=(0.0, 0.5),
    weights=(0.1, 0.1, 0.2, 0.2),
    cascade=False,
    agnostic=False,
):
    """Examples for the second stage: regions, and what is to be predicted of them.

    rois: [R, 4] proposed, in pixels of the image; boxes: objects [T, 4] in pixels of the original,
    with labels and crowd, integers [T]. Objects count as proposals, too. Of an image at most
    `count` are drawn, that `fraction` of them at most foreground: what overlaps an object by
    `foreground`, deltas to which, divided by weights, are its targets; background: what overlaps by
    so much, but less. cascade (Cai & Vasconcelos, 2018): all are taken, and the rois begin with the
    objects of the image, which are left out; agnostic: all targets are those of class 1.
    Results, row by row: rois [size, 4]; labels int64 [size], 0 the background; targets, inside and
    outside (1 where there is a target) [size, 4 classes]; row_splits [N + 1].
    """
    need_float(rois)
    need_integer(labels)
    need_columns(rois, 4, "rois")
    need_rank(labels, 1, what="labels")
    _need_key(key)
    images = _need_objects(boxes, crowd, box_splits, image_info)
    require_equal(boxes.shape[0], labels.shape[0], "numbers of objects")
    require_equal(images, row_count(roi_splits), "numbers of images")
    found = new_symbol(size)
    wide = Spec((found, 4 * classes), rois.dtype)
    rows = Spec((images + 1,), "int64")
    return Spec((found, 4), rois.dtype), Spec((found,), "int64"), wide, wide, wide, rows


def _sampled(proposals: Any, objects: Any, crowd: Any, how: Any, draw: _Draw) -> Any:
    """(foreground, background) ids among objects and proposals, and the object of each of the
    first."""
    overlaps = iou_matrix(proposals, objects, False)
    best = overlaps.max(1, initial=0)
    best[: len(crowd)][crowd != 0] = -1
    low, high = how["background"]
    real = np.ones(len(proposals), bool)
    if how["cascade"]:
        real = np.minimum(*box_sizes(proposals, False)) > 0
    front = np.flatnonzero(real & (best >= how["foreground"]))
    back = np.flatnonzero(real & (best < how["foreground"]) & (best >= low) & (best < high))
    if not how["cascade"]:
        front = draw.some(front, int(how["count"] * how["fraction"]))
        back = draw.some(back, how["count"] - len(front))
    close = np.abs(overlaps[front] - best[front, None]) < CLOSE
    return front, back, close.argmax(1) if close.size else np.zeros(len(front), np.int64)


@sample_proposals.compute
def _(
    xp, rois, roi_splits, boxes, labels, crowd, box_splits, image_info, key, size, classes, **how
):
    numpy_only(xp, "sample_proposals")
    draw = _Draw(key)
    roi_splits = checked_splits(np, roi_splits, len(rois))
    box_splits = checked_splits(np, box_splits, len(boxes))
    if ((labels < 0) | (labels >= classes)).any():
        raise ArgumentError("a label is no class", expected=f"0 <= label < {classes}")
    parts: list[list[np.ndarray]] = [[] for _ in range(4)]
    for n in range(len(roi_splits) - 1):
        objects = boxes[box_splits[n] : box_splits[n + 1]]
        kinds, many = (v[box_splits[n] : box_splits[n + 1]] for v in (labels, crowd))
        scale = image_info[n, 2]
        own = rois[roi_splits[n] : roi_splits[n + 1]] / scale
        own = own[len(objects) :] if how["cascade"] else own
        proposals = np.concatenate([objects, own])
        front, back, to = _sampled(proposals, objects, many, how, draw)
        chosen = proposals[np.concatenate([front, back])]
        kind = np.zeros(len(chosen), np.int64)
        kind[: len(front)] = kinds[to]
        targets, weight = (np.zeros((len(chosen), classes, 4), rois.dtype) for _ in range(2))
        rows = np.flatnonzero(kind > 0)
        column = np.ones(len(rows), np.int64) if how["agnostic"] else kind[rows]
        deltas = _deltas(proposals[front], objects[to], how["weights"])
        targets[rows, column] = deltas[rows]
        weight[rows, column] = 1
        wide = [v.reshape(len(chosen), 4 * classes) for v in (targets, weight)]
        for part, new in zip(parts, (chosen * scale, kind, *wide), strict=True):
            part.append(new)
    targets = joined(parts[2], (4 * classes,), rois.dtype)
    weight = joined(parts[3], (4 * classes,), rois.dtype)
    counts = splits_of([len(p) for p in parts[0]])
    kinds = joined(parts[1], (), np.int64)
    return joined(parts[0], (4,), rois.dtype), kinds, targets, weight, weight.copy(), counts
