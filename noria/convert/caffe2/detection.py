"""Object detection: regions pooled, boxes moved and suppressed, proposals, keypoints."""

from __future__ import annotations

from typing import Any

from noria.convert.caffe2.common import channels_first, channels_last, pullback
from noria.convert.caffe2.handlers import Node, caffe2_op
from noria.core.errors import ShapeError
from noria.ir.opdef import vocabulary as o
from noria.ops.detection.levels import collect_proposals
from noria.ops.detection.proposals import transform_rois

# ---- regions -----------------------------------------------------------------------------------


def _split_rois(rois: Any, width: int) -> tuple[Any, Any]:
    """(regions [R, width], the image of each [R]); without a first column all are of image 0."""
    if rois.shape[1] == width:
        return rois, o.fill(shape=(rois.shape[0],), value=0, dtype="int64")
    if rois.shape[1] != width + 1:
        raise ShapeError(f"regions have {width} columns, or one more", got=str(rois.shape))
    first = o.slice(rois, axes=(1,), starts=(0,), stops=(1,))
    batch = o.cast(o.squeeze(first, axis=(1,)), dtype="int64")
    return o.slice(rois, axes=(1,), starts=(1,), stops=(None,)), batch


def _size(op: Node) -> dict[str, Any]:
    return {
        "size": (op.attr("pooled_h", 1), op.attr("pooled_w", 1)),
        "scale": op.attr("spatial_scale", 1.0),
    }


def aligned(op: Node, x: Any, rois: Any) -> Any:
    """RoIAlign and RoIAlignRotated."""
    rotated = "Rotated" in op.type
    rois, batch = _split_rois(rois, 5 if rotated else 4)
    fn = o.roi_align_rotated if rotated else o.roi_align
    how = {"samples": max(op.attr("sampling_ratio", -1), 0), "aligned": op.attr("aligned", False)}
    return channels_last(fn(channels_first(x, op.last), rois, batch, **how, **_size(op)), op.last)


@caffe2_op("RoIAlign", "RoIAlignRotated")
def roi_align(op, x, rois):
    return aligned(op, x, rois)


@caffe2_op("RoIAlignGradient", "RoIAlignRotatedGradient")
def roi_align_gradient(op, x, rois, dy):
    return pullback(lambda a: aligned(op, a, rois), [x], [dy], [0])[0]


@caffe2_op("RoIPool")
def roi_pool(op, x, rois):
    """(Y, argmax)"""
    corners, batch = _split_rois(rois, 4)
    out, argmax = o.roi_pool(x, corners, batch, **_size(op))
    return (out, o.cast(argmax, dtype="int32"))[: len(op.outputs)]


@caffe2_op("RoIPoolGradient")
def roi_pool_gradient(op, x, rois, argmax, dy):
    _, batch = _split_rois(rois, 4)
    return o.roi_pool_grad(dy, argmax, batch, shape=x.shape)


# ---- boxes -------------------------------------------------------------------------------------


def _bounds(op: Node) -> tuple[float, float] | None:
    low, high = op.attr("angle_bound_lo", -90), op.attr("angle_bound_hi", 90)
    return (float(low), float(high)) if op.attr("angle_bound_on", True) else None


@caffe2_op("BBoxTransform")
def bbox_transform(op, rois, deltas, image_info):
    """(boxes, how many of each image)"""
    found = transform_rois(
        rois,
        deltas,
        image_info,
        weights=op.floats("weights", (1.0, 1.0, 1.0, 1.0)),
        apply_scale=op.attr("apply_scale", True),
        legacy=not op.attr("correct_transform_coords", True),
        normalized=not op.attr("legacy_plus_one", True),
        rotated=op.attr("rotated", False),
        bounds=_bounds(op),
        within=op.attr("clip_angle_thresh", 1.0),
    )
    return found[: len(op.outputs)]


def _lengths(splits: Any, dtype: str) -> Any:
    ends = o.slice(splits, axes=(0,), starts=(1,), stops=(None,))
    starts = o.slice(splits, axes=(0,), starts=(0,), stops=(-1,))
    return o.cast(o.sub(ends, starts), dtype=dtype)


def _matrix(x: Any) -> Any:
    return o.reshape(x, shape=x.shape[:2]) if x.ndim == 4 else x


@caffe2_op("BoxWithNMSLimit")
def box_with_nms_limit(op, scores, boxes, counts=None):
    """(scores, boxes, classes, how many of each image, kept rows, how many of each class)"""
    splits = None
    if counts is not None:
        ends = o.cumsum(o.cast(counts, dtype="int64"), axis=0)
        splits = o.concat(o.fill(shape=(1,), value=0, dtype="int64"), ends, axis=0)
    soft = op.attr("soft_nms_enabled", False)
    found = o.limited_nms(
        _matrix(scores),
        _matrix(boxes),
        splits,
        size=op.symbol("detections"),
        iou_threshold=op.attr("nms", 0.3),
        score_threshold=op.attr("score_thresh", 0.05),
        limit=max(op.attr("detections_per_im", 100), 0),
        method=op.attr("soft_nms_method", "linear") if soft else "hard",
        sigma=op.attr("soft_nms_sigma", 0.5),
        soft_threshold=op.attr("soft_nms_min_score_thres", 0.001),
        shared_boxes=op.attr("cls_agnostic_bbox_reg", False),
        background_first=op.attr("input_boxes_include_bg_cls", True),
        normalized=not op.attr("legacy_plus_one", True),
    )
    kept_scores, kept_boxes, classes, rows, kept, of_class = found
    if not op.attr("output_classes_include_bg_cls", True):
        classes = o.sub(classes, 1)
    return (
        kept_scores,
        kept_boxes,
        o.cast(classes, dtype="float32"),
        _lengths(rows, "float32"),
        o.cast(kept, dtype="int32"),
        o.cast(of_class, dtype="int32"),
    )[: len(op.outputs)]


# ---- proposals ---------------------------------------------------------------------------------


@caffe2_op("GenerateProposals", "GenerateProposalsCPP")
def generate_proposals(op, scores, deltas, image_info, anchors):
    """(regions with the number of their image first, scores)"""
    rois, values, splits = o.generate_proposals(
        scores,
        deltas,
        image_info,
        anchors,
        size=op.symbol("proposals"),
        pre_limit=max(op.attr("pre_nms_topN", 6000), 0),
        post_limit=max(op.attr("post_nms_topN", 300), 0),
        iou_threshold=op.attr("nms_thresh", 0.7),
        min_size=op.attr("min_size", 16.0),
        stride=1.0 / op.attr("spatial_scale", 1.0 / 16),
        legacy=not op.attr("correct_transform_coords", True),
        normalized=not op.attr("legacy_plus_one", True),
        bounds=_bounds(op),
        within=op.attr("clip_angle_thresh", 1.0),
    )
    image = o.cast(o.sequence_ids(splits, total=rois.shape[0]), dtype=rois.dtype)
    return o.concat(o.unsqueeze(image, axis=(1,)), rois, axis=1), values


def _collected(op: Node, inputs: tuple[Any, ...]) -> Any:
    """The best regions of all levels: the first half of the inputs, with scores, the other."""
    count = len(inputs) // 2
    rois, scores = inputs[:count], [o.flatten(s) for s in inputs[count:]]
    limit = max(op.attr("rpn_post_nms_topN", 2000), 0)
    return collect_proposals(rois, scores, limit=limit, size=op.symbol("proposals"))


def _distributed(op: Node, rois: Any) -> list[Any]:
    """The regions of each level, and where they were, behind them."""
    low, high = op.attr("roi_min_level", 2), op.attr("roi_max_level", 5)
    restore, *levels = o.distribute_proposals(
        rois,
        sizes=[op.symbol("level") for _ in range(high - low + 1)],
        low=low,
        high=high,
        level=op.attr("roi_canonical_level", 4),
        scale=float(op.attr("roi_canonical_scale", 224)),
        tiny=1e-6,
        first=1,
    )
    return [*levels, o.cast(restore, dtype="int32")]


@caffe2_op("CollectRpnProposals")
def collect_rpn_proposals(op, *inputs):
    return _collected(op, inputs)


@caffe2_op("DistributeFpnProposals")
def distribute_fpn_proposals(op, rois):
    return tuple(_distributed(op, rois))


@caffe2_op("CollectAndDistributeFpnRpnProposals")
def collect_and_distribute(op, *inputs):
    rois = _collected(op, inputs)
    return rois, *_distributed(op, rois)


@caffe2_op("HeatmapMaxKeypoint")
def heatmap_max_keypoint(op, heatmaps, boxes):
    return o.heatmap_keypoints(heatmaps, boxes, softmax=op.attr("should_output_softmax", False))
