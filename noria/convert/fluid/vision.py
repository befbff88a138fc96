"""Resizing, sampling, deformable convolution and pooling with indices of Fluid."""

from __future__ import annotations

from typing import Any

import numpy as np

from noria.convert.fluid.handlers import Lod, Op, fluid_op
from noria.core.dims import Dim, Size
from noria.core.dtypes import is_float
from noria.core.errors import ShapeError
from noria.ir.opdef import lookup
from noria.ir.opdef import vocabulary as o
from noria.ops.deform import deform_conv2d
from noria.ops.numeric import spec_of
from noria.ops.resample import scaled
from noria.ops.sampling import affine_grid
from noria.ops.sequence import regular_splits
from noria.ops.unpool import (
    adaptive_max_pool_with_indices,
    max_pool_with_indices,
    max_unpool,
)
from noria.ops.window import slide

# ---- resizing ----------------------------------------------------------------------------------

_METHODS = {
    "linear": "linear",
    "bilinear": "linear",
    "trilinear": "linear",
    "bicubic": "cubic",
    "nearest": "nearest",
}
_INTERP = [f"{m}_interp{version}" for m in _METHODS for version in ("", "_v2")]
ENDLESS = 1e300  # a scale at which the one element of an axis lies at -0.5, as Fluid has it


@fluid_op(*_INTERP)
def interp(op: Op) -> dict[str, Any]:
    x = op.input("X")
    n = len(x.shape) - 2
    last = op.attr("data_layout", "NCHW").endswith("C")
    axes = tuple(range(1, n + 1)) if last else tuple(range(2, n + 2))
    sizes, scales = _target(op, [x.shape[a] for a in axes])
    mode = _METHODS[op.attr("interp_method", op.type.split("_")[0])]
    how: dict[str, Any] = {
        "axes": axes,
        "sizes": tuple(sizes),
        "mode": mode,
        "single": mode == "nearest",
    }
    how |= _coordinates(op, mode)
    if how["coordinates"] != "align_corners" and scales is not None:
        how["scales"] = tuple(scales)
    if mode == "cubic" and how["coordinates"] == "half_pixel" and 1 in sizes:
        old = how.get("scales", (None,) * n)
        how["scales"] = tuple(
            ENDLESS if m == 1 else s or _ratio(m, x.shape[a])
            for m, s, a in zip(sizes, old, axes, strict=True)
        )
    if is_float(spec_of(x).dtype) or mode == "nearest":
        return {"Out": o.resize(x, **how)}
    floats = o.resize(o.cast(x, dtype="float32"), **how)
    return {"Out": o.cast(floats, dtype=spec_of(x).dtype)}


def _coordinates(op: Op, mode: str) -> dict[str, Any]:
    if op.attr("align_corners", True):
        return {"coordinates": "align_corners", "rounding": "round_prefer_ceil"}
    if mode == "nearest" or (mode == "linear" and op.attr("align_mode", 1)):
        return {"coordinates": "asymmetric", "rounding": "floor"}
    return {"coordinates": "half_pixel" if mode == "cubic" else "pytorch_half_pixel"}


def _ratio(new: Size, old: Size) -> float:
    if isinstance(new, Dim) or isinstance(old, Dim):
        raise ShapeError("sizes of which one is 1 must all be known", got=f"{new} of {old}")
    return new / old


def _target(op: Op, old: list[Size]) -> tuple[list[Size], list[float] | None]:
    """Sizes of the result; and the scales, where positions are worked out from these."""
    n = len(old)
    if op.inputs("SizeTensor"):
        parts = [op.sizes(v, "a size of the result")[0] for v in op.inputs("SizeTensor")]
        return parts, None
    given = op.get("Scale")
    numbers = op.attr("scale", 0.0) if given is None else op.const(given, "the scale")
    scales = [float(s) for s in np.ravel(numbers)]
    scales = scales * n if len(scales) == 1 else scales
    sizes: list[Size] = [op.attr(f"out_{axis}", -1) for axis in "dhw"[-n:]]
    scaling = len(scales) == n and all(s > 0 for s in scales)
    if scaling:
        sizes = [_scaled(d, s) for d, s in zip(old, scales, strict=True)]
    if op.get("OutSize") is not None:
        sizes = list(op.sizes(op.get("OutSize"), "the sizes of the result"))
    if len(sizes) != n or any(isinstance(s, int) and s < 1 for s in sizes):
        raise ShapeError(f"{op.type} needs {n} sizes, 1 or more", got=f"{sizes}")
    return sizes, scales if scaling and op.type.endswith("_v2") else None


def _scaled(size: Size, scale: float) -> Size:
    if isinstance(size, Dim):
        return scaled(size, scale)
    return int(np.float32(size) * np.float32(scale))  # in C's floats, then towards zero


# ---- sampling ----------------------------------------------------------------------------------


@fluid_op("grid_sampler")
def grid_sampler(op: Op) -> dict[str, Any]:
    out = o.grid_sample(
        op.input("X"),
        op.input("Grid"),
        mode=op.attr("mode", "bilinear"),
        padding_mode=op.attr("padding_mode", "zeros"),
        align_corners=op.attr("align_corners", True),
    )
    return {"Output": out}


@fluid_op("affine_grid")
def affine(op: Op) -> dict[str, Any]:
    shape = op.get("OutputShape")
    sizes = op.attr("output_shape", ()) if shape is None else op.sizes(shape, "the output's shape")
    corners = op.attr("align_corners", True)
    return {"Output": affine_grid(op.input("Theta"), sizes=sizes[2:], align_corners=corners)}


@fluid_op("deformable_conv", "deformable_conv_v1")
def deformable_conv(op: Op) -> dict[str, Any]:
    out = deform_conv2d(
        op.input("Input"),
        op.input("Offset"),
        op.input("Filter"),
        mask=op.get("Mask"),
        stride=op.attr("strides", (1, 1)),
        padding=op.attr("paddings", (0, 0)),
        dilation=op.attr("dilations", (1, 1)),
    )
    return {"Output": out}


# ---- windows -----------------------------------------------------------------------------------


@fluid_op("unfold")
def unfold(op: Op) -> dict[str, Any]:
    out = o.unfold(
        op.input("X"),
        kernel=op.need_attr("kernel_sizes"),
        stride=op.attr("strides", (1, 1)),
        padding=op.attr("paddings", (0, 0, 0, 0)),
        dilation=op.attr("dilations", (1, 1)),
    )
    return {"Y": out}


@fluid_op("im2sequence")
def im2sequence(op: Op) -> dict[str, Any]:
    """Each window becomes a row, each image a sequence of them."""
    x, real = op.input("X"), op.get("Y")
    kernel, stride = op.need_attr("kernels"), op.attr("strides", (1, 1))
    padding = op.attr("paddings", (0, 0, 0, 0))
    counts = None if real is None else _real_windows(op, real, kernel, stride, padding)
    if counts is not None and len(counts):
        padding = _reaching(x.shape[2:], kernel, stride, padding, counts.max(axis=0))
    windows = slide(x.shape[2:], kernel, stride, padding)
    columns = o.unfold(x, kernel=kernel, stride=stride, padding=padding)
    rows = o.transpose(columns, perm=(0, 2, 1))
    rows = o.reshape(rows, shape=(-1, columns.shape[1]))
    per_image = windows.out[0] * windows.out[1]
    if counts is None:
        return {"Out": Lod(rows, (regular_splits(x.shape[0], per_image),))}
    grid = np.arange(len(counts) * per_image).reshape(-1, *windows.out)
    ids = [grid[i, :h, :w].ravel() for i, (h, w) in enumerate(counts)]
    splits = np.concatenate([[0], np.cumsum(counts.prod(axis=1))]).astype(np.int64)
    return {"Out": Lod(o.gather(rows, np.concatenate(ids)), (splits,))}


def _real_windows(op: Op, real: Any, kernel: Any, stride: Any, padding: Any) -> np.ndarray:
    """[N, 2]: how many windows the images have whose real sizes are given."""
    shrink = np.asarray(op.attr("out_stride", (1, 1)))
    given = op.const(real, "the real sizes of the images").astype(np.int64)
    sizes = -(given[: op.input("X").shape[0]] // -shrink)
    around = np.asarray(padding[:2]) + np.asarray(padding[2:])
    counts: np.ndarray = (sizes + around - np.asarray(kernel)) // np.asarray(stride) + 1
    if (counts < 1).any():
        raise ShapeError("no window fits into an image", got=f"sizes {sizes.tolist()}")
    return counts


def _reaching(sizes: Any, kernel: Any, stride: Any, padding: Any, counts: Any) -> tuple[int, ...]:
    """The padding with as much more behind as `counts` windows need: there are zeros."""
    needed = [
        max(behind, (int(m) - 1) * s + k - front - size)
        for m, s, k, front, behind, size in zip(
            counts, stride, kernel, padding[:2], padding[2:], sizes, strict=True
        )
    ]
    return (*padding[:2], *needed)


@fluid_op("max_pool2d_with_index", "max_pool3d_with_index")
def max_pool_with_index(op: Op) -> dict[str, Any]:
    x = op.input("X")
    kernel, padding = op.need_attr("ksize"), op.attr("paddings", 0)
    if op.attr("global_pooling", False):
        kernel, padding = tuple(x.shape[2:]), 0
    if op.attr("adaptive", False):
        out, ids = adaptive_max_pool_with_indices(x, size=kernel)
    else:
        stride = op.attr("strides", 1)
        out, ids = max_pool_with_indices(x, kernel=kernel, stride=stride, padding=padding)
    return {"Out": out, "Mask": o.cast(ids, dtype="int32")}


@fluid_op("unpool")
def unpool(op: Op) -> dict[str, Any]:
    how = {"stride": op.attr("strides", (1, 1)), "padding": op.attr("paddings", (0, 0))}
    out = max_unpool(op.input("X"), op.input("Indices"), kernel=op.need_attr("ksize"), **how)
    return {"Out": out}


@fluid_op("spp")
def spatial_pyramid(op: Op) -> dict[str, Any]:
    """Pooled into 1, 4, 16 ... parts, side by side.  (He et al., 2014)"""
    x = op.input("X")
    kind = op.attr("pooling_type", "max")
    parts = []
    for level in range(op.need_attr("pyramid_height")):
        bins = 2**level
        kernel = tuple(-(size // -bins) for size in x.shape[2:])
        padding = tuple((k * bins - d + 1) // 2 for k, d in zip(kernel, x.shape[2:], strict=True))
        how: dict[str, Any] = {"kernel": kernel, "stride": kernel, "padding": padding}
        if kind == "avg":
            how["count_include_pad"] = False
        pooled = lookup(f"{kind}_pool2d")(x, **how)
        parts.append(o.reshape(pooled, shape=(x.shape[0], x.shape[1] * bins * bins)))
    return {"Out": parts[0] if len(parts) == 1 else o.concat(*parts, axis=1)}
