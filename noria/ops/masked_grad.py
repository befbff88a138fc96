"""A gradient that three ways lead to, as at the end of a residual block: the sum of what comes back
through a convolution and of another gradient, where a ReLU let numbers through.
"""

from __future__ import annotations

from math import prod

from noria.ir.opdef import lookup, op
from noria.ir.opdef import vocabulary as o
from noria.ops.bitwise import unpack_bits
from noria.ops.common import need_float, require_same_shape
from noria.ops.numeric import products_in_float32
from noria.ops.rules import by_decomposition
from noria.ops.window import share_inside, slide


@op(promote=(0, 1, 2), overwrites=((0, 2),))
def masked_input_grad(
    grad, weight, more, mask, *, sizes, stride=1, padding=0, dilation=1, groups=1
):
    """conv2d_input_grad(grad, weight) + more where the mask has a bit, 0 elsewhere.

    grad, weight and the attributes: as in `conv2d_input_grad`; more and out: [N, C, H, W].
    mask: uint8 [N, ceil(C / 8), H, W], bits along the channels as of `pack_bits`.
    Halves are rounded once, at the end. Raises ShapeError for other shapes, DTypeError for others.
    """
    how = {"sizes": sizes, "stride": stride, "padding": padding}
    how |= {"dilation": dilation, "groups": groups}
    (out,) = lookup("conv2d_input_grad").infer([grad, weight], how)
    need_float(more)
    require_same_shape(out, more, "more")
    (positive,) = unpack_bits.infer([mask], {"axis": 1, "size": out.shape[1]})
    require_same_shape(out, positive, "the mask")
    return out


@masked_input_grad.compute
@products_in_float32
def _(xp, grad, weight, more, mask, **how):
    (through,) = lookup("conv2d_input_grad").run(xp, [grad, weight], how)
    (positive,) = unpack_bits.run(xp, [mask], {"axis": 1, "size": more.shape[1]})
    return xp.where(positive, through + more, xp.zeros((), through.dtype))


@masked_input_grad.decompose
def _(grad, weight, more, mask, **how):
    through = o.conv2d_input_grad(grad, weight, **how)
    return o.where(unpack_bits(mask, size=more.shape[1], axis=1), o.add(through, more), 0.0)


@masked_input_grad.work
def _(grad, weight, sizes, stride, padding, dilation):
    windows = slide(sizes, weight.shape[2:], stride, padding, dilation)
    return 2.0 * grad.size * prod(weight.shape[1:]) * share_inside(windows, sizes)


@masked_input_grad.grad
def _(op, gs, vjp):
    return by_decomposition(op, gs, vjp)
