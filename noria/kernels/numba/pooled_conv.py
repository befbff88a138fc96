"""A convolution of few channels and the max-pooling behind it, in one go, channels-last.

Windows that do not overlap share nothing, so a tile makes all elements of some windows in registers
and keeps the largest of each: a network's first layer, whose output is the largest value there is,
is never in memory. The weight, which changes at each step, is a few lines, and packed first.
"""

from __future__ import annotations

from functools import cache
from itertools import chain, product
from math import inf, prod

from noria.ir.program import Operator
from noria.kernels.call import Call
from noria.kernels.numba.lane_bounds import bits
from noria.kernels.numba.launch import launch, need
from noria.kernels.numba.lines import whole_lines
from noria.kernels.numba.parallel import thread_count
from noria.kernels.numba.pooled_layer import Layer
from noria.kernels.numba.pooled_sizes import MOST_ELEMENTS, shape
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

# An image of x is `down` x `across` pixels once zeros are around it, in `room` bytes of a thread's
# own. `step` and `next`: bytes there from a row of windows, and from a window, to the next one.
# `panel`: bytes of the packed weights of some outputs, one of `panels`; `fields`: of the tiles'
# table, which comes once for each.
_READ = reading(
    """
    x weight bias out places packs own room images high wide
    ins outs taps_high taps_wide above left down across
    windows_high windows_wide step next panels panel fields
    """,
    behind="tables",
)
_SOURCE = f"""
def pooled_conv(args):
{_READ}
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
        layer = Layer.of(attrs, x.shape[2:], weight.shape)
        elements = prod(layer.pool.kernel)
        if elements > MOST_ELEMENTS:
            raise Declined("the window is large")
        vectors, group = shape(out.shape[1], elements)
        width, low = WIDTH * vectors, bits(0.0 if attrs["activation"] else -inf)
        room = whole_lines(layer.nbytes) if layer.padded else 0
        numbers = _numbers(layer, x, weight, out, room, width, low)
        text = source(elements, vectors, group, room > 0)
        packed = -(-out.shape[1] // width) * _panel(weight, width)
        flops = 2 * elements * out.size * prod(weight.shape[1:])
        has_bias = len(bound.inputs) > 2 and bound.inputs[2] is not None

        def emit(ins: list[int], outs: list[int], packs: list[int], scratch: int) -> list[Call]:
            operands = [*ins[:2], ins[2] if has_bias else 0, *outs]
            table = [*operands, scratch, scratch + packed, *numbers]
            work = {"threads": bound.threads, "ops": flops}
            return [launch(self.name, text, "pooled_conv", table, **work)]

        team = max(bound.threads, thread_count())
        return Prepared(emit, packed + room * team, work=flops)


def _panel(weight: Array, width: int) -> int:
    """Bytes of the packed weights of `width` outputs, and their biases."""
    return (prod(weight.shape[1:]) + 1) * width * 4


def _numbers(
    layer: Layer, x: Array, weight: Array, out: Array, room: int, width: int, low: int
) -> list[int]:
    """What the kernel's table has behind its addresses.

    room: bytes of a thread's image; width: outputs of a panel; low: the bits of the bound below
    """
    outs, ins, high, wide = weight.shape
    down, across = layer.pool.stride
    taps = [high, wide * ins, layer.line, across * layer.step, outs]
    places = product(range(layer.pool.kernel[0]), range(layer.pool.kernel[1]))
    offsets = [i * layer.row + j * layer.step for i, j in places]
    tables = [[*taps, outs - o, low, *offsets] for o in range(0, outs, width)]
    sizes = [room, x.shape[0], *x.shape[2:], ins, outs, high, wide, *layer.fronts]
    sizes += [layer.down, layer.across, *out.shape[2:], down * layer.row, across * layer.step]
    sizes += [len(tables), _panel(weight, width), len(taps) + 2 + len(offsets)]
    return [*sizes, *chain.from_iterable(tables)]


register(PooledConv())
