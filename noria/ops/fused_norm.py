"""Batch norm in training, an added residual and the ReLU behind it as one operator, and its
gradient as another: what passes make of the blocks of a residual network.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from noria.core.errors import ArgumentError
from noria.ir.opdef import op
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Spec
from noria.ops.batch_norm import BATCH_NORM, batch_norm, batch_norm_grad
from noria.ops.bitwise import pack_bits, unpack_bits
from noria.ops.common import axis_of, need_float, require_same_shape
from noria.ops.numeric import cast_like, single, widen
from noria.ops.rules import by_decomposition

BATCH_NORM_GRAD = ("gx", "g_scale", "g_bias", "g_residual")


def need_flag(name: str, value: Any) -> None:
    """Raises ArgumentError unless the attribute is True or False."""
    if not isinstance(value, bool):
        raise ArgumentError(f"{name} is a flag", expected="True or False", got=repr(value))


@op(outputs=(*BATCH_NORM, "bits"), overwrites=((0, 0), (0, 5), (3, 3), (4, 4)))
def batch_norm_relu(
    x,
    scale,
    bias,
    mean,
    var,
    residual=None,
    residual_mean=None,
    residual_factors=None,
    *,
    momentum=0.1,
    epsilon=1e-5,
    axis=1,
    mask=False,
):
    """relu(batch_norm(x, training=True) + residual), and the other outputs of `batch_norm`.

    x, scale, bias, mean, var: as in `batch_norm`; residual: of the shape and dtype of x. Halves are
    rounded once, at the end.
    residual_mean, residual_factors: [C] and [2, C], as of `batch_norm_factors`: what is added is
    (residual - residual_mean) * residual_factors[0] + residual_factors[1], per channel.
    mask: also give, as a sixth output, where out is above 0, as bits along the channels: uint8
    [N, ceil(C / 8), ...], which `unpack_bits` tells apart. The gradient needs no more of out.
    """
    need_flag("mask", mask)
    how = {"training": True, "momentum": momentum, "epsilon": epsilon, "axis": axis}
    outs = batch_norm.infer([x, scale, bias, mean, var], how)
    if residual is not None:
        require_same_shape(x, residual, "residual")
        need_float(residual)
    _check_factors(outs[1], residual, residual_mean, residual_factors)
    bits = pack_bits.infer([Spec(x.shape, "bool")], {"axis": axis}) if mask else ()
    return (*outs, *bits)


def _check_factors(channels: Spec, residual: Any, mean: Any, factors: Any) -> None:
    given = [v is not None for v in (residual, mean, factors)]
    if not any(given[1:]):
        return
    if not all(given):
        raise ArgumentError("a residual's mean and factors belong to it, and to one another")
    need_float(mean, factors)
    require_same_shape(channels, mean, "residual_mean")
    require_same_shape(Spec((2, *channels.shape), channels.dtype), factors, "residual_factors")


@batch_norm_relu.compute
def _(xp, x, scale, bias, mean, var, residual, residual_mean, residual_factors, mask, **how):
    out, *rest = batch_norm.run(xp, [widen(x), scale, bias, mean, var], {**how, "training": True})
    if residual_factors is not None:
        residual = affine(xp, residual, residual_mean, residual_factors, how["axis"])
    out = out if residual is None else out + widen(residual)
    out = xp.maximum(out, xp.zeros((), out.dtype)).astype(x.dtype)
    bits = pack_bits.run(xp, [out > 0], {"axis": how["axis"]}) if mask else ()
    return out, *rest, *bits


@batch_norm_relu.decompose
def _(
    x,
    scale,
    bias,
    mean,
    var,
    residual=None,
    residual_mean=None,
    residual_factors=None,
    *,
    mask=False,
    axis=1,
    **how,
):
    out, *rest = batch_norm(x, scale, bias, mean, var, training=True, axis=axis, **how)
    out = _added(out, residual, residual_mean, residual_factors, axis)
    return (out, *rest, *_bits(out, mask, axis))


def _added(out: Any, residual: Any, mean: Any, factors: Any, axis: int) -> Any:
    """relu(out + residual), in operators."""
    if residual is None:
        return o.relu(out)
    if factors is not None:
        residual = cast_like(emit_affine(residual, mean, factors, axis), residual)
    return o.relu(o.add(out, residual))


def _bits(out: Any, mask: bool, axis: int) -> tuple[Any, ...]:
    return (pack_bits(o.greater(out, 0.0), axis=axis),) if mask else ()


@batch_norm_relu.for_test
def _(
    x,
    scale,
    bias,
    mean,
    var,
    residual=None,
    residual_mean=None,
    residual_factors=None,
    *,
    momentum=0.1,
    epsilon=1e-5,
    axis=1,
    mask=False,
):
    out = batch_norm(x, scale, bias, mean, var, epsilon=epsilon, axis=axis)
    out = _added(out, residual, residual_mean, residual_factors, axis)
    inv_std = o.rsqrt(o.add(single(var), epsilon))
    return (out, single(mean), inv_std, mean, var, *_bits(out, mask, axis))


@batch_norm_relu.grad
def _(op, gs, vjp):
    return by_decomposition(op, gs, vjp)


@op(outputs=BATCH_NORM_GRAD, overwrites=((0, 0), (0, 5), (3, 5), (3, 6)))
def batch_norm_relu_grad(x, scale, mean, inv_std, out, grad, more=None, *, axis=1, residual=False):
    """Gradients of batch_norm_relu in x, scale and bias, from that of its out: `grad`, or where
    out is used twice `grad + more`.

    mean, inv_std: those of the batch, [C]; x, grad, more: of one shape.
    out: of that shape too, or in its place the mask, uint8 [N, ceil(C / 8), ...]; or, where x has
    more than two axes, the `factors` of `batch_norm_factors`, [2, C]: there was no residual then.
    residual: also give the gradient of the residual, as a fourth output.
    """
    need_flag("residual", residual)
    if _are_factors(x, out):
        require_same_shape(Spec((2, x.shape[axis_of(axis, x.ndim)]), x.dtype), out, "factors")
        need_float(out)
    check_masked(x, None if _are_factors(x, out) else out, grad, more, axis)
    outs = batch_norm_grad.infer([x, scale, mean, inv_std, grad], {"axis": axis})
    return (*outs, grad) if residual else outs


def _are_factors(x: Any, out: Any) -> bool:
    return x.ndim > 2 == out.ndim


def affine(xp: Any, x: Any, mean: Any, factors: Any, axis: int) -> Any:
    """(x - mean) * factors[0] + factors[1] of channels along `axis`, rounded once where NumPy
    computes: kernels multiply and add at once, and what decides by the sign must decide alike."""
    others = tuple(i for i in range(x.ndim) if i != axis % x.ndim)
    wide = [widen(v) for v in (x, mean, *factors)]
    centred = wide[0] - xp.expand_dims(wide[1], others)
    factor, offset = (xp.expand_dims(v, others) for v in wide[2:])
    exact = centred.astype("float64") if xp is np else centred
    return (exact * factor + offset).astype(centred.dtype)


def emit_affine(x: Any, mean: Any, factors: Any, axis: int) -> Any:
    """The same as operators, in float32 for halves."""
    others = tuple(i for i in range(x.ndim) if i != axis % x.ndim)
    rows = (o.squeeze(row, axis=0) for row in o.split(factors, num=2, axis=0))
    factor, offset = (o.unsqueeze(row, axis=others) for row in rows)
    centred = o.sub(single(x), o.unsqueeze(single(mean), axis=others))
    return o.add(o.mul(centred, factor), offset)


@batch_norm_relu_grad.compute
def _(xp, x, scale, mean, inv_std, out, grad, more, axis, residual):
    if _are_factors(x, out):
        out = affine(xp, x, mean, out, axis)
    total = masked(xp, out, grad, more, axis)
    outs = batch_norm_grad.run(xp, [x, scale, mean, inv_std, total], {"axis": axis})
    return (*outs, total.astype(grad.dtype)) if residual else outs


@batch_norm_relu_grad.decompose
def _(x, scale, mean, inv_std, out, grad, more=None, *, axis=1, residual=False):
    if _are_factors(x, out):
        out = emit_affine(x, mean, out, axis)
    total = masked_apart(out, grad, more, axis)
    outs = batch_norm_grad(x, scale, mean, inv_std, total, axis=axis)
    return (*outs, total) if residual else outs


@batch_norm_relu_grad.grad
def _(op, gs, vjp):
    return by_decomposition(op, gs, vjp)


def check_masked(x: Spec, out: Spec | None, grad: Spec, more: Spec | None, axis: int) -> None:
    """Raises ShapeError or DTypeError unless gradients are like x, and out like x or its mask."""
    for name, value in (("out", out), ("grad", grad), ("more", more)):
        if value is None:
            continue
        if name == "out" and value.dtype == "uint8":
            (bits,) = pack_bits.infer([Spec(x.shape, "bool")], {"axis": axis})
            require_same_shape(bits, value, "the mask")
        else:
            require_same_shape(x, value, name)
            need_float(value)


def masked(xp: Any, out: Any, grad: Any, more: Any, axis: int) -> Any:
    """grad + more where out, if there is one, is positive or has a bit; wide, computed."""
    total = widen(grad) if more is None else widen(grad) + widen(more)
    if out is None:
        return total
    if out.dtype == "uint8":
        (positive,) = unpack_bits.run(xp, [out], {"axis": axis, "size": grad.shape[axis]})
    else:
        positive = out > 0
    return xp.where(positive, total, xp.zeros((), total.dtype))


def masked_apart(out: Any, grad: Any, more: Any, axis: int) -> Any:
    """The same in operators."""
    total = grad if more is None else o.add(grad, more)
    if out is None:
        return total
    if out.dtype == "uint8":
        positive = unpack_bits(out, size=grad.shape[axis], axis=axis)
    else:
        positive = o.greater(out, 0.0)
    return o.where(positive, total, 0.0)
