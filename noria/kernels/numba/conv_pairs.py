"""Convolutions of one tap in bfloat16 with weights that change, and their gradients by the input,
channels-last: products of register tiles, pairs of channels at a time, summed in float32. To such a
gradient another one may be added, and what a mask leaves out be 0, before it is rounded.

A tap sees one pixel, so [pixels, channels] is multiplied by a matrix, which is packed in panels at
each step. Threads take blocks of pixels as they become free. Of a block, which stays in the second
cache, each panel gives PANEL channels of ROWS pixels at a time, rounded in registers.
Strided, the pixels that the taps see are gathered into a block, or, of a gradient, scattered over
zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from noria.ir.program import Operator
from noria.kernels.call import Call
from noria.kernels.numba import jit
from noria.kernels.numba.jit import NativeFunction
from noria.kernels.numba.launch import launch, need, need_vectors
from noria.kernels.numba.lines import whole_lines
from noria.kernels.numba.parallel import thread_count
from noria.kernels.numba.tile_sizes import PAIRS, PANEL, ROWS
from noria.kernels.numba.weight_panels import Panels, pack
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
from noria.ops.window import slide

BLOCK = 20 * ROWS  # pixels that a thread takes at a time

LEAST_INS = 128  # of each pixel: with 64, where memory bounds both, oneDNN is as fast or faster

# Table of `multiply`: what the tiles read, then the block, a panel, and where results go: a list of
# addresses of pixels, and an offset. The last three are those of masked tiles.
A_ROW, A_STEP, B_ROW, K, SOON, SOON_STEP = 0, 1, 2, 4, 6, 7
AT, RIGHT, COUNT, LIST, OFFSET, BASE, OTHER, BITS = range(8, 16)
TABLE = 8 * 16
SPACE = whole_lines(TABLE + 8 * BLOCK)  # and the list

_TILE = """
if take == TAKE:
    NAME_TAKE(at, right, list_, args, offset)
"""
_MULTIPLY = f"""
def multiply(args):
    at = load_int64(args, {AT})
    right = load_int64(args, {RIGHT})
    count = load_int64(args, {COUNT})
    list_ = load_int64(args, {LIST})
    offset = load_int64(args, {OFFSET})
    row = load_int64(args, {A_ROW})
    step = load_int64(args, {SOON_STEP}) * load_int64(args, {K})
    for first in range(0, count, {ROWS}):
        take = min(count - first, {ROWS})
TILES
        store_int64(args, {SOON}, load_int64(args, {SOON}) + step)
        list_ += {8 * ROWS}
        at += {ROWS} * row
    return 0
"""

_SOURCE = f"""
def pixels(args):
    x = load_int64(args, 0)
    weight = load_int64(args, 1)
    out = load_int64(args, 2)
    table = load_int64(args, 3) + thread_id() * load_int64(args, 4)
    count = load_int64(args, 5)
    words = load_int64(args, 6)
    outs = load_int64(args, 7)
    blocks = load_int64(args, 8)
    multiply = load_int64(args, 9)
    small_high = load_int64(args, 10)
    small_wide = load_int64(args, 11)
    high = load_int64(args, 12)
    wide = load_int64(args, 13)
    down = load_int64(args, 14)
    across = load_int64(args, 15)
    gather = load_int64(args, 16)
    scatter = load_int64(args, 17)
    everywhere = load_int64(args, 18)
    shared = args + {8 * 21}
    list_ = table + {TABLE}
    copy = table + {SPACE}
    row = words * 4
    store_int64(table, {A_ROW}, row)
    store_int64(table, {A_STEP}, 4)
    store_int64(table, {B_ROW}, {4 * PANEL})
    store_int64(table, {K}, words)
    store_int64(table, {LIST}, list_)
    store_int64(table, {BASE}, out)
    store_int64(table, {OTHER}, load_int64(args, 19) - out)
    store_int64(table, {BITS}, load_int64(args, 20))
    block = take(shared, 1)
    while block < blocks:
        begin = count * block // blocks
        end = count * (block + 1) // blocks
        cleared = int64(0)
        for pixel in range(begin, end + 1):
            line = pixel // small_wide
            image = line // small_high
            place = (image * high + (line - image * small_high) * down) * wide
            place += (pixel - line * small_wide) * across
            if pixel == begin:
                cleared = place
            if pixel == end:
                if scatter:
                    if block == 0:
                        cleared = int64(0)
                    if block == blocks - 1:
                        place = everywhere
                    fill_bytes(out + cleared * outs * 2, 0, (place - cleared) * outs * 2)
            elif scatter:
                store_int64(list_, pixel - begin, out + place * outs * 2)
            else:
                store_int64(list_, pixel - begin, out + pixel * outs * 2)
                if gather:
                    copy_bytes(copy + (pixel - begin) * row, x + place * row, row)
        store_int64(table, {COUNT}, end - begin)
        at = x + begin * row
        if gather:
            at = copy
        store_int64(table, {AT}, at)
        store_int64(table, {SOON}, x + end * row)
        store_int64(table, {SOON_STEP}, (1 - gather) * {4 * ROWS})
        for o in range(0, outs, {PANEL}):
            store_int64(table, {RIGHT}, weight + o * row)
            store_int64(table, {OFFSET}, 2 * o)
            call1(multiply, table)
            store_int64(table, {SOON_STEP}, 0)
        block = take(shared, 1)
    if take(shared + 8, 1) == team_size() - 1:
        store_int64(shared, 0, 0)
        store_int64(shared, 1, 0)
    return 0
"""


@cache
def multiply(tile: str) -> NativeFunction:
    """A block of pixels by a panel, on the calling thread, by tiles of that name."""
    text = _TILE.strip().replace("NAME", tile)
    tiles = (text.replace("TAKE", str(m)) for m in range(ROWS, 0, -1))
    lines = "\n".join(tiles).splitlines()
    text = _MULTIPLY.replace("TILES", "\n".join(" " * 8 + line for line in lines))
    return jit.compile_source(text, "multiply")


def need_worth(ins: int, masked: bool = False) -> None:
    """The rule between these tiles and oneDNN's, as measured. Raises Declined for the latter, which
    have no masked sum: that would go over memory once more."""
    if ins < LEAST_INS and not masked:
        raise Declined("oneDNN's are as fast for so few inputs")


class _Pairs(Kernel):
    """What both directions share.

    backward: the gradient is what is read, and x is written
    masked:   another gradient is added to that, and bits tell where it is not 0
    """

    backward = False
    masked = False
    priority = 15  # bfloat16, one tap and whole panels only

    def accepts(self, op: Operator) -> None:
        need(op, ("bfloat16",), (0, 1, 2))
        if not PAIRS:
            raise Declined("the CPU multiplies no bfloat16")
        need_vectors(op)
        outs, ins, *kernel = op.operands[1].shape
        if op.attrs["groups"] != 1:
            raise Declined("grouped")
        if any(k != 1 for k in kernel):
            raise Declined("more than one tap")
        if len(op.operands) > 2 and not self.masked:
            raise Declined("a bias or residual")
        if any(not isinstance(c, int) or c % PANEL for c in (outs, ins)):
            raise Declined(f"channels do not fill panels of {PANEL}")

    def layout(self, op: Operator, given: Sequence[str | None]) -> Layouts:
        wanted: list[str | None] = [None if v is None else LAST for v in op.inputs]
        wanted[1] = PLAIN
        return wanted, [LAST]

    def bind(self, bound: BoundOp) -> Prepared:
        x, w = bound.inputs[:2]
        out = bound.outputs[0]
        assert x is not None and w is not None
        large, small = (out, x) if self.backward else (x, out)
        how = (bound.attrs[k] for k in ("stride", "padding", "dilation"))
        window = slide(large.shape[2:], (1, 1), *how)
        if any(int(n) for pads in window.pads for n in pads):
            raise Declined("padded")
        outs, ins = out.shape[1], x.shape[1]
        need_worth(ins, self.masked)
        count, strided = small.size // small.shape[1], set(window.stride) != {1}
        if strided and self.masked:
            raise Declined("strided: most of what is added has no product")
        team = max(bound.threads, thread_count())
        blocks = -(-count // (BLOCK * team)) * team
        gather, scatter = int(strided and not self.backward), int(strided and self.backward)
        room = SPACE + gather * BLOCK * ins * 2
        grids = [*small.shape[2:], *large.shape[2:]] if strided else [1, count, 1, count]
        panels = Panels("bfloat16", ins, outs, 1, PANEL, self.backward)
        packed = pack(1, ("pair panels", PANEL, self.backward), panels, bound.threads)
        flops, in_place = 2 * count * ins * outs, [(0, 2)] if self.masked else []

        def emit(ins_: list[int], outs_: list[int], packs: list[int], scratch: int) -> list[Call]:
            kernel = multiply("masked_pairs" if self.masked else "half_pairs")
            beside = ins_[2:] if self.masked else [0, 0]
            table = [ins_[0], packs[0], outs_[0], scratch, room, count, ins // 2, outs, blocks]
            table += [kernel.address, *grids, *window.stride, gather, scatter]
            table += [large.size // large.shape[1], *beside, 0, 0]
            work = {"threads": bound.threads, "ops": flops}
            call = launch(self.name, _SOURCE, "pixels", table, **work)
            call.keep = (call.keep, kernel)
            return [call]

        return Prepared(emit, room * team, [packed], in_place, flops)


class Forward(_Pairs):
    """conv2d without bias."""

    name = "numba:conv_pairs"
    ops = ("conv2d",)


class InputGrad(_Pairs):
    """conv2d_input_grad."""

    name = "numba:conv_pairs_input_grad"
    ops = ("conv2d_input_grad",)
    backward = True


class MaskedInputGrad(_Pairs):
    """masked_input_grad: the sum and the mask are done in registers."""

    name = "numba:conv_pairs_masked_input_grad"
    ops = ("masked_input_grad",)
    backward = masked = True


register(Forward())
register(InputGrad())
register(MaskedInputGrad())
