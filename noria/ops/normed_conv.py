"""A convolution that normalises while it reads, and its gradient by the weight: what passes make of
batch norm in training, a ReLU and the convolution that alone reads what they give, so that this is
never in memory.

    x       [N, C, H, W]        mean    [C], of the batch
    factors [2, C]              factor and offset: y = relu((x - mean) * factor + offset)

Kernels need not round what is normalised to the dtype of x.
"""

from __future__ import annotations

from math import prod
from typing import Any

from noria.ir.opdef import lookup, op
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Spec
from noria.ops.batch_norm import batch_norm
from noria.ops.common import need_float, require_same_shape
from noria.ops.fused_norm import affine, emit_affine
from noria.ops.numeric import cast_like, products_in_float32, single, widen
from noria.ops.rules import by_decomposition
from noria.ops.window import share_inside, slide

FACTORS = ("factors", "batch_mean", "inv_std", "new_mean", "new_var")


@op(outputs=FACTORS, overwrites=((3, 3), (4, 4)))
def batch_norm_factors(x, scale, bias, mean, var, *, momentum=0.1, epsilon=1e-5, axis=1):
    """What batch_norm(x, training=True) multiplies and adds, and its other outputs.

    x, scale, bias, mean, var: as in `batch_norm`; factors: [2, C], so that its out is
    (x - batch_mean) * factors[0] + factors[1]. factors[1] is the bias, and what makes up for the
    rounding of batch_mean.
    """
    how = {"training": True, "momentum": momentum, "epsilon": epsilon, "axis": axis}
    _, channels, *rest = batch_norm.infer([x, scale, bias, mean, var], how)
    return Spec((2, *channels.shape), channels.dtype), channels, *rest


@batch_norm_factors.compute
def _(xp, x, scale, bias, mean, var, **how):
    given = [widen(x), scale, bias, mean, var]
    _, batch_mean, inv_std, *moved = batch_norm.run(xp, given, {**how, "training": True})
    factors = xp.stack([widen(scale) * inv_std, widen(bias)]).astype(batch_mean.dtype)
    return factors, batch_mean, inv_std, *moved


@batch_norm_factors.decompose
def _(x, scale, bias, mean, var, **how):
    _, *statistics = batch_norm(x, scale, bias, mean, var, training=True, **how)
    return _factors(scale, bias, statistics[1]), *statistics


def _factors(scale: Any, bias: Any, inv_std: Any) -> Any:
    rows = o.mul(single(scale), inv_std), single(bias)
    return o.concat(*(cast_like(o.unsqueeze(row, axis=0), inv_std) for row in rows), axis=0)


@batch_norm_factors.for_test
def _(x, scale, bias, mean, var, *, momentum=0.1, epsilon=1e-5, axis=1):
    inv_std = o.rsqrt(o.add(single(var), epsilon))
    return _factors(scale, bias, inv_std), single(mean), inv_std, mean, var


@batch_norm_factors.work
def _(x):
    return 4.0 * x.size


@batch_norm_factors.grad
def _(op, gs, vjp):
    return by_decomposition(op, gs, vjp)


def _need_factors(x: Spec, mean: Spec, factors: Spec) -> None:
    need_float(mean, factors)
    require_same_shape(Spec((x.shape[1],), x.dtype), mean, "mean")
    require_same_shape(Spec((2, x.shape[1]), x.dtype), factors, "factors")


@op(promote=(0, 1))
def normed_conv2d(
    x, weight, mean, factors, bias=None, *, stride=1, padding=0, dilation=1, groups=1
):
    """conv2d(relu((x - mean) * factors[0] + factors[1]), weight, bias).

    x, weight, bias and the attributes: as in `conv2d`; padding is of zeros, which stay zeros.
    Raises ShapeError unless mean is [C] and factors [2, C].
    """
    how = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    (out,) = lookup("conv2d").infer([x, weight, bias], how)
    _need_factors(x, mean, factors)
    return out


@normed_conv2d.compute
@products_in_float32
def _(xp, x, weight, mean, factors, bias, **how):
    return lookup("conv2d").run(xp, [_normed(xp, x, mean, factors), weight, bias], how)[0]


def _normed(xp: Any, x: Any, mean: Any, factors: Any) -> Any:
    y = affine(xp, x, mean, factors, axis=1)
    return xp.maximum(y, xp.zeros((), y.dtype)).astype(x.dtype)


@normed_conv2d.decompose
def _(x, weight, mean, factors, bias=None, **how):
    return o.conv2d(_emit_normed(x, mean, factors), weight, bias, **how)


def _emit_normed(x: Any, mean: Any, factors: Any) -> Any:
    return cast_like(o.relu(emit_affine(x, mean, factors, axis=1)), x)


@normed_conv2d.work
def _(x, weight, out, stride, padding, dilation):
    windows = slide(x.shape[2:], weight.shape[2:], stride, padding, dilation)
    return 2.0 * out.size * prod(weight.shape[1:]) * share_inside(windows, x.shape[2:])


@normed_conv2d.grad
def _(op, gs, vjp):
    return by_decomposition(op, gs, vjp)


@op(promote=(0, 1))
def normed_conv2d_weight_grad(
    x, grad, mean, factors, *, kernel, stride=1, padding=0, dilation=1, groups=1, dtype=None
):
    """conv2d_weight_grad(relu((x - mean) * factors[0] + factors[1]), grad), with its attributes."""
    how = {"kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation}
    how |= {"groups": groups, "dtype": dtype}
    (out,) = lookup("conv2d_weight_grad").infer([x, grad], how)
    _need_factors(x, mean, factors)
    return out


@normed_conv2d_weight_grad.compute
@products_in_float32
def _(xp, x, grad, mean, factors, **how):
    given, how = [_normed(xp, x, mean, factors), grad], {**how, "dtype": None}
    return lookup("conv2d_weight_grad").run(xp, given, how)[0]


@normed_conv2d_weight_grad.decompose
def _(x, grad, mean, factors, **how):
    return o.conv2d_weight_grad(_emit_normed(x, mean, factors), grad, **how)


@normed_conv2d_weight_grad.work
def _(x, grad, out, stride, padding, dilation):
    windows = slide(x.shape[2:], out.shape[2:], stride, padding, dilation)
    return 2.0 * grad.size * prod(out.shape[1:]) * share_inside(windows, x.shape[2:])


@normed_conv2d_weight_grad.grad
def _(op, gs, vjp):
    return by_decomposition(op, gs, vjp)
