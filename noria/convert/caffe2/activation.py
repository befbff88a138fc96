"""Activations and their gradient operators, softmax, dropout."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from noria.convert.caffe2.common import as_rows, numel, pullback
from noria.convert.caffe2.handlers import Node, caffe2_op
from noria.core.dims import product
from noria.core.errors import ArgumentError
from noria.ir.opdef import vocabulary as o
from noria.ops.activation import glu, swish, thresholded_relu
from noria.ops.random import bernoulli

SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805


# ---- one sided ---------------------------------------------------------------------------------


@caffe2_op("Relu")
def relu(op, x):
    return o.relu(x)


@caffe2_op("ReluGradient")
def relu_gradient(op, y, dy):
    return o.where(o.greater(y, 0.0), dy, 0.0)


@caffe2_op("LeakyRelu")
def leaky_relu(op, x):
    return o.leaky_relu(x, negative_slope=op.attr("alpha", 0.01))


@caffe2_op("LeakyReluGradient")
def leaky_relu_gradient(op, y, dy):
    return o.where(o.greater_equal(y, 0.0), dy, o.mul(dy, op.attr("alpha", 0.01)))


@caffe2_op("Elu")
def elu(op, x):
    return o.elu(x, alpha=op.attr("alpha", 1.0))


@caffe2_op("EluGradient")
def elu_gradient(op, y, dy):
    slope = o.add(y, op.attr("alpha", 1.0))
    return o.where(o.greater(y, 0.0), dy, o.mul(dy, slope))


@caffe2_op("Selu")
def selu(op, x):
    return o.mul(o.elu(x, alpha=op.attr("alpha", SELU_ALPHA)), op.attr("scale", SELU_SCALE))


@caffe2_op("SeluGradient")
def selu_gradient(op, y, dy):
    alpha, scale = op.attr("alpha", SELU_ALPHA), op.attr("scale", SELU_SCALE)
    below = o.mul(dy, o.add(y, alpha * scale))
    return o.where(o.greater(y, 0.0), o.mul(dy, scale), below)


@caffe2_op("PRelu")
def prelu(op, x, slope):
    return _prelu(op, x, slope)


def _prelu(op: Node, x: Any, slope: Any) -> Any:
    if numel(slope) == 1:
        slope = o.reshape(slope, shape=(1,))
    elif not op.last:
        slope = o.unsqueeze(slope, axis=tuple(range(1, len(x.shape) - 1)))
    return o.where(o.greater(x, 0.0), x, o.mul(x, slope))


@caffe2_op("PReluGradient")
def prelu_gradient(op, y, dy, x, slope):
    return pullback(lambda a, b: _prelu(op, a, b), [x, slope], [dy], [0, 1])


@caffe2_op("ThresholdedRelu")
def thresholded(op, x):
    return thresholded_relu(x, threshold=op.attr("alpha", 1.0))


@caffe2_op("ThresholdedReluGradient")
def thresholded_gradient(op, y, dy):
    return o.where(o.greater(y, 0.0), dy, 0.0)


@caffe2_op("ReluN")
def relu_n(op, x):
    return o.clip(x, low=0.0, high=op.attr("n", 6.0))


@caffe2_op("ReluNGradient")
def relu_n_gradient(op, y, dy):
    inside = o.logical_and(o.greater(y, 0.0), o.less(y, op.attr("n", 6.0)))
    return o.where(inside, dy, 0.0)


# ---- smooth ------------------------------------------------------------------------------------


@caffe2_op("HardSigmoid")
def hard_sigmoid(op, x):
    return o.clip(o.add(o.mul(x, op.attr("alpha", 0.2)), op.attr("beta", 0.5)), low=0.0, high=1.0)


@caffe2_op("HardSigmoidGradient")
def hard_sigmoid_gradient(op, y, dy):
    inside = o.logical_and(o.greater(y, 0.0), o.less(y, 1.0))
    return o.where(inside, o.mul(dy, op.attr("alpha", 0.2)), 0.0)


@caffe2_op("Swish")
def swish_(op, x):
    return swish(x)


@caffe2_op("SwishGradient")
def swish_gradient(op, x, y, dy):
    s = o.sigmoid(x)
    return o.mul(dy, o.add(y, o.mul(s, o.sub(1.0, y))))


@caffe2_op("Gelu")
def gelu(op, x):
    return o.gelu(x, approximate="tanh" if op.attr("fast_gelu", False) else "none")


@caffe2_op("GeluGradient")
def gelu_gradient(op, dy, x):
    return pullback(lambda v: gelu(op, v), [x], [dy], [0])[0]


@caffe2_op("Glu")
def glu_(op, x):
    return glu(x, axis=op.attr("dim", -1))


# ---- over rows ---------------------------------------------------------------------------------


def _on_rows(fn: Callable[[Any], Any], op: Node, x: Any) -> Any:
    return o.reshape(fn(as_rows(op, x)), shape=x.shape)


@caffe2_op("Softmax")
def softmax(op, x):
    """Over everything from `axis` on."""
    return _on_rows(lambda v: o.softmax(v, axis=1), op, x)


@caffe2_op("SoftmaxGradient")
def softmax_gradient(op, y, dy):
    rows, g = as_rows(op, y), as_rows(op, dy)
    d = o.mul(rows, g)
    dx = o.sub(d, o.mul(rows, o.reduce_sum(d, axis=1, keepdims=True)))
    return o.reshape(dx, shape=y.shape)


@caffe2_op("LogSoftmax")
def log_softmax(op, x):
    return _on_rows(lambda v: o.log_softmax(v, axis=1), op, x)


@caffe2_op("LogSoftmaxGradient")
def log_softmax_gradient(op, y, dy):
    rows, g = as_rows(op, y), as_rows(op, dy)
    dx = o.sub(g, o.mul(o.exp(rows), o.reduce_sum(g, axis=1, keepdims=True)))
    return o.reshape(dx, shape=y.shape)


# ---- dropout, masks ----------------------------------------------------------------------------


@caffe2_op("Dropout")
def dropout(op, x):
    """(y, mask); at test time x, and everything kept."""
    ratio = op.attr("ratio", 0.5)
    if not 0 <= ratio < 1:
        raise ArgumentError("ratio lies in [0, 1)", got=str(ratio))
    if op.attr("is_test", False):
        return o.identity(x), o.fill(shape=x.shape, value=True, dtype="bool")
    mask = bernoulli(shape=x.shape, p=1 - ratio)
    return o.where(mask, o.div(x, 1 - ratio), 0.0), mask


@caffe2_op("DropoutGradient")
def dropout_gradient(op, dy, mask=None):
    if mask is None or op.attr("is_test", False):
        return o.identity(dy)
    return o.where(mask, o.div(dy, 1 - op.attr("ratio", 0.5)), 0.0)


@caffe2_op("SequenceMask")
def sequence_mask(op, x, numbers=None):
    """Elements of a matrix that a mode hides become `fill_val`; numbers: lengths or centres."""
    axis = op.attr("axis", 1)
    axis = axis + len(x.shape) if axis < 0 else axis
    batch = op.attr("batch", -1)
    first = batch + 1 if batch >= 0 else 0
    rest = op.attr("repeat_from_axis", -1)
    rest = rest + len(x.shape) if rest < -1 else rest
    rest = rest if rest > 0 else len(x.shape)
    bounds = (0, first, axis, rest, len(x.shape))
    view = [product(x.shape[a:b]) for a, b in pairwise(bounds)]
    hidden = _hidden(op, view[1], view[2], numbers)
    value = 0.0 if op.attr("grad", False) else op.attr("fill_val", float("-inf"))
    out = o.where(o.unsqueeze(hidden, axis=(0, 3)), value, o.reshape(x, shape=tuple(view)))
    return o.reshape(out, shape=x.shape)


def _hidden(op: Node, rows: Any, columns: Any, numbers: Any) -> Any:
    """Which elements of [rows, columns] a mode hides."""
    i = o.unsqueeze(o.arange(stop=rows), axis=1)
    j = o.unsqueeze(o.arange(stop=columns), axis=0)
    mode = op.attr("mode", "")
    if mode in ("sequence", "window"):
        if numbers is None:
            raise ArgumentError(f"mode '{mode}' needs a second input")
        n = o.unsqueeze(o.cast(numbers, dtype="int64"), axis=1)
        if mode == "sequence":
            return o.greater_equal(j, n)
        return o.greater(o.abs(o.sub(j, n)), op.attr("radius", 10))
    modes = {"upper": o.greater, "lower": o.less}
    modes |= {"upperdiag": o.greater_equal, "lowerdiag": o.less_equal}
    if mode not in modes:
        raise ArgumentError("unknown mode", expected=", ".join(modes), got=repr(mode))
    return modes[mode](j, i)
