"""Gradient by the input of a convolution behind which only a max-pooling stands.

Of what is pooled a window gives its gradient to one element, and that one to the patch of x which
it sees: the weights of its channel, times that. So a region of the image, all that a window can
reach, is held in registers while some channels add their weights, each moved by what the window
took; zeros around the weights make all of them as large as the region. These channels' weights stay
in the first cache while the windows of some images go by.

Zeros times an infinity would be NaN, so gradients that are not finite take a plain loop.
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise, product
from typing import NamedTuple

from noria.core.machine import caches
from noria.ir.program import Operator
from noria.kernels.call import Call
from noria.kernels.numba.launch import launch, need
from noria.kernels.numba.lines import whole_lines
from noria.kernels.numba.parallel import thread_count
from noria.kernels.numba.pooled_layer import Layer
from noria.kernels.numba.spread_sizes import MOST_ROWS, vectors_of
from noria.kernels.numba.texts import reading
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

BLOCK = caches().second // 32  # bytes of the weights of some channels: they stay in the first cache
IMAGES = caches().second // 8  # bytes of the images that go by

# An image is `down` x `across` pixels once what the convolution sees around it is there, in `room`
# bytes; `some` of them are done at a time. `pitch` and `line`: bytes of the weights of a channel,
# and of a row of them, which begin `top` rows down and `front` numbers in. `step` and `next`: bytes
# of the image from a row of windows, and from a window, to the next one; `down_step` and
# `right_step`: from element to element of the convolution. The channels fall into `blocks`; of the
# tiles' two tables, of `fields` each, one is for `least` channels and one for one more.
_READ = reading(
    """
    grad places weight out packs own room some images high wide
    ins outs taps_high taps_wide above left across windows_high
    windows_wide pool_high pool_wide pitch line top front step next
    down_step right_step blocks least fields
    """,
    behind="tables",
)
_SOURCE = f"""
def input_grad(args):
{_READ}
    team = team_size()
    me = thread_id()
    taps = taps_high * taps_wide
    for o in range(outs * me // team, outs * (me + 1) // team):
        fill_bytes(packs + o * pitch, 0, pitch)
        for tap in range(taps):
            to = packs + o * pitch + (top + tap // taps_wide) * line
            for c in range(ins):
                v = load_float32(weight, (o * ins + c) * taps + tap)
                store_float32(to, front + tap % taps_wide * ins + c, v)
    barrier()
    mine = own + me * (some * room + SLACK)
    each = windows_high * windows_wide * outs
    last = images * (me + 1) // team
    for first in range(images * me // team, last, some):
        count = min(some, last - first)
        fill_bytes(mine, 0, count * room + SLACK)
        s = float32(0)
        for k in range(count * each):
            s += float32(0) * load_float32(grad, first * each + k)
        for k in range(blocks):
            o = outs * k // blocks
            table = tables + (outs * (k + 1) // blocks - o - least) * fields * 8
            w = packs + o * pitch
            for row in range(count * windows_high):
                if isnan(s):
                    break
                to = mine + row // windows_high * room + row % windows_high * step
                at = (first * windows_high + row) * windows_wide * outs + o
                for part in range(0, PARTS * PART, PART):
                    TILE(w + part, grad + at * 4, places + at, to + part, table)
        for k in range(count * each):
            if not isnan(s):
                break
            n = k // each
            row = k // (windows_wide * outs) % windows_high
            column = k // outs % windows_wide
            place = int64(load_uint8(places, first * each + k))
            if place >= pool_high * pool_wide:
                continue
            g = load_float32(grad, first * each + k)
            to = mine + n * room + row * step + column * next
            to += place // pool_wide * down_step + place % pool_wide * right_step
            for h in range(taps_high):
                w = packs + k % outs * pitch + (top + h) * line + front * 4
                for e in range(taps_wide * ins):
                    v = load_float32(to, e) + g * load_float32(w, e)
                    store_float32(to, e, v)
                to += across * ins * 4
        for row in range(count * high):
            begin = ((row % high + above) * across + left) * ins * 4
            to = out + (first * high + row) * wide * ins * 4
            copy_bytes(to, mine + row // high * room + begin, wide * ins * 4)
    return 0
"""


@cache
def source(rows: int, parts: int) -> str:
    """Text of the kernel for windows that reach so many rows of the image, in so many parts."""
    part = 4 * WIDTH * vectors_of(rows)
    text = _SOURCE.replace("TILE", f"spread_{rows}_{vectors_of(rows)}").replace("SLACK", str(part))
    return text.replace("PARTS", str(parts)).replace("PART", str(part))


class TakenInputGrad(Kernel):
    """taken_input_grad of float32."""

    name = "numba:taken_input_grad"
    ops = ("taken_input_grad",)

    def accepts(self, op: Operator) -> None:
        need(op, ("float32",), (0, 2))

    def layout(self, op: Operator, given: object) -> Layouts:
        return [LAST, LAST, PLAIN], [LAST]

    def bind(self, bound: BoundOp) -> Prepared:
        grad, _, weight = bound.inputs
        out = bound.outputs[0]
        assert grad is not None and weight is not None
        region = _Region.of(Layer.of(bound.attrs, out.shape[2:], weight.shape), weight)
        if region.rows > MOST_ROWS:
            raise Declined("a window reaches many rows")
        part = 4 * WIDTH * vectors_of(region.rows)
        outs = weight.shape[0]
        blocks = -(-outs // max(1, BLOCK // region.pitch))
        some = max(1, min(out.shape[0], IMAGES // region.room))
        numbers = region.numbers(grad, out, weight, some, blocks)
        text = source(region.rows, region.parts)
        flops = 2 * grad.size * (weight.size // max(outs, 1))

        def emit(in_: list[int], out_: list[int], packs: list[int], scratch: int) -> list[Call]:
            table = [*in_, *out_, scratch, scratch + outs * region.pitch, *numbers]
            work = {"threads": bound.threads, "ops": flops}
            return [launch(self.name, text, "input_grad", table, **work)]

        team = max(bound.threads, thread_count())
        room = outs * region.pitch + (some * region.room + part) * team
        return Prepared(emit, room, work=flops)


class _Region(NamedTuple):
    """What a window reaches of an image, and where weights lie with zeros around them.

    rows, parts: of the image that a window reaches, a part being as wide as a tile
    top, front: rows and numbers of zeros before the weights
    line, pitch, room: bytes of a row of the weights, of a channel's, and of an image
    """

    layer: Layer
    rows: int
    parts: int
    top: int
    front: int
    line: int
    pitch: int
    room: int

    @staticmethod
    def of(layer: Layer, weight: Array) -> _Region:
        ins, *taps = weight.shape[1:]
        axes = zip(layer.conv.stride, layer.pool.kernel, strict=True)
        top, aside = (s * (k - 1) for s, k in axes)
        rows = taps[0] + top
        width = WIDTH * vectors_of(min(rows, MOST_ROWS))
        parts = -(-(taps[1] + aside) * ins // width)
        front = -(-aside * ins // WIDTH) * WIDTH
        line = 4 * (front + parts * width)
        room = whole_lines(layer.nbytes)
        return _Region(layer, rows, parts, top, front, line, (rows + top) * line, room)

    def numbers(self, grad: Array, out: Array, weight: Array, some: int, blocks: int) -> list[int]:
        """What the kernel's table has behind its addresses."""
        outs, ins, *taps = weight.shape
        layer, kernel = self.layer, self.layer.pool.kernel
        right, below = layer.step, layer.row
        next_, step = layer.pool.stride[1] * right, layer.pool.stride[0] * below
        sizes = [self.room, some, out.shape[0], *out.shape[2:], ins, outs, *taps, *layer.fronts]
        sizes += [layer.across, *grad.shape[2:], *kernel, self.pitch, self.line]
        sizes += [self.top, self.front, step, next_, below, right]
        places = list(product(range(kernel[0]), range(kernel[1])))
        offsets = [
            (self.top - i * layer.conv.stride[0]) * self.line + 4 * self.front - j * right
            for i, j in places
        ]
        cuts = [outs * k // blocks for k in range(blocks + 1)]
        least = min(b - a for a, b in pairwise(cuts))
        tables = [
            [grad.shape[3], next_, outs, count, self.pitch, self.line, layer.line, len(places) - 1]
            for count in (least, least + 1)
        ]
        sizes += [blocks, least, len(tables[0]) + len(offsets)]
        return [*sizes, *tables[0], *offsets, *tables[1], *offsets]


register(TakenInputGrad())
