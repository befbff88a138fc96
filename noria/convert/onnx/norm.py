"""Normalisations of ONNX, and dropout."""

from __future__ import annotations

from typing import Any

from noria.convert.onnx.create import draw
from noria.convert.onnx.handlers import Node, onnx_op, scalar
from noria.convert.onnx.math import dtype_name
from noria.convert.onnx.shape import sizes_of
from noria.core.errors import FormatError
from noria.ir.opdef import vocabulary as o
from noria.ops.common import axis_of
from noria.ops.norm import instance_norm, local_response_norm, rms_norm

# ---- over the batch ----------------------------------------------------------------------------


@onnx_op("BatchNormalization")
def batch_normalization(node: Node, x: Any, scale: Any, bias: Any, mean: Any, var: Any) -> Any:
    epsilon = node.attr("epsilon", 1e-5)
    if node.opset >= 14:
        training = bool(node.attr("training_mode", 0))
    else:
        training = node.wants(1) and not node.attr("is_test", 0)
    if not node.attr("spatial", 1):
        return _each_place(x, scale, bias, mean, var, epsilon)
    given = [o.cast(v, dtype=_statistics(x)) for v in (scale, bias, mean, var)]
    if not training:
        return o.batch_norm(x, *given, epsilon=epsilon)
    axes = (0, *range(2, len(sizes_of(x))))
    wide = o.cast(x, dtype=_statistics(x))
    now = o.reduce_mean(wide, axis=axes, keepdims=True)
    spread = o.reduce_mean(o.square(o.sub(wide, now)), axis=axes)
    now = o.squeeze(now, axis=axes)
    out = o.batch_norm(x, given[0], given[1], now, spread, epsilon=epsilon)
    share = node.attr("momentum", 0.9)
    kept = [
        o.cast(o.add(o.mul(old, share), o.mul(new, 1.0 - share)), dtype=dtype_name(like))
        for old, new, like in ((given[2], now, mean), (given[3], spread, var))
    ]
    return (out, *kept, now, spread)[: max(3, len(node.outputs))]


def _statistics(x: Any) -> str:
    dtype = dtype_name(x)
    return "float32" if dtype in ("float16", "bfloat16") else dtype


def _each_place(x: Any, scale: Any, bias: Any, mean: Any, var: Any, epsilon: float) -> Any:
    """Before opset 9: statistics of every place of every channel."""
    inverse = o.rsqrt(o.add(var, epsilon))
    return o.add(o.mul(o.mul(o.sub(x, mean), inverse), scale), bias)


# ---- of each example ---------------------------------------------------------------------------


@onnx_op("LayerNormalization")
def layer_normalization(node: Node, x: Any, scale: Any, bias: Any = None) -> Any:
    shape = sizes_of(x)
    first = axis_of(node.attr("axis", -1), len(shape))
    axes, epsilon = tuple(range(first, len(shape))), node.attr("epsilon", 1e-5)
    same = all(v is None or sizes_of(v) == shape[first:] for v in (scale, bias))
    if same:
        out, mean, inverse = o.layer_norm(x, scale, bias, axes=axes, epsilon=epsilon)
    else:  # broadcast
        out, mean, inverse = o.layer_norm(x, axes=axes, epsilon=epsilon)
        out = o.mul(out, scale)
        out = out if bias is None else o.add(out, bias)
    kept = (*shape[:first], *(1,) * len(axes))
    told = (o.cast(o.reshape(v, shape=kept), dtype="float32") for v in (mean, inverse))
    return out, *told


@onnx_op("RMSNormalization")
def rms_normalization(node: Node, x: Any, scale: Any) -> Any:
    shape = sizes_of(x)
    first = axis_of(node.attr("axis", -1), len(shape))
    how = {"axes": tuple(range(first, len(shape))), "epsilon": node.attr("epsilon", 1e-5)}
    if sizes_of(scale) == shape[first:]:
        return rms_norm(x, scale, **how)
    return o.mul(rms_norm(x, **how), scale)


@onnx_op("GroupNormalization", since=21)
def group_normalization(node: Node, x: Any, scale: Any, bias: Any) -> Any:
    groups, epsilon = node.need("num_groups"), node.attr("epsilon", 1e-5)
    return o.group_norm(x, scale, bias, groups=groups, epsilon=epsilon)


@onnx_op("GroupNormalization")
def group_normalization_before_21(node: Node, x: Any, scale: Any, bias: Any) -> Any:
    """Scale and bias of a group, not of a channel."""
    groups, channels = node.need("num_groups"), sizes_of(x)[1]
    each = channels // groups
    wide = [
        o.reshape(o.broadcast_to(o.unsqueeze(v, axis=1), shape=(groups, each)), shape=(channels,))
        for v in (scale, bias)
    ]
    return group_normalization(node, x, *wide)


@onnx_op("InstanceNormalization")
def instance_normalization(node: Node, x: Any, scale: Any, bias: Any) -> Any:
    return instance_norm(x, scale, bias, epsilon=node.attr("epsilon", 1e-5))


@onnx_op("LRN")
def lrn(node: Node, x: Any) -> Any:
    return local_response_norm(
        x,
        size=node.need("size"),
        alpha=node.attr("alpha", 1e-4),
        beta=node.attr("beta", 0.75),
        k=node.attr("bias", 1.0),
    )


@onnx_op("LpNormalization")
def lp_normalization(node: Node, x: Any) -> Any:
    """x / its length along an axis; 0 where that is 0."""
    axis, p = node.attr("axis", -1), node.attr("p", 2)
    if p == 1:
        length = o.reduce_sum(o.abs(x), axis=axis, keepdims=True)
    elif p == 2:
        length = o.sqrt(o.reduce_sum(o.square(x), axis=axis, keepdims=True))
    else:
        raise FormatError("p must be 1 or 2", where=str(node), got=str(p))
    nothing = o.equal(length, 0.0)
    return o.where(nothing, 0.0, o.div(x, o.where(nothing, 1.0, length)))


@onnx_op("MeanVarianceNormalization")
def mean_variance_normalization(node: Node, x: Any) -> Any:
    axes = tuple(node.attr("axes", (0, 2, 3)))
    centred = o.sub(x, o.reduce_mean(x, axis=axes, keepdims=True))
    spread = o.sqrt(o.reduce_mean(o.square(centred), axis=axes, keepdims=True))
    return o.div(centred, o.add(spread, 1e-9))


# ---- dropout -----------------------------------------------------------------------------------


@onnx_op("Dropout", since=12)
def dropout(node: Node, x: Any, ratio: Any = None, training: Any = None) -> Any:
    """Only where `training_mode` says so; the numbers are noria's own, not those of a seed."""
    p = 0.5 if ratio is None else float(scalar(node.const(ratio, "the ratio")))
    if training is None or not scalar(node.const(training, "the training mode")):
        p = 0.0
    if p == 0.0:
        return x, o.fill(shape=sizes_of(x), value=True, dtype="bool")
    mask = draw("bernoulli", shape=sizes_of(x), p=1.0 - p)
    return o.where(mask, o.mul(x, 1.0 / (1.0 - p)), 0.0), mask


@onnx_op("Dropout")
def dropout_before_12(node: Node, x: Any) -> Any:
    """A model that is exported does not train."""
    dtype = "bool" if node.opset >= 10 else dtype_name(x)
    return x, o.fill(shape=sizes_of(x), value=True if dtype == "bool" else 1.0, dtype=dtype)
