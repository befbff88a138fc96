"""Two batch norms whose results are added, as where a residual network's branch changes the shape:
both have one gradient.
"""

from __future__ import annotations

from noria.ir.opdef import op
from noria.ops.batch_norm import batch_norm_grad
from noria.ops.fused_norm import check_masked, masked, masked_apart
from noria.ops.rules import by_decomposition

PAIR_GRAD = ("gx", "g_scale", "g_bias", "g_other", "g_other_scale", "g_other_bias")


@op(outputs=PAIR_GRAD, overwrites=((0, 0), (0, 8), (0, 10), (3, 4), (3, 8), (3, 10)))
def batch_norm_pair_grad(
    x,
    scale,
    mean,
    inv_std,
    other,
    other_scale,
    other_mean,
    other_inv_std,
    grad,
    out=None,
    more=None,
    *,
    axis=1,
):
    """Gradients of batch_norm(x) + batch_norm(other), both with training=True, from that of the
    sum; of relu of the sum if `out` is given.

    x, scale, mean, inv_std: as in `batch_norm_grad`, mean and inv_std of the batch, [C]; likewise
    the four of the other. The axis of channels is the same.
    grad, more: of the shape of x; the gradient is `grad`, or where both are given their sum.
    out: the ReLU's output, or the mask of it, uint8 [N, ceil(C / 8), ...], as in
    `batch_norm_relu_grad`. Raises ShapeError and DTypeError for other shapes and dtypes.
    """
    check_masked(x, out, grad, more, axis)
    first = batch_norm_grad.infer([x, scale, mean, inv_std, grad], {"axis": axis})
    others = [other, other_scale, other_mean, other_inv_std]
    return (*first, *batch_norm_grad.infer([*others, grad], {"axis": axis}))


@batch_norm_pair_grad.compute
def _(xp, x, scale, mean, inv_std, other, scale2, mean2, inv_std2, grad, out, more, axis):
    total, how = masked(xp, out, grad, more, axis), {"axis": axis}
    first = batch_norm_grad.run(xp, [x, scale, mean, inv_std, total], how)
    return (*first, *batch_norm_grad.run(xp, [other, scale2, mean2, inv_std2, total], how))


@batch_norm_pair_grad.decompose
def _(x, scale, mean, inv_std, other, scale2, mean2, inv_std2, grad, out=None, more=None, *, axis):
    total = masked_apart(out, grad, more, axis)
    first = batch_norm_grad(x, scale, mean, inv_std, total, axis=axis)
    return (*first, *batch_norm_grad(other, scale2, mean2, inv_std2, total, axis=axis))


@batch_norm_pair_grad.work
def _(x):
    return 18.0 * x.size


@batch_norm_pair_grad.grad
def _(op, gs, vjp):
    return by_decomposition(op, gs, vjp)
