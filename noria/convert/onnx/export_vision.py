"""Resizing, sampling, columns of windows and decoding of images as ONNX."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from noria.convert.onnx.export_graph import Graph, element_type, emitter
from noria.core.dims import Size
from noria.core.dtypes import is_float, to_numpy
from noria.ir.program import Operator, as_shape
from noria.ops.resample import scaled
from noria.ops.window import Windows, slide

# ---- resizing ----------------------------------------------------------------------------------


@emitter("resize")
def resize(g: Graph, op: Operator, x: str) -> str | None:
    attrs, value = op.attrs, op.operands[0]
    coordinates, crop = attrs["coordinates"], attrs["crop"]
    if coordinates == "half_pixel_symmetric" and g.shared.opset < 19:
        return None
    axes = [a % value.ndim for a in attrs["axes"] or range(2, value.ndim)]
    new = as_shape(attrs["sizes"])
    scales: str | None = None
    sizes: str | None = g.shape(new)
    if attrs["scales"] is not None:
        numbers = np.array(attrs["scales"], np.float32)
        old = [value.shape[a] for a in axes]
        if [scaled(d, float(s)) for d, s in zip(old, numbers, strict=True)] != list(new):
            return None  # ONNX works the sizes out from the scales
        scales, sizes = g.constant(numbers), None
    return g.node(
        "Resize",
        x,
        None if crop is None else g.constant(np.array(crop, np.float32)),
        scales,
        sizes,
        axes=axes,
        mode=attrs["mode"],
        coordinate_transformation_mode=coordinates,
        nearest_mode=attrs["rounding"],
        cubic_coeff_a=float(attrs["cubic_a"]),
        antialias=attrs["antialias"],
        exclude_outside=attrs["exclude_outside"],
        extrapolation_value=float(attrs["beyond"]),
    )


# ---- sampling ----------------------------------------------------------------------------------

_MODES = {"bilinear": "linear", "bicubic": "cubic"}


@emitter("grid_sample")
def grid_sample(g: Graph, op: Operator, x: str, grid: str) -> str | None:
    image, places = op.operands
    n, mode, align = image.ndim - 2, op.attrs["mode"], op.attrs["align_corners"]
    if n != 2 and (g.shared.opset < 20 or mode == "bicubic"):
        return None
    if op.attrs["pixels"]:
        grid, align = _from_pixels(g, grid, image.shape[2:], places), False
    flat = places.ndim != n + 2
    if flat:
        ones = (1,) * (n - 1)
        grid = g.node("Reshape", grid, g.shape((places.shape[0], -1, *ones, n)))
    if g.shared.opset >= 20:
        mode = _MODES.get(mode, mode)
    how: dict[str, Any] = {
        "mode": mode,
        "padding_mode": op.attrs["padding_mode"],
        "align_corners": align,
    }
    out = g.node("GridSample", x, grid, **how)
    return g.node("Reshape", out, g.shape(op.outputs[0].shape)) if flat else out


def _from_pixels(g: Graph, grid: str, sizes: tuple[Size, ...], places: Any) -> str:
    """Positions of elements in the order of the axes as (x, y ...) from -1 to 1."""
    turned = g.node("Gather", grid, g.ints(*range(len(sizes))[::-1]), axis=-1)
    dtype = element_type(places.dtype)
    counts = g.node("Cast", g.shape(sizes[::-1]), to=dtype)
    doubled = g.node("Mul", turned, g.like(2, places))
    shares = g.node("Div", g.node("Add", doubled, g.like(1, places)), counts)
    return g.node("Sub", shares, g.like(1, places))


# ---- columns -----------------------------------------------------------------------------------


def _pads(windows: Windows) -> list[int] | None:
    """As ONNX has them; None where they depend on open sizes."""
    pads = [p[i] for i in (0, 1) for p in windows.pads]
    return pads if all(isinstance(p, int) for p in pads) else None


def _windows(op: Operator, sizes: Any) -> Windows:
    return slide(sizes, *(op.attrs[k] for k in ("kernel", "stride", "padding", "dilation")))


@emitter("unfold")
def unfold(g: Graph, op: Operator, x: str) -> str | None:
    """A convolution whose every kernel is one element of the window."""
    value = op.operands[0]
    windows = _windows(op, value.shape[2:])
    pads, channels = _pads(windows), value.shape[1]
    if pads is None or not isinstance(channels, int) or not is_float(value.dtype):
        return None
    elements = prod(windows.kernel)
    one_hot = np.eye(elements, dtype=to_numpy(value.dtype))
    kernels = np.tile(one_hot, (channels, 1)).reshape(-1, 1, *windows.kernel)
    how: dict[str, Any] = {"strides": windows.stride, "dilations": windows.dilation, "pads": pads}
    out = g.node("Conv", x, g.constant(kernels), group=channels, **how)
    return g.node("Reshape", out, g.shape(op.outputs[0].shape))


@emitter("fold")
def fold(g: Graph, op: Operator, x: str) -> str | None:
    sizes = as_shape(op.attrs["sizes"])
    windows = _windows(op, sizes)
    pads = _pads(windows)
    if pads is None:
        return None
    how: dict[str, Any] = {"strides": windows.stride, "dilations": windows.dilation, "pads": pads}
    return g.node("Col2Im", x, g.shape(sizes), g.ints(*windows.kernel), **how)


# ---- decoding ----------------------------------------------------------------------------------


@emitter("decode_image", since=20)
def decode_image(g: Graph, op: Operator, data: str) -> str:
    return g.node("ImageDecoder", data, pixel_format=op.attrs["pixels"])
