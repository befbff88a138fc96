"""Gradient by the weight of a convolution over an image of few channels, such as a network's first.

The panel of a product is made of outputs here, since inputs would fill none: of a row of taps

    weight[(tap, I), O] = sum over pixels of x[pixel under the tap, I] * gradient[pixel, O].

In channels-last memory the inputs that a pixel sees through a row of taps lie side by side, and for
the next pixel they begin a few numbers later. So x is multiplied as it lies, a line of the image at
a time, with zeros around it; the same number is read again for each tap that sees it. Of bfloat16
a line is made of pairs, each number and the one that the next pixel has in its place, and two
pixels are a step.

Threads share the rows of the result, some together, whose gradients stay in the second cache while
those of the next are asked for. Their sums are added up at the end.
"""

from __future__ import annotations

from functools import cache
from math import prod
from textwrap import indent

from noria.core.dtypes import itemsize
from noria.core.machine import caches
from noria.kernels.call import Call
from noria.kernels.numba import jit
from noria.kernels.numba.conv_weight_grad import ByWeight
from noria.kernels.numba.jit import NativeFunction
from noria.kernels.numba.launch import launch
from noria.kernels.numba.lines import whole_lines
from noria.kernels.numba.parallel import thread_count
from noria.kernels.numba.texts import reading
from noria.kernels.numba.tile_sizes import PANEL, ROWS, VECTORS, WIDTH
from noria.kernels.registry import (
    BoundOp,
    Declined,
    Prepared,
    register,
)
from noria.ops.window import slide

SOME = caches().second // 8  # bytes of the gradients of some rows

LEAST = 2 * WIDTH  # outputs: with fewer, too few sums at a time, oneDNN was up to twice as fast

# Table of `multiply`: what the tiles read, then the operands of a row of taps and its size.
A_ROW, A_STEP, B_ROW, C_ROW, K, ACCUMULATE, SOON, SOON_STEP, RUNS, A_RUN, B_RUN = range(11)
SOON_END, LEFT, RIGHT, TO, SEEN, COLUMNS = range(11, 17)
TABLE = 192  # bytes

_MULTIPLY = f"""
def multiply(args):
    at = load_int64(args, {LEFT})
    right = load_int64(args, {RIGHT})
    to = load_int64(args, {TO})
    seen = load_int64(args, {SEEN})
    columns = load_int64(args, {COLUMNS})
    c_row = load_int64(args, {C_ROW})
    vectors = (columns + {WIDTH - 1}) // {WIDTH}
    groups = (seen + {ROWS - 1}) // {ROWS}
    soon = load_int64(args, {SOON})
    asked = load_int64(args, {K}) * load_int64(args, {RUNS}) * 64
    for group in range(groups):
        take = seen * (group + 1) // groups - seen * group // groups
TILES
        soon += asked
        if soon >= load_int64(args, {SOON_END}):
            asked = int64(0)
            store_int64(args, {SOON_STEP}, 0)
        store_int64(args, {SOON}, soon)
        at += 4 * take
        to += take * c_row
    return 0
"""
_READ = reading("""
    x gradient sums out scratch room multiply
    images high wide ins out_high out_wide outs
    taps_high taps_wide stride_high stride_wide pad_high pad_wide
    some words
""")

# A line of the image as the taps see it, `words` of 4 bytes; behind the last one there is room.
_ONE_PIXEL = """
fill_bytes(to, 0, pad_wide * ins * 4)
copy_bytes(to + pad_wide * ins * 4, source, wide * ins * 4)
fill_bytes(to + (pad_wide + wide) * ins * 4, 0, (words - (pad_wide + wide) * ins) * 4)
"""
_TWO_PIXELS = """
fill_bytes(line, 0, pad_wide * ins * 2)
copy_bytes(line + pad_wide * ins * 2, source, wide * ins * 2)
fill_bytes(line + (pad_wide + wide) * ins * 2, 0, (words - (pad_wide + wide) * ins) * 2)
for i in range(words - stride_wide * ins):
    independent()
    low = load_uint16(line, i)
    store_uint32(to, i, pair(low, load_uint16(line + stride_wide * ins * 2, i)))
"""
# Gradients of the rows, in pairs of pixels: [pair][PANEL].
_PAIR_GRADIENT = f"""
low = grads
for step in range(count * steps):
    for o in range(columns):
        independent()
        word = pair(load_uint16(low, o), load_uint16(low + outs * 2, o))
        store_uint32(right + step * {4 * PANEL}, o, word)
    low += outs * 4
grads = right
"""

_SOURCE = f"""
def weight_grad(args):
{_READ}
    me = thread_id()
    team = team_size()
    table = scratch + me * room
    line = table + {TABLE}
    lines = line + words * LINE
    seen = taps_wide * ins
    right = lines + ((some - 1) * stride_high + taps_high) * words * 4
    steps = out_wide // STEP
    total = taps_high * seen * outs
    target = sums + me * total * 4
    store_int64(table, {A_ROW}, 4)
    store_int64(table, {A_STEP}, stride_wide * ins * STEP * 4)
    store_int64(table, {B_ROW}, B_STEP)
    store_int64(table, {C_ROW}, outs * 4)
    store_int64(table, {K}, steps)
    store_int64(table, {A_RUN}, stride_high * words * 4)
    store_int64(table, {B_RUN}, steps * B_STEP)
    store_int64(table, {SEEN}, seen)
    per_image = (out_high + some - 1) // some
    begin = images * per_image * me // team
    end = images * per_image * (me + 1) // team
    if begin == end:
        fill_bytes(target, 0, total * 4)
    for unit in range(begin, end):
        image = unit // per_image
        first = (unit - image * per_image) * some
        count = min(some, out_high - first)
        store_int64(table, {RUNS}, count)
        store_int64(table, {ACCUMULATE}, min(unit - begin, 1))
        following = gradient + (image * out_high + first + count) * out_wide * outs * ITEM
        store_int64(table, {SOON}, following)
        store_int64(table, {SOON_STEP}, 64)
        store_int64(table, {SOON_END}, following + count * out_wide * outs * ITEM)
        to = lines
        for number in range((count - 1) * stride_high + taps_high):
            i = first * stride_high - pad_high + number
            if i < 0 or i >= high:
                fill_bytes(to, 0, words * 4)
            else:
                source = x + (image * high + i) * wide * ins * ITEM
LINE_OF_X
            to += words * 4
        for panel in range(0, outs, {PANEL}):
            columns = min(outs - panel, {PANEL})
            grads = gradient + ((image * out_high + first) * out_wide * outs + panel) * ITEM
GRADIENT
            store_int64(table, {RIGHT}, grads)
            store_int64(table, {COLUMNS}, columns)
            for tap in range(taps_high):
                store_int64(table, {LEFT}, lines + tap * words * 4)
                store_int64(table, {TO}, target + (tap * seen * outs + panel) * 4)
                call1(multiply, table)
    barrier()
    taps = taps_high * taps_wide
    for c in range(ins * me // team, ins * (me + 1) // team):
        for tap in range(taps):
            for o in range(outs):
                s = float32(0)
                for part in range(team):
                    s += load_float32(sums + part * total * 4, (tap * ins + c) * outs + o)
                store_float32(out, (o * ins + c) * taps + tap, s)
    return 0
"""


@cache
def multiply(dtype: str) -> NativeFunction:
    """The product of a panel of gradients and what a row of taps sees, on the calling thread."""
    name = "runs" if dtype == "float32" else "pair_runs"
    lines = [f"if columns == {PANEL}:"]
    lines += [
        f"    if take == {m}:\n        {name}_{m}(at, right, to, args, columns)"
        for m in range(1, ROWS + 1)
    ]
    for v in range(1, VECTORS + 1):
        lines.append(f"elif vectors == {v}:")
        lines += [
            f"    if take == {m}:\n        {name}_{m}_{v}(at, right, to, args, columns)"
            for m in range(1, ROWS + 1)
        ]
    text = _MULTIPLY.replace("TILES", indent("\n".join(lines), " " * 8))
    return jit.compile_source(text, "multiply")


@cache
def source(dtype: str) -> str:
    """Text of the kernel on x and gradient of float32, or of bfloat16 in pairs of pixels."""
    wide = dtype == "float32"
    line = _ONE_PIXEL if wide else _TWO_PIXELS
    text = _SOURCE.replace("\nLINE_OF_X\n", f"\n{indent(line.strip(), ' ' * 16)}\n")
    gradient = "" if wide else indent(_PAIR_GRADIENT.strip(), " " * 12)
    text = text.replace("\nGRADIENT\n", f"\n{gradient}\n")
    numbers = {"ITEM": "4", "STEP": "1", "LINE": "0", "B_STEP": "(outs * 4)"}
    if not wide:
        numbers = {"ITEM": "2", "STEP": "2", "LINE": "2", "B_STEP": str(4 * PANEL)}
    for name in ("B_STEP", "STEP", "ITEM", "LINE"):
        text = text.replace(name, numbers[name])
    return text


class WeightGrad(ByWeight):
    """Without dilation, of few channels of x."""

    name = "numba:few_channels_grad"
    priority = 15  # few channels of x only

    def bind(self, bound: BoundOp) -> Prepared:
        x, g = bound.inputs
        out = bound.outputs[0]
        assert x is not None and g is not None
        outs, ins, *kernel = out.shape
        how = (bound.attrs[k] for k in ("stride", "padding", "dilation"))
        window = slide(x.shape[2:], kernel, *how)
        if set(window.dilation) != {1}:
            raise Declined("dilated")
        if ins >= PANEL or outs < LEAST:
            raise Declined("the inputs fill a panel, or the outputs no two vectors")
        step = 4 // itemsize(x.dtype)
        out_high, out_wide = g.shape[2:]
        if out_wide % step:
            raise Declined("the pixels of a row make no pairs")
        top, left = (int(before) for before, _ in window.pads)
        across = max(left + x.shape[3], (out_wide - 1) * window.stride[1] + kernel[1])
        words = -(-across * ins // WIDTH) * WIDTH
        some = max(min(SOME * step // max(out_wide * PANEL * 4, 1), out_high), 1)
        room = TABLE + words * 4 * ((some - 1) * window.stride[0] + kernel[0])
        room += (step - 1) * (words * 2 + some * out_wide * PANEL * 2)
        room = whole_lines(room)
        team = max(bound.threads, thread_count())
        tiles = multiply(x.dtype)
        flops = 2 * g.size * ins * prod(kernel)
        numbers = [x.shape[0], *x.shape[2:], ins, out_high, out_wide, outs, *kernel]
        numbers += [*window.stride, top, left, some, words]

        def emit(in_: list[int], out_: list[int], packs: list[int], scratch: int) -> list[Call]:
            table = [*in_, scratch + room * team, out_[0], scratch, room, tiles.address, *numbers]
            work = {"threads": bound.threads, "ops": flops}
            return [launch(self.name, source(x.dtype), "weight_grad", table, **work)]

        return Prepared(emit, (room + out.nbytes) * team, work=flops)


register(WeightGrad())
