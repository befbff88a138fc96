"""Layers with windows, and products."""

from __future__ import annotations

from typing import Any

from noria.convert.caffe.handlers import Layer, axis_of, caffe_layer, known
from noria.core.dims import product
from noria.ir.opdef import lookup
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Value
from noria.ops.resizing import resize

# ---- windows -------------------------------------------------------------------------------------


def _each(layer: Layer, p: Any, name: str, n: int, default: int | None) -> tuple[int, ...]:
    """One number for each spatial axis: `pad`, `pad_h` and `pad_w`, or several `pad`."""
    stem = name.removesuffix("_size")
    if p.HasField(f"{stem}_h") or p.HasField(f"{stem}_w"):
        return int(getattr(p, f"{stem}_h")), int(getattr(p, f"{stem}_w"))
    given = getattr(p, name)
    listed = [int(given)] if isinstance(given, int) else [int(v) for v in given]
    if not listed and default is not None:
        listed = [default]
    if len(listed) not in (1, n):
        raise layer.error(f"{name} is given {len(listed)} times", expected=f"once, or {n} times")
    return tuple(listed * n)[:n]


def _windows(layer: Layer, x: Value) -> tuple[Any, tuple[int, ...], dict[str, Any]]:
    p, n = layer.param("convolution"), x.ndim - 2
    if axis_of(layer, p.axis, x) != 1 or n not in (1, 2, 3):
        raise layer.error("only channels along axis 1 of [N, C, ...] are convolved", got=str(x))
    dilation = tuple(int(d) for d in p.dilation) or (1,)
    how = {
        "stride": _each(layer, p, "stride", n, 1),
        "padding": _each(layer, p, "pad", n, 0),
        "dilation": dilation * n if len(dilation) == 1 else dilation,
        "groups": int(p.group) or 1,
    }
    return p, _each(layer, p, "kernel_size", n, None), how


@caffe_layer("Convolution", "ConvolutionDepthwise", "DepthwiseConvolution")
def convolution(layer: Layer, x: Value, *more: Value) -> Any:
    """Further bottoms are convolved with the same weights."""
    p, kernel, how = _windows(layer, x)
    channels, outs = known(x.shape[1], layer, "channels"), int(p.num_output)
    if layer.type != "Convolution" and not p.HasField("group"):
        how["groups"] = channels
    weight = layer.weight((outs, channels // how["groups"], *kernel))
    bias = layer.bias(outs, p.bias_term)
    conv = lookup(f"conv{len(kernel)}d")
    tops = tuple(conv(v, weight, bias, **how) for v in (x, *more))
    return tops if more else tops[0]


@caffe_layer("Deconvolution")
def deconvolution(layer: Layer, x: Value) -> Value:
    p, kernel, how = _windows(layer, x)
    channels, outs = known(x.shape[1], layer, "channels"), int(p.num_output)
    weight = layer.weight((channels, outs // how["groups"], *kernel))
    bias = layer.bias(outs, p.bias_term)
    out: Value = lookup(f"conv_transpose{len(kernel)}d")(x, weight, bias, **how)
    return out


@caffe_layer("Pooling")
def pooling(layer: Layer, x: Value) -> Value:
    """Sizes are rounded up; a mean counts the padding, but not what lies beyond it."""
    p = layer.param("pooling")
    kinds = {"MAX": ("max_pool2d", o.reduce_max), "AVE": ("avg_pool2d", o.reduce_mean)}
    kind = p.PoolMethod.Name(p.pool)
    if kind not in kinds:
        raise layer.error("stochastic pooling is not converted", hint="pool: AVE comes near")
    name, reduce = kinds[kind]
    if p.global_pooling:
        pooled: Value = reduce(x, axis=tuple(range(2, x.ndim)), keepdims=True)
        return pooled
    how = {
        "kernel": _each(layer, p, "kernel_size", 2, None),
        "stride": _each(layer, p, "stride", 2, 1),
        "padding": _each(layer, p, "pad", 2, 0),
        "ceil_mode": p.ceil_mode and p.round_mode == p.CEIL,
    }
    out: Value = lookup(name)(x, **how)
    return out


@caffe_layer("ROIPooling")
def roi_pooling(layer: Layer, x: Value, rois: Value) -> Value:
    """rois: [R, 5], the number of the image and a box."""
    p = layer.param("roi_pooling")
    batch = o.cast(o.squeeze(rois[:, :1], axis=1), dtype="int64")
    size = (int(p.pooled_h), int(p.pooled_w))
    out = o.roi_pool(x, rois[:, 1:], batch, size=size, scale=float(p.spatial_scale))
    return out[0] if isinstance(out, tuple) else out


# ---- resizing ------------------------------------------------------------------------------------


@caffe_layer("Interp")
def interp(layer: Layer, x: Value, *like: Value) -> Value:
    """Bilinear, the corners on each other."""
    p = layer.param("interp")
    pad = p.pad_beg + p.pad_end
    sizes: list[Any] = []
    for axis, given in ((2, p.height), (3, p.width)):
        size = x.shape[axis] + pad
        if like:
            sizes.append(like[0].shape[axis])
        elif given:
            sizes.append(int(given))
        else:
            size = (size - 1) // max(p.shrink_factor, 1) + 1
            sizes.append(size + (size - 1) * (p.zoom_factor - 1))
    if pad:
        border = (p.pad_beg, p.pad_end)
        x = o.pad(x, pads=((0, 0), (0, 0), border, border))
    out: Value = resize(x, sizes=tuple(sizes), coordinates="align_corners")
    return out


@caffe_layer("Upsample")
def upsample(layer: Layer, x: Value) -> Value:
    """Each element as often as `scale` tells, along both axes."""
    p = layer.param("upsample")
    sizes = tuple(
        int(given) if given else x.shape[axis] * p.scale
        for axis, given in ((2, p.upsample_h), (3, p.upsample_w))
    )
    out: Value = resize(x, sizes=sizes, mode="nearest", coordinates="asymmetric", rounding="floor")
    return out


# ---- products ------------------------------------------------------------------------------------


@caffe_layer("InnerProduct")
def inner_product(layer: Layer, x: Value) -> Value:
    p = layer.param("inner_product")
    axis = axis_of(layer, p.axis, x)
    ins, outs = known(product(x.shape[axis:]), layer, "each example"), int(p.num_output)
    array = layer.blob(0, "weight", (ins, outs) if p.transpose else (outs, ins))
    weight = layer.state(array.T if p.transpose else array, "weight")
    if x.ndim != axis + 1:
        x = o.reshape(x, shape=(*x.shape[:axis], ins))
    out: Value = o.linear(x, weight, layer.bias(outs, p.bias_term))
    return out


@caffe_layer("Embed")
def embed(layer: Layer, ids: Value) -> Value:
    """Ids may be floats, as all of Caffe's blobs are."""
    p = layer.param("embed")
    table = layer.weight((int(p.input_dim), int(p.num_output)))
    out = o.embedding(table, o.cast(ids, dtype="int64"))
    bias = layer.bias(int(p.num_output), p.bias_term)
    return out if bias is None else o.add(out, bias)
