"""A convolution of few channels and the max-pooling behind it, in one go, channels-last.

Windows that do not overlap share nothing, so a tile makes all elements of some windows in registers
and keeps the largest of each: a network's first layer, whose output is the largest value there is,
is never in memory. The weight, which changes at each step, is a few lines, and packed first.
"""

from __future__ import annotations

from functools import cache
from itertools import chain, product
from math import inf, prod
from typing import NamedTuple

from noria.ir.program import Operator
from noria.kernels.call import Call
from noria.kernels.numba.lane_bounds import bits
from noria.kernels.numba.launch import launch, need
from noria.kernels.numba.parallel import thread_count
from noria.kernels.numba.pooled_sizes import MOST_ELEMENTS, shape
from noria.kernels.numba.taken import around
from noria.kernels.numba.tile_sizes import WIDTH
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
from noria.ops.window import Windows, slide

# An image of x is `down` x `across` pixels once zeros are around it, in `room` bytes of a thread's
# own. `step` and `next`: bytes there from a row of windows, and from a window, to the next one.
# `panel`: bytes of the packed weights of some outputs, one of `panels`; `fields`: of the tiles'
# table, which comes once for each.
_NAMES = [
    *("x", "weight", "bias", "out", "places", "packs", "own", "room", "images", "high", "wide"),
    *("ins", "outs", "taps_high", "taps_wide", "above", "left", "down", "across"),
    *("windows_high", "windows_wide", "step", "next", "panels", "panel", "fields"),
]
_SOURCE = (
    "def pooled_conv(args):\n"
    + "".join(f"    {name} = load_int64(args, {i})\n" for i, name in enumerate(_NAMES))
    + f"    tables = args + {8 * len(_NAMES)}\n"
    + """
    team = team_size()
    me = thread_id()
    taps = taps_high * taps_wide
    lines = taps * ins + 1
    for k in range(lines * me // team, lines * (me + 1) // team):
        for p in range(panels):
            fill_bytes(packs + p * panel + k * LINE, 0, LINE)
        if k == 0 and bias == 0:
            continue
        tap = (k - 1) // ins
        c = (k - 1) % ins
        for o in range(outs):
            to = packs + o // NUMBERS * panel + k * LINE
            if k == 0:
                store_float32(to, o % NUMBERS, load_float32(bias, o))
            else:
                v = load_float32(weight, (o * ins + c) * taps + tap)
                store_float32(to, o % NUMBERS, v)
    image = x
    if PADDED:
        image = own + me * room
        fill_bytes(image, 0, room)
    barrier()
    there = int64(-1)
    rows = images * windows_high
    for row in range(rows * me // team, rows * (me + 1) // team):
        n = row // windows_high
        if n != there:
            there = n
            origin = x + n * high * wide * ins * 4
            if PADDED:
                for h in range(high):
                    to = image + ((h + above) * across + left) * ins * 4
                    copy_bytes(to, origin + h * wide * ins * 4, wide * ins * 4)
            else:
                image = origin
        seen = image + row % windows_high * step
        for p in range(panels):
            w = packs + p * panel
            table = tables + p * fields * 8
            at = row * windows_wide * outs + p * NUMBERS
            end = windows_wide // GROUP * GROUP
            for column in range(0, end, GROUP):
                to = at + column * outs
                TILE_GROUP(seen + column * next, w, out + 4 * to, places + to, table)
            for column in range(end, windows_wide):
                to = at + column * outs
                TILE_1(seen + column * next, w, out + 4 * to, places + to, table)
    return 0
"""
)


@cache
def source(elements: int, vectors: int, group: int, padded: bool) -> str:
    """Text of the kernel for windows of so many elements, of which a tile takes `group`, and
    panels of so many vectors."""
    text = _SOURCE.replace("TILE_", f"pooled_{elements}_{vectors}_").replace("GROUP", str(group))
    text = text.replace("LINE", str(4 * WIDTH * vectors)).replace("NUMBERS", str(WIDTH * vectors))
    return text.replace("PADDED", "1 > 0" if padded else "1 < 0")


class PooledConv(Kernel):
    """pooled_conv2d of float32, for windows of at most MOST_ELEMENTS elements."""

    name = "numba:pooled_conv"
    ops = ("pooled_conv2d",)

    def accepts(self, op: Operator) -> None:
        need(op, ("float32",))
        if op.attrs["activation"] not in (None, "relu"):
            raise Declined("the activation is not a bound from below")

    def layout(self, op: Operator, given: object) -> Layouts:
        return [LAST, *(None if v is None else PLAIN for v in op.inputs[1:])], [LAST, LAST]

    def bind(self, bound: BoundOp) -> Prepared:
        x, weight, *_ = bound.inputs
        attrs, out = bound.attrs, bound.outputs[0]
        assert x is not None and weight is not None
        conv = slide(x.shape[2:], weight.shape[2:], attrs["stride"], attrs["padding"])
        stride = attrs["pool_stride"]
        kernel = attrs["pool_kernel"]
        pool = slide(conv.out, kernel, kernel if stride is None else stride)
        elements = prod(pool.kernel)
        if elements > MOST_ELEMENTS:
            raise Declined("the window is large")
        vectors, group = shape(out.shape[1], elements)
        layer = _Layer.of(x, weight, conv, pool)
        low = bits(0.0 if attrs["activation"] else -inf)
        numbers = layer.numbers(x, weight, out, WIDTH * vectors, low)
        padded = layer.room > 0
        text = source(elements, vectors, group, padded)
        packed = -(-out.shape[1] // (WIDTH * vectors)) * layer.panel(weight, WIDTH * vectors)
        flops = 2 * elements * out.size * prod(weight.shape[1:])
        has_bias = len(bound.inputs) > 2 and bound.inputs[2] is not None

        def emit(ins: list[int], outs: list[int], packs: list[int], scratch: int) -> list[Call]:
            operands = [*ins[:2], ins[2] if has_bias else 0, *outs]
            table = [*operands, scratch, scratch + packed, *numbers]
            work = {"threads": bound.threads, "ops": flops}
            return [launch(self.name, text, "pooled_conv", table, **work)]

        team = max(bound.threads, thread_count())
        return Prepared(emit, packed + layer.room * team, work=flops)


class _Layer(NamedTuple):
    """How a layer's image lies once zeros are around it.

    down, across: its pixels; room: its bytes, 0 if there is nothing around it; step, next: bytes
    from pixel to pixel of the convolution
    """

    conv: Windows
    pool: Windows
    down: int
    across: int
    room: int
    step: int
    next: int

    @staticmethod
    def of(x: Array, weight: Array, conv: Windows, pool: Windows) -> _Layer:
        down, across = around(x.shape[2:], conv)
        pixel = weight.shape[1] * 4
        padded = (down, across) != x.shape[2:]
        room = -(-down * across * pixel // 64) * 64 if padded else 0
        steps = conv.stride[0] * across * pixel, conv.stride[1] * pixel
        return _Layer(conv, pool, down, across, room, *steps)

    def panel(self, weight: Array, width: int) -> int:
        """Bytes of the packed weights of `width` outputs, and their biases."""
        return (prod(weight.shape[1:]) + 1) * width * 4

    def numbers(self, x: Array, weight: Array, out: Array, width: int, low: int) -> list[int]:
        """What the kernel's table has behind its addresses. low: the bits of the bound below."""
        outs, ins, high, wide = weight.shape
        (down, across), (above, left) = self.pool.stride, (int(p) for p, _ in self.conv.pads)
        taps = [high, wide * ins, self.across * ins * 4, across * self.next, outs]
        places = product(range(self.pool.kernel[0]), range(self.pool.kernel[1]))
        offsets = [i * self.step + j * self.next for i, j in places]
        tables = [[*taps, outs - o, low, *offsets] for o in range(0, outs, width)]
        sizes = [self.room, x.shape[0], *x.shape[2:], ins, outs, high, wide, above, left]
        sizes += [self.down, self.across, *out.shape[2:], down * self.step, across * self.next]
        sizes += [len(tables), self.panel(weight, width), len(taps) + 2 + len(offsets)]
        return [*sizes, *chain.from_iterable(tables)]


register(PooledConv())
