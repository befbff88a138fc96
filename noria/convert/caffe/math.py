"""Elementwise layers."""

from __future__ import annotations

import functools
import math
from typing import Any

from noria.convert.caffe.handlers import Layer, axis_of, caffe_layer
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Value


@caffe_layer("ReLU")
def relu(layer: Layer, x: Value) -> Any:
    slope = layer.param("relu").negative_slope
    return o.leaky_relu(x, negative_slope=slope) if slope else o.relu(x)


@caffe_layer("ReLU6")
def relu6(layer: Layer, x: Value) -> Any:
    return o.clip(x, low=0.0, high=6.0)


@caffe_layer("PReLU")
def prelu(layer: Layer, x: Value) -> Any:
    shared = layer.param("prelu").channel_shared
    weight = layer.weight((1,) if shared else (layer.blob(0, "weight").size,))
    return o.prelu(x, weight)


@caffe_layer("ELU")
def elu(layer: Layer, x: Value) -> Any:
    return o.elu(x, alpha=float(layer.param("elu").alpha))


@caffe_layer("Sigmoid")
def sigmoid(layer: Layer, x: Value) -> Any:
    return o.sigmoid(x)


@caffe_layer("TanH")
def tanh(layer: Layer, x: Value) -> Any:
    return o.tanh(x)


@caffe_layer("AbsVal")
def abs_val(layer: Layer, x: Value) -> Any:
    return o.abs(x)


@caffe_layer("BNLL")
def bnll(layer: Layer, x: Value) -> Any:
    """log(1 + exp(x))."""
    return o.softplus(x, threshold=100.0)


@caffe_layer("Swish")
def swish(layer: Layer, x: Value) -> Any:
    return o.mul(x, o.sigmoid(_affine(x, layer.param("swish").beta, 0.0)))


@caffe_layer("Clip")
def clip(layer: Layer, x: Value) -> Any:
    p = layer.param("clip")
    return o.clip(x, low=float(p.min), high=float(p.max))


@caffe_layer("Threshold")
def threshold(layer: Layer, x: Value) -> Any:
    return o.cast(o.greater(x, float(layer.param("threshold").threshold)), dtype=x.dtype)


def _affine(x: Any, scale: float, shift: float) -> Any:
    x = x if scale == 1 else o.mul(x, float(scale))
    return x if shift == 0 else o.add(x, float(shift))


@caffe_layer("Power")
def power(layer: Layer, x: Value) -> Any:
    """(shift + scale * x) ^ power."""
    p = layer.param("power")
    inner = _affine(x, p.scale, p.shift)
    if p.power == 1:
        return o.identity(inner) if inner is x else inner
    return o.square(inner) if p.power == 2 else o.pow(inner, float(p.power))


@caffe_layer("Exp")
def exp(layer: Layer, x: Value) -> Any:
    """base ^ (shift + scale * x), base e where it is -1."""
    p = layer.param("exp")
    inner = _affine(x, p.scale, p.shift)
    return o.exp(inner if p.base == -1 else o.mul(inner, math.log(_base(layer, p.base))))


@caffe_layer("Log")
def log(layer: Layer, x: Value) -> Any:
    """The logarithm to `base` of shift + scale * x, base e where it is -1."""
    p = layer.param("log")
    out = o.log(_affine(x, p.scale, p.shift))
    return out if p.base == -1 else o.div(out, math.log(_base(layer, p.base)))


def _base(layer: Layer, base: float) -> float:
    if not base > 0:
        raise layer.error("a base must be positive, or -1 for e", got=str(base))
    return float(base)


@caffe_layer("Eltwise")
def eltwise(layer: Layer, *xs: Value) -> Any:
    p = layer.param("eltwise")
    kind, factors = p.EltwiseOp.Name(p.operation), list(p.coeff)
    if not xs or (factors and (kind != "SUM" or len(factors) != len(xs))):
        raise layer.error("a sum has one coefficient for each bottom", got=f"{len(factors)}")
    if kind == "SUM" and factors:
        xs = tuple(x if f == 1 else o.mul(x, float(f)) for x, f in zip(xs, factors, strict=True))
    fold = {"SUM": o.add, "PROD": o.mul, "MAX": o.maximum}[kind]
    return functools.reduce(fold, xs) if len(xs) > 1 else o.identity(xs[0])


@caffe_layer("Axpy")
def axpy(layer: Layer, scale: Value, x: Value, y: Value) -> Any:
    """scale * x + y, scale of each channel."""
    return o.add(o.mul(scale, x), y)


@caffe_layer("Softmax")
def softmax(layer: Layer, x: Value) -> Any:
    return o.softmax(x, axis=axis_of(layer, layer.param("softmax").axis, x))


@caffe_layer("Dropout")
def dropout(layer: Layer, x: Value) -> Any:
    """Nothing is dropped at test time."""
    return o.identity(x)
