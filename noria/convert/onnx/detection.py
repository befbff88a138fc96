"""Object detection: suppression, pooling of regions."""

from __future__ import annotations

from typing import Any

from noria.convert.onnx.handlers import Node, onnx_op
from noria.core.errors import FormatError
from noria.ir.opdef import vocabulary as o


@onnx_op("NonMaxSuppression", since=10)
def non_max_suppression(
    node: Node,
    boxes: Any,
    scores: Any,
    limit: Any = None,
    iou_threshold: Any = None,
    score_threshold: Any = None,
) -> Any:
    return o.non_max_suppression(
        boxes,
        scores,
        limit,
        iou_threshold,
        score_threshold,
        size=node.symbol("selected"),
        centers=bool(node.attr("center_point_box", 0)),
    )


def _align(node: Node, x: Any, rois: Any, batch: Any, default: str) -> Any:
    mode = node.attr("coordinate_transformation_mode", default)
    if mode not in ("half_pixel", "output_half_pixel"):
        raise FormatError("unknown coordinate_transformation_mode", got=mode, where=str(node))
    return o.roi_align(
        x,
        rois,
        batch,
        size=(node.attr("output_height", 1), node.attr("output_width", 1)),
        scale=node.attr("spatial_scale", 1.0),
        samples=node.attr("sampling_ratio", 0),
        aligned=mode == "half_pixel",
        mode=node.attr("mode", "avg"),
    )


@onnx_op("RoiAlign", since=10)
def roi_align_10(node: Node, x: Any, rois: Any, batch: Any) -> Any:
    return _align(node, x, rois, batch, "output_half_pixel")


@onnx_op("RoiAlign", since=16)
def roi_align(node: Node, x: Any, rois: Any, batch: Any) -> Any:
    return _align(node, x, rois, batch, "half_pixel")


@onnx_op("MaxRoiPool", since=1)
def max_roi_pool(node: Node, x: Any, rois: Any) -> Any:
    """rois: [R, 5], the number of the image first."""
    first = o.slice(rois, axes=(1,), starts=(0,), stops=(1,))
    batch = o.cast(o.squeeze(first, axis=(1,)), dtype="int64")
    corners = o.slice(rois, axes=(1,), starts=(1,), stops=(5,))
    scale = node.attr("spatial_scale", 1.0)
    out, _ = o.roi_pool(x, corners, batch, size=node.need("pooled_shape"), scale=scale)
    return out
