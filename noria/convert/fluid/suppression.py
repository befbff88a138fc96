"""Suppression of boxes that overlap better ones."""

from __future__ import annotations

from typing import Any

from noria.convert.fluid.handlers import Lod, Op, fluid_op
from noria.convert.fluid.packing import column, counts_of, splits_of_counts
from noria.ir.opdef import vocabulary as o


def _limits(op: Op, background: int) -> dict[str, Any]:
    return {
        "iou_threshold": op.attr("nms_threshold", 0.3),
        "score_threshold": op.attr("score_threshold", 0.0),
        "eta": op.attr("nms_eta", 1.0),
        "top_k": op.attr("nms_top_k", -1),
        "keep": op.attr("keep_top_k", -1),
        "background": op.attr("background_label", background),
        "normalized": op.attr("normalized", True),
    }


def _or_none(op: Op, found: Any, splits: Any) -> Lod:
    names = {k: op.symbol(k) for k in ("size", "width", "rows")}
    marked, splits = o.detections_or_none(found, splits, **names)
    return Lod(marked, (splits,))


@fluid_op("multiclass_nms", "multiclass_nms2", "multiclass_nms3")
def multiclass_nms(op: Op) -> dict[str, Any]:
    boxes, scores, splits = op.input("BBoxes"), op.input("Scores"), None
    if scores.ndim == 2:
        count = op.get("RoisNum")
        splits = op.need_lod("BBoxes")[-1] if count is None else splits_of_counts(count)
    size = op.symbol("detections")
    found, index, splits = o.multiclass_nms(boxes, scores, splits, size=size, **_limits(op, 0))
    if op.type == "multiclass_nms":
        return {"Out": _or_none(op, found, splits)}
    return {
        "Out": Lod(found, (splits,)),
        "Index": Lod(column(index, "int32"), (splits,)),
        "NmsRoisNum": o.cast(counts_of(splits), dtype="int32"),
    }


@fluid_op("locality_aware_nms")
def locality_aware_nms(op: Op) -> dict[str, Any]:
    size = op.symbol("detections")
    found, splits = o.locality_aware_nms(
        op.input("BBoxes"), op.input("Scores"), size=size, **_limits(op, -1)
    )
    return {"Out": _or_none(op, found, splits)}


@fluid_op("matrix_nms")
def matrix_nms(op: Op) -> dict[str, Any]:
    found, index, splits = o.matrix_nms(
        op.input("BBoxes"),
        op.input("Scores"),
        size=op.symbol("detections"),
        score_threshold=op.attr("score_threshold", 0.0),
        post_threshold=op.attr("post_threshold", 0.0),
        top_k=op.attr("nms_top_k", -1),
        keep=op.attr("keep_top_k", -1),
        background=op.attr("background_label", 0),
        normalized=op.attr("normalized", True),
        sigma=op.attr("gaussian_sigma", 2.0) if op.attr("use_gaussian", False) else None,
    )
    return {
        "Out": Lod(found, (splits,)),
        "Index": Lod(column(index, "int32"), (splits,)),
        "RoisNum": o.cast(counts_of(splits), dtype="int32"),
    }


@fluid_op("retinanet_detection_output")
def retinanet_detection_output(op: Op) -> dict[str, Any]:
    levels = zip(op.inputs("BBoxes"), op.inputs("Scores"), op.inputs("Anchors"), strict=True)
    found, splits = o.retinanet_detections(
        op.input("ImInfo"),
        *(part for level in levels for part in level),
        size=op.symbol("detections"),
        score_threshold=op.attr("score_threshold", 0.05),
        top_k=op.attr("nms_top_k", 1000),
        iou_threshold=op.attr("nms_threshold", 0.3),
        eta=op.attr("nms_eta", 1.0),
        keep=op.attr("keep_top_k", 100),
    )
    return {"Out": Lod(found, (splits,))}
