"""Convolutions by oneDNN, channels-last: forward, by input, by weight, transposed."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from noria.ir.program import Operator
from noria.kernels.call import Call
from noria.kernels.numba.channels import resize_channels
from noria.kernels.onednn.attr import Sum
from noria.kernels.onednn.build_conv import (
    convolution_backward_data,
    convolution_backward_weights,
    convolution_forward,
)
from noria.kernels.onednn.build_reorder import reorder
from noria.kernels.onednn.common import (
    activation,
    attr,
    behind,
    channels_last,
    declining,
    desc,
    need,
    pack_for,
)
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
    strides_of,
)
from noria.ops.window import slide

VECTOR = 16  # float32 numbers in a vector of AVX-512


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


def turned(array: Array, groups: int) -> MemDesc:
    """A weight [I, O/g, ...] of a transposed convolution as [O, I, ...] or [g, O/g, I/g, ...]."""
    ins, outs, *kernel = array.shape
    of_in, of_out, *inner = array.strides
    if groups == 1:
        return MemDesc((outs, ins, *kernel), array.dtype, (of_out, of_in, *inner))
    shape = (groups, outs, ins // groups, *kernel)
    return MemDesc(shape, array.dtype, (ins // groups * of_in, of_out, of_in, *inner))


def padded(channels: int, rows: int, groups: int, dtype: str) -> int:
    """Channels a gradient kernel should work on: the next multiple of a vector, where that pays.

    oneDNN's gradients are up to ten times slower on channels that do not fill its vectors (20
    outputs, one input, 5x5, batch 64: 2.2 ms, of 32 outputs 0.2 ms); a padded copy costs 0.1 ms.
    """
    whole = -(-channels // VECTOR) * VECTOR
    pays = VECTOR < channels < whole and groups == 1 and rows >= 1024 and dtype == "float32"
    return whole if pays else channels


def rows_of(array: Array) -> int:
    return array.shape[0] * prod(array.shape[2:])


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

    @declining()
    def bind(self, bound: BoundOp) -> Prepared:
        x, w, *rest = bound.inputs
        out = bound.outputs[0]
        assert x is not None and w is not None
        bias = rest[0] if rest else None
        residual = rest[1] if len(rest) > 1 else None
        posts = (*((Sum(),) if residual is not None else ()),)
        act = bound.attrs.get("activation")
        how = attr((*posts, *activation(act)))
        window = window_of(x.shape[2:], w.shape[2:], out.shape[2:], bound.attrs)
        weights = grouped(w, bound.attrs["groups"])
        b = None if bias is None else desc(bias)
        p = convolution_forward(last(x), like_any(weights), b, last(out), window, how)
        pack = pack_for(p, ARG.WEIGHTS, weights, 1, bound.threads)
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
            after = behind(act, outs[0], out.size, out.dtype, bound.threads)
            return [*calls, p.call(addresses), *after]

        flops = 2.0 * out.size * prod(w.shape[1:])
        in_place = ((0, 3),) if residual is not None else ()
        packs = [pack] if pack else []
        return Prepared(emit, p.scratch_bytes, packs, in_place, flops, p.impl)


class InputGrad(_Conv):
    """Gradient by the input."""

    name = "onednn:conv_input_grad"
    ops = ("conv1d_input_grad", "conv2d_input_grad", "conv3d_input_grad")

    def layout(self, op: Operator, given: Sequence[str | None]) -> Layouts:
        return channels_last(op, given)

    @declining()
    def bind(self, bound: BoundOp) -> Prepared:
        g, w = bound.inputs
        out = bound.outputs[0]
        assert g is not None and w is not None
        window = window_of(out.shape[2:], w.shape[2:], g.shape[2:], bound.attrs)
        weights = grouped(w, bound.attrs["groups"])
        inputs, rows = out.shape[1], rows_of(out)
        whole = padded(inputs, rows, bound.attrs["groups"], g.dtype)
        if whole != inputs:
            return self._padded(bound, window, whole)
        p = convolution_backward_data(last(out), like_any(weights), last(g), window, attr())
        pack = pack_for(p, ARG.WEIGHTS, weights, 1, bound.threads)

        def emit(ins: list[int], outs: list[int], packs: list[int], scratch: int) -> list[Call]:
            addresses = {ARG.DIFF_DST: ins[0], ARG.WEIGHTS: packs[0] if pack else ins[1]}
            addresses[ARG.DIFF_SRC] = outs[0]
            if p.scratch_bytes:
                addresses[ARG.SCRATCHPAD] = scratch
            return [p.call(addresses)]

        flops = 2.0 * g.size * prod(w.shape[1:])
        return Prepared(emit, p.scratch_bytes, [pack] if pack else [], (), flops, p.impl)

    def _padded(self, bound: BoundOp, window: Window, whole: int) -> Prepared:
        """The same on more input channels, cut off afterwards."""
        g, w = bound.inputs
        out = bound.outputs[0]
        assert g is not None and w is not None
        outputs, inputs, *kernel = w.shape
        field = prod(kernel)
        image = MemDesc.channels_last((out.shape[0], whole, *out.shape[2:]), g.dtype)
        weights = MemDesc((outputs, whole, *kernel), w.dtype)
        p = convolution_backward_data(image, like_any(weights), last(g), window, attr())
        chosen = p.descs[ARG.WEIGHTS]
        pack = None if chosen.lies_like(weights) else reorder(weights, chosen)
        places = _places(p.scratch_bytes, weights.nbytes, chosen.nbytes, image.nbytes)
        rows = rows_of(out)

        def emit(ins: list[int], outs: list[int], packs: list[int], scratch: int) -> list[Call]:
            own, plain, packed, target = (scratch + place for place in places[:-1])
            calls = [
                resize_channels(ins[1], plain, outputs, inputs * field, whole * field, 1),
                *([pack.call({ARG.SRC: plain, ARG.DST: packed})] if pack else []),
            ]
            addresses = {ARG.DIFF_DST: ins[0], ARG.WEIGHTS: packed if pack else plain}
            addresses[ARG.DIFF_SRC] = target
            if p.scratch_bytes:
                addresses[ARG.SCRATCHPAD] = own
            cut = resize_channels(target, outs[0], rows, whole, inputs, bound.threads)
            return [*calls, p.call(addresses), cut]

        flops = 2.0 * g.size * prod(w.shape[1:])
        return Prepared(emit, places[-1], [], (), flops, p.impl)


class WeightGrad(_Conv):
    """Gradient by the weight, brought back to [O, I/g, ...]."""

    name = "onednn:conv_weight_grad"
    ops = ("conv1d_weight_grad", "conv2d_weight_grad", "conv3d_weight_grad")

    def layout(self, op: Operator, given: Sequence[str | None]) -> Layouts:
        return [LAST, LAST], [PLAIN]

    @declining()
    def bind(self, bound: BoundOp) -> Prepared:
        x, g = bound.inputs
        out = bound.outputs[0]
        assert x is not None and g is not None
        window = window_of(x.shape[2:], out.shape[2:], g.shape[2:], bound.attrs)
        if x.dtype != "float32" and x.shape[-1] < window.strides[-1]:
            raise Declined(
                "an image narrower than a stride: oneDNN's gradient of halves reads more"
            )
        groups, rows, outputs = bound.attrs["groups"], rows_of(g), g.shape[1]
        whole = padded(outputs, rows, groups, g.dtype)
        grad = MemDesc.channels_last((g.shape[0], whole, *g.shape[2:]), g.dtype)
        weights = grouped(_with_outputs(out, whole), groups)
        p = convolution_backward_weights(last(x), like_any(weights), None, grad, window, attr())
        chosen = p.descs[ARG.DIFF_WEIGHTS]
        unpack: Primitive | None = None
        if whole != outputs or not chosen.lies_like(weights):
            unpack = reorder(chosen, weights)
        # Scratch: oneDNN's own, the packed result, and where padded: the gradient, the result.
        sizes = [p.scratch_bytes, chosen.nbytes if unpack else 0]
        sizes += [grad.nbytes, weights.nbytes] if whole != outputs else [0, 0]
        places = _places(*sizes)

        def emit(ins: list[int], outs: list[int], packs: list[int], scratch: int) -> list[Call]:
            own, packed, copy, plain, _ = (scratch + place for place in places)
            target = packed if unpack else outs[0]
            addresses = {ARG.SRC: ins[0], ARG.DIFF_DST: ins[1], ARG.DIFF_WEIGHTS: target}
            if p.scratch_bytes:
                addresses[ARG.SCRATCHPAD] = own
            if whole == outputs:
                calls = [p.call(addresses)]
                if unpack is not None:
                    calls.append(unpack.call({ARG.SRC: target, ARG.DST: outs[0]}))
                return calls
            assert unpack is not None
            addresses[ARG.DIFF_DST] = copy
            return [
                resize_channels(ins[1], copy, rows, outputs, whole, bound.threads),
                p.call(addresses),
                unpack.call({ARG.SRC: target, ARG.DST: plain}),
                resize_channels(plain, outs[0], 1, weights_size, out.size, 1),
            ]

        weights_size = prod(weights.dims)
        flops = 2.0 * g.size * prod(out.shape[1:])
        return Prepared(emit, places[-1], [], (), flops, p.impl)


class Transposed(_Conv):
    """Transposed convolution with bias. Its weight [I, O/g, ...] is read as [O, I, ...]."""

    name = "onednn:conv_transpose"
    ops = ("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")

    def layout(self, op: Operator, given: Sequence[str | None]) -> Layouts:
        return channels_last(op, given)

    @declining()
    def bind(self, bound: BoundOp) -> Prepared:
        x, w, *rest = bound.inputs
        out = bound.outputs[0]
        assert x is not None and w is not None
        bias = rest[0] if rest else None
        window = window_of(out.shape[2:], w.shape[2:], x.shape[2:], bound.attrs)
        weights = turned(w, bound.attrs["groups"])
        b = None if bias is None else desc(bias)
        given = (last(x), like_any(weights), b, last(out), window, attr())
        p = convolution_forward(*given, transposed=True)
        pack = pack_for(p, ARG.WEIGHTS, weights, 1, bound.threads)

        def emit(ins: list[int], outs: list[int], packs: list[int], scratch: int) -> list[Call]:
            addresses = {ARG.SRC: ins[0], ARG.WEIGHTS: packs[0] if pack else ins[1]}
            addresses[ARG.DST] = outs[0]
            if bias is not None:
                addresses[ARG.BIAS] = ins[2]
            if p.scratch_bytes:
                addresses[ARG.SCRATCHPAD] = scratch
            return [p.call(addresses)]

        flops = 2.0 * x.size * prod(w.shape[1:])
        return Prepared(emit, p.scratch_bytes, [pack] if pack else [], (), flops, p.impl)


def _places(*sizes: int) -> list[int]:
    """Offsets of parts of these sizes in one scratch, and its total, all aligned."""
    places = [0]
    for size in sizes:
        places.append(places[-1] + -(-size // 64) * 64)
    return places


def _with_outputs(weight: Array, outputs: int) -> Array:
    """A weight of more outputs."""
    shape = (outputs, *weight.shape[1:])
    return Array(shape, weight.dtype, strides_of(shape, PLAIN))


register(Forward())
register(InputGrad())
register(Transposed())
register(WeightGrad())
