"""Proposals of a first stage, and what both stages are trained for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from noria.convert.fluid.handlers import Lod, Op, fluid_op
from noria.convert.fluid.packing import column, counts_of, flat, splits_of_counts
from noria.ir.opdef import vocabulary as o
from noria.ops.detection.levels import collect_proposals
from noria.ops.numeric import spec_of
from noria.ops.random import random_key


@fluid_op("generate_proposals", "generate_proposals_v2")
def generate_proposals(op: Op) -> dict[str, Any]:
    second = op.type == "generate_proposals_v2"  # knows images by their sizes alone
    info = op.input("ImShape" if second else "ImInfo")
    if second:
        one = o.fill(shape=(info.shape[0], 1), value=1.0, dtype=spec_of(info).dtype)
        info = o.concat(info, one, axis=1)
    rois, scores, splits = o.generate_proposals(
        op.input("Scores"),
        op.input("BboxDeltas"),
        info,
        op.input("Anchors"),
        op.get("Variances"),
        size=op.symbol("proposals"),
        pre_limit=max(op.attr("pre_nms_topN", 6000), 0),
        post_limit=max(op.attr("post_nms_topN", 1000), 0),
        iou_threshold=op.attr("nms_thresh", 0.5),
        min_size=op.attr("min_size", 0.1),
        eta=op.attr("eta", 1.0),
        scaled_sizes=True,
        at_least_one=True,
        normalized=not op.attr("pixel_offset", True),
    )
    counts = counts_of(splits)
    return {
        "RpnRois": Lod(rois, (splits,)),
        "RpnRoiProbs": Lod(column(scores), (splits,)),
        "RpnRoisLod": Lod(counts),
        "RpnRoisNum": Lod(o.cast(counts, dtype="int32")),
    }


@fluid_op("collect_fpn_proposals")
def collect_fpn_proposals(op: Op) -> dict[str, Any]:
    rois, counts = op.inputs("MultiLevelRois"), op.inputs("MultiLevelRoIsNum")
    if counts:
        splits = [splits_of_counts(c) for c in counts]
    else:
        splits = [op.lod("MultiLevelRois", i)[-1] for i in range(len(rois))]
    scores = [flat(s) for s in op.inputs("MultiLevelScores")]
    found, rows = collect_proposals(
        rois, scores, splits, limit=op.attr("post_nms_topN", 0), size=op.symbol("proposals")
    )
    return {"FpnRois": Lod(found, (rows,)), "RoisNum": o.cast(counts_of(rows), dtype="int32")}


@fluid_op("distribute_fpn_proposals")
def distribute_fpn_proposals(op: Op) -> dict[str, Any]:
    low, high = op.need_attr("min_level"), op.need_attr("max_level")
    count, given = high - low + 1, op.get("RoisNum")
    restore, *found = o.distribute_proposals(
        op.input("FpnRois"),
        op.need_lod("FpnRois")[-1] if given is None else splits_of_counts(given),
        sizes=[op.symbol("level") for _ in range(count)],
        low=low,
        high=high,
        level=op.need_attr("refer_level"),
        scale=float(op.need_attr("refer_scale")),
        normalized=not op.attr("pixel_offset", True),
    )
    rois, splits = found[:count], found[count:]
    return {
        "MultiFpnRois": [Lod(r, (s,)) for r, s in zip(rois, splits, strict=True)],
        "MultiLevelRoIsNum": [o.cast(counts_of(s), dtype="int32") for s in splits],
        "RestoreIndex": Lod(column(restore, "int32")),
    }


# ---- targets -----------------------------------------------------------------------------------


def _key(op: Op, default: bool) -> Any:
    return random_key() if op.attr("use_random", default) else None


def _anchor_targets(found: Sequence[Any]) -> dict[str, Any]:
    located, scored, deltas, labels, weights, places, scores = found
    return {
        "LocationIndex": Lod(o.cast(located, dtype="int32"), (places,)),
        "ScoreIndex": Lod(o.cast(scored, dtype="int32"), (scores,)),
        "TargetBBox": Lod(deltas, (places,)),
        "TargetLabel": Lod(column(labels, "int32"), (scores,)),
        "BBoxInsideWeight": Lod(weights, (places,)),
    }


@fluid_op("rpn_target_assign")
def rpn_target_assign(op: Op) -> dict[str, Any]:
    found = o.rpn_target_assign(
        op.input("Anchor"),
        op.input("GtBoxes"),
        flat(op.input("IsCrowd")),
        op.need_lod("GtBoxes")[-1],
        op.input("ImInfo"),
        _key(op, True),
        located=op.symbol("located"),
        scored=op.symbol("scored"),
        count=op.attr("rpn_batch_size_per_im", 256),
        fraction=op.attr("rpn_fg_fraction", 0.25),
        straddle=op.attr("rpn_straddle_thresh", 0.0),
        positive=op.attr("rpn_positive_overlap", 0.7),
        negative=op.attr("rpn_negative_overlap", 0.3),
    )
    return _anchor_targets(found)


@fluid_op("retinanet_target_assign")
def retinanet_target_assign(op: Op) -> dict[str, Any]:
    *found, positives = o.retinanet_target_assign(
        op.input("Anchor"),
        op.input("GtBoxes"),
        flat(op.input("GtLabels")),
        flat(op.input("IsCrowd")),
        op.need_lod("GtBoxes")[-1],
        op.input("ImInfo"),
        located=op.symbol("located"),
        scored=op.symbol("scored"),
        positive=op.attr("positive_overlap", 0.5),
        negative=op.attr("negative_overlap", 0.4),
    )
    count = positives.shape[0]
    each = o.arange(stop=count + 1)
    return _anchor_targets(found) | {"ForegroundNumber": Lod(column(positives, "int32"), (each,))}


@fluid_op("generate_proposal_labels")
def generate_proposal_labels(op: Op) -> dict[str, Any]:
    rois, labels, targets, inside, outside, splits = o.sample_proposals(
        op.input("RpnRois"),
        op.need_lod("RpnRois")[-1],
        op.input("GtBoxes"),
        flat(op.input("GtClasses")),
        flat(op.input("IsCrowd")),
        op.need_lod("GtBoxes")[-1],
        op.input("ImInfo"),
        _key(op, True),
        size=op.symbol("sampled"),
        classes=op.need_attr("class_nums"),
        count=op.attr("batch_size_per_im", 256),
        fraction=op.attr("fg_fraction", 0.25),
        foreground=op.attr("fg_thresh", 0.25),
        background=(op.attr("bg_thresh_lo", 0.0), op.attr("bg_thresh_hi", 0.5)),
        weights=op.attr("bbox_reg_weights", (0.1, 0.1, 0.2, 0.2)),
        cascade=op.attr("is_cascade_rcnn", False),
        agnostic=op.attr("is_cls_agnostic", False),
    )
    found = {
        "Rois": rois,
        "LabelsInt32": column(labels, "int32"),
        "BboxTargets": targets,
        "BboxInsideWeights": inside,
        "BboxOutsideWeights": outside,
    }
    return {slot: Lod(value, (splits,)) for slot, value in found.items()}


@fluid_op("generate_mask_labels")
def generate_mask_labels(op: Op) -> dict[str, Any]:
    objects, polygons, points = op.need_lod("GtSegms", 3)
    rois, index, masks, splits = o.mask_targets(
        op.input("ImInfo"),
        flat(op.input("GtClasses")),
        flat(op.input("IsCrowd")),
        objects,
        op.input("GtSegms"),
        polygons,
        points,
        op.input("Rois"),
        flat(op.input("LabelsInt32")),
        op.need_lod("Rois")[-1],
        size=op.symbol("masks"),
        class_count=op.need_attr("num_classes"),
        resolution=op.need_attr("resolution"),
    )
    return {
        "MaskRois": Lod(rois, (splits,)),
        "RoiHasMaskInt32": Lod(column(index, "int32"), (splits,)),
        "MaskInt32": Lod(masks, (splits,)),
    }
