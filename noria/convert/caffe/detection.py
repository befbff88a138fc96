"""The layers of SSD.  (Liu et al., "SSD: Single shot multibox detector", 2016)"""

from __future__ import annotations

from typing import Any

import numpy as np

from noria.convert.caffe.handlers import Layer, caffe_layer, known
from noria.core.dims import Dim, symbol, symbols_of
from noria.ir.emit import building
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Value
from noria.ops.detection.boxes import box_decode

CODES = {"CORNER": "corner", "CENTER_SIZE": "center_size", "CORNER_SIZE": "corner_size"}


@caffe_layer("PriorBox")
def prior_box(layer: Layer, x: Value, image: Value) -> Any:
    """[1, 2, 4 P]: the priors of all positions, then the variances of each."""
    p = layer.param("prior_box")
    side = (p.img_h or p.img_size, p.img_w or p.img_size)
    sizes = side if all(side) else image.shape[2:]
    steps = (p.step_h or p.step, p.step_w or p.step)
    variance = list(p.variance) or [0.1]
    if len(variance) not in (1, 4):
        raise layer.error("a prior has one variance or four", got=str(len(variance)))
    boxes = o.prior_boxes(
        feature_size=tuple(x.shape[2:]),
        image_size=tuple(sizes),
        min_sizes=tuple(p.min_size),
        max_sizes=tuple(p.max_size),
        aspect_ratios=(1.0, *p.aspect_ratio),
        flip=p.flip,
        clip=p.clip,
        steps=steps if all(steps) else (0.0, 0.0),
        offset=p.offset,
        squares_first=True,
    )
    four = np.array(variance * (4 // len(variance)), np.float32)
    flat = o.reshape(boxes, shape=(1, 1, -1))
    each = o.reshape(o.broadcast_to(four, shape=boxes.shape), shape=(1, 1, -1))
    return o.concat(flat, each, axis=1)


@caffe_layer("DetectionOutput")
def detection_output(layer: Layer, deltas: Value, scores: Value, priors: Value) -> Any:
    """[1, 1, D, 7] of all that is found: image, class, score, x1, y1, x2, y2, as fractions."""
    p = layer.param("detection_output")
    classes = int(p.num_classes)
    if classes < 1:
        raise layer.error("num_classes must be told", got=str(classes))
    count = priors.shape[2] // 4
    boxes, variances = (
        o.reshape(v, shape=(count, 4)) for v in o.split(o.squeeze(priors, axis=0), num=2, axis=0)
    )
    places = 1 if p.share_location else classes
    deltas = o.reshape(deltas, shape=(deltas.shape[0], count, places, 4))
    axes = 1  # priors [P, 1, 4] beside [N, P, places, 4]
    decoded = box_decode(
        deltas,
        o.unsqueeze(boxes, axis=axes),
        None if p.variance_encoded_in_target else o.unsqueeze(variances, axis=axes),
        code=CODES[
            p.DESCRIPTOR.fields_by_name["code_type"].enum_type.values_by_number[p.code_type].name
        ],
    )
    scores = o.reshape(scores, shape=(scores.shape[0], count, classes))
    found, splits = _suppressed(layer, decoded, scores, count, places)
    image = o.cast(o.sequence_ids(splits, total=found.shape[0]), dtype="float32")
    out = o.concat(o.unsqueeze(image, axis=1), found, axis=1)
    return o.unsqueeze(out, axis=(0, 1))


def _suppressed(
    layer: Layer, boxes: Value, scores: Value, count: Any, places: int
) -> tuple[Value, Value]:
    """([class, score, box] of what stays, row_splits of the images)."""
    p = layer.param("detection_output")
    how = {
        "size": _fresh("D"),
        "iou_threshold": float(p.nms_param.nms_threshold),
        "score_threshold": float(p.confidence_threshold) if p.HasField("confidence_threshold")
        else -float(np.finfo(np.float32).max),
        "eta": float(p.nms_param.eta),
        "top_k": int(p.nms_param.top_k) or -1,
        "keep": int(p.keep_top_k) or -1,
        "background": int(p.background_label_id),
    }  # fmt: skip
    if places == 1:
        shared = o.squeeze(boxes, axis=2)
        by_class = o.transpose(scores, perm=(0, 2, 1))
        found, _, splits = o.multiclass_nms(shared, by_class, **how)
        return found, splits
    images, classes = boxes.shape[0], known(boxes.shape[2], layer, "classes")
    rows = o.reshape(boxes, shape=(images * count, classes, 4))
    each = o.reshape(scores, shape=(images * count, classes))
    per_image = o.mul(o.arange(stop=images + 1), o.dim_value(dim=count))
    found, _, splits = o.multiclass_nms(rows, each, per_image, **how)
    return found, splits


def _fresh(name: str) -> str:
    """A symbol that no shape of the Program has yet."""
    block = building().block
    values = [*block.inputs, *(v for op in block.operators for v in op.outputs)]
    taken = set().union(*(symbols_of(v.shape) for v in values))
    while name in taken:
        name += "_"
    size = symbol(name)
    assert isinstance(size, Dim)
    return name
