"""Convolution over 1, 2 or 3 spatial axes, its two gradients as ops of their own, and transposes.

    x       [N, C, sizes...]                      PyTorch's shapes
    weight  [O, C / groups, kernel...]
    out     [N, O, windows...]

`stride`, `padding` and `dilation` are told in `ops/window.py`. The three ops `conv2d`,
`conv2d_input_grad` and `conv2d_weight_grad` are linear in each of their two inputs, and the
gradient of any of them consists of the other two; so gradients of any order exist. Halves are
accumulated in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from noria.core.dims import Size
from noria.core.errors import ArgumentError, ShapeError
from noria.ir.opdef import OpDef, lookup, op
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Spec
from noria.ops import conv_compute
from noria.ops.common import need_float, need_rank, require_equal
from noria.ops.numeric import cast_like, products_in_float32
from noria.ops.window import Padding, Windows, explicit_pads, per_axis, share_inside, slide


def _need_groups(groups: Any, channels: Size, outputs: Size, per_group: Size) -> None:
    """The channels of weight [outputs, per_group, ...] are those of x, in equal groups."""
    if not isinstance(groups, int) or isinstance(groups, bool) or groups < 1:
        raise ArgumentError("groups must be an integer, 1 or more", got=repr(groups))
    if isinstance(outputs, int) and outputs % groups:
        raise ShapeError(f"{outputs} outputs do not fall into {groups} equal groups")
    require_equal(per_group * groups, channels, "channels of x and of weight (times groups)")


def _need_bias(bias: Spec | None, outputs: Size) -> None:
    if bias is not None:
        need_rank(bias, 1, what="bias")
        require_equal(outputs, bias.shape[0], "outputs and the size of bias")


def _kernel(weight: Spec) -> tuple[int, ...]:
    sizes = weight.shape[2:]
    if not all(isinstance(k, int) and k > 0 for k in sizes):
        raise ShapeError("kernel sizes must be known, and 1 or more", got=f"weight: {weight}")
    return sizes  # type: ignore[return-value]


def _with_bias(out: Any, bias: Any) -> Any:
    if bias is None:
        return out
    return (out + bias.reshape(-1, *(1,) * (out.ndim - 2))).astype(out.dtype)


def _bias_grad(bias: Any, g: Any) -> Any:
    if bias is None:
        return None
    return o.reduce_sum(cast_like(g, bias), axis=(0, *range(2, g.ndim)))


def _attrs(stride: Any, padding: Any, dilation: Any, groups: int) -> dict[str, Any]:
    return {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}


def _need_windows(grad: Spec, windows: Windows) -> None:
    """grad has one element for each window."""
    for i, (size, count) in enumerate(zip(grad.shape[2:], windows.out, strict=True)):
        require_equal(count, size, f"windows and size of grad along spatial axis {i}")


def _operations(image: Any, weight: Any, windows: Windows, sizes: Sequence[int]) -> float:
    """Of products with [O, C / groups, kernel...] for each element of the image of windows.

    Products with padding are none: nobody has to compute them.
    """
    return 2.0 * image.size * prod(weight.shape[1:]) * share_inside(windows, sizes)


# ---- the convolution and its gradients ---------------------------------------------------------


def _define_conv(n: int) -> OpDef:
    @op(name=f"conv{n}d", promote=(0, 1))
    def conv(x, weight, bias=None, *, stride=1, padding=0, dilation=1, groups=1):
        """Convolution (correlation: the kernel is not flipped).  (LeCun et al., 1989)

        x: [N, C, sizes...], weight: [O, C / groups, kernel...], bias: [O], which beside halves may
        be float32; out: [N, O, windows...]. Raises ShapeError unless channels agree and a window
        fits.
        """
        need_float(x, weight, bias)
        need_rank(x, n + 2)
        need_rank(weight, n + 2, what="weight")
        _need_groups(groups, x.shape[1], weight.shape[0], weight.shape[1])
        _need_bias(bias, weight.shape[0])
        windows = slide(x.shape[2:], _kernel(weight), stride, padding, dilation)
        return Spec((x.shape[0], weight.shape[0], *windows.out), x.dtype)

    @conv.compute
    @products_in_float32
    def _(xp, x, weight, bias, stride, padding, dilation, groups):
        windows = slide(x.shape[2:], weight.shape[2:], stride, padding, dilation)
        return _with_bias(conv_compute.forward(xp, x, weight, windows, groups), bias)

    @conv.work
    def _(x, weight, out, stride, padding, dilation):
        windows = slide(x.shape[2:], weight.shape[2:], stride, padding, dilation)
        return _operations(out, weight, windows, x.shape[2:])

    @conv.grad
    def _(x, weight, bias, g, stride, padding, dilation, groups):
        how = _attrs(stride, padding, dilation, groups)
        return {
            "x": lookup(f"conv{n}d_input_grad")(g, weight, sizes=x.shape[2:], **how),
            "weight": lookup(f"conv{n}d_weight_grad")(x, g, kernel=weight.shape[2:], **how),
            "bias": _bias_grad(bias, g),
        }

    return conv


def _define_input_grad(n: int) -> OpDef:
    @op(name=f"conv{n}d_input_grad", promote=True)
    def input_grad(grad, weight, *, sizes, stride=1, padding=0, dilation=1, groups=1):
        """Gradient of a convolution in x, from that of its output.

        grad: [N, O, windows...], weight: [O, C / groups, kernel...]; out: [N, C, sizes...].
        """
        need_float(grad, weight)
        need_rank(grad, n + 2, what="grad")
        need_rank(weight, n + 2, what="weight")
        _need_windows(grad, slide(sizes, _kernel(weight), stride, padding, dilation))
        channels = weight.shape[1] * groups
        _need_groups(groups, channels, weight.shape[0], weight.shape[1])
        require_equal(weight.shape[0], grad.shape[1], "outputs of weight and channels of grad")
        return Spec((grad.shape[0], channels, *sizes), grad.dtype)

    @input_grad.compute
    @products_in_float32
    def _(xp, grad, weight, sizes, stride, padding, dilation, groups):
        windows = slide(sizes, weight.shape[2:], stride, padding, dilation)
        return conv_compute.input_grad(xp, grad, weight, windows, groups, sizes)

    @input_grad.work
    def _(grad, weight, sizes, stride, padding, dilation):
        windows = slide(sizes, weight.shape[2:], stride, padding, dilation)
        return _operations(grad, weight, windows, sizes)

    @input_grad.grad
    def _(grad, weight, g, stride, padding, dilation, groups):
        how = _attrs(stride, padding, dilation, groups)
        g_weight = lookup(f"conv{n}d_weight_grad")(g, grad, kernel=weight.shape[2:], **how)
        return lookup(f"conv{n}d")(g, weight, **how), g_weight

    return input_grad


def _define_weight_grad(n: int) -> OpDef:
    @op(name=f"conv{n}d_weight_grad", promote=True)
    def weight_grad(x, grad, *, kernel, stride=1, padding=0, dilation=1, groups=1, dtype=None):
        """Gradient of a convolution in weight, from that of its output.

        x: [N, C, sizes...], grad: [N, O, windows...]; out: [O, C / groups, kernel...].
        dtype: of out, default that of x; "float32" keeps the sums over halves as they are.
        """
        need_float(x, grad)
        need_rank(x, n + 2)
        need_rank(grad, n + 2, what="grad")
        windows = slide(x.shape[2:], kernel, stride, padding, dilation)
        _need_windows(grad, windows)
        _need_groups(groups, x.shape[1], grad.shape[1], x.shape[1] // groups)
        require_equal(x.shape[0], grad.shape[0], "batch sizes of x and grad")
        return Spec((grad.shape[1], x.shape[1] // groups, *windows.kernel), dtype or x.dtype)

    @weight_grad.compute
    @products_in_float32
    def _(xp, x, grad, kernel, stride, padding, dilation, groups):
        windows = slide(x.shape[2:], kernel, stride, padding, dilation)
        return conv_compute.weight_grad(xp, x, grad, windows, groups)

    @weight_grad.work
    def _(x, grad, out, kernel, stride, padding, dilation):
        windows = slide(x.shape[2:], kernel, stride, padding, dilation)
        return _operations(grad, out, windows, x.shape[2:])

    @weight_grad.grad
    def _(x, grad, g, stride, padding, dilation, groups):
        how = _attrs(stride, padding, dilation, groups)
        g = cast_like(g, x)
        g_x = lookup(f"conv{n}d_input_grad")(grad, g, sizes=x.shape[2:], **how)
        return g_x, lookup(f"conv{n}d")(x, g, **how)

    return weight_grad


# ---- the transpose -----------------------------------------------------------------------------


def _transpose_sizes(
    sizes: Sequence[Size],
    kernel: tuple[int, ...],
    stride: Any,
    padding: Padding,
    output_padding: int | Sequence[int],
    dilation: Any,
) -> tuple[Any, ...]:
    """Sizes of which a convolution makes `sizes`, the smallest plus output_padding; from a stride
    more on, that of some windows more, which see nothing."""
    n = len(sizes)
    steps, dilations = per_axis(stride, n, "stride"), per_axis(dilation, n, "dilation")
    extra = (output_padding,) * n if isinstance(output_padding, int) else tuple(output_padding)
    room = [max(s, d) for s, d in zip(steps, dilations, strict=True)]
    if len(extra) != n or not all(0 <= e < r for e, r in zip(extra, room, strict=True)):
        raise ArgumentError(
            "output_padding must be smaller than stride or dilation",
            expected=f"0 <= output_padding < {room}",
            got=repr(output_padding),
        )
    pads = explicit_pads(padding, n)
    out = tuple(
        (size - 1) * s + (k - 1) * d + 1 - f - b + e
        for size, s, k, d, (f, b), e in zip(
            sizes, steps, kernel, dilations, pads, extra, strict=True
        )
    )
    if any(isinstance(size, int) and size < 1 for size in out):
        raise ShapeError("the padding leaves nothing", expected="sizes of 1 or more", got=str(out))
    return out


def _beyond(n: int, stride: Any, output_padding: int | Sequence[int]) -> tuple[int, ...]:
    """How many elements at the end of each axis of a transpose no window of x reaches, nor would
    one more: convolutions back leave them out."""
    steps = per_axis(stride, n, "stride")
    extra = (output_padding,) * n if isinstance(output_padding, int) else tuple(output_padding)
    return tuple(max(0, e - s + 1) for e, s in zip(extra, steps, strict=True))


def _define_transpose(n: int) -> OpDef:
    @op(name=f"conv_transpose{n}d", promote=True)
    def conv_transpose(
        x, weight, bias=None, *, stride=1, padding=0, output_padding=0, dilation=1, groups=1
    ):
        """The transpose of the convolution with the same attributes, also called deconvolution.
        (Zeiler et al., 2010)

        x: [N, C, sizes...], weight: [C, O / groups, kernel...], bias: [O]; out: [N, O, ...] with
        (size - 1) * stride + (kernel - 1) * dilation + 1 - padding + output_padding elements along
        each axis. Padding is given as numbers, not "same"; output_padding is smaller than stride or
        dilation. Raises ShapeError if channels differ.
        """
        need_float(x, weight, bias)
        need_rank(x, n + 2)
        need_rank(weight, n + 2, what="weight")
        outputs = weight.shape[1] * groups
        _need_groups(groups, outputs, weight.shape[0], weight.shape[1])
        require_equal(weight.shape[0], x.shape[1], "channels of x and of weight")
        _need_bias(bias, outputs)
        sizes = _transpose_sizes(
            x.shape[2:], _kernel(weight), stride, padding, output_padding, dilation
        )
        return Spec((x.shape[0], outputs, *sizes), x.dtype)

    @conv_transpose.compute
    @products_in_float32
    def _(xp, x, weight, bias, stride, padding, output_padding, dilation, groups):
        kernel = weight.shape[2:]
        whole = _transpose_sizes(x.shape[2:], kernel, stride, padding, output_padding, dilation)
        beyond = _beyond(n, stride, output_padding)
        sizes = tuple(size - b for size, b in zip(whole, beyond, strict=True))
        windows = slide(sizes, kernel, stride, padding, dilation)
        out = conv_compute.input_grad(xp, x, weight, windows, groups, sizes)
        if any(beyond):
            out = xp.pad(out, [(0, 0), (0, 0), *((0, b) for b in beyond)])
        return _with_bias(out, bias)

    @conv_transpose.work
    def _(x, weight, out, stride, padding, dilation):
        windows = slide(out.shape[2:], weight.shape[2:], stride, padding, dilation)
        return _operations(x, weight, windows, out.shape[2:])

    @conv_transpose.grad
    def _(x, weight, bias, g, stride, padding, output_padding, dilation, groups):
        how = _attrs(stride, padding, dilation, groups)
        beyond = _beyond(n, stride, output_padding)
        seen = g
        if any(beyond):
            seen = o.unpad(g, pads=((0, 0), (0, 0), *((0, b) for b in beyond)))
        return {
            "x": lookup(f"conv{n}d")(seen, weight, **how),
            "weight": lookup(f"conv{n}d_weight_grad")(seen, x, kernel=weight.shape[2:], **how),
            "bias": _bias_grad(bias, g),
        }

    return conv_transpose


conv1d, conv2d, conv3d = map(_define_conv, (1, 2, 3))
conv1d_input_grad, conv2d_input_grad, conv3d_input_grad = map(_define_input_grad, (1, 2, 3))
conv1d_weight_grad, conv2d_weight_grad, conv3d_weight_grad = map(_define_weight_grad, (1, 2, 3))
conv_transpose1d, conv_transpose2d, conv_transpose3d = map(_define_transpose, (1, 2, 3))
