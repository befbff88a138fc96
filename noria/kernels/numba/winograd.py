"""3x3 convolutions of stride 1 in float32, and their gradients by the input, with a quarter of the
multiplications: Winograd's F(4x4, 3x3), channels-last.

A tile of 6x6 inputs gives 4x4 outputs. Its transform has 36 positions; for each of them all tiles
times the transformed weights are one matrix product, of register tiles. So there are three parts:
inputs to factors, products, products to outputs (with bias, residual and activation). They run
block by block in the second cache, each thread for itself, or, where the weights are larger than
the images, once for all tiles, the threads sharing the tiles, then the positions, then the tiles.

The result differs from the direct one by about 1e-6 of its standard deviation, five times what
direct sums in float32 do. Tiles with NaN or infinities in them are computed directly.
NORIA_WINOGRAD=0 leaves such convolutions to others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from noria.core.flags import flags
from noria.core.machine import caches
from noria.ir.program import Operator
from noria.kernels.call import Call
from noria.kernels.numba import gemm
from noria.kernels.numba.launch import launch, need, need_vectors
from noria.kernels.numba.linear import need_activation
from noria.kernels.numba.lines import LINE, whole_lines
from noria.kernels.numba.parallel import thread_count
from noria.kernels.numba.tile_sizes import PAIRS, ROWS, WIDTH
from noria.kernels.numba.winograd_matrix import OUTPUTS, POSITIONS, TAPS
from noria.kernels.numba.winograd_source import (
    FACTOR_SPACE,
    TABLE,
    convolution,
    factors,
    repair_bytes,
)
from noria.kernels.registry import (
    LAST,
    PLAIN,
    BoundOp,
    Declined,
    Kernel,
    Layouts,
    Pack,
    Prepared,
    register,
)
from noria.ops.window import slide

HALF = "bfloat16"
# Tiles, at most 24: the factors of 64 channels, and the products, then fill half the second cache.
BLOCK = min(caches().second // (2 * 4 * POSITIONS * (64 + 64)) // ROWS * ROWS, 24)
FEW_TILES = 8  # fewer are multiplied faster than 36 matrices are read
FEW_PAIRS = 32  # the same where pairs of bfloat16 are multiplied, whose matrices are an eighth
PAST = caches().last // 2  # bytes of matrices that no cache will still have when they are read
CACHED = 2 * caches().second  # bytes of matrices that stay in a cache


@dataclass(frozen=True, slots=True)
class Shape:
    """Of the convolution that is computed, which may be the gradient of another."""

    images: int
    high: int
    wide: int
    ins: int
    out_high: int
    out_wide: int
    outs: int
    top: int
    left: int

    @property
    def down(self) -> int:
        return -(-self.out_high // OUTPUTS)

    @property
    def across(self) -> int:
        return -(-self.out_wide // OUTPUTS)

    @property
    def tiles(self) -> int:
        return self.images * self.down * self.across

    @property
    def factor_step(self) -> int:
        """Bytes from the matrix of one position to the next: a line more than it has, so that what
        is written at once, a line of each, is not all in one set of a cache."""
        return gemm.packed_bytes(self.ins, self.outs) + LINE

    @property
    def matrices(self) -> int:
        """Bytes of those of all positions."""
        return POSITIONS * self.factor_step

    @property
    def shared(self) -> bool:
        """Whether the matrices are larger than the factors and products of all images."""
        return self.tiles * (self.ins + self.outs) < self.ins * self.outs


def pack(shape: Shape, flipped: bool, dtype: str, threads: int) -> Pack:
    """Weights [O, I, 3, 3] to POSITIONS matrices in panels. Those of bfloat16 may come in float32;
    they lie behind the matrices, for tiles that are repaired."""
    kept = shape.matrices + (2 * TAPS * TAPS * shape.ins * shape.outs if dtype == HALF else 0)
    space = FACTOR_SPACE * max(threads, thread_count())

    def of(given: str) -> Callable[[int, int], list[Call]]:
        text = factors(dtype, flipped, shape.matrices > PAST, given)

        def emit(address: int, copy: int) -> list[Call]:
            table = [address, copy, shape.ins, shape.outs, shape.factor_step]
            table += [copy + shape.matrices, copy + kept]
            work = {"threads": threads, "bytes": 2 * shape.matrices}
            return [launch("numba:winograd_factors", text, "factors", table, **work)]

        return emit

    key, half = ("winograd", flipped), dtype == HALF
    full = of("float32") if half else None
    return Pack(1, key, kept + space, of(dtype), replaces=half, full=full)


class _Winograd(Kernel):
    """What all share."""

    priority = 20  # 3x3, vectors full of channels and a stride of 1 only
    flipped = False
    normed = False  # inputs 2 and 3 are then mean and factors

    def accepts(self, op: Operator) -> None:
        weight = op.operands[1]
        need_shape(op, weight.shape[:2], weight.shape[2:])
        if self.normed:
            need(op, ("float32",), (2, 3))
        need_activation(op)

    def layout(self, op: Operator, given: Sequence[str | None]) -> Layouts:
        wanted: list[str | None] = [None if v is None else PLAIN for v in op.inputs]
        wanted[0] = LAST
        if not self.normed and len(op.inputs) > 3 and op.inputs[3] is not None:
            wanted[3] = LAST
        return wanted, [LAST]

    def shape(self, bound: BoundOp) -> Shape:
        """Sizes. Raises Declined for those it does not take."""
        raise NotImplementedError

    def bind(self, bound: BoundOp) -> Prepared:
        shape = self.shape(bound)
        few = FEW_PAIRS if PAIRS and bound.outputs[0].dtype == HALF else FEW_TILES
        if shape.tiles < few and shape.matrices > CACHED:
            raise Declined("few tiles for such large weights")
        if shape.shared and PAIRS and bound.outputs[0].dtype == HALF and not bound.fixed[1]:
            raise Declined("halves are multiplied directly before such weights are transformed")
        first = 4 if self.normed else 2
        bias, residual = [*bound.inputs[first:], None, None][:2]
        dtype, activation = bound.outputs[0].dtype, bound.attrs.get("activation")
        added = bias.dtype if bias is not None else None
        text = convolution(
            added, residual is not None, activation, self.flipped, dtype, self.normed
        )
        block = max(shape.tiles, 1) if shape.shared else BLOCK
        # A line more than whole ones, so that the 36 places of a transform are not in one set.
        steps = [whole_lines(4 * block * n) + LINE for n in (shape.ins, shape.outs)]
        team = max(bound.threads, thread_count())
        space = TABLE + shape.tiles * 8 + 4 * POSITIONS * max(shape.ins, shape.outs)
        space = whole_lines(space + repair_bytes(shape.ins, shape.outs)) + 2 * LINE
        copies = POSITIONS * (1 if shape.shared else team)
        numbers = [shape.high, shape.wide, shape.ins, shape.out_high, shape.out_wide, shape.outs]
        numbers += [shape.top, shape.left, shape.down, shape.across, shape.tiles]
        numbers += [block, int(shape.shared)]
        flops = 2 * POSITIONS * shape.tiles * shape.ins * shape.outs

        def emit(ins: list[int], outs: list[int], packs: list[int], scratch: int) -> list[Call]:
            data = scratch + team * space
            weight = packs[0] + shape.matrices if dtype == HALF else ins[1]
            table = [ins[0], packs[0], *[*ins[first:], 0, 0][:2], outs[0], weight, *numbers]
            table += [data, shape.ins * 4, steps[0], data + copies * steps[0], steps[1]]
            product = gemm.product(ahead=shape.shared)
            table += [shape.factor_step, scratch, space, product.address]
            table += ins[2:4] if self.normed else [0, 0]
            return [launch(self.name, text, "winograd", table, threads=bound.threads, ops=flops)]

        packed = pack(shape, self.flipped, dtype, bound.threads)
        room = team * space + copies * sum(steps)
        return Prepared(emit, room, [packed], (), flops, "shared" if shape.shared else "")


def need_shape(op: Operator, channels: Sequence[Any], kernel: Sequence[Any]) -> None:
    """Raises Declined for what no kernel of this family takes."""
    if not flags.winograd:
        raise Declined("NORIA_WINOGRAD is off")
    x, y = op.operands[:2]
    if x.dtype != y.dtype:
        raise Declined(f"{x.dtype} and {y.dtype}")
    need(op, ("float32", "bfloat16"))
    need_vectors(op)
    if tuple(kernel) != (TAPS, TAPS):
        raise Declined("not 3x3")
    if any(isinstance(c, int) and (c % WIDTH or c < 2 * WIDTH) for c in channels):
        raise Declined(f"channels do not fill vectors of {WIDTH}")
    if op.attrs["groups"] != 1:
        raise Declined("grouped")


def window(bound: BoundOp, sizes: Sequence[int], out: Sequence[int]) -> tuple[int, int]:
    """Padding above and to the left. Raises Declined for other strides, dilations, wide padding."""
    how = slide(sizes, (TAPS, TAPS), *(bound.attrs[k] for k in ("stride", "padding", "dilation")))
    if tuple(how.stride) != (1, 1) or tuple(how.dilation) != (1, 1):
        raise Declined("stride or dilation")
    front = [int(p[0]) for p in how.pads]
    behind = [o - s + TAPS - 1 - f for o, s, f in zip(out, sizes, front, strict=True)]
    if not all(0 <= p < TAPS for p in (*front, *behind)):
        raise Declined("padding wider than the kernel")
    return front[0], front[1]


class Forward(_Winograd):
    """Convolution with bias; `fused_conv2d` adds a residual and an activation."""

    name = "numba:winograd"
    ops: tuple[str, ...] = ("conv2d", "fused_conv2d")

    def shape(self, bound: BoundOp) -> Shape:
        x, out = bound.inputs[0], bound.outputs[0]
        assert x is not None
        top, left = window(bound, x.shape[2:], out.shape[2:])
        n, c, high, wide = x.shape
        return Shape(n, high, wide, c, out.shape[2], out.shape[3], out.shape[1], top, left)


class Normed(Forward):
    """normed_conv2d: tiles are normalised before they are transformed."""

    name = "numba:winograd_normed"
    ops = ("normed_conv2d",)
    normed = True


class InputGrad(_Winograd):
    """Gradient by the input: the convolution with the weight turned by half a circle."""

    name = "numba:winograd_input_grad"
    ops = ("conv2d_input_grad",)
    flipped = True

    def shape(self, bound: BoundOp) -> Shape:
        g, out = bound.inputs[0], bound.outputs[0]
        assert g is not None
        top, left = window(bound, out.shape[2:], g.shape[2:])
        n, c, high, wide = g.shape
        outs, out_high, out_wide = out.shape[1:]
        return Shape(n, high, wide, c, out_high, out_wide, outs, 2 - top, 2 - left)


register(Forward())
register(Normed())
register(InputGrad())
