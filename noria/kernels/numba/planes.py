"""Pictures of few planes as halves, channels-last: a cast that brings each pixel together.

Pictures come plane by plane, and what reads them as bfloat16 are a convolution and its gradient by
the weight, which want channels innermost. To cast and then to reorder would be twice the memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from noria.ir.program import Operator
from noria.kernels.call import Call
from noria.kernels.numba.elementwise import Elementwise
from noria.kernels.numba.launch import launch
from noria.kernels.registry import (
    LAST,
    PLAIN,
    BoundOp,
    Declined,
    Layouts,
    Prepared,
    register,
)

FEW = 4  # planes at most

_SOURCE = """
def planes(args):
    x = load_int64(args, 0)
    out = load_int64(args, 1)
    images = load_int64(args, 2)
    pixels = load_int64(args, 3)
    team = team_size()
    blocks = (pixels + 4095) // 4096
    count = images * blocks
    for number in range(count * thread_id() // team, count * (thread_id() + 1) // team):
        first = number % blocks * 4096
        begin = x + (number // blocks * PLANES * pixels + first) * 4
        to = out + (number // blocks * pixels + first) * PLANES * 2
        for i in range(min(4096, pixels - first)):
            independent()
"""


@cache
def source(planes: int) -> str:
    """Text of the kernel for pictures of so many planes."""
    text = _SOURCE.replace("PLANES", str(planes))
    for c in range(planes):
        number = f"load_float32(begin + {c} * pixels * 4, i)"
        text += f"            store_bfloat16(to, i * {planes} + {c}, {number})\n"
    return text + "    return 0\n"


class Planes(Elementwise):
    """cast of float32 [N, C, H, W] to bfloat16, for 2 to 4 channels and an open N."""

    name = "numba:planes"
    ops = ("cast",)
    priority = 1

    def accepts(self, op: Operator) -> None:
        x, out = op.operands[0], op.outputs[0]
        if (x.dtype, out.dtype) != ("float32", "bfloat16"):
            raise Declined(f"a cast of {x.dtype} to {out.dtype}")
        if x.ndim != 4 or not (isinstance(x.shape[1], int) and 1 < x.shape[1] <= FEW):
            raise Declined("no picture of few planes")
        if isinstance(x.shape[0], int):
            raise Declined("a fixed number of them, as of weights, which stay as they are")

    def layout(self, op: Operator, given: Sequence[str | None]) -> Layouts:
        return ([PLAIN], [LAST]) if given[0] == PLAIN else super().layout(op, given)

    def bind(self, bound: BoundOp) -> Prepared:
        (x,), (out,) = bound.inputs, bound.outputs
        assert x is not None
        if x.strides == out.strides:
            return super().bind(bound)
        images, planes, *sizes = x.shape
        text, numbers = source(planes), [images, sizes[0] * sizes[1]]

        def emit(ins: list[int], outs: list[int], packs: list[int], scratch: int) -> list[Call]:
            work = {"threads": bound.threads, "bytes": x.nbytes + out.nbytes}
            return [launch(self.name, text, "planes", [*ins, *outs, *numbers], **work)]

        return Prepared(emit)


register(Planes())
