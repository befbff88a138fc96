"""Gradient of a convolution by its weight, channels-last: one product of register tiles.

weight[O, (tap, I)] = sum over pixels of gradient[pixel, O] * x[pixel under the tap, I]: a product
whose inner dimension, the pixels of the batch, is by far the longest. It is walked in blocks of
some hundred pixels. Of each block the gradient is packed for the second cache, in groups of the
rows of a tile, and x for the first, a panel of channels of one tap at a time (zeros where the tap
sees padding); so tiles read both in the order in which they lie. Meanwhile they ask for the next
block of both. (Goto and van de Geijn, 2008.)

Threads share the pixels, and their sums are added up at the end; or, where a sum is large and
pixels are few, the outputs or the panels.
"""

from __future__ import annotations

from math import prod

from noria.core.dtypes import itemsize
from noria.ir.program import Operator
from noria.kernels.call import Call
from noria.kernels.numba import jit
from noria.kernels.numba.conv_weight_grad_source import (
    BY_OUTPUTS,
    BY_PANELS,
    BY_PIXELS,
    multiply,
    source,
    table_bytes,
)
from noria.kernels.numba.launch import launch, need_one, need_vectors
from noria.kernels.numba.parallel import thread_count
from noria.kernels.numba.tile_sizes import PAIRS, PANEL, WIDTH
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

DEPTH = 128  # pixels of a block, twice as many of bfloat16: a panel of x is then 32 KB
LEAST = PANEL  # channels of x: with fewer, tiles of part of a panel, oneDNN was faster
LONG = 16  # times as many pixels as sums, and adding up what threads have costs nothing


def _sharing(pixels: int, outs: int, columns: int, threads: int) -> int:
    """By pixels while each thread has many times more of them than either side of its sums."""
    if max(outs, columns) * threads * LONG <= pixels:
        return BY_PIXELS
    return BY_OUTPUTS if outs >= columns else BY_PANELS


def _depth(pixels: int, wanted: int) -> int:
    """About as many pixels as wanted in each of several equal blocks: for each the sums, which may
    be many, are read and written once more."""
    blocks = max(round(pixels / wanted), 1)
    return -(-pixels // (2 * blocks)) * 2  # whole pairs


class ByWeight(Kernel):
    """What the gradients by register tiles share: float32 or bfloat16, two spatial axes, one group;
    sums in float32."""

    ops = ("conv2d_weight_grad",)

    def accepts(self, op: Operator) -> None:
        if need_one(op, ("float32", "bfloat16")) == "bfloat16" and not PAIRS:
            raise Declined("the CPU multiplies no bfloat16")
        need_vectors(op)
        if op.outputs[0].dtype != "float32":
            raise Declined(f"the gradient is {op.outputs[0].dtype}")
        if op.attrs["groups"] != 1:
            raise Declined("grouped")

    def layout(self, op: Operator, given: object) -> Layouts:
        return [LAST, LAST], [PLAIN]


class WeightGrad(ByWeight):
    """Of channels for a panel."""

    name = "numba:conv_weight_grad"
    priority = 10  # float32 and many channels only

    def bind(self, bound: BoundOp) -> Prepared:
        x, g = bound.inputs
        out = bound.outputs[0]
        assert x is not None and g is not None
        outs, ins, *kernel = out.shape
        if outs < WIDTH or ins < LEAST:
            raise Declined("the channels fill no panel")
        team = max(bound.threads, thread_count())
        taps, pixels = prod(kernel), g.size // outs
        how = _sharing(pixels, outs, taps * ins, team)
        depth = _depth(pixels, DEPTH * 4 // itemsize(x.dtype))
        room = table_bytes(x.dtype, outs, depth, taps)
        direct = taps == 1 and how != BY_PIXELS
        parts = team if how == BY_PIXELS else 0 if direct else 1
        sizes = _window(bound, x, g, kernel)
        tiles = jit.compile_source(multiply(x.dtype), "multiply")
        text = source(x.dtype)
        flops = 2 * g.size * ins * taps

        def emit(in_: list[int], out_: list[int], packs: list[int], scratch: int) -> list[Call]:
            sums = out_[0] if direct else scratch + room * team
            table = [*in_, sums, out_[0], scratch, room, how, depth, tiles.address]
            table += [pixels, ins, outs, taps, *sizes]
            work = {"threads": bound.threads, "ops": flops}
            return [launch(self.name, text, "weight_grad", table, **work)]

        return Prepared(emit, room * team + parts * out.nbytes, work=flops)


def _window(bound: BoundOp, x: Array, g: Array, kernel: list[int]) -> list[int]:
    """Sizes of image and result, and the window; all pixels as one line where it is one pixel."""
    how = [bound.attrs[k] for k in ("stride", "padding", "dilation")]
    window = slide(x.shape[2:], kernel, *how)
    front = [int(before) for before, _ in window.pads]
    sizes = [*x.shape[2:], *g.shape[2:]]
    if prod(kernel) == 1 and set(window.stride) == {1} and x.shape[2:] == g.shape[2:]:
        pixels = x.shape[0] * prod(x.shape[2:])
        sizes = [1, pixels, 1, pixels]
    return [*sizes, kernel[1], *window.stride, *front, *window.dilation]


register(WeightGrad())
