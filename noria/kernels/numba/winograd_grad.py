"""Gradients by the weight of 3x3 convolutions of stride 1, in float32, by Winograd's algorithm.

It is the algorithm of the convolution, differentiated: tiles of the input and of the gradient are
transformed, for each of the 36 positions the product of the two, over all tiles, is a matrix of
outputs by inputs, and those are transformed to taps. Threads share the tiles of a block, which
stays in a cache, and then the positions; so no sum is split between threads. Sums of the next rows
are asked for meanwhile.

A NaN or an infinity spreads over all taps; where one comes out, all is computed directly instead.
"""

from __future__ import annotations

from collections.abc import Sequence

from noria.core.machine import caches
from noria.ir.program import Operator
from noria.kernels.call import Call
from noria.kernels.numba import gemm
from noria.kernels.numba.launch import launch, need
from noria.kernels.numba.lines import LINE, whole_lines
from noria.kernels.numba.parallel import thread_count
from noria.kernels.numba.tap_lines import space_bytes
from noria.kernels.numba.tile_sizes import ROWS, WIDTH
from noria.kernels.numba.winograd import Shape, need_shape, window
from noria.kernels.numba.winograd_grad_source import TABLE, weight_grad
from noria.kernels.numba.winograd_matrix import OUTPUTS, POSITIONS, SIDE, TAPS
from noria.kernels.registry import (
    LAST,
    PLAIN,
    BoundOp,
    Kernel,
    Layouts,
    Prepared,
    register,
)

# Bytes of the factors of a block: what a thread wrote is then mostly in its second cache. Where the
# sums leave the last cache, they are gone through as seldom as its size allows.
BLOCK_BYTES = min(caches().second * 8 // 3, caches().last // 4)
LARGE_BLOCK_BYTES = caches().last // 4
LARGE_SUMS = caches().last // 2


class WeightGrad(Kernel):
    """conv2d_weight_grad, brought back to [O, I, 3, 3]."""

    normed = False  # inputs 2 and 3 are then mean and factors

    name = "numba:winograd_weight_grad"
    ops = ("conv2d_weight_grad",)
    priority = 20  # 3x3 of stride 1 and vectors full of channels only

    def accepts(self, op: Operator) -> None:
        x, grad = op.operands[:2]
        need_shape(op, (grad.shape[1], x.shape[1]), op.attrs["kernel"])
        if self.normed:
            need(op, ("float32",), (2, 3))

    def layout(self, op: Operator, given: Sequence[str | None]) -> Layouts:
        return [LAST, LAST, *[PLAIN] * (len(op.inputs) - 2)], [PLAIN]

    def bind(self, bound: BoundOp) -> Prepared:
        x, g = bound.inputs[:2]
        assert x is not None and g is not None
        images, ins, high, wide = x.shape
        outs, out_high, out_wide = g.shape[1:]
        top, left = window(bound, x.shape[2:], g.shape[2:])
        shape = Shape(images, high, wide, ins, out_high, out_wide, outs, top, left)
        rows = [4 * n + LINE for n in (ins, outs)]  # a line more: else all would be in one set
        sums = 4 * POSITIONS * ins * outs
        most = LARGE_BLOCK_BYTES if sums > LARGE_SUMS else BLOCK_BYTES
        blocks = max(round(POSITIONS * sum(rows) * shape.tiles / most), 1)
        block = max(-(-shape.tiles // blocks), 1)
        steps = [block * row + LINE for row in rows]
        # Of a tile, or for the direct way of a line of pixels of both images.
        patch = max(SIDE**2 * ins, OUTPUTS**2 * outs, TAPS**2 * WIDTH, out_wide * (ins + outs))
        space = TABLE + whole_lines(max(4 * patch, space_bytes(TAPS**2)))
        team = max(bound.threads, thread_count())
        numbers = [high, wide, ins, out_high, out_wide, outs, top, left]
        numbers += [shape.down, shape.across, shape.tiles, images, block]
        text = weight_grad(x.dtype, bound.outputs[0].dtype, self.normed)
        flops = 2 * POSITIONS * shape.tiles * ins * outs

        def emit(ins_: list[int], outs_: list[int], packs: list[int], scratch: int) -> list[Call]:
            data = scratch + team * space
            grads = data + POSITIONS * steps[0]
            table = [ins_[0], ins_[1], outs_[0], *numbers]
            table += [data, rows[0], steps[0], grads, rows[1], steps[1]]
            table += [grads + POSITIONS * steps[1], scratch, space]
            table += [gemm.product(near=1).address, ROWS * 4 * ins]
            table += ins_[2:] if self.normed else [0, 0]
            work = {"threads": bound.threads, "ops": flops}
            return [launch(self.name, text, "weight_grad", table, **work)]

        room = team * space + POSITIONS * sum(steps) + sums
        return Prepared(emit, room, [], (), flops, f"{blocks} blocks")


class NormedWeightGrad(WeightGrad):
    """normed_conv2d_weight_grad: tiles are normalised before they are transformed."""

    name = "numba:winograd_normed_weight_grad"
    ops = ("normed_conv2d_weight_grad",)
    normed = True


register(WeightGrad())
register(NormedWeightGrad())
