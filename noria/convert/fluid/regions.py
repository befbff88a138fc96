"""Pooling of regions of a feature map."""

from __future__ import annotations

from typing import Any

from noria.convert.fluid.handlers import Lod, Op, fluid_op
from noria.convert.fluid.packing import splits_of_counts
from noria.ir.opdef import vocabulary as o


def _images(op: Op) -> Any:
    """The image of each region, told by rows, by splits or by counts."""
    rois, counts = op.input("ROIs"), op.get("BatchRoINums")
    if counts is None:
        counts = op.get("RoisNum")
    if op.get("RoisLod") is not None:
        splits = op.input("RoisLod")
    elif counts is not None:
        splits = splits_of_counts(counts)
    else:
        splits = op.need_lod("ROIs")[-1]
    return o.sequence_ids(splits, total=rois.shape[0])


def _how(op: Op) -> dict[str, Any]:
    return {
        "size": (op.attr("pooled_height", 1), op.attr("pooled_width", 1)),
        "scale": op.attr("spatial_scale", 1.0),
    }


@fluid_op("roi_pool")
def roi_pool(op: Op) -> dict[str, Any]:
    out, argmax = o.roi_pool(op.input("X"), op.input("ROIs"), _images(op), **_how(op))
    return {"Out": Lod(out), "Argmax": Lod(argmax)}


@fluid_op("roi_align")
def roi_align(op: Op) -> dict[str, Any]:
    out = o.roi_align(
        op.input("X"),
        op.input("ROIs"),
        _images(op),
        samples=max(op.attr("sampling_ratio", -1), 0),
        aligned=op.attr("aligned", False),
        **_how(op),
    )
    return {"Out": Lod(out)}


@fluid_op("psroi_pool", "prroi_pool")
def bins(op: Op) -> dict[str, Any]:
    fn = o.psroi_pool if op.type == "psroi_pool" else o.prroi_pool
    return {"Out": Lod(fn(op.input("X"), op.input("ROIs"), _images(op), **_how(op)))}


@fluid_op("deformable_psroi_pooling")
def deformable_psroi_pooling(op: Op) -> dict[str, Any]:
    out, count = o.deformable_psroi_pool(
        op.input("Input"),
        op.input("ROIs"),
        _images(op),
        None if op.attr("no_trans", False) else op.input("Trans"),
        channels=op.need_attr("output_dim"),
        group=op.attr("group_size", (1, 1)),
        part=op.attr("part_size"),
        samples=op.attr("sample_per_part", 1),
        spread=op.attr("trans_std", 0.1),
        **_how(op),
    )
    return {"Output": Lod(out), "TopCount": Lod(count)}


@fluid_op("roi_perspective_transform")
def roi_perspective_transform(op: Op) -> dict[str, Any]:
    out, mask, matrix = o.roi_perspective_transform(
        op.input("X"),
        op.input("ROIs"),
        _images(op),
        size=(op.attr("transformed_height", 1), op.attr("transformed_width", 1)),
        scale=op.attr("spatial_scale", 1.0),
    )
    return {"Out": Lod(out), "Mask": Lod(mask), "TransformMatrix": Lod(matrix)}
