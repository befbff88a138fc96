"""Activation functions of ONNX."""

from __future__ import annotations

import math
from typing import Any

from noria.convert.onnx.handlers import Node, onnx_op
from noria.convert.onnx.math import dtype_name
from noria.core.dtypes import is_float
from noria.ir.opdef import vocabulary as o
from noria.ops import activation as act
from noria.ops.common import shaped


@onnx_op("Relu")
def relu(node: Node, x: Any) -> Any:
    return o.relu(x) if is_float(dtype_name(x)) else o.maximum(x, 0)


@onnx_op("LeakyRelu")
def leaky_relu(node: Node, x: Any) -> Any:
    return o.leaky_relu(x, negative_slope=node.attr("alpha", 0.01))


@onnx_op("PRelu", since=7)
def prelu(node: Node, x: Any, slope: Any) -> Any:
    return o.where(o.less(x, _like(x, 0)), o.mul(slope, x), x)


@onnx_op("PRelu")
def prelu_before_7(node: Node, x: Any, slope: Any) -> Any:
    """A slope a channel, or one for all."""
    behind = len(shaped(x).shape) - 2
    if len(shaped(slope).shape) == 1 and shaped(slope).shape != (1,) and behind > 0:
        slope = o.unsqueeze(slope, axis=tuple(range(1, 1 + behind)))
    return prelu(node, x, slope)


def _like(x: Any, number: float) -> Any:
    return o.cast(number, dtype=dtype_name(x))


@onnx_op("Elu")
def elu(node: Node, x: Any) -> Any:
    return o.elu(x, alpha=node.attr("alpha", 1.0))


@onnx_op("Selu")
def selu(node: Node, x: Any) -> Any:
    alpha, gamma = node.attr("alpha", 1.6732632), node.attr("gamma", 1.050701)
    return o.mul(o.elu(x, alpha=alpha), gamma)


@onnx_op("Celu")
def celu(node: Node, x: Any) -> Any:
    return act.celu(x, alpha=node.attr("alpha", 1.0))


@onnx_op("Sigmoid")
def sigmoid(node: Node, x: Any) -> Any:
    return o.sigmoid(x)


@onnx_op("HardSigmoid")
def hard_sigmoid(node: Node, x: Any) -> Any:
    return o.hard_sigmoid(x, slope=node.attr("alpha", 0.2), offset=node.attr("beta", 0.5))


@onnx_op("HardSwish")
def hard_swish(node: Node, x: Any) -> Any:
    return o.hard_swish(x)


@onnx_op("Softplus")
def softplus(node: Node, x: Any) -> Any:
    return o.softplus(x, threshold=math.inf)


@onnx_op("Softsign")
def softsign(node: Node, x: Any) -> Any:
    return act.softsign(x)


@onnx_op("ThresholdedRelu")
def thresholded_relu(node: Node, x: Any) -> Any:
    return act.thresholded_relu(x, threshold=node.attr("alpha", 1.0))


@onnx_op("Shrink")
def shrink(node: Node, x: Any) -> Any:
    """x moved by `bias` towards zero outside [-lambd, lambd], 0 inside."""
    bias, edge = node.attr("bias", 0.0), node.attr("lambd", 0.5)
    dtype = dtype_name(x)
    if not is_float(dtype):
        return o.cast(shrink(node, o.cast(x, dtype="float64")), dtype=dtype)
    above = o.where(o.greater(x, edge), o.sub(x, bias), 0.0)
    return o.where(o.less(x, -edge), o.add(x, bias), above)


@onnx_op("Gelu")
def gelu(node: Node, x: Any) -> Any:
    return o.gelu(x, approximate=node.attr("approximate", "none"))


@onnx_op("Mish")
def mish(node: Node, x: Any) -> Any:
    return o.mish(x)


# ---- over an axis ------------------------------------------------------------------------------

_OVER = {"Softmax": "softmax", "LogSoftmax": "log_softmax"}


@onnx_op("Softmax", "LogSoftmax", since=13)
def softmax(node: Node, x: Any) -> Any:
    return getattr(o, _OVER[node.op_type])(x, axis=node.attr("axis", -1))


@onnx_op("Softmax", "LogSoftmax")
def softmax_before_13(node: Node, x: Any) -> Any:
    """Over all axes from `axis` on, taken as one."""
    return _flat(node, x, lambda flat: getattr(o, _OVER[node.op_type])(flat, axis=-1))


@onnx_op("Hardmax", since=13)
def hardmax(node: Node, x: Any) -> Any:
    return _hardmax(x, node.attr("axis", -1))


@onnx_op("Hardmax")
def hardmax_before_13(node: Node, x: Any) -> Any:
    return _flat(node, x, lambda flat: _hardmax(flat, -1))


def _hardmax(x: Any, axis: int) -> Any:
    """1 at the first largest, 0 elsewhere."""
    first = o.argmax(x, axis=axis)
    return o.one_hot(first, depth=shaped(x).shape[axis], axis=axis, dtype=dtype_name(x))


def _flat(node: Node, x: Any, fn: Any) -> Any:
    shape = shaped(x).shape
    at = node.attr("axis", 1)
    at = at + len(shape) if at < 0 else at
    if at == len(shape) - 1:
        return fn(x)
    lead = o.flatten(x, start=at, end=-1) if at < len(shape) else o.unsqueeze(x, axis=len(shape))
    return o.reshape(fn(lead), shape=shape)
