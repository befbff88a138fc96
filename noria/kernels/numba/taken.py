"""Gradient by the weight of a convolution behind which only a max-pooling stands.

A channel of the gradient has one term for each window: the patch of x around what the window took,
times what it is given. The patches of some rows of an image are laid out in whole vectors, where
they stay in the cache while all channels go over them, and the sums of some channels stay in
registers while they go over those rows. Nothing of the size of what was pooled is in memory.
"""

from __future__ import annotations

from functools import cache
from math import prod
from textwrap import indent

from noria.core.machine import caches
from noria.ir.program import Operator
from noria.kernels.call import Call
from noria.kernels.numba.launch import launch, need
from noria.kernels.numba.lines import whole_lines
from noria.kernels.numba.parallel import thread_count
from noria.kernels.numba.pooled_layer import Layer
from noria.kernels.numba.taken_sizes import Part, offsets_of, parts
from noria.kernels.numba.texts import reading
from noria.kernels.numba.tile_sizes import WIDTH
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

FEW = 96  # numbers of a patch: laying out larger ones takes longer than what is done with them
SOME = caches().second // 32  # bytes of patches: they stay in the first cache

# An image of x is `down` x `across` pixels once zeros are around it; the convolution gives
# `conv_high` x `conv_wide` elements. Windows of `pool_high` rows of them are `pool_step` apart,
# the first `pool_above` rows above; `some` rows of windows are done at a time. `patch`: bytes of a
# patch, and of the sums of a channel; `room`: of a thread's own image and patches; `fields`: of the
# tiles' table, which comes twice, for `some` rows and for what is left of them.
_READ = reading(
    """
    x grad places out own sums room images high wide ins outs
    taps_high taps_wide stride_high stride_wide above left down across
    conv_high conv_wide pool_high pool_step pool_above pool_left
    windows_high windows_wide some patch fields
    """,
    behind="tables",
)
_SOURCE = f"""
def weight_grad(args):
{_READ}
    team = team_size()
    me = thread_id()
    target = sums + me * outs * patch
    fill_bytes(target, 0, outs * patch)
    mine = own + me * room
    fill_bytes(mine, 0, room)
    patches = mine
    if PADDED:
        patches = mine + (down * across * ins * 4 + 63) // 64 * 64
    for n in range(images * me // team, images * (me + 1) // team):
        image = x + n * high * wide * ins * 4
        if PADDED:
            for row in range(high):
                to = mine + ((row + above) * across + left) * ins * 4
                copy_bytes(to, image + row * wide * ins * 4, wide * ins * 4)
            image = mine
        for first in range(0, windows_high, some):
            count = min(some, windows_high - first)
            begin = first * pool_step - pool_above
            h0 = max(begin, 0)
            to = patches
            for h in range(h0, min(begin + (count - 1) * pool_step + pool_high, conv_high)):
                row = image + h * stride_high * across * ins * 4
                for w in range(conv_wide):
                    for i in range(TAPS_HIGH):
                        copy_bytes(to + i * NUMBERS * 4, row + i * across * ins * 4, NUMBERS * 4)
                    to += patch
                    row += stride_wide * ins * 4
            table = tables
            if count < some:
                table += fields * 8
            at = (n * windows_high + first) * windows_wide * outs
            g = grad + at * 4
            p = places + at
            seen = patches + ((begin - h0) * conv_wide - pool_left) * patch
PARTS
    barrier()
    taps = taps_high * taps_wide
    for o in range(outs * me // team, outs * (me + 1) // team):
        for tap in range(taps):
            for c in range(ins):
                s = float32(0)
                for part in range(team):
                    s += load_float32(sums + (part * outs + o) * patch, tap * ins + c)
                store_float32(out, (o * ins + c) * taps + tap, s)
    return 0
"""


def calls(p: Part) -> str:
    """Text of the calls of tiles for all channels of one part of the patches."""
    skip = 4 * WIDTH * p.first
    lines, begin = [], "0"
    for count in dict.fromkeys((p.channels, 1)):
        end = f"outs // {count} * {count}"
        tile = f"taken_{p.vectors}_{count}"
        lines.append(f"for o in range({begin}, {end}, {count}):")
        lines.append(f"    to = target + o * patch + {skip}")
        lines.append(f"    {tile}(seen + {skip}, g + o * 4, p + o, to, table)")
        begin = end
    return "\n".join(lines)


@cache
def source(rows: int, numbers: int, padded: bool) -> str:
    """Text of the kernel for patches of so many rows of so many numbers."""
    text = "\n".join(map(calls, parts(-(-rows * numbers // WIDTH))))
    text = _SOURCE.replace("PARTS", indent(text, " " * 12))
    text = text.replace("TAPS_HIGH", str(rows)).replace("NUMBERS", str(numbers))
    return text.replace("PADDED", "1 > 0" if padded else "1 < 0")


def seen_by(op: Operator) -> int:
    """Numbers of x that an element of the convolution sees, of a taken_weight_grad."""
    return prod(int(n) for n in op.outputs[0].shape[1:])


class ByWeight(Kernel):
    """What the kernels of taken_weight_grad share."""

    ops = ("taken_weight_grad",)

    def accepts(self, op: Operator) -> None:
        need(op, ("float32",), (0, 1))

    def layout(self, op: Operator, given: object) -> Layouts:
        return [LAST, LAST, LAST], [PLAIN]

    def prepared(
        self, bound: BoundOp, text: str, room: int, patch: int, numbers: list[int]
    ) -> Prepared:
        """room: bytes of a thread's own images; patch: of its sums of a channel; numbers: of the
        table, behind its addresses and `room`."""
        grad, (outs, *seen) = bound.inputs[1], bound.outputs[0].shape
        assert grad is not None
        team = max(bound.threads, thread_count())
        flops = 2 * grad.size * prod(seen)

        def emit(in_: list[int], out_: list[int], packs: list[int], scratch: int) -> list[Call]:
            table = [*in_, *out_, scratch, scratch + room * team, room, *numbers]
            work = {"threads": bound.threads, "ops": flops}
            return [launch(self.name, text, "weight_grad", table, **work)]

        return Prepared(emit, (room + outs * patch) * team, work=flops)


class TakenWeightGrad(ByWeight):
    """taken_weight_grad of float32, for patches of at most FEW numbers."""

    name = "numba:taken_weight_grad"

    def accepts(self, op: Operator) -> None:
        super().accepts(op)
        if seen_by(op) > FEW:
            raise Declined("patches are large")

    def bind(self, bound: BoundOp) -> Prepared:
        x, out = bound.inputs[0], bound.outputs[0]
        assert x is not None
        outs, ins, *taps = out.shape
        layer = Layer.of(bound.attrs, x.shape[2:], out.shape)
        conv, pool = layer.conv, layer.pool
        patch = -(-taps[0] * taps[1] * ins // WIDTH) * WIDTH * 4
        row = int(conv.out[1]) * patch
        some = max(1, min(int(pool.out[0]), SOME // (row * pool.stride[0])))
        room = row * ((some - 1) * pool.stride[0] + pool.kernel[0])
        room += whole_lines(layer.nbytes) if layer.padded else 0
        numbers = [x.shape[0], *x.shape[2:], ins, outs, *taps, *conv.stride]
        numbers += [*layer.fronts, layer.down, layer.across, *map(int, conv.out)]
        numbers += [pool.kernel[0], pool.stride[0], *layer.pool_fronts]
        numbers += [*map(int, pool.out), some, patch]
        tile = [pool.stride[1] * patch, pool.stride[0] * row, int(pool.out[1])]
        end = [outs, patch, *offsets_of(pool.kernel, row, patch)]
        tiles = [[*tile, rows, *end] for rows in (some, int(pool.out[0]) % some)]
        numbers += [len(tiles[0]), *tiles[0], *tiles[1]]
        text = source(taps[0], taps[1] * ins, layer.padded)
        return self.prepared(bound, text, room, patch, numbers)


register(TakenWeightGrad())
