"""Batch norm in training, an added residual and the ReLU behind it as one operator, and its
gradient as another: what passes make of the blocks of a residual network.
"""

from __future__ import annotations

from noria.core.errors import ArgumentError
from noria.ir.opdef import op
from noria.ir.opdef import vocabulary as o
from noria.ops.batch_norm import BATCH_NORM, batch_norm, batch_norm_grad
from noria.ops.common import need_float, require_same_shape
from noria.ops.numeric import single, widen
from noria.ops.rules import by_decomposition

BATCH_NORM_GRAD = ("gx", "g_scale", "g_bias", "g_residual")


@op(outputs=BATCH_NORM, overwrites=((0, 0), (0, 5), (3, 3), (4, 4)))
def batch_norm_relu(
    x, scale, bias, mean, var, residual=None, *, momentum=0.1, epsilon=1e-5, axis=1
):
    """relu(batch_norm(x, training=True) + residual), and the other outputs of `batch_norm`.

    x, scale, bias, mean, var: as in `batch_norm`; residual: of the shape and dtype of x. Halves are
    rounded once, at the end.
    """
    how = {"training": True, "momentum": momentum, "epsilon": epsilon, "axis": axis}
    outs = batch_norm.infer([x, scale, bias, mean, var], how)
    if residual is not None:
        require_same_shape(x, residual, "residual")
        need_float(residual)
    return outs


@batch_norm_relu.compute
def _(xp, x, scale, bias, mean, var, residual, **how):
    out, *rest = batch_norm.run(xp, [widen(x), scale, bias, mean, var], {**how, "training": True})
    out = out if residual is None else out + widen(residual)
    return xp.maximum(out, xp.zeros((), out.dtype)).astype(x.dtype), *rest


@batch_norm_relu.decompose
def _(x, scale, bias, mean, var, residual=None, **how):
    out, *rest = batch_norm(x, scale, bias, mean, var, training=True, **how)
    return o.relu(out if residual is None else o.add(out, residual)), *rest


@batch_norm_relu.for_test
def _(x, scale, bias, mean, var, residual=None, *, momentum=0.1, epsilon=1e-5, axis=1):
    out = batch_norm(x, scale, bias, mean, var, epsilon=epsilon, axis=axis)
    out = o.relu(out if residual is None else o.add(out, residual))
    return out, single(mean), o.rsqrt(o.add(single(var), epsilon)), mean, var


@batch_norm_relu.grad
def _(op, gs, vjp):
    return by_decomposition(op, gs, vjp)


@op(outputs=BATCH_NORM_GRAD, overwrites=((0, 0), (0, 5), (3, 5), (3, 6)))
def batch_norm_relu_grad(x, scale, mean, inv_std, out, grad, more=None, *, axis=1, residual=False):
    """Gradients of batch_norm_relu in x, scale and bias, from that of its out: `grad`, or where
    out is used twice `grad + more`.

    mean, inv_std: those of the batch, [C]; x, out, grad, more: of one shape.
    residual: also give the gradient of the residual, as a fourth output.
    """
    for name, value in (("out", out), ("grad", grad), ("more", more)):
        if value is not None:
            require_same_shape(x, value, name)
            need_float(value)
    if not isinstance(residual, bool):
        raise ArgumentError("residual is a flag", expected="True or False", got=repr(residual))
    outs = batch_norm_grad.infer([x, scale, mean, inv_std, grad], {"axis": axis})
    return (*outs, grad) if residual else outs


@batch_norm_relu_grad.compute
def _(xp, x, scale, mean, inv_std, out, grad, more, axis, residual):
    total = widen(grad) if more is None else widen(grad) + widen(more)
    masked = xp.where(out > 0, total, xp.zeros((), total.dtype))
    outs = batch_norm_grad.run(xp, [x, scale, mean, inv_std, masked], {"axis": axis})
    return (*outs, masked.astype(grad.dtype)) if residual else outs


@batch_norm_relu_grad.decompose
def _(x, scale, mean, inv_std, out, grad, more=None, *, axis=1, residual=False):
    total = grad if more is None else o.add(grad, more)
    masked = o.where(o.greater(out, 0.0), total, 0.0)
    outs = batch_norm_grad(x, scale, mean, inv_std, masked, axis=axis)
    return (*outs, masked) if residual else outs


@batch_norm_relu_grad.grad
def _(op, gs, vjp):
    return by_decomposition(op, gs, vjp)
