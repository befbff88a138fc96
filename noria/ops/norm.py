"""Normalisation of each example: over its last axes, over groups of channels, to unit length.

Statistics of halves are kept in float32. inv_std is 1 / sqrt(variance + epsilon), with the variance
divided by the count ("biased").
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from noria.core.dims import product
from noria.core.errors import ArgumentError, ShapeError
from noria.ir.opdef import op
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Spec
from noria.ops.common import axes_of, axis_of, need_float, require_equal, require_same_shape
from noria.ops.numeric import cast_like, single, spec_of, wide_dtype, widen
from noria.ops.rules import by_decomposition

Axes = int | Sequence[int]


def _last(x: Any, axes: Axes) -> tuple[int, ...]:
    """The axes, which must be the last ones. Raises ArgumentError."""
    found = axes_of(axes, x.ndim)
    if not found or found != tuple(range(x.ndim - len(found), x.ndim)):
        raise ArgumentError(
            "axes must be the last ones",
            expected=f"such as -1 or (-2, -1), of rank {x.ndim}",
            got=repr(axes),
            hint="ops.transpose brings axes to the end",
        )
    return found


# ---- layer norm --------------------------------------------------------------------------------


def _normalised(x: Spec, axes: Axes) -> tuple[Spec, Spec]:
    """Specs of (scale and bias, mean and inv_std)."""
    found = _last(x, axes)
    kept = x.shape[: found[0]]
    statistics = Spec((*kept, *(1,) * len(found)), wide_dtype(x.dtype))
    return Spec(x.shape[found[0] :], x.dtype), statistics


@op(outputs=("out", "mean", "inv_std"), overwrites=((0, 0),))
def layer_norm(x, scale=None, bias=None, *, axes=-1, epsilon=1e-5):
    """(x - mean) * inv_std * scale + bias, with mean and inv_std over `axes`, the last ones of x.
    (Ba, Kiros & Hinton, 2016)

    scale, bias: of the sizes of those axes; mean, inv_std: the shape of x with 1 for them.
    """
    need_float(x, scale, bias)
    affine, statistics = _normalised(x, axes)
    for name, value in (("scale", scale), ("bias", bias)):
        if value is not None:
            require_same_shape(affine, value, name)
    return x, statistics, statistics


@layer_norm.compute
def _(xp, x, scale, bias, axes, epsilon):
    wide, scale, bias = map(widen, (x, scale, bias))
    found = _last(x, axes)
    n = max(math.prod(x.shape[a] for a in found), 1)
    mean = xp.sum(wide, axis=found, keepdims=True) / n
    centred = wide - mean
    inv_std = 1 / xp.sqrt(xp.sum(centred * centred, axis=found, keepdims=True) / n + epsilon)
    out = centred * inv_std
    out = out if scale is None else out * scale
    out = out if bias is None else out + bias
    return out.astype(x.dtype), mean.astype(wide.dtype), inv_std.astype(wide.dtype)


@layer_norm.work
def _(x):
    return 8.0 * x.size


@layer_norm.grad
def _(x, scale, bias, mean, inv_std, gs, axes, op, vjp):
    g = gs[0]
    if g is None or any(other is not None for other in gs[1:]):
        return by_decomposition(op, gs, vjp)
    if scale is None:
        gx = o.layer_norm_grad(x, mean, inv_std, g, axes=axes)
        return {"x": gx, "bias": None if bias is None else o.sum_to(g, shape=bias.shape)}
    return o.layer_norm_grad(x, mean, inv_std, g, scale, axes=axes)[: len(op.inputs)]


@layer_norm.decompose
def _(x, scale=None, bias=None, *, axes=-1, epsilon=1e-5):
    found = _last(x, axes)
    wide = single(x)
    mean = o.reduce_mean(wide, axis=found, keepdims=True)
    centred = o.sub(wide, mean)
    var = o.reduce_mean(o.square(centred), axis=found, keepdims=True)
    inv_std = o.rsqrt(o.add(var, epsilon))
    out = o.mul(centred, inv_std)
    out = out if scale is None else o.mul(out, scale)
    out = out if bias is None else o.add(out, bias)
    return cast_like(out, x), mean, inv_std


@op(outputs=("gx", "g_scale", "g_bias"), overwrites=((0, 0), (0, 3)))
def layer_norm_grad(x, mean, inv_std, grad, scale=None, *, axes=-1):
    """Gradients of layer_norm in x, scale and bias, from that of its out; without a scale only
    that in x.

    mean, inv_std: as layer_norm gives them; grad: of the shape of x.
    """
    need_float(x, mean, inv_std, grad, scale)
    affine, statistics = _normalised(x, axes)
    require_same_shape(statistics, mean, "mean")
    require_same_shape(statistics, inv_std, "inv_std")
    require_same_shape(x, grad, "grad")
    if scale is None:
        return x
    require_same_shape(affine, scale, "scale")
    return x, scale, scale


@layer_norm_grad.compute
def _(xp, x, mean, inv_std, grad, scale, axes):
    wide, mean, inv_std, grad = map(widen, (x, mean, inv_std, grad))
    found = _last(x, axes)
    n = max(math.prod(x.shape[a] for a in found), 1)
    hat = (wide - mean) * inv_std
    scaled = grad if scale is None else grad * widen(scale)
    rest = xp.sum(scaled, axis=found, keepdims=True) / n
    rest = rest + hat * (xp.sum(scaled * hat, axis=found, keepdims=True) / n)
    gx = ((scaled - rest) * inv_std).astype(x.dtype)
    if scale is None:
        return gx
    kept = tuple(range(found[0]))
    g_scale, g_bias = xp.sum(grad * hat, axis=kept), xp.sum(grad, axis=kept)
    return gx, g_scale.astype(scale.dtype), g_bias.astype(scale.dtype)


@layer_norm_grad.decompose
def _(x, mean, inv_std, grad, scale=None, *, axes=-1):
    found = _last(x, axes)
    hat, wide = o.mul(o.sub(single(x), mean), inv_std), single(grad)
    scaled = wide if scale is None else o.mul(wide, scale)
    rest = o.add(
        o.reduce_mean(scaled, axis=found, keepdims=True),
        o.mul(hat, o.reduce_mean(o.mul(scaled, hat), axis=found, keepdims=True)),
    )
    gx = cast_like(o.mul(o.sub(scaled, rest), inv_std), x)
    if scale is None:
        return gx
    sums = o.sum_to(o.mul(wide, hat), shape=scale.shape), o.sum_to(wide, shape=scale.shape)
    return gx, *(cast_like(s, scale) for s in sums)


@layer_norm_grad.work
def _(x):
    return 12.0 * x.size


@layer_norm_grad.grad
def _(gs, op, vjp):
    return by_decomposition(op, gs, vjp)


# ---- group norm --------------------------------------------------------------------------------


@op
def group_norm(x, scale=None, bias=None, *, groups, epsilon=1e-5):
    """Each of `groups` equal groups of channels of each example with mean 0 and variance 1, then
    times scale plus bias, per channel.  (Wu & He, 2018)

    x: [N, C, ...]; scale, bias: [C].
    """
    need_float(x, scale, bias)
    if x.ndim < 2:
        raise ShapeError("group_norm needs [N, C, ...]", got=str(x))
    if not isinstance(groups, int) or isinstance(groups, bool) or groups < 1:
        raise ArgumentError("groups must be an integer, 1 or more", got=repr(groups))
    require_equal(x.shape[1] // groups * groups, x.shape[1], "channels and groups times their size")
    for name, value in (("scale", scale), ("bias", bias)):
        if value is not None:
            require_same_shape(Spec((x.shape[1],), x.dtype), value, name)
    return x


@group_norm.compute
def _(xp, x, scale, bias, groups, epsilon):
    wide, scale, bias = map(widen, (x, scale, bias))
    inner = (x.shape[1] // groups, *x.shape[2:])
    grouped = wide.reshape(x.shape[0], groups, math.prod(inner))
    n = max(math.prod(inner), 1)
    centred = grouped - xp.sum(grouped, axis=-1, keepdims=True) / n
    var = xp.sum(centred * centred, axis=-1, keepdims=True) / n
    out = (centred / xp.sqrt(var + epsilon)).reshape(x.shape)
    spatial = tuple(range(1, x.ndim - 1))
    out = out if scale is None else out * xp.expand_dims(scale, spatial)
    out = out if bias is None else out + xp.expand_dims(bias, spatial)
    return out.astype(x.dtype)


@group_norm.decompose
def _(x, scale=None, bias=None, *, groups, epsilon=1e-5):
    inner = product((x.shape[1] // groups, *x.shape[2:]))
    grouped = o.reshape(single(x), shape=(x.shape[0], groups, inner))
    out, _, _ = o.layer_norm(grouped, axes=-1, epsilon=epsilon)
    return cast_like(_per_channel(o.reshape(out, shape=x.shape), scale, bias), x)


def _per_channel(x: Any, scale: Any, bias: Any) -> Any:
    """x * scale + bias for [N, C, ...] and vectors [C], either of which may be None."""
    spatial = tuple(range(1, x.ndim - 1))

    def spread(vector: Any) -> Any:
        return o.unsqueeze(vector, axis=spatial) if spatial else vector

    x = x if scale is None else o.mul(x, spread(scale))
    return x if bias is None else o.add(x, spread(bias))


@group_norm.work
def _(x):
    return 8.0 * x.size


@group_norm.grad
def _(gs, op, vjp):
    return by_decomposition(op, gs, vjp)


# ---- composed ----------------------------------------------------------------------------------


def instance_norm(x: Any, scale: Any = None, bias: Any = None, *, epsilon: float = 1e-5) -> Any:
    """Each channel of each example with mean 0 and variance 1, then times scale plus bias.
    (Ulyanov et al., 2016)

    x: [N, C, sizes...]; scale, bias: [C].
    """
    spec = spec_of(x)
    if spec.ndim < 3:
        raise ShapeError("instance_norm needs [N, C, sizes...]", got=str(spec))
    out, _, _ = o.layer_norm(single(x), axes=tuple(range(2, spec.ndim)), epsilon=epsilon)
    return cast_like(_per_channel(out, scale, bias), x)


def rms_norm(x: Any, scale: Any = None, *, axes: Axes = -1, epsilon: float = 1e-6) -> Any:
    """x / sqrt(mean(x^2) + epsilon) * scale over the last axes.  (Zhang & Sennrich, 2019)"""
    wide = single(x)
    mean = o.reduce_mean(o.square(wide), axis=_last(x, axes), keepdims=True)
    out = o.mul(wide, o.rsqrt(o.add(mean, epsilon)))
    return cast_like(out if scale is None else o.mul(out, scale), x)


def l2_normalize(x: Any, *, axis: Axes = -1, epsilon: float = 1e-12) -> Any:
    """x / max(length, epsilon), with the length sqrt(sum(x^2)) along `axis`."""
    wide = single(x)
    total = o.reduce_sum(o.square(wide), axis=axis, keepdims=True)
    return cast_like(o.mul(wide, o.rsqrt(o.maximum(total, epsilon * epsilon))), x)


def local_response_norm(
    x: Any, size: int, *, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0, axis: int = 1
) -> Any:
    """x / (k + alpha * m)^beta, where m is the mean of x^2 over `size` neighbouring channels, zeros
    beyond the ends.  (Krizhevsky et al., 2012, whose alpha is the one here divided by size)"""
    spec = spec_of(x)
    axis = axis_of(axis, spec.ndim)
    before, behind = product(spec.shape[:axis]), product(spec.shape[axis + 1 :])
    wide = single(x)
    squares = o.reshape(o.square(wide), shape=(before, 1, spec.shape[axis], behind))
    padding = (size // 2, 0, (size - 1) // 2, 0)
    mean = o.avg_pool2d(squares, kernel=(size, 1), stride=1, padding=padding)
    scale = o.pow(o.add(o.mul(o.reshape(mean, shape=spec.shape), alpha), k), -beta)
    return cast_like(o.mul(wide, scale), x)
