"""Convolutions by oneDNN, channels-last: forward, by input, by weight, transposed."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from noria.ir.program import Operator
from noria.kernels.call import Call
from noria.kernels.onednn.attr import Sum
from noria.kernels.onednn.build_conv import (
    convolution_backward_data,
    convolution_backward_weights,
    convolution_forward,
)
from noria.kernels.onednn.build_pointwise import reorder
from noria.kernels.onednn.common import activation, attr, channels_last, desc, need, pack_for
from noria.kernels.onednn.enums import ARG
from noria.kernels.onednn.memory import MemDesc
from noria.kernels.onednn.primitive import Primitive
from noria.kernels.onednn.window import Window
from noria.kernels.registry import (
    LAST,
    PLAIN,
    Array,
    BoundOp,
    Declined,
    Kernel,
    Layouts,
    Prepared,
    register,
)
from noria.ops.window import slide


def window_of(
    sizes: Sequence[int], kernel: Sequence[int], out: Sequence[int], attrs: Any
) -> Window:
    """oneDNN's window: padding behind is whatever makes the number of windows come out."""
    w = slide(sizes, kernel, attrs["stride"], attrs["padding"], attrs["dilation"])
    front = tuple(int(p[0]) for p in w.pads)
    behind = tuple(
        (n - 1) * s + span - size - f
        for n, s, span, size, f in zip(out, w.stride, w.spans, sizes, front, strict=True)
    )
    return Window(w.stride, front, behind, w.dilation)


def last(array: Array) -> MemDesc:
    """The descriptor of an activation in channels-last memory."""
    return MemDesc.channels_last(array.shape, array.dtype)


def grouped(array: Array, groups: int) -> MemDesc:
    """A weight [O, I/g, ...] as oneDNN wants it: [g, O/g, I/g, ...] where g > 1."""
    if groups == 1:
        return desc(array)
    outs, *rest = array.shape
    step, *inner = array.strides
    shape = (groups, outs // groups, *rest)
    return MemDesc(shape, array.dtype, (outs // groups * step, step, *inner))


def like_any(d: MemDesc) -> MemDesc:
    return MemDesc.any(d.dims, d.dtype)


class _Conv(Kernel):
    def accepts(self, op: Operator) -> None:
        need(op)
        if not 3 <= op.operands[0].ndim <= 5:
            raise Declined("only 1 to 3 spatial axes")
        activation(op.attrs.get("activation"))


class Forward(_Conv):
    """Convolution with bias; `fused_conv2d` adds a residual and an activation."""

    name = "onednn:conv"
    ops = ("conv1d", "conv2d", "conv3d", "fused_conv2d")

    def layout(self, op: Operator, given: Sequence[str | None]) -> Layouts:
        wanted, outs = channels_last(op, given)
        if op.type == "fused_conv2d" and len(op.inputs) > 3 and op.inputs[3] is not None:
            wanted[3] = LAST
        return wanted, outs

    def bind(self, bound: BoundOp) -> Prepared:
        x, w, *rest = bound.inputs
        out = bound.outputs[0]
        assert x is not None and w is not None
        bias = rest[0] if rest else None
        residual = rest[1] if len(rest) > 1 else None
        posts = (*((Sum(),) if residual is not None else ()),)
        how = attr((*posts, *activation(bound.attrs.get("activation"))))
        window = window_of(x.shape[2:], w.shape[2:], out.shape[2:], bound.attrs)
        weights = grouped(w, bound.attrs["groups"])
        b = None if bias is None else desc(bias)
        p = convolution_forward(last(x), like_any(weights), b, last(out), window, how)
        pack = pack_for(p, ARG.WEIGHTS, weights, 1)
        copy = reorder(last(out), last(out)) if residual is not None else None

        def emit(ins: list[int], outs: list[int], packs: list[int], scratch: int) -> list[Call]:
            calls = []
            if copy is not None and ins[3] != outs[0]:
                calls.append(copy.call({ARG.SRC: ins[3], ARG.DST: outs[0]}))
            addresses = {ARG.SRC: ins[0], ARG.WEIGHTS: packs[0] if pack else ins[1]}
            addresses[ARG.DST] = outs[0]
            if bias is not None:
                addresses[ARG.BIAS] = ins[2]
            if p.scratch_bytes:
                addresses[ARG.SCRATCHPAD] = scratch
            return [*calls, p.call(addresses)]

        flops = 2.0 * out.size * prod(w.shape[1:])
        in_place = ((0, 3),) if residual is not None else ()
        packs = [pack] if pack else []
        return Prepared(emit, p.scratch_bytes, packs, in_place, flops, p.impl)


class InputGrad(_Conv):
    """Gradient by the input, and transposed convolution, which is the same computation."""

    name = "onednn:conv_input_grad"
    ops = ("conv1d_input_grad", "conv2d_input_grad", "conv3d_input_grad")

    def layout(self, op: Operator, given: Sequence[str | None]) -> Layouts:
        return channels_last(op, given)

    def bind(self, bound: BoundOp) -> Prepared:
        g, w = bound.inputs
        out = bound.outputs[0]
        assert g is not None and w is not None
        window = window_of(out.shape[2:], w.shape[2:], g.shape[2:], bound.attrs)
        weights = grouped(w, bound.attrs["groups"])
        p = convolution_backward_data(last(out), like_any(weights), last(g), window, attr())
        pack = pack_for(p, ARG.WEIGHTS, weights, 1)

        def emit(ins: list[int], outs: list[int], packs: list[int], scratch: int) -> list[Call]:
            addresses = {ARG.DIFF_DST: ins[0], ARG.WEIGHTS: packs[0] if pack else ins[1]}
            addresses[ARG.DIFF_SRC] = outs[0]
            if p.scratch_bytes:
                addresses[ARG.SCRATCHPAD] = scratch
            return [p.call(addresses)]

        flops = 2.0 * g.size * prod(w.shape[1:])
        return Prepared(emit, p.scratch_bytes, [pack] if pack else [], (), flops, p.impl)


class WeightGrad(_Conv):
    """Gradient by the weight, brought back to [O, I/g, ...]."""

    name = "onednn:conv_weight_grad"
    ops = ("conv1d_weight_grad", "conv2d_weight_grad", "conv3d_weight_grad")

    def layout(self, op: Operator, given: Sequence[str | None]) -> Layouts:
        return [LAST, LAST], [PLAIN]

    def bind(self, bound: BoundOp) -> Prepared:
        x, g = bound.inputs
        out = bound.outputs[0]
        assert x is not None and g is not None
        window = window_of(x.shape[2:], out.shape[2:], g.shape[2:], bound.attrs)
        weights = grouped(out, bound.attrs["groups"])
        p = convolution_backward_weights(last(x), like_any(weights), None, last(g), window, attr())
        chosen = p.descs[ARG.DIFF_WEIGHTS]
        unpack: Primitive | None = None
        if not chosen.lies_like(weights):
            unpack = reorder(chosen, weights)
        room = -(-p.scratch_bytes // 64) * 64

        def emit(ins: list[int], outs: list[int], packs: list[int], scratch: int) -> list[Call]:
            target = outs[0] if unpack is None else scratch + room
            addresses = {ARG.SRC: ins[0], ARG.DIFF_DST: ins[1], ARG.DIFF_WEIGHTS: target}
            if p.scratch_bytes:
                addresses[ARG.SCRATCHPAD] = scratch
            calls = [p.call(addresses)]
            if unpack is not None:
                calls.append(unpack.call({ARG.SRC: target, ARG.DST: outs[0]}))
            return calls

        flops = 2.0 * g.size * prod(out.shape[1:])
        total = room + (chosen.nbytes if unpack is not None else 0)
        return Prepared(emit, total, [], (), flops, p.impl)


register(Forward())
register(InputGrad())
register(WeightGrad())
