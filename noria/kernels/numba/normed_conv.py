"""A convolution that normalises, or its gradient by the weight, in two steps: what is normalised
goes to memory that only this step has, and any kernel of the convolution reads it there.

For sizes that Winograd's tiles (`winograd.py`) leave to others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from noria.ir.program import Operator
from noria.kernels.call import Call
from noria.kernels.numba.inner import takers
from noria.kernels.numba.launch import launch, need
from noria.kernels.numba.lines import whole_lines
from noria.kernels.registry import (
    LAST,
    PLAIN,
    BoundOp,
    Declined,
    Kernel,
    Layouts,
    Prepared,
    register,
)

_INNER = {"normed_conv2d": "conv2d", "normed_conv2d_weight_grad": "conv2d_weight_grad"}
_SOURCE = """
def normed(args):
    x = load_int64(args, 0)
    mean = load_int64(args, 1)
    factors = load_int64(args, 2)
    out = load_int64(args, 3)
    rows = load_int64(args, 4)
    channels = load_int64(args, 5)
    me = thread_id()
    team = team_size()
    for row in range(rows * me // team, rows * (me + 1) // team):
        at = row * channels
        for c in range(channels):
            independent()
            d = fma(load_DTYPE(x, at + c), float32(1), -load_float32(mean, c))
            v = fma(d, load_float32(factors, c), load_float32(factors, channels + c))
            store_DTYPE(out, at + c, where(float32(0) > v, float32(0), v))
    return 0
"""


class NormedConv(Kernel):
    """normed_conv2d and normed_conv2d_weight_grad of images in channels-last memory."""

    name = "numba:normed_conv"
    ops = tuple(_INNER)

    def accepts(self, op: Operator) -> None:
        need(op, ("float32", "bfloat16"))
        need(op, ("float32",), (2, 3))
        if not _makers(op):
            raise Declined(f"no kernel of {_INNER[op.type]} takes it")

    def layout(self, op: Operator, given: Sequence[str | None]) -> Layouts:
        inputs, outputs = _layouts(op)
        return [*inputs[:2], PLAIN, PLAIN, *inputs[2:]], outputs

    def bind(self, bound: BoundOp) -> Prepared:
        given, fixed = _without(bound.inputs), [False, *_without(bound.fixed)[1:]]
        own = replace(bound, op=_inner(bound.op), inputs=given, fixed=fixed, notes={})
        for kernel in _makers(bound.op):
            try:
                prepared = kernel.bind(own)
            except Declined:
                continue
            if all(pack.input for pack in prepared.packs):  # what is normalised is no input here
                return self._behind(prepared, bound)
        raise Declined(f"no kernel of {_INNER[bound.op.type]} takes these sizes")

    def _behind(self, inner: Prepared, bound: BoundOp) -> Prepared:
        """The convolution, behind the normalisation."""
        x = bound.inputs[0]
        assert x is not None
        text = _SOURCE.replace("DTYPE", x.dtype)
        channels, room = x.shape[1], whole_lines(inner.scratch)
        work = {"threads": bound.threads, "bytes": 2 * x.nbytes}

        def emit(ins: list[int], outs: list[int], packs: list[int], scratch: int) -> list[Call]:
            y = scratch + room
            table = [ins[0], *ins[2:4], y, x.size // channels, channels]
            first = launch(self.name, text, "normed", table, **work)
            return [first, *inner.emit([y, *_without(ins)[1:]], outs, packs, scratch)]

        packs = [replace(p, input=p.input + 2 * (p.input > 1)) for p in inner.packs]
        return replace(inner, emit=emit, packs=packs, scratch=room + x.nbytes, in_place=())


def _without(inputs: Sequence[Any]) -> list[Any]:
    """All but mean and factors."""
    return [*inputs[:2], *inputs[4:]]


def _inner(op: Operator) -> Operator:
    """The convolution alone, as if x were normalised."""
    return replace(op, type=_INNER[op.type], inputs=tuple(_without(op.inputs)))


def _layouts(op: Operator) -> Layouts:
    """Those of the convolution alone."""
    if op.type == "normed_conv2d":
        return [LAST, *(None if v is None else PLAIN for v in _without(op.inputs)[1:])], [LAST]
    return [LAST, LAST], [PLAIN]


def _makers(op: Operator) -> list[Kernel]:
    inner = _inner(op)
    return takers(inner, [LAST, *[None] * (len(inner.inputs) - 1)], _layouts(op))


register(NormedConv())
