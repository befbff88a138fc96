"""Suppression, regions, and what occurs once, as ONNX."""

from __future__ import annotations

from typing import Any

import numpy as np

from noria.convert.onnx.export_graph import Graph, element_type, emitter
from noria.convert.onnx.export_index import wide_index
from noria.ir.program import Operator, Value

# ---- suppression ---------------------------------------------------------------------------------


@emitter("non_max_suppression")
def non_max_suppression(
    g: Graph, op: Operator, boxes: str, scores: str, *bounds: str | None
) -> str | None:
    if any(v.dtype != "float32" for v in op.operands[:2]):
        return None
    limit, *thresholds = [*bounds, None, None, None][:3]
    given = op.inputs[2] if len(op.inputs) > 2 else None
    count = None if given is None or limit is None else _vector(g, wide_index(g, limit, given))
    rest = [None if t is None else _vector(g, t) for t in thresholds]
    centers = int(op.attrs["centers"])
    return g.node("NonMaxSuppression", boxes, scores, count, *rest, center_point_box=centers)


def _vector(g: Graph, x: str) -> str:
    return g.node("Reshape", x, g.ints(1))


@emitter("multiclass_nms")
def multiclass_nms(
    g: Graph, op: Operator, boxes: str, scores: str, splits: str | None = None
) -> Any:
    """ONNX's suppression of the `top_k` scores of each class; then the best `keep` of each image.

    Boxes of each class, polygons, pixels and falling thresholds ONNX has not.
    """
    shapes, attrs = op.operands[0], op.attrs
    plain = splits is None and shapes.dtype == "float32" and shapes.shape[2] == 4
    if not plain or attrs["eta"] != 1 or not attrs["normalized"]:
        return None
    chosen = _candidates(g, op, scores)
    bounds = [g.constant([attrs[k]], "float32") for k in ("iou_threshold", "score_threshold")]
    found = g.node("NonMaxSuppression", boxes, chosen, g.vector(shapes.shape[1]), *bounds)
    if attrs["keep"] >= 0:
        found = g.node("Compress", found, _best(g, found, scores, attrs["keep"]), axis=0)
    image, label, box = (g.node("Gather", found, g.size(i), axis=1) for i in range(3))
    score = g.node("Unsqueeze", g.node("GatherND", scores, found), g.ints(1))
    corners = g.node("GatherND", boxes, g.node("Gather", found, g.ints(0, 2), axis=1))
    number = g.node("Cast", g.node("Unsqueeze", label, g.ints(1)), to=element_type("float32"))
    detections = g.node("Concat", number, score, corners, axis=1)
    index = g.node("Add", g.node("Mul", image, g.size(shapes.shape[1])), box)
    return detections, index, _splits(g, image, shapes)


def _candidates(g: Graph, op: Operator, scores: str) -> str:
    """The scores, -inf for those of the background and beyond the best `top_k` of a class."""
    value, attrs = op.operands[1], op.attrs
    lowest = g.constant(-np.inf, "float32")
    if attrs["background"] >= 0:
        classes = g.node("Range", g.size(0), g.size(value.shape[1]), g.size(1))
        behind = g.node(
            "Equal", g.node("Unsqueeze", classes, g.ints(1)), g.size(attrs["background"])
        )
        scores = g.node("Where", behind, lowest, scores)
    if attrs["top_k"] < 0:
        return scores
    count = g.node("Min", g.ints(attrs["top_k"]), g.vector(value.shape[2]))
    values, places = g.node("TopK", scores, count, outputs=2, axis=2)
    nothing = g.node("Expand", lowest, g.shape(value.shape))
    return g.node("ScatterElements", nothing, places, values, axis=2)


def _best(g: Graph, found: str, scores: str, keep: int) -> str:
    """Whether fewer than `keep` of the same image are better, earlier ones among equals."""
    image = g.node("Gather", found, g.ints(0), axis=1)
    score = g.node("Unsqueeze", g.node("GatherND", scores, found), g.ints(1))
    count = g.node("Squeeze", g.node("Shape", score, start=0, end=1), g.ints(0))
    place = g.node("Unsqueeze", g.node("Range", g.size(0), count, g.size(1)), g.ints(1))
    turned = [g.node("Transpose", v, perm=(1, 0)) for v in (image, score, place)]
    earlier = g.node("And", g.node("Equal", score, turned[1]), g.node("Greater", place, turned[2]))
    better = g.node("Or", g.node("Less", score, turned[1]), earlier)
    rivals = g.node("And", g.node("Equal", image, turned[0]), better)
    number = g.node("ReduceSum", g.node("Cast", rivals, to=7), g.ints(1), keepdims=0)
    return g.node("Less", number, g.size(keep))


def _splits(g: Graph, image: str, boxes: Value) -> str:
    """row_splits [N + 1] of what is found, whose image numbers come in order."""
    zeros = g.node("ConstantOfShape", g.vector(boxes.shape[0]), value=np.zeros(1, np.int64))
    ones = g.node("ConstantOfShape", g.node("Shape", image), value=np.ones(1, np.int64))
    counts = g.node("ScatterElements", zeros, image, ones, axis=0, reduction="add")
    return g.node("Concat", g.ints(0), g.node("CumSum", counts, g.size(0)), axis=0)


# ---- regions and places --------------------------------------------------------------------------


@emitter("roi_align")
def roi_align(g: Graph, op: Operator, x: str, rois: str, batch: str) -> str:
    size, aligned = op.attrs["size"], op.attrs["aligned"]
    height, width = (size, size) if isinstance(size, int) else size
    return g.node(
        "RoiAlign",
        x,
        rois,
        wide_index(g, batch, op.operands[2]),
        output_height=height,
        output_width=width,
        sampling_ratio=op.attrs["samples"],
        spatial_scale=float(op.attrs["scale"]),
        coordinate_transformation_mode="half_pixel" if aligned else "output_half_pixel",
        mode=op.attrs["mode"],
    )


@emitter("unique")
def unique(g: Graph, op: Operator, x: str) -> Any:
    return g.node("Unique", x, outputs=4, axis=op.attrs["axis"], sorted=op.attrs["sorted"])
