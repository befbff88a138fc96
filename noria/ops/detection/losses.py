"""Losses of detectors: compositions of ops."""

from __future__ import annotations

from typing import Any

from noria.ir.opdef import vocabulary as o
from noria.ops.common import need_rank, require_equal
from noria.ops.criterion import smooth_l1_loss
from noria.ops.detection.boxes import box_encode, box_iou
from noria.ops.numeric import cast_like, spec_of


def sigmoid_focal_loss(
    logits: Any, labels: Any, positives: Any = None, *, gamma: float = 2.0, alpha: float = 0.25
) -> Any:
    """Focal loss [N, C] of each class.  (Lin et al., RetinaNet, 2017)

    logits: [N, C]; labels: integers [N], 0 the background, c + 1 the class of column c, -1 for a
    row that does not count. positives: a number, of examples that are no background: what losses
    are divided by, if it is more than 1. gamma: how little the easy ones count; alpha: how much the
    positive ones do, the negative 1 - alpha.
    """
    need_rank(spec_of(logits), 2, what="logits")
    need_rank(spec_of(labels), 1, what="labels")
    require_equal(logits.shape[0], labels.shape[0], "numbers of rows")
    classes = o.add(o.arange(stop=logits.shape[1]), 1)
    own = o.unsqueeze(o.cast(labels, dtype="int64"), axis=(1,))
    positive = o.equal(own, classes)
    counted = o.not_equal(own, -1)
    p = o.sigmoid(logits)
    hit = o.mul(o.pow(o.sub(1.0, p), gamma), o.softplus(o.neg(logits)))  # -log p
    miss = o.mul(o.pow(p, gamma), o.softplus(logits))  # -log(1 - p)
    loss = o.where(positive, o.mul(hit, alpha), o.mul(miss, 1.0 - alpha))
    loss = o.where(counted, loss, 0.0)
    if positives is None:
        return loss
    return o.div(loss, o.maximum(cast_like(positives, logits), 1.0))


def ssd_loss(
    locations: Any,
    confidences: Any,
    boxes: Any,
    labels: Any,
    row_splits: Any,
    priors: Any,
    variances: Any = None,
    *,
    size: str,
    background: int = 0,
    overlap_threshold: float = 0.5,
    negative_ratio: float = 3.0,
    negative_overlap: float = 0.5,
    location_weight: float = 1.0,
    confidence_weight: float = 1.0,
    normalize: bool = True,
) -> Any:
    """Loss [N, 1] of SSD: places of priors that matched an object, classes of those and of the
    hardest negatives.  (Liu et al., 2016)

    locations: [N, M, 4], deltas from the priors; confidences: [N, M, C], logits; boxes [T, 4] and
    labels, integers [T], of the objects of all images, packed by row_splits [N + 1]; priors:
    [M, 4]; variances: as in `box_encode`; size: name of a new symbol, for how many negatives there
    are. normalize: divided by how many priors matched an object.
    """
    images, count, classes = confidences.shape
    overlaps = box_iou(boxes, priors)
    match, overlap = o.bipartite_match(overlaps, row_splits, threshold=overlap_threshold)

    def classified(targets: Any) -> Any:
        flat = o.reshape(confidences, shape=(images * count, classes))
        losses, _ = o.softmax_cross_entropy(flat, o.reshape(targets, shape=(images * count,)))
        return o.reshape(losses, shape=(images, count))

    values = o.reshape(o.cast(labels, dtype="int64"), shape=(labels.shape[0], 1, 1))
    how = {"mismatch": background}
    first, _ = o.target_assign(values, match, row_splits, **how)
    negatives, splits, match = o.mine_hard_examples(
        o.stop_gradient(classified(first)),
        match,
        overlap,
        size=size,
        ratio=negative_ratio,
        threshold=negative_overlap,
    )
    targets, counted = o.target_assign(values, match, row_splits, negatives, splits, **how)
    confidence = o.mul(classified(targets), _without_last(counted))
    deltas = o.stop_gradient(box_encode(boxes, priors, variances))
    places, matched = o.target_assign(deltas, match, row_splits)
    location = o.reduce_sum(smooth_l1_loss(locations, places, reduction="none"), axis=2)
    location = o.mul(location, _without_last(matched))
    loss = o.add(o.mul(location, location_weight), o.mul(confidence, confidence_weight))
    loss = o.reduce_sum(loss, axis=1, keepdims=True)
    return o.div(loss, o.maximum(o.reduce_sum(matched), 1.0)) if normalize else loss


def _without_last(x: Any) -> Any:
    return o.squeeze(x, axis=(-1,))
