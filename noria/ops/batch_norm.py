"""Normalisation of channels over a batch, and its gradient as an op of its own.

Statistics of halves are kept in float32. inv_std is 1 / sqrt(variance + epsilon), with the variance
divided by the count ("biased").
"""

from __future__ import annotations

import math
from typing import Any

from noria.core.dims import dim_max, product
from noria.ir.opdef import op
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Spec
from noria.ops.common import axis_of, need_float, require_same_shape
from noria.ops.numeric import cast_like, single, wide_dtype, widen
from noria.ops.rules import by_decomposition

BATCH_NORM = ("out", "batch_mean", "inv_std", "new_mean", "new_var")


def _channels(x: Spec, axis: int, **vectors: Spec) -> Spec:
    """[C], which every vector is checked to be."""
    need_float(x, *vectors.values())
    channels = Spec((x.shape[axis_of(axis, x.ndim)],), wide_dtype(x.dtype))
    for name, vector in vectors.items():
        require_same_shape(channels, vector, name)
    return channels


def _others(x: Any, axis: int) -> tuple[int, ...]:
    return tuple(i for i in range(x.ndim) if i != axis % x.ndim)


@op(outputs=BATCH_NORM, overwrites=((0, 0), (3, 3), (4, 4)))
def batch_norm(x, scale, bias, mean, var, *, training=False, momentum=0.1, epsilon=1e-5, axis=1):
    """(x - mean) / sqrt(var + epsilon) * scale + bias, per channel.  (Ioffe & Szegedy, 2015)

    x: [N, C, ...] with the channels along `axis`; scale, bias, mean, var: [C].
    training=False: normalises by mean and var; one output, `out`.
    training=True: normalises by the mean and variance of the batch. Further outputs, all [C]:
    batch_mean and inv_std of the batch, and the running statistics
        new_mean = (1 - momentum) * mean + momentum * batch mean
        new_var  = (1 - momentum) * var + momentum * batch variance * n / (n - 1)
    with n elements a channel, as in PyTorch. An empty batch leaves mean and var as they are.
    """
    channels = _channels(x, axis, scale=scale, bias=bias, mean=mean, var=var)
    if not training:
        return x
    return x, channels, channels, mean, var


@batch_norm.compute
def _(xp, x, scale, bias, mean, var, training, momentum, epsilon, axis):
    values = [widen(v) for v in (x, scale, bias, mean, var)]
    if not training:
        return _by_given(xp, *values, epsilon=epsilon, axis=axis).astype(x.dtype)
    wide, *vectors = values
    out, *statistics, new_mean, new_var = _by_batch(
        xp, wide, *vectors, momentum=momentum, epsilon=epsilon, axis=axis
    )
    found = [s.astype(wide.dtype) for s in statistics]
    return out.astype(x.dtype), *found, new_mean.astype(mean.dtype), new_var.astype(var.dtype)


def _by_given(
    xp: Any, x: Any, scale: Any, bias: Any, mean: Any, var: Any, *, epsilon: float, axis: int
) -> Any:
    others = _others(x, axis)
    factor = xp.expand_dims(scale / xp.sqrt(var + epsilon), others)
    return (x - xp.expand_dims(mean, others)) * factor + xp.expand_dims(bias, others)


def _by_batch(
    xp: Any,
    x: Any,
    scale: Any,
    bias: Any,
    mean: Any,
    var: Any,
    *,
    momentum: float,
    epsilon: float,
    axis: int,
) -> tuple[Any, ...]:
    others = _others(x, axis)
    n = math.prod(x.shape[a] for a in others)
    batch_mean = xp.sum(x, axis=others) / max(n, 1)
    centred = x - xp.expand_dims(batch_mean, others)
    batch_var = xp.sum(centred * centred, axis=others) / max(n, 1)
    inv_std = 1 / xp.sqrt(batch_var + epsilon)
    out = centred * xp.expand_dims(scale * inv_std, others) + xp.expand_dims(bias, others)
    rate = momentum if n else 0.0
    new_mean = (1 - rate) * mean + rate * batch_mean
    new_var = (1 - rate) * var + rate * n / max(n - 1, 1) * batch_var
    return out, batch_mean, inv_std, new_mean, new_var


@batch_norm.work
def _(x, training):
    return (7.0 if training else 2.0) * x.size


@batch_norm.grad
def _(x, scale, batch_mean, inv_std, gs, training, axis, op, vjp):
    if not training or any(g is not None for g in gs[1:]):
        return by_decomposition(op, gs, vjp)
    gx, g_scale, g_bias = o.batch_norm_grad(x, scale, batch_mean, inv_std, gs[0], axis=axis)
    return gx, g_scale, g_bias, None, None


@batch_norm.decompose
def _(x, scale, bias, mean, var, *, training=False, momentum=0.1, epsilon=1e-5, axis=1):
    others = _others(x, axis)
    wide = single(x)
    if training:
        used_mean = o.reduce_mean(wide, axis=others)
        centred = o.sub(wide, o.unsqueeze(used_mean, axis=others))
        used_var = o.reduce_mean(o.square(centred), axis=others)
    else:
        used_mean, used_var = mean, single(var)
        centred = o.sub(wide, o.unsqueeze(mean, axis=others))
    inv_std = o.rsqrt(o.add(used_var, epsilon))
    factor = o.unsqueeze(o.mul(scale, inv_std), axis=others)
    out = cast_like(o.add(o.mul(centred, factor), o.unsqueeze(bias, axis=others)), x)
    if not training:
        return out
    count = product(x.shape[a] for a in others)
    unbiased = o.div(
        o.cast(o.dim_value(dim=count), dtype=used_var.dtype),
        o.cast(o.dim_value(dim=dim_max(count - 1, 1)), dtype=used_var.dtype),
    )
    new_mean = _moved(mean, used_mean, momentum)
    return out, used_mean, inv_std, new_mean, _moved(var, o.mul(used_var, unbiased), momentum)


def _moved(old: Any, new: Any, momentum: float) -> Any:
    """(1 - momentum) * old + momentum * new, in the dtype of old."""
    return cast_like(o.add(o.mul(single(old), 1 - momentum), o.mul(new, momentum)), old)


@batch_norm.for_test
def _(x, scale, bias, mean, var, *, training=False, momentum=0.1, epsilon=1e-5, axis=1):
    out = o.batch_norm(x, scale, bias, mean, var, training=False, epsilon=epsilon, axis=axis)
    if not training:
        return out
    return out, single(mean), o.rsqrt(o.add(single(var), epsilon)), mean, var


@op(outputs=("gx", "g_scale", "g_bias"), overwrites=((0, 0), (0, 4)))
def batch_norm_grad(x, scale, mean, inv_std, grad, *, axis=1):
    """Gradients of batch_norm(training=True) in x, scale and bias, from that of its out.

    mean, inv_std: those of the batch, [C]; grad: of the shape of x.
    """
    channels = _channels(x, axis, scale=scale, mean=mean, inv_std=inv_std)
    require_same_shape(x, grad, "grad")
    need_float(grad)
    return x, Spec(channels.shape, scale.dtype), Spec(channels.shape, scale.dtype)


@batch_norm_grad.compute
def _(xp, x, scale, mean, inv_std, grad, axis):
    dtypes = x.dtype, scale.dtype
    x, scale, mean, inv_std, grad = map(widen, (x, scale, mean, inv_std, grad))
    others = _others(x, axis)
    n = max(math.prod(x.shape[a] for a in others), 1)
    hat = (x - xp.expand_dims(mean, others)) * xp.expand_dims(inv_std, others)
    g_bias = xp.sum(grad, axis=others)
    g_scale = xp.sum(grad * hat, axis=others)
    rest = xp.expand_dims(g_bias / n, others) + hat * xp.expand_dims(g_scale / n, others)
    gx = (grad - rest) * xp.expand_dims(scale * inv_std, others)
    return gx.astype(dtypes[0]), g_scale.astype(dtypes[1]), g_bias.astype(dtypes[1])


@batch_norm_grad.decompose
def _(x, scale, mean, inv_std, grad, *, axis=1):
    others = _others(x, axis)
    wide, wide_grad = single(x), single(grad)
    hat = o.mul(o.sub(wide, o.unsqueeze(mean, axis=others)), o.unsqueeze(inv_std, axis=others))
    product_ = o.mul(wide_grad, hat)
    rest = o.add(
        o.reduce_mean(wide_grad, axis=others, keepdims=True),
        o.mul(hat, o.reduce_mean(product_, axis=others, keepdims=True)),
    )
    gx = o.mul(o.sub(wide_grad, rest), o.unsqueeze(o.mul(scale, inv_std), axis=others))
    sums = o.reduce_sum(product_, axis=others), o.reduce_sum(wide_grad, axis=others)
    return cast_like(gx, x), *(cast_like(s, scale) for s in sums)


@batch_norm_grad.work
def _(x):
    return 9.0 * x.size


@batch_norm_grad.grad
def _(gs, op, vjp):
    return by_decomposition(op, gs, vjp)
