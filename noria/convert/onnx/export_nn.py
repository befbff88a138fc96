"""Convolutions, pooling, normalisation and losses as ONNX."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from noria.convert.onnx.export_graph import Graph, element_type, emitter
from noria.convert.onnx.export_index import wide_index
from noria.convert.onnx.export_math import as_number
from noria.convert.onnx.export_shape import sliced
from noria.core.dims import Size, ceil_div, dim_max
from noria.core.dtypes import is_float, to_numpy
from noria.ir.program import Operator
from noria.ops.pool import pool_windows
from noria.ops.window import Windows, explicit_pads, per_axis

AUTO_PAD = {"same": "SAME_UPPER", "same_lower": "SAME_LOWER"}

# ---- windows -------------------------------------------------------------------------------------


def _window(op: Operator, kernel: Any, stride: Any) -> dict[str, Any]:
    """Attributes of what slides over the axes behind the first two of x."""
    n, padding = op.operands[0].ndim - 2, op.attrs["padding"]
    out: dict[str, Any] = {
        "kernel_shape": per_axis(kernel, n, "kernel"),
        "strides": per_axis(stride, n, "stride"),
    }
    if padding in AUTO_PAD:
        return out | {"auto_pad": AUTO_PAD[padding]}
    pads = explicit_pads(padding, n)
    return out | {"pads": [p[0] for p in pads] + [p[1] for p in pads]}


def _dilations(op: Operator) -> tuple[int, ...]:
    return per_axis(op.attrs["dilation"], op.operands[0].ndim - 2, "dilation")


@emitter("conv1d", "conv2d", "conv3d")
def conv(g: Graph, op: Operator, x: str, weight: str, bias: str | None = None) -> str | None:
    kernel = op.operands[1].shape[2:]
    how = _window(op, kernel, op.attrs["stride"])
    bias = _like_weight(g, op, bias)
    groups = op.attrs["groups"]
    return g.node("Conv", x, weight, bias, dilations=_dilations(op), group=groups, **how)


def _like_weight(g: Graph, op: Operator, bias: str | None) -> str | None:
    """The bias in the dtype of the weight: beside halves it may be float32."""
    weight, *rest = op.operands[1:]
    if bias is None or rest[0].dtype == weight.dtype:
        return bias
    return g.node("Cast", bias, to=element_type(weight.dtype))


@emitter("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def conv_transpose(g: Graph, op: Operator, x: str, weight: str, bias: str | None = None) -> Any:
    n = op.operands[0].ndim - 2
    if op.attrs["padding"] in AUTO_PAD:
        return None
    how = _window(op, op.operands[1].shape[2:], op.attrs["stride"])
    extra = op.attrs["output_padding"]
    how["output_padding"] = (extra,) * n if isinstance(extra, int) else tuple(extra)
    if any(e >= s for e, s in zip(how["output_padding"], how["strides"], strict=True)):
        return None  # runtimes refuse it
    how |= {"dilations": _dilations(op), "group": op.attrs["groups"]}
    return g.node("ConvTranspose", x, weight, _like_weight(g, op, bias), **how)


def _stride(op: Operator) -> Any:
    return op.attrs["kernel"] if op.attrs["stride"] is None else op.attrs["stride"]


# ONNX and its runtimes do not agree on which windows `ceil_mode` adds, so it is not used: what such
# windows see beyond the end is put there.


@emitter("max_pool1d", "max_pool2d", "max_pool3d")
def max_pool(g: Graph, op: Operator, x: str) -> str:
    how = _window(op, op.attrs["kernel"], _stride(op)) | {"dilations": _dilations(op)}
    if op.attrs["ceil_mode"]:
        value = op.operands[0]
        front, behind, more = _beyond(op)
        ends = [dim_max(b + m, 0) for b, m in zip(behind, more, strict=True)]
        lowest = -np.inf if is_float(value.dtype) else np.iinfo(to_numpy(value.dtype)).min
        x = _padded(g, x, front, ends, g.like(lowest, value))
        how.pop("pads")
    return g.node("MaxPool", x, **how)


@emitter("avg_pool1d", "avg_pool2d", "avg_pool3d")
def avg_pool(g: Graph, op: Operator, x: str) -> str | None:
    how = _window(op, op.attrs["kernel"], _stride(op))
    included, divisor = op.attrs["count_include_pad"], op.attrs["divisor"]
    value = op.operands[0]
    dilated = max(_dilations(op)) > 1
    how |= {"dilations": _dilations(op)} if dilated else {}
    scale = None if divisor is None else g.like(prod(how["kernel_shape"]) / divisor, value)
    if not op.attrs["ceil_mode"] and not (dilated and g.shared.opset < 19):
        included = included or scale is not None
        mean = g.node("AveragePool", x, count_include_pad=included, **how)
        return mean if scale is None else g.node("Mul", mean, scale)
    if dilated and not isinstance(value.shape[1], int):
        return None
    how = {k: v for k, v in how.items() if k not in ("pads", "auto_pad")}
    front, behind, more = _beyond(op)
    ends = [dim_max(b + m, 0) for b, m in zip(behind, more, strict=True)]
    zero, one = g.like(0, value), np.ones(1, to_numpy(value.dtype))
    total = _mean(g, value, _padded(g, x, front, ends, zero), value.shape[1], how)
    if scale is not None:
        return g.node("Mul", total, scale)
    counted = g.node("ConstantOfShape", g.shape((1, 1, *value.shape[2:])), value=one)
    if included:
        counted = _padded(g, counted, front, behind, g.like(1, value))
        counted = _padded(g, counted, [0] * len(more), [dim_max(m, 0) for m in more], zero)
    else:
        counted = _padded(g, counted, front, ends, zero)
    return g.node("Div", total, _mean(g, value, counted, 1, how))


def _mean(g: Graph, value: Any, x: str, channels: Any, how: dict[str, Any]) -> str:
    """The mean of each window. Of dilated ones it was a convolution before version 19."""
    if "dilations" not in how or g.shared.opset >= 19:
        out: str = g.node("AveragePool", x, **how)
        return out
    kernel = how["kernel_shape"]
    share = np.full((channels, 1, *kernel), 1 / prod(kernel), to_numpy(value.dtype))
    out = g.node("Conv", x, g.constant(share), group=channels, **how)
    return out


def _beyond(op: Operator) -> tuple[list[Size], list[Size], list[Size]]:
    """For each axis the padding in front and behind, and what the last window sees behind that
    (negative where it does not reach so far)."""
    sizes, windows = op.operands[0].shape[2:], _windows(op)
    fronts, behinds = ([p[i] for p in windows.pads] for i in (0, 1))
    axes = zip(sizes, windows.out, windows.stride, windows.spans, windows.pads, strict=True)
    more = [
        (out - 1) * step + span - size - front - behind
        for size, out, step, span, (front, behind) in axes
    ]
    return fronts, behinds, more


def _windows(op: Operator) -> Windows:
    how = {k: op.attrs[k] for k in ("kernel", "stride", "padding", "ceil_mode")}
    return pool_windows(op.operands[0].shape[2:], **how, dilation=op.attrs.get("dilation", 1))


def _padded(g: Graph, x: str, front: Sequence[Size], behind: Sequence[Size], value: str) -> str:
    """The axes behind the first two with a border."""
    return g.node("Pad", x, g.shape([0, 0, *front, 0, 0, *behind]), value)


def _adaptive(whole: str, reduction: str) -> Callable[[Graph, Operator, str], str]:
    def write(g: Graph, op: Operator, x: str) -> str:
        value, out = op.operands[0], op.outputs[0]
        if all(m == 1 for m in out.shape[2:]):
            return g.node(whole, x)
        for axis in range(2, value.ndim):  # a window is the product of one of each axis
            n, m = value.shape[axis], out.shape[axis]
            assert isinstance(m, int)
            windows = [(i * n // m, ceil_div((i + 1) * n, m)) for i in range(m)]
            parts = [sliced(g, x, axis, *w) for w in windows]
            parts = [g.node(reduction, p, g.ints(axis), keepdims=1) for p in parts]
            x = parts[0] if m == 1 else g.node("Concat", *parts, axis=axis)
        return x

    return write


for _n in (1, 2, 3):
    emitter(f"adaptive_avg_pool{_n}d")(_adaptive("GlobalAveragePool", "ReduceMean"))
    emitter(f"adaptive_max_pool{_n}d")(_adaptive("GlobalMaxPool", "ReduceMax"))


# ---- normalisation -------------------------------------------------------------------------------


@emitter("batch_norm")
def batch_norm(g: Graph, op: Operator, x: str, *vectors: str) -> str | None:
    value = op.operands[0]
    if op.attrs["training"] or value.ndim < 2:
        return None
    axis = op.attrs["axis"] % value.ndim
    order = list(range(value.ndim))
    order.insert(1, order.pop(axis))
    x = x if axis == 1 else g.node("Transpose", x, perm=order)
    out = g.node("BatchNormalization", x, *vectors, epsilon=float(op.attrs["epsilon"]))
    back = [order.index(i) for i in range(value.ndim)]
    return out if axis == 1 else g.node("Transpose", out, perm=back)


@emitter("layer_norm")
def layer_norm(
    g: Graph, op: Operator, x: str, scale: str | None = None, bias: str | None = None
) -> Any:
    value, axes = op.operands[0], op.attrs["axes"]
    if any(v.dtype != "float32" for v in op.operands):
        return None
    first = value.ndim - (1 if isinstance(axes, int) else len(axes))
    if scale is None:
        one = np.ones(1, to_numpy(value.dtype))
        scale = g.node("ConstantOfShape", g.shape(value.shape[first:]), value=one)
    how = {"axis": first, "epsilon": float(op.attrs["epsilon"])}
    return g.node("LayerNormalization", x, scale, bias, outputs=3, **how)


# ---- losses --------------------------------------------------------------------------------------


@emitter("softmax_cross_entropy")
def softmax_cross_entropy(g: Graph, op: Operator, logits: str, labels: str) -> Any:
    value, axis = op.operands[0], op.attrs["axis"]
    log_prob = g.node("LogSoftmax", logits, axis=axis)
    skip = None
    if op.attrs["soft"]:
        product = g.node("Mul", labels, log_prob)
        loss = g.node("Neg", g.node("ReduceSum", product, g.ints(axis), keepdims=0))
    else:
        labels, skip = _labels(g, op, labels)
        at = g.node("Unsqueeze", labels, g.ints(axis))
        picked = g.node("GatherElements", log_prob, at, axis=axis)
        loss = g.node("Neg", g.node("Squeeze", picked, g.ints(axis)))
    if smooth := op.attrs["label_smoothing"]:
        mean = g.node("ReduceMean", log_prob, g.ints(axis), keepdims=0)
        loss = g.node("Mul", loss, g.like(1 - smooth, value))
        loss = g.node("Sub", loss, g.node("Mul", mean, g.like(smooth, value)))
    return loss if skip is None else g.node("Where", skip, g.like(0, value), loss), log_prob


def _labels(g: Graph, op: Operator, labels: str) -> tuple[str, str | None]:
    """(classes to take, where a label is to be ignored)."""
    labels = wide_index(g, labels, op.operands[1])
    ignored = op.attrs["ignore_index"]
    if ignored is None:
        return labels, None
    skip = g.node("Equal", labels, g.size(ignored))
    return g.node("Where", skip, g.size(0), labels), skip


# ---- metrics -------------------------------------------------------------------------------------


@emitter("top_k_hits")
def top_k_hits(g: Graph, op: Operator, scores: str, labels: str) -> str:
    """Whether fewer than k classes come before the label's: higher ones, or equal ones of a lower
    number."""
    value, size = op.operands[0], op.operands[0].shape[-1]
    scores, labels = as_number(g, scores, value), wide_index(g, labels, op.operands[1])
    inside = g.node("Less", labels, g.size(size))
    known = g.node("And", inside, g.node("GreaterOrEqual", labels, g.size(0)))
    at = g.node("Unsqueeze", g.node("Where", known, labels, g.size(0)), g.ints(-1))
    own = g.node("GatherElements", scores, at, axis=value.ndim - 1)
    classes = g.node("Range", g.size(0), g.size(size), g.size(1))
    tied = g.node("And", g.node("Equal", scores, own), g.node("Less", classes, at))
    before = g.node("Or", g.node("Greater", scores, own), tied)
    count = g.node("ReduceSum", g.node("Cast", before, to=7), g.ints(-1), keepdims=0)
    number = g.node("Squeeze", g.node("Equal", own, own), g.ints(-1))  # false for a NaN
    hit = g.node("And", g.node("Less", count, g.size(op.attrs["k"])), known)
    return g.node("And", hit, number)


@emitter("accuracy")
def accuracy(g: Graph, op: Operator, scores: str, labels: str) -> str:
    if op.operands[0].ndim == op.operands[1].ndim:
        both = (wide_index(g, n, v) for n, v in zip((scores, labels), op.operands, strict=True))
        hits = g.node("Equal", *both)
    else:
        hits = top_k_hits(g, op, scores, labels)
    flat = g.node("Reshape", g.node("Cast", hits, to=1), g.ints(-1))
    total = g.node("ReduceSum", flat, g.ints(0), keepdims=0)
    count = g.node("Cast", g.node("Size", flat), to=1)
    return g.node("Div", total, count)
