"""Normalisation, and the scales and biases beside it."""

from __future__ import annotations

from typing import Any

import numpy as np

from noria.convert.caffe.handlers import Layer, axis_of, caffe_layer, known
from noria.ir.emit import building
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Operator, Value
from noria.ops.norm import local_response_norm


@caffe_layer("BatchNorm")
def batch_norm(layer: Layer, x: Value) -> Any:
    """By the statistics in the file, which are sums: the third array is what they are divided by.

    A Scale layer behind it brings scale and bias along; here they are 1 and 0.
    """
    p, channels = layer.param("batch_norm"), known(x.shape[1], layer, "channels")
    ones, zeros = np.ones(channels, np.float32), np.zeros(channels, np.float32)
    if p.HasField("use_global_stats") and not p.use_global_stats:
        return _by_batch(x, float(p.eps))
    count = float(layer.blob(2, "factor", (1,))[0])
    factor = np.float32(0 if count == 0 else 1 / count)
    mean, var = (layer.blob(i, w, (channels,)) * factor for i, w in enumerate(("mean", "variance")))
    statistics = [
        layer.state(a, name, trainable=False)
        for a, name in ((mean, "running_mean"), (var, "running_var"))
    ]
    return o.batch_norm(x, ones, zeros, *statistics, epsilon=float(p.eps))


def _by_batch(x: Value, epsilon: float) -> Any:
    """By the statistics of the batch, at test time too."""
    axes = (0, *range(2, x.ndim))
    centred = o.sub(x, o.reduce_mean(x, axis=axes, keepdims=True))
    var = o.reduce_mean(o.square(centred), axis=axes, keepdims=True)
    return o.mul(centred, o.rsqrt(o.add(var, epsilon)))


@caffe_layer("Scale")
def scale(layer: Layer, x: Value, *factor: Value) -> Any:
    p = layer.param("scale")
    if factor:
        out = o.mul(x, _beside(layer, x, factor[0], p.axis))
        if not p.bias_term:
            return out
        shape = factor[0].shape
        learned = layer.state(layer.blob(0, "bias", shape), "bias")  # type: ignore[arg-type]
        return o.add(out, _beside(layer, x, learned, p.axis))
    weight = layer.state(_learned(layer, 0, "scale", x, p), "weight")
    bias = layer.state(_learned(layer, 1, "bias", x, p), "bias") if p.bias_term else None
    norm = _maker(x)
    if norm is not None and weight.ndim == 1 and p.axis == 1:
        shift: Any = np.zeros(weight.shape, np.float32) if bias is None else bias
        source, _, _, *statistics = norm.operands
        return o.batch_norm(source, weight, shift, *statistics, epsilon=norm.attrs["epsilon"])
    out = o.mul(x, _beside(layer, x, weight, p.axis))
    return out if bias is None else o.add(out, _beside(layer, x, bias, p.axis))


@caffe_layer("Bias")
def bias(layer: Layer, x: Value, *shift: Value) -> Any:
    p = layer.param("bias")
    value = shift[0] if shift else layer.state(_learned(layer, 0, "bias", x, p), "bias")
    return o.add(x, _beside(layer, x, value, p.axis))


def _maker(x: Value) -> Operator | None:
    """The batch norm that has just made x, at test time and not scaled yet."""
    last = building().block.operators[-1:]
    if not last or last[0].type != "batch_norm" or last[0].outputs[0] is not x:
        return None
    made = {v: op for op in building().block.operators[-3:] for v in op.outputs}
    plain = [made.get(v) for v in last[0].operands[1:3]]
    unscaled = all(op is not None and op.type == "constant" for op in plain)
    return last[0] if unscaled and not last[0].attrs["training"] else None


def _learned(layer: Layer, index: int, what: str, x: Value, p: Any) -> np.ndarray:
    """An array of the sizes of num_axes axes of x from `axis` on."""
    axis = axis_of(layer, p.axis, x) if x.ndim else 0
    end = x.ndim if p.num_axes == -1 else axis + p.num_axes
    shape = [known(d, layer, "what is scaled") for d in x.shape[axis:end]]
    return layer.blob(index, what, shape)


def _beside(layer: Layer, x: Value, value: Value, axis: int) -> Any:
    """The value with axes of size 1 behind its own, so that they begin at `axis` of x."""
    at = axis_of(layer, axis, x) if value.ndim else 0
    behind = x.ndim - at - value.ndim
    if behind < 0:
        raise layer.error("the second operand has too many axes", got=f"{value} beside {x}")
    if not behind or not value.ndim:
        return value
    return o.unsqueeze(value, axis=tuple(range(value.ndim, value.ndim + behind)))


@caffe_layer("LRN")
def lrn(layer: Layer, x: Value) -> Any:
    """x / (k + alpha * mean of squares)^beta, over channels, or over a square of each channel."""
    p = layer.param("lrn")
    size = int(p.local_size)
    if size % 2 == 0:
        raise layer.error("local_size must be odd", got=str(size))
    if p.norm_region == p.ACROSS_CHANNELS:
        return local_response_norm(x, size, alpha=p.alpha, beta=p.beta, k=p.k)
    mean = o.avg_pool2d(o.square(x), kernel=size, stride=1, padding=(size - 1) // 2)
    return o.mul(x, o.pow(o.add(o.mul(mean, float(p.alpha)), 1.0), -float(p.beta)))


@caffe_layer("MVN")
def mvn(layer: Layer, x: Value) -> Any:
    """Mean 0 and, where it is asked for, variance 1, of each channel or of all together."""
    p = layer.param("mvn")
    axes = tuple(range(1 if p.across_channels else 2, x.ndim))
    centred = o.sub(x, o.reduce_mean(x, axis=axes, keepdims=True))
    if not p.normalize_variance:
        return centred
    var = o.reduce_mean(o.square(centred), axis=axes, keepdims=True)
    return o.div(centred, o.add(o.sqrt(var), float(p.eps)))


@caffe_layer("Normalize")
def normalize(layer: Layer, x: Value) -> Any:
    """x over its length, along channels or over the whole example, times a learned scale.

    (Liu, Rabinovich and Berg, "ParseNet", 2015)
    """
    p = layer.param("norm")
    axes = tuple(range(1, x.ndim)) if p.across_spatial else 1
    total = o.reduce_sum(o.square(x), axis=axes, keepdims=True)
    out = o.div(x, o.sqrt(o.add(total, float(p.eps))))
    channels = 1 if p.channel_shared else known(x.shape[1], layer, "channels")
    weight = layer.weight((channels,))
    return o.mul(out, o.reshape(weight, shape=(channels, *(1,) * (x.ndim - 2))))
