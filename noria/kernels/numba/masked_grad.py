"""The gradient by the input of a convolution, and then its sum with another one where a mask has
bits: for convolutions that no tiles do both of (`conv_pairs.py` has those that do).

Memory is walked once more than the convolution does, as batch norm's gradient would, which then
reads the sum instead of both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from noria.ir.program import Operator
from noria.kernels.call import Call
from noria.kernels.numba.inner import takers
from noria.kernels.numba.launch import launch, need, need_one
from noria.kernels.numba.norm_source import VECTOR
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

_SOURCE = f"""
def masked_sum(args):
    out = load_int64(args, 0)
    more = load_int64(args, 1)
    mask = load_int64(args, 2)
    words = load_int64(args, 3)
    me = thread_id()
    team = team_size()
    for word in range(words * me // team, words * (me + 1) // team):
        bits = load_uint16(mask, word)
        for bit in range({VECTOR}):
            together()
            k = word * {VECTOR} + bit
            total = load_DTYPE(out, k) + load_DTYPE(more, k)
            store_DTYPE(out, k, where(has_bit(bits, bit), total, float32(0)))
    return 0
"""


class MaskedInputGrad(Kernel):
    """masked_input_grad, by any kernel of conv2d_input_grad in channels-last memory."""

    name = "numba:masked_input_grad"
    ops = ("masked_input_grad",)

    def accepts(self, op: Operator) -> None:
        need(op, ("float32", "bfloat16"), (0, 1, 2))
        need_one(_unmasked(op), ("float32", "bfloat16"))
        channels = op.outputs[0].shape[1]
        if not isinstance(channels, int) or channels % VECTOR:
            raise Declined(f"channels are not a multiple of {VECTOR}")
        if not _makers(op):
            raise Declined("no kernel of conv2d_input_grad takes it")

    def layout(self, op: Operator, given: Sequence[str | None]) -> Layouts:
        wanted, _ = _makers(op)[0].layout(_unmasked(op), given[:2])
        return [*wanted, LAST, LAST], [LAST]

    def bind(self, bound: BoundOp) -> Prepared:
        op = _unmasked(bound.op)
        own = replace(bound, op=op, inputs=bound.inputs[:2], fixed=bound.fixed[:2], notes={})
        for kernel in _makers(bound.op):
            try:
                return self._behind(kernel.bind(own), bound.outputs[0], bound.threads)
            except Declined:
                continue
        raise Declined("no kernel of conv2d_input_grad takes these sizes")

    def _behind(self, inner: Prepared, out: Array, threads: int) -> Prepared:
        text = _SOURCE.replace("DTYPE", out.dtype)
        words, work = out.size // VECTOR, {"threads": threads, "bytes": 3 * out.nbytes}

        def emit(ins: list[int], outs: list[int], packs: list[int], scratch: int) -> list[Call]:
            calls = inner.emit(ins[:2], outs, packs, scratch)
            table = [outs[0], *ins[2:], words]
            return [*calls, launch(self.name, text, "masked_sum", table, **work)]

        return replace(inner, emit=emit, in_place=())


def _unmasked(op: Operator) -> Operator:
    """The gradient by the input alone."""
    return replace(op, type="conv2d_input_grad", inputs=op.inputs[:2])


def _makers(op: Operator) -> list[Kernel]:
    """Kernels that take it, channels-last."""
    return takers(_unmasked(op), [LAST, None], ([LAST, PLAIN], [LAST]))


register(MaskedInputGrad())
