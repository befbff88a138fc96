"""Products of bfloat16 on a CPU that has no instructions for them: in float32, rounded once.

oneDNN multiplies halves only with vectors of 64 bytes. Elsewhere an operator on halves is given to
the kernels of float32, on copies, which costs the conversions: a step of a small ResNet takes 55 ms
(49 in float32), by the reference 185.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from noria.core.flags import flags
from noria.ir.program import Operator, Value
from noria.kernels.call import Call
from noria.kernels.numba.lines import whole_lines
from noria.kernels.numba.tile_sizes import WIDE
from noria.kernels.numba.widened import Widened, convert
from noria.kernels.registry import (
    LAST,
    Array,
    BoundOp,
    Declined,
    Kernel,
    Layouts,
    Pack,
    Prepared,
    kernels,
    register,
)

HALF = "bfloat16"


class Halves(Kernel):
    """Products and convolutions that every other kernel declined, by one of float32."""

    name = "numba:halves"
    ops = (
        "matmul",
        "linear",
        "fused_linear",
        "fused_conv2d",
        *(f"conv{n}d{part}" for n in (1, 2, 3) for part in ("", "_input_grad", "_weight_grad")),
        *(f"conv_transpose{n}d" for n in (1, 2, 3)),
    )
    priority = -10  # what is left

    def accepts(self, op: Operator) -> None:
        if WIDE:
            raise Declined("oneDNN multiplies halves on this CPU")
        if not any(v.dtype == HALF for v in op.operands):
            raise Declined("nothing is bfloat16")
        if not self._others(op):
            raise Declined("no kernel of float32 takes it")

    def layout(self, op: Operator, given: Sequence[str | None]) -> Layouts:
        return _layout(self._others(op)[0], op)

    def bind(self, bound: BoundOp) -> Prepared:
        wide = replace(
            bound,
            op=_widened(bound.op),
            inputs=[None if a is None else _wide(a) for a in bound.inputs],
            outputs=[_wide(a) for a in bound.outputs],
        )
        for kernel in self._others(bound.op):
            try:
                return _around(bound, kernel.bind(wide))
            except Declined:
                continue
        raise Declined("no kernel of float32 takes these sizes")

    def _others(self, op: Operator) -> list[Kernel]:
        """Kernels that take the operator in float32, all in the layouts of the first."""
        wide, found = _widened(op), []
        for kernel in kernels():
            if op.type in kernel.ops and kernel is not self and flags.allows(kernel.engine):
                try:
                    kernel.accepts(wide)
                    found.append(kernel)
                except Declined:
                    continue
        return [k for k in found if _layout(k, wide) == _layout(found[0], wide)]


def _layout(kernel: Kernel, op: Operator) -> Layouts:
    """As if images came in channels-last memory."""
    return kernel.layout(op, [LAST] * len(op.inputs))


def _widened(op: Operator) -> Operator:
    """The operator on float32."""

    def wide(v: Value) -> Value:
        return Value(v.name, v.shape, "float32") if v.dtype == HALF else v

    inputs = tuple(None if v is None else wide(v) for v in op.inputs)
    return replace(op, inputs=inputs, outputs=tuple(wide(v) for v in op.outputs))


def _wide(a: Array) -> Array:
    """The copy of an operand: its elements lie in the same order."""
    if a.size and sum((d - 1) * s for d, s in zip(a.shape, a.strides, strict=True)) != a.size - 1:
        raise Declined("gaps between the elements")
    return Array(a.shape, "float32", a.strides) if a.dtype == HALF else a


def _around(bound: BoundOp, inner: Prepared) -> Prepared:
    """A kernel of float32 on copies of the halves; packs are made of copies too."""
    given: list[Array | None] = list(bound.inputs)
    for pack in inner.packs:
        if pack.replaces:
            given[pack.input] = None  # the kernel reads the packed copy only
    copies = Widened(replace(bound, inputs=given), inner.scratch)
    packs = [widened_pack(p, bound.inputs[p.input], bound.threads) for p in inner.packs]
    detail = f"{inner.detail} in float32".strip()
    return Prepared(copies.around(inner.emit), copies.nbytes, packs, (), inner.work, detail)


def widened_pack(pack: Pack, source: Array | None, threads: int) -> Pack:
    """A pack of halves: of a float32 copy, which lies behind it."""
    if source is None or source.dtype != HALF:
        return pack
    size, start = source.size, whole_lines(pack.nbytes)

    def emit(address: int, copy: int) -> list[Call]:
        widen = convert(address, copy + start, size, HALF, "float32", threads)
        return [widen, *pack.emit(copy + start, copy)]

    return replace(pack, key=("halves", pack.key), nbytes=start + 4 * size, emit=emit)


register(Halves())
