"""Pooling over three spatial axes, channels-last: over height and width, then over depth.

The largest of a box is the largest of the largest of its planes, and so are means, whose divisors
are products of one count an axis. Of equal elements the first in row-major order lies in the first
of the planes that have one, so gradients go the same way back. Both steps are those of pictures: of
N * D pictures first, then of N pictures of D rows whose channels are whole planes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from noria.ir.program import Operator
from noria.kernels.call import Call
from noria.kernels.numba.launch import launch, need_one, typed
from noria.kernels.numba.lines import whole_lines
from noria.kernels.numba.pool import (
    MAX_TAPS,
    OTHERS,
    ROW,
    avg_backward,
    avg_forward,
    max_backward,
    max_forward,
)
from noria.kernels.registry import (
    LAST,
    BoundOp,
    Declined,
    Kernel,
    Layouts,
    Prepared,
    register,
)
from noria.ops.pool import pool_windows
from noria.ops.window import Windows

Source = Callable[[Sequence[int]], str]


class Step(NamedTuple):
    """Pooling of pictures [images, height, width, channels] in memory."""

    images: int
    height: int
    width: int
    channels: int
    windows: Windows
    include: bool
    threads: int

    @property
    def out_bytes(self) -> int:
        """Of float32, in whole lines of the cache."""
        down, right = self.windows.out
        return whole_lines(4 * self.images * self.channels * down * right)

    def call(self, source: Source, *addresses: int) -> Call:
        """One of the four kernels; see `pool.py` for its addresses."""
        w = self.windows
        front, behind = ([int(p[i]) for p in w.pads] for i in (0, 1))
        shape = [self.images, self.height, self.width, self.channels]
        numbers = [*shape, *w.out, *w.stride, *front, *w.dilation, int(self.include), *behind]
        size = self.images * self.height * self.width * self.channels
        return launch(
            "numba:pool3d",
            typed(source(w.kernel), "float32"),
            "pool",
            [*addresses, *numbers],
            threads=self.threads,
            bytes=4 * size + 2 * self.out_bytes,
            ops=4 * size,
        )


class Pool3d(Kernel):
    """All four, on float32."""

    name = "numba:pool3d"
    ops = ("max_pool3d", "max_pool3d_grad", "avg_pool3d", "avg_pool3d_grad")

    def accepts(self, op: Operator) -> None:
        need_one(op, ("float32",))
        if op.attrs.get("divisor") is not None:
            raise Declined("a divisor of its own")

    def layout(self, op: Operator, given: Sequence[str | None]) -> Layouts:
        return [LAST] * len(op.inputs), [LAST]

    def bind(self, bound: BoundOp) -> Prepared:
        kind = bound.op.type
        planes, depth = _steps(bound)

        def emit(ins: list[int], outs: list[int], packs: list[int], scratch: int) -> list[Call]:
            between = scratch + planes.out_bytes
            if kind == "max_pool3d_grad":
                x, pooled, grad = ins
                return [
                    planes.call(max_forward, x, scratch, 0, 0),
                    depth.call(max_backward, scratch, pooled, grad, between),
                    planes.call(max_backward, x, scratch, between, outs[0]),
                ]
            if kind == "avg_pool3d_grad":
                return [
                    depth.call(avg_backward, ins[0], 0, 0, scratch),
                    planes.call(avg_backward, scratch, 0, 0, outs[0]),
                ]
            source = max_forward if kind == "max_pool3d" else avg_forward
            return [
                planes.call(source, ins[0], scratch, 0, 0),
                depth.call(source, scratch, outs[0], 0, 0),
            ]

        return Prepared(emit, planes.out_bytes * (2 if kind == "max_pool3d_grad" else 1))


def _steps(bound: BoundOp) -> tuple[Step, Step]:
    """Over height and width, and over depth."""
    image = bound.outputs[0] if bound.op.type.endswith("grad") else bound.inputs[0]
    assert image is not None
    n, c, d, h, w = image.shape
    how = {k: v for k, v in bound.attrs.items() if k not in OTHERS}
    windows = pool_windows((d, h, w), **how)
    flat = Windows._make(field[1:] for field in windows)
    deep = Windows._make((field[0], one) for field, one in zip(windows, ROW, strict=True))
    if flat.kernel[0] * flat.kernel[1] > MAX_TAPS or deep.kernel[0] > MAX_TAPS:
        raise Declined("the window is large")
    rest = (bool(bound.attrs.get("count_include_pad")), bound.threads)
    down, right = (int(m) for m in flat.out)
    return Step(n * d, h, w, c, flat, *rest), Step(n, d, 1, down * right * c, deep, *rest)


register(Pool3d())
