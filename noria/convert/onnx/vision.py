"""Resizing, sampling and decoding of images in ONNX."""

from __future__ import annotations

from typing import Any

import numpy as np

from noria.convert.onnx.handlers import Node, onnx_op
from noria.core.dims import Size
from noria.core.dtypes import as_dtype, is_float, to_numpy
from noria.core.errors import FormatError, ShapeError
from noria.ir.opdef import vocabulary as o
from noria.ops.resample import scaled
from noria.ops.sampling import affine_grid

# ---- resizing ----------------------------------------------------------------------------------


@onnx_op("Upsample", since=7)
def upsample_by_attribute(node: Node, x: Any) -> Any:
    return _simple(node, x, node.need("scales"))


@onnx_op("Upsample", since=9)
def upsample(node: Node, x: Any, scales: Any) -> Any:
    return _simple(node, x, node.const(scales, "the scales"))


@onnx_op("Resize", since=10)
def resize_by_scales(node: Node, x: Any, scales: Any) -> Any:
    return _simple(node, x, node.const(scales, "the scales"))


def _simple(node: Node, x: Any, scales: Any) -> Any:
    """What resizing was before there were coordinates: element y lies at y / scale."""
    how = {"mode": node.attr("mode", "nearest"), "coordinates": "asymmetric", "rounding": "floor"}
    return _resized(node, x, range(len(x.shape)), _by_scales(x, scales), how)


@onnx_op("Resize", since=11)
def resize(node: Node, x: Any, roi: Any = None, scales: Any = None, sizes: Any = None) -> Any:
    axes = tuple(a % len(x.shape) for a in node.attr("axes") or range(len(x.shape)))
    how = {
        "mode": node.attr("mode", "nearest"),
        "coordinates": node.attr("coordinate_transformation_mode", "half_pixel"),
        "rounding": node.attr("nearest_mode", "round_prefer_floor"),
        "cubic_a": node.attr("cubic_coeff_a", -0.75),
        "antialias": bool(node.attr("antialias", 0)),
        "exclude_outside": bool(node.attr("exclude_outside", 0)),
    }
    if how["coordinates"] == "tf_half_pixel_for_nn":
        how |= {"coordinates": "half_pixel", "rounding": _half_later(node, how["rounding"])}
    if how["coordinates"] == "tf_crop_and_resize":
        how["crop"] = tuple(float(v) for v in np.ravel(node.const(roi, "the region")))
        how["beyond"] = node.attr("extrapolation_value", 0.0)
    given = None if scales is None else node.const(scales, "the scales")
    if given is not None and given.size:
        return _resized(node, x, axes, _by_scales(x, given, axes), how)
    if sizes is None:
        raise FormatError("either scales or sizes", where=str(node))
    return _resized(node, x, axes, _by_sizes(node, x, sizes, axes), how)


def _half_later(node: Node, rounding: str) -> str:
    """The rounding of y that gives what `rounding` gives of y + 0.5."""
    found = {"floor": "round_prefer_ceil", "round_prefer_floor": "ceil"}.get(rounding)
    if found is None:
        raise FormatError(f"tf_half_pixel_for_nn with '{rounding}'", where=str(node))
    return found


Targets = tuple[list[Size], list[float] | None]


def _by_scales(x: Any, scales: Any, axes: Any = None) -> Targets:
    numbers = [float(s) for s in np.ravel(scales)]
    old = [x.shape[a] for a in (range(len(x.shape)) if axes is None else axes)]
    if len(old) != len(numbers):
        raise ShapeError("one scale for each axis", expected=f"{len(old)}", got=f"{numbers}")
    return [scaled(size, s) for size, s in zip(old, numbers, strict=True)], numbers


def _by_sizes(node: Node, x: Any, sizes: Any, axes: tuple[int, ...]) -> Targets:
    wanted = list(node.sizes(sizes))
    policy = node.attr("keep_aspect_ratio_policy", "stretch")
    if len(wanted) != len(axes):
        raise ShapeError("one size for each axis", expected=f"{len(axes)}", got=f"{wanted}")
    if policy == "stretch":
        return wanted, None
    choose = {"not_larger": min, "not_smaller": max}.get(policy)
    old = [x.shape[a] for a in axes]
    if choose is None or not all(isinstance(d, int) for d in (*old, *wanted)):
        raise FormatError(
            "an aspect ratio is kept of sizes that are known",
            got=f"{policy}, {old} and {wanted}",
            where=str(node),
        )
    scale = choose(new / size for new, size in zip(wanted, old, strict=True))
    return [int(scale * size + 0.5) for size in old], [scale] * len(axes)


def _resized(node: Node, x: Any, axes: Any, targets: Targets, how: dict[str, Any]) -> Any:
    """x resized along those axes that change. Integers are interpolated in floats and rounded."""
    sizes, scales = targets
    crop = how.pop("crop", None)
    kept = []
    for i, axis in enumerate(axes):
        part = None if crop is None else (crop[i], crop[i + len(sizes)])
        same = x.shape[axis] == sizes[i] and (scales is None or scales[i] == 1)
        if not same or part not in (None, (0.0, 1.0)):
            kept.append(i)
    if not kept:
        return x
    how |= {"sizes": tuple(sizes[i] for i in kept), "axes": tuple(axes[i] for i in kept)}
    if scales is not None:
        how["scales"] = tuple(scales[i] for i in kept)
    if crop is not None:
        ends = (0, len(sizes))
        how["crop"] = tuple(crop[i + end] for end in ends for i in kept)
    dtype = as_dtype(x.dtype)
    if is_float(dtype) or how["mode"] == "nearest":
        return o.resize(x, **how)
    limits = np.iinfo(to_numpy(dtype))
    out = o.round(o.resize(o.cast(x, dtype="float64"), **how))
    return o.cast(o.clip(out, low=float(limits.min), high=float(limits.max)), dtype=dtype)


# ---- sampling ----------------------------------------------------------------------------------

_SAMPLING = {"linear": "bilinear", "cubic": "bicubic"}


@onnx_op("GridSample", since=16)
def grid_sample(node: Node, x: Any, grid: Any) -> Any:
    mode = node.attr("mode", "bilinear")
    return o.grid_sample(
        x,
        grid,
        mode=_SAMPLING.get(mode, mode),
        padding_mode=node.attr("padding_mode", "zeros"),
        align_corners=bool(node.attr("align_corners", 0)),
    )


@onnx_op("AffineGrid", since=20)
def affine(node: Node, theta: Any, size: Any) -> Any:
    sizes = node.sizes(size)[2:]
    return affine_grid(theta, sizes=sizes, align_corners=bool(node.attr("align_corners", 0)))


# ---- decoding ----------------------------------------------------------------------------------


@onnx_op("ImageDecoder", since=20)
def image_decoder(node: Node, data: Any) -> Any:
    sizes = {"height": node.symbol("height"), "width": node.symbol("width")}
    return o.decode_image(data, pixels=node.attr("pixel_format", "RGB"), **sizes)
