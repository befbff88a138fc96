"""Normalisation and statistics."""

from __future__ import annotations

from typing import Any

from noria.convert.caffe2.common import (
    axis_arg,
    channels_first,
    channels_last,
    numel,
    per_channel,
    pullback,
)
from noria.convert.caffe2.handlers import Node, caffe2_op
from noria.core.dims import product
from noria.core.errors import ShapeError
from noria.ir.opdef import vocabulary as o


def _channel_axis(op: Node, x: Any) -> int:
    return len(x.shape) - 1 if op.last else 1


def _others(x: Any, axis: int) -> tuple[int, ...]:
    return tuple(i for i in range(len(x.shape)) if i != axis)


def _beside(vector: Any, x: Any, axis: int) -> Any:
    """A vector of channels as it stands beside x."""
    after = len(x.shape) - axis - 1
    return o.unsqueeze(vector, axis=tuple(range(1, after + 1))) if after else vector


# ---- batch normalisation -----------------------------------------------------------------------


@caffe2_op("SpatialBN")
def spatial_bn(op, x, scale, bias, mean, var, sums=None, squares=None):
    """At test time y; else (y, running mean, running variance, mean, 1 / standard deviation).

    sums, squares: of the batch, or of `num_batches` of them, where they are known already.
    """
    axis, epsilon = _channel_axis(op, x), op.attr("epsilon", 1e-5)
    if op.attr("is_test", False):
        return o.batch_norm(x, scale, bias, mean, var, epsilon=epsilon, axis=axis)
    count = o.cast(o.dim_value(dim=product(x.shape[i] for i in _others(x, axis))), dtype=x.dtype)
    if sums is None:
        batch = o.reduce_mean(x, axis=_others(x, axis))
        centred = o.sub(x, _beside(batch, x, axis))
        spread = o.reduce_mean(o.square(centred), axis=_others(x, axis))
    else:
        count = o.mul(count, float(op.attr("num_batches", 1)))
        batch = o.div(sums, count)
        spread = o.sub(o.div(squares, count), o.square(batch))
    empty = o.equal(count, 0.0)
    batch, spread = (o.where(empty, 0.0, v) for v in (batch, spread))
    inv_std = o.rsqrt(o.add(spread, epsilon))
    factor = o.mul(inv_std, scale)
    shift = o.sub(bias, o.mul(batch, factor))
    y = o.add(o.mul(x, _beside(factor, x, axis)), _beside(shift, x, axis))
    unbiased = o.mul(spread, o.div(count, o.maximum(o.sub(count, 1.0), 1.0)))
    momentum = op.attr("momentum", 0.9)
    running = [
        o.where(empty, old, o.add(o.mul(old, momentum), o.mul(new, 1 - momentum)))
        for old, new in ((mean, batch), (var, unbiased))
    ]
    return y, *running, batch, o.where(empty, 0.0, inv_std)


@caffe2_op("SpatialBNGradient")
def spatial_bn_gradient(op, x, scale, dy, mean, inv_std, dscale=None, dbias=None):
    """(dX, dscale, dbias); given sums over `num_batches` batches replace those of this one."""
    axis, others = _channel_axis(op, x), _others(x, _channel_axis(op, x))
    count = o.cast(o.dim_value(dim=product(x.shape[i] for i in others)), dtype=x.dtype)
    centred = o.mul(o.sub(x, _beside(mean, x, axis)), _beside(inv_std, x, axis))
    batches = float(op.attr("num_batches", 1))
    if batches > 1 and dscale is not None and dbias is not None:
        dscale, dbias = o.div(dscale, batches), o.div(dbias, batches)
    else:
        dbias = o.reduce_sum(dy, axis=others)
        dscale = o.reduce_sum(o.mul(dy, centred), axis=others)
    dscale, dbias = (o.where(o.equal(count, 0.0), 0.0, v) for v in (dscale, dbias))
    n = o.maximum(count, 1.0)
    along = o.mul(centred, _beside(o.div(dscale, n), x, axis))
    inner = o.sub(o.sub(dy, _beside(o.div(dbias, n), x, axis)), along)
    return o.mul(inner, _beside(o.mul(scale, inv_std), x, axis)), dscale, dbias


@caffe2_op("ChannelStats")
def channel_stats(op, x):
    """Sum and sum of squares of each channel."""
    others = _others(x, _channel_axis(op, x))
    return o.reduce_sum(x, axis=others), o.reduce_sum(o.square(x), axis=others)


@caffe2_op("ChannelBackpropStats")
def channel_backprop_stats(op, x, mean, inv_std, dy):
    """Gradients of scale and bias of a batch normalisation."""
    others = _others(x, 1)
    centred = o.mul(o.sub(x, _beside(mean, x, 1)), _beside(inv_std, x, 1))
    return o.reduce_sum(o.mul(centred, dy), axis=others), o.reduce_sum(dy, axis=others)


@caffe2_op("BatchMoments")
def batch_moments(op, x):
    """Mean, and mean of squares, of each channel."""
    return _moments(op, x)


def _moments(op: Node, x: Any) -> tuple[Any, Any]:
    others = _others(x, _channel_axis(op, x))
    return o.reduce_mean(x, axis=others), o.reduce_mean(o.square(x), axis=others)


@caffe2_op("BatchMomentsGradient")
def batch_moments_gradient(op, dmean, dsquares, x):
    return pullback(lambda v: _moments(op, v), [x], [dmean, dsquares], [0])[0]


@caffe2_op("AffineChannel")
def affine_channel(op, x, scale, bias):
    return _affine(op, x, scale, bias)


def _affine(op: Node, x: Any, scale: Any, bias: Any) -> Any:
    axis = _channel_axis(op, x)
    return o.add(o.mul(x, _beside(scale, x, axis)), _beside(bias, x, axis))


@caffe2_op("AffineChannelGradient")
def affine_channel_gradient(op, dy, scale, x=None):
    axis = _channel_axis(op, dy)
    dx = o.mul(dy, _beside(scale, dy, axis))
    if x is None:
        return dx
    others = _others(dy, axis)
    return dx, o.reduce_sum(o.mul(dy, x), axis=others), o.reduce_sum(dy, axis=others)


# ---- over the rest of a row --------------------------------------------------------------------


@caffe2_op("LayerNorm", "C10LayerNorm_DontUseThisOpYet")
def layer_norm(op, x, scale=None, bias=None):
    """(y, mean, standard deviation), these with the axes from `axis` on as one of size 1."""
    axis = axis_arg(op, x, 1)
    y, mean, spread = _layer_norm(op, x, axis)
    for value, fn in ((scale, o.mul), (bias, o.add)):
        if value is not None:
            y = fn(y, o.reshape(value, shape=x.shape[axis:]))
    kept = (*x.shape[:axis], 1)
    return y, o.reshape(mean, shape=kept), o.reshape(spread, shape=kept)


def _layer_norm(op: Node, x: Any, axis: int) -> tuple[Any, Any, Any]:
    axes = tuple(range(axis, len(x.shape)))
    mean = o.reduce_mean(x, axis=axes, keepdims=True)
    centred = o.sub(x, mean)
    variance = o.reduce_mean(o.square(centred), axis=axes, keepdims=True)
    spread = o.sqrt(o.add(variance, op.attr("epsilon", 1e-5)))
    return o.div(centred, spread), mean, spread


@caffe2_op("LayerNormGradient")
def layer_norm_gradient(op, dy, y, mean, spread, x, scale=None):
    """dX, and where a scale is given its gradient and that of the bias."""
    axis = axis_arg(op, x, 1)
    inner = tuple(range(axis, len(x.shape)))
    kept = (*x.shape[:axis], *(1,) * len(inner))
    mean, spread = (o.reshape(v, shape=kept) for v in (mean, spread))
    normal = o.div(o.sub(x, mean), spread)
    g = dy if scale is None else o.mul(dy, o.reshape(scale, shape=x.shape[axis:]))
    along = o.mul(normal, o.reduce_mean(o.mul(g, normal), axis=inner, keepdims=True))
    dx = o.div(o.sub(o.sub(g, o.reduce_mean(g, axis=inner, keepdims=True)), along), spread)
    if scale is None:
        return dx
    outer = tuple(range(axis))
    sums = (o.mul(dy, normal), dy)
    return dx, *(o.reduce_sum(v, axis=outer) if outer else v for v in sums)


@caffe2_op("GroupNorm")
def group_norm(op, x, scale, bias):
    """(y, mean, 1 / standard deviation), these of each group [N, groups]."""
    last, groups = op.last, op.attr("group", 32)
    x = channels_first(x, last)
    y, mean, inv_std = _grouped(x, groups, op.attr("epsilon", 1e-5))
    y = o.add(o.mul(y, per_channel(scale, x, False)), per_channel(bias, x, False))
    return channels_last(y, last), mean, inv_std


def _grouped(x: Any, groups: Any, epsilon: float) -> tuple[Any, Any, Any]:
    if isinstance(x.shape[1], int) and isinstance(groups, int) and x.shape[1] % groups:
        raise ShapeError("groups must divide the channels", expected=str(x), got=str(groups))
    rows = o.reshape(x, shape=(x.shape[0], groups, product(x.shape[1:]) // groups))
    mean = o.reduce_mean(rows, axis=2, keepdims=True)
    centred = o.sub(rows, mean)
    variance = o.reduce_mean(o.square(centred), axis=2, keepdims=True)
    inv_std = o.rsqrt(o.add(variance, epsilon))
    y = o.reshape(o.mul(centred, inv_std), shape=x.shape)
    return y, o.squeeze(mean, axis=2), o.squeeze(inv_std, axis=2)


@caffe2_op("GroupNormGradient")
def group_norm_gradient(op, dy, x, scale, bias, mean, inv_std):
    """(dX, dscale, dbias)"""
    fn = lambda a, b, c: group_norm(op, a, b, c)[0]  # noqa: E731
    return pullback(fn, [x, scale, bias], [dy], [0, 1, 2])


@caffe2_op("InstanceNorm")
def instance_norm(op, x, scale, bias):
    """(y, mean, 1 / standard deviation), these of each channel of each example [N, C]."""
    last = op.last
    x = channels_first(x, last)
    y, mean, inv_std = _grouped(x, x.shape[1], op.attr("epsilon", 1e-5))
    y = o.add(o.mul(y, per_channel(scale, x, False)), per_channel(bias, x, False))
    return channels_last(y, last), mean, inv_std


@caffe2_op("InstanceNormGradient")
def instance_norm_gradient(op, x, scale, bias, dy, *statistics):
    """(dX, dscale, dbias)"""
    fn = lambda a, b, c: instance_norm(op, a, b, c)[0]  # noqa: E731
    return pullback(fn, [x, scale, bias], [dy], [0, 1, 2])


# ---- across channels, along an axis ------------------------------------------------------------


@caffe2_op("LRN")
def lrn(op, x):
    """(y, scale): y = x * scale^-beta, scale = bias + alpha / size * sum of squares nearby."""
    return _lrn(op, x)


def _lrn(op: Node, x: Any) -> tuple[Any, Any]:
    size, axis = op.attr("size", 1), _channel_axis(op, x)
    channels = x.shape[axis]
    if size < 1 or not isinstance(channels, int):
        raise ShapeError("a size of 1 or more and known channels are needed", got=f"{size}, {x}")
    before, after = (min(side, channels) for side in ((size - 1) // 2, size // 2))
    pads = tuple((before, after) if i == axis else (0, 0) for i in range(len(x.shape)))
    squares = o.pad(o.square(x), pads=pads)
    total: Any = None
    for k in range(before + after + 1):
        part = o.slice(squares, axes=(axis,), starts=(k,), stops=(channels + k,))
        total = part if total is None else o.add(total, part)
    scale = o.add(o.mul(total, op.attr("alpha", 0.0) / size), op.attr("bias", 1.0))
    return o.mul(x, o.pow(scale, -op.attr("beta", 0.0))), scale


@caffe2_op("LRNGradient")
def lrn_gradient(op, x, y, dy):
    return pullback(lambda v: _lrn(op, v)[0], [x], [dy], [0])[0]


@caffe2_op("Normalize")
def normalize(op, x):
    return _normalize(x, axis_arg(op, x, -1))


def _normalize(x: Any, axis: int) -> Any:
    length = o.sqrt(o.reduce_sum(o.square(x), axis=axis, keepdims=True))
    return o.div(x, o.maximum(length, 1e-12))


@caffe2_op("NormalizeGradient")
def normalize_gradient(op, x, dy):
    axis = axis_arg(op, x, -1)
    squares = o.reduce_sum(o.square(x), axis=axis, keepdims=True)
    length = o.maximum(o.sqrt(squares), 1e-12)
    along = o.div(o.reduce_sum(o.mul(x, dy), axis=axis, keepdims=True), o.square(length))
    return o.div(o.sub(dy, o.mul(x, along)), length)


@caffe2_op("NormalizeL1")
def normalize_l1(op, x):
    total = o.reduce_sum(o.abs(x), axis=axis_arg(op, x, -1), keepdims=True)
    return o.where(o.equal(total, 0.0), x, o.div(x, total))


@caffe2_op("NormalizePlanarYUV")
def normalize_planar(op, x, mean, std):
    return o.div(o.sub(x, _plane(mean, x)), _plane(std, x))


def _plane(vector: Any, x: Any) -> Any:
    return o.reshape(vector, shape=(1, numel(vector), *(1,) * (len(x.shape) - 2)))
