"""Object detection: boxes, priors, matching, YOLO, metrics."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from noria.convert.fluid.handlers import Lod, Op, fluid_op
from noria.convert.fluid.packing import column, flat
from noria.core.dtypes import to_numpy
from noria.ir.opdef import vocabulary as o
from noria.ops.detection.average_precision import mean_iou as iou_of_classes
from noria.ops.detection.boxes import (
    box_clip,
    box_decode,
    box_encode,
    box_iou,
    box_transform,
    polygon_from_offsets,
)
from noria.ops.detection.losses import sigmoid_focal_loss
from noria.ops.detection.proposals import box_assign
from noria.ops.detection.yolo import yolo_box
from noria.ops.numeric import spec_of

# ---- boxes -------------------------------------------------------------------------------------


@fluid_op("iou_similarity")
def iou_similarity(op: Op) -> dict[str, Any]:
    normalized = op.attr("box_normalized", True)
    return {"Out": box_iou(op.input("X"), op.input("Y"), normalized=normalized)}


@fluid_op("box_coder")
def box_coder(op: Op) -> dict[str, Any]:
    priors, target, variances = op.input("PriorBox"), op.input("TargetBox"), op.get("PriorBoxVar")
    normalized = op.attr("box_normalized", True)
    if variances is None and op.attr("variance"):
        variances = np.asarray(op.attr("variance"), to_numpy(spec_of(priors).dtype))
    if op.attr("code_type", "encode_center_size") == "encode_center_size":
        return {"OutputBox": box_encode(target, priors, variances, normalized=normalized)}
    axis = (op.attr("axis", 0),)
    if variances is not None and variances.ndim == 2:
        variances = o.unsqueeze(variances, axis=axis)
    priors = o.unsqueeze(priors, axis=axis)
    return {"OutputBox": box_decode(target, priors, variances, normalized=normalized)}


@fluid_op("box_clip")
def clip(op: Op) -> dict[str, Any]:
    boxes, info = op.input("Input"), op.input("ImInfo")
    ids = o.sequence_ids(op.need_lod("Input")[-1], total=boxes.shape[0])
    info = o.gather(info, ids)
    shape = (boxes.shape[0], *(1,) * (boxes.ndim - 2))
    height, width, scale = (o.reshape(_part(info, i), shape=shape) for i in range(3))

    def last(size: Any) -> Any:
        return o.sub(o.floor(o.add(o.div(size, scale), 0.5)), 1.0)

    return {"Output": box_clip(boxes, last(width), last(height))}


def _part(x: Any, column: int) -> Any:
    return o.slice(x, axes=(1,), starts=(column,), stops=(column + 1,))


@fluid_op("box_decoder_and_assign")
def box_decoder_and_assign(op: Op) -> dict[str, Any]:
    priors, deltas, scores = op.input("PriorBox"), op.input("TargetBox"), op.input("BoxScore")
    rows, classes = scores.shape
    moves = o.reshape(deltas, shape=(rows, classes, 4))
    if op.get("PriorBoxVar") is not None:
        moves = o.mul(moves, o.reshape(op.input("PriorBoxVar"), shape=(4,)))
    boxes = box_transform(
        o.unsqueeze(priors, axis=(1,)), moves, clip=op.attr("box_clip", 4.135166556742356)
    )
    decoded = o.reshape(boxes, shape=(rows, deltas.shape[1]))
    assigned = box_assign(decoded, scores, priors)
    return {"DecodeBox": decoded, "OutputAssignBox": assigned}


@fluid_op("polygon_box_transform")
def polygon_box_transform(op: Op) -> dict[str, Any]:
    return {"Output": polygon_from_offsets(op.input("Input"))}


# ---- priors ------------------------------------------------------------------------------------


def _with_variances(op: Op, boxes: Any) -> tuple[Any, Any]:
    numbers = np.asarray(op.need_attr("variances"), to_numpy(spec_of(boxes).dtype))
    return boxes, o.broadcast_to(numbers, shape=boxes.shape)


def _steps(op: Op) -> tuple[float, float]:
    return op.attr("step_h", 0.0), op.attr("step_w", 0.0)


@fluid_op("prior_box")
def prior_box(op: Op) -> dict[str, Any]:
    x, image = op.input("Input"), op.input("Image")
    boxes, variances = _with_variances(
        op,
        o.prior_boxes(
            feature_size=x.shape[2:],
            image_size=image.shape[2:],
            min_sizes=op.need_attr("min_sizes"),
            max_sizes=op.attr("max_sizes", ()),
            aspect_ratios=op.attr("aspect_ratios", ()),
            flip=op.attr("flip", True),
            clip=op.attr("clip", True),
            steps=_steps(op),
            offset=op.attr("offset", 0.5),
            squares_first=op.attr("min_max_aspect_ratios_order", False),
            dtype=spec_of(x).dtype,
        ),
    )
    return {"Boxes": Lod(boxes), "Variances": Lod(variances)}


@fluid_op("density_prior_box")
def density_prior_box(op: Op) -> dict[str, Any]:
    x, image = op.input("Input"), op.input("Image")
    found = _with_variances(
        op,
        o.density_prior_boxes(
            feature_size=x.shape[2:],
            image_size=image.shape[2:],
            fixed_sizes=op.attr("fixed_sizes", ()),
            fixed_ratios=op.attr("fixed_ratios", ()),
            densities=op.attr("densities", ()),
            clip=op.attr("clip", True),
            steps=_steps(op),
            offset=op.attr("offset", 0.5),
            dtype=spec_of(x).dtype,
        ),
    )
    if op.attr("flatten_to_2d", False):
        height, width, count, _ = found[0].shape
        found = tuple(o.reshape(v, shape=(height * width * count, 4)) for v in found)
    return {"Boxes": Lod(found[0]), "Variances": Lod(found[1])}


@fluid_op("anchor_generator")
def anchor_generator(op: Op) -> dict[str, Any]:
    x = op.input("Input")
    boxes, variances = _with_variances(
        op,
        o.anchor_boxes(
            feature_size=x.shape[2:],
            sizes=op.need_attr("anchor_sizes"),
            aspect_ratios=op.need_attr("aspect_ratios"),
            stride=op.need_attr("stride"),
            offset=op.attr("offset", 0.5),
            dtype=spec_of(x).dtype,
        ),
    )
    return {"Anchors": Lod(boxes), "Variances": Lod(variances)}


# ---- matching ----------------------------------------------------------------------------------


@fluid_op("bipartite_match")
def bipartite_match(op: Op) -> dict[str, Any]:
    splits = op.lod("DistMat")
    every = op.attr("match_type", "bipartite") == "per_prediction"
    match, overlap = o.bipartite_match(
        op.input("DistMat"),
        splits[-1] if splits else None,
        threshold=op.attr("dist_threshold", 0.5) if every else None,
    )
    match = Lod(o.cast(match, dtype="int32"))
    return {"ColToRowMatchIndices": match, "ColToRowMatchDist": Lod(overlap)}


@fluid_op("target_assign")
def target_assign(op: Op) -> dict[str, Any]:
    negatives = op.get("NegIndices")
    targets, weights = o.target_assign(
        op.input("X"),
        op.input("MatchIndices"),
        op.need_lod("X")[-1],
        None if negatives is None else flat(negatives),
        None if negatives is None else op.need_lod("NegIndices")[-1],
        mismatch=op.attr("mismatch_value", 0),
    )
    return {"Out": Lod(targets), "OutWeight": Lod(weights)}


@fluid_op("mine_hard_examples")
def mine_hard_examples(op: Op) -> dict[str, Any]:
    negatives, splits, match = o.mine_hard_examples(
        op.input("ClsLoss"),
        op.input("MatchIndices"),
        op.input("MatchDist"),
        op.get("LocLoss"),
        size=op.symbol("negatives"),
        mining=op.attr("mining_type", "max_negative"),
        ratio=op.attr("neg_pos_ratio", 1.0),
        threshold=op.attr("neg_dist_threshold", 0.5),
        sample_size=op.attr("sample_size", 0),
    )
    return {
        "NegIndices": Lod(column(negatives, "int32"), (splits,)),
        "UpdatedMatchIndices": match,
    }


# ---- YOLO, focal loss --------------------------------------------------------------------------


@fluid_op("yolo_box")
def yolo(op: Op) -> dict[str, Any]:
    boxes, scores = yolo_box(
        op.input("X"),
        op.input("ImgSize"),
        anchors=op.need_attr("anchors"),
        classes=op.need_attr("class_num"),
        downsample=op.attr("downsample_ratio", 32),
        threshold=op.attr("conf_thresh", 0.01),
        clip=op.attr("clip_bbox", True),
        scale=op.attr("scale_x_y", 1.0),
        iou_factor=op.attr("iou_aware_factor", 0.5) if op.attr("iou_aware", False) else None,
    )
    return {"Boxes": boxes, "Scores": scores}


@fluid_op("yolov3_loss")
def yolov3_loss(op: Op) -> dict[str, Any]:
    loss, objectness, match = o.yolov3_loss(
        op.input("X"),
        op.input("GTBox"),
        op.input("GTLabel"),
        op.get("GTScore"),
        anchors=op.need_attr("anchors"),
        mask=op.need_attr("anchor_mask"),
        classes=op.need_attr("class_num"),
        downsample=op.attr("downsample_ratio", 32),
        ignore=op.attr("ignore_thresh", 0.7),
        smooth=op.attr("use_label_smooth", True),
        scale=op.attr("scale_x_y", 1.0),
    )
    return {"Loss": loss, "ObjectnessMask": objectness, "GTMatchMask": match}


@fluid_op("sigmoid_focal_loss")
def focal_loss(op: Op) -> dict[str, Any]:
    how = {"gamma": op.attr("gamma", 2.0), "alpha": op.attr("alpha", 0.25)}
    labels, positives = flat(op.input("Label")), op.input("FgNum")
    return {"Out": sigmoid_focal_loss(op.input("X"), labels, positives, **how)}


# ---- metrics -----------------------------------------------------------------------------------


@fluid_op("detection_map")
def detection_map(op: Op) -> dict[str, Any]:
    state: list[Any] = []
    if op.get("PosCount") is not None:
        state = [op.get("HasState"), flat(op.input("PosCount"))]
        for slot in ("TruePos", "FalsePos"):
            state += [op.input(slot), op.need_lod(slot)[-1]]
    value, objects, hits, hit_splits, misses, miss_splits = o.detection_map(
        op.input("DetectRes"),
        op.need_lod("DetectRes")[-1],
        op.input("Label"),
        op.need_lod("Label")[-1],
        *state,
        classes=op.need_attr("class_num"),
        size=op.symbol("judged"),
        overlap=op.attr("overlap_threshold", 0.5),
        difficult=op.attr("evaluate_difficult", True),
        kind=op.attr("ap_type", "integral"),
        skipped=op.attr("background_label", 0),
    )
    return {
        "MAP": Lod(o.reshape(value, shape=(1,))),
        "AccumPosCount": Lod(column(objects, "int32")),
        "AccumTruePos": Lod(hits, (hit_splits,)),
        "AccumFalsePos": Lod(misses, (miss_splits,)),
    }


@fluid_op("mean_iou")
def mean_iou(op: Op) -> dict[str, Any]:
    def total(slot: str) -> Any:
        values = op.inputs(slot)
        return functools.reduce(o.add, values) if values else 0

    mean, wrong, correct = iou_of_classes(
        op.input("Predictions"),
        op.input("Labels"),
        classes=op.need_attr("num_classes"),
        wrong=total("InWrongs"),
        correct=total("InCorrects"),
    )
    mean = o.add(o.reshape(mean, shape=(1,)), total("InMeanIou"))
    counts = {"OutWrong": wrong, "OutCorrect": correct}
    return {"OutMeanIou": mean} | {k: o.cast(v, dtype="int32") for k, v in counts.items()}
