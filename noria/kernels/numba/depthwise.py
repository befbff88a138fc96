"""Depthwise convolutions of 3 taps a row in float32, channels-last, with bias and activation.

Each output costs nine multiply-adds, so reading and writing is all there is to save. A row of the
output is walked in tiles (`depthwise_tiles.py`): a column of the input is loaded once for all
pixels of a tile, for a vector of channels at a time. Tiles go down the image, with so many channels
that what two of them both see comes from the first cache. Nothing is padded; taps beyond the image
are left out. Threads share the rows, or the channels where they come out more even.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import product
from math import prod
from textwrap import indent

import numpy as np

from noria.core.machine import caches
from noria.ir.program import Operator
from noria.kernels.call import Call
from noria.kernels.numba import depthwise_sizes as sizes
from noria.kernels.numba.lane_bounds import BOUNDS, bits
from noria.kernels.numba.launch import launch, need
from noria.kernels.numba.move import copy_kernel
from noria.kernels.numba.parallel import OPS, parallel, thread_count
from noria.kernels.numba.tile_sizes import WIDTH
from noria.kernels.registry import (
    LAST,
    PLAIN,
    Array,
    BoundOp,
    Declined,
    Kernel,
    Layouts,
    Pack,
    Prepared,
    register,
)
from noria.ops.window import Windows, slide

PIECE = 5  # int64 of a piece of a row: which tile, first pixel and column, taps left out and seen
ONE = 4  # the tile that is a single pixel; 0 to 3 leave out (0, 0), (0, 1), (1, 0), (1, 1)
CACHE = caches().first // 2  # bytes of the first cache for what a tile and the one below it see
# Nanoseconds, as `parallel` counts them, from which on a team is called. That is early, because the
# steps around it have one: its threads would be about to fall asleep when they are wanted again.
LEAST = 8_000
EVEN = 16  # rows for each thread that may be dealt out however they fall
_ZEROS = np.zeros(WIDTH, np.float32)

_READ = """    x = load_int64(args, 0)
    w = load_int64(args, 1)
    bias = load_int64(args, 2)
    out = load_int64(args, 3)
    space = load_int64(args, 4)
    batch = load_int64(args, 5)
    high = load_int64(args, 6)
    out_high = load_int64(args, 7)
    kernel_high = load_int64(args, 8)
    stride_high = load_int64(args, 9)
    pad_high = load_int64(args, 10)
    channels = load_int64(args, 11)
    pieces = load_int64(args, 12)
    row_pieces = load_int64(args, 13)
    by_channel = load_int64(args, 14)
    x_image = load_int64(args, 15)
    x_row = load_int64(args, 16)
    out_row = load_int64(args, 17)
    zeros = load_int64(args, 18)
    chunk = load_int64(args, 19)
    low_bound = load_int64(args, 20)
    high_bound = load_int64(args, 21)"""


def _tiles(stride: int, prefix: str) -> str:
    """Calls the tile of this kind."""
    names = [f"depthwise_{stride}_{a}_{b}" for a, b in product((0, 1), repeat=2)]
    names.append("depthwise_pixel")
    calls = [
        f"if kind == {i}:\n    {prefix}{name}(at, taps, to, table)" for i, name in enumerate(names)
    ]
    return "\n".join(calls)


@cache
def source(stride: int, narrow: bool) -> str:
    """Source of the kernel: for windows `stride` columns apart.

    narrow: there are fewer channels than a vector has lanes
    """
    body = _tiles(stride, "cut_" if narrow else "")
    fixed = "\n".join(
        f"    store_int64(table, {field}, {text})"
        for field, text in (
            (sizes.X_ROW, "x_row"),
            (sizes.X_PIXEL, "4 * channels"),
            (sizes.OUT_PIXEL, "4 * channels"),
            (sizes.W_ROW, f"{4 * sizes.TAPS} * channels"),
            (sizes.W_TAP, "4 * channels"),
            (sizes.LANES, "channels"),
            (sizes.LOW, "low_bound"),
            (sizes.HIGH, "high_bound"),
            (sizes.BIAS, "zeros"),
            (sizes.BIAS_STEP, f"{4 * WIDTH} * min(bias, 1)"),
        )
    )
    return f"""
def depthwise(args):
{_READ}
    me = thread_id()
    team = team_size()
    table = space + me * {8 * sizes.FIELDS}
{fixed}
    rows = batch * out_high
    vectors = (channels + {WIDTH - 1}) // {WIDTH}
    first, last = rows * me // team, rows * (me + 1) // team
    low, end = int64(0), vectors
    if by_channel != 0:
        first, last = int64(0), rows
        low, end = vectors * me // team, vectors * (me + 1) // team
    whole = min(end, channels // {WIDTH})
    for begin in range(low, end, chunk):
        stop = min(begin + chunk, end)
        for number in range(row_pieces):
            piece = pieces + number * {8 * PIECE}
            kind = load_int64(piece, 0)
            from_pixel = load_int64(piece, 2) * channels
            to_pixel = load_int64(piece, 1) * channels
            left_out = load_int64(piece, 3) * channels
            store_int64(table, {sizes.COLUMNS}, load_int64(piece, 4))
            # the last part of a vector is done with the channels before it, once more
            for part in range(2):
                start = begin * {WIDTH}
                count = min(stop, whole) - begin
                if part == 1:
                    start = max(channels - {WIDTH}, 0)
                    count = stop - max(whole, begin)
                if count > 0:
                    store_int64(table, {sizes.VECTORS}, count)
                    if bias != 0:
                        store_int64(table, {sizes.BIAS}, bias + start * 4)
                    for row in range(first, last):
                        image = row // out_high
                        top = (row - image * out_high) * stride_high - pad_high
                        lead = min(max(-top, 0), kernel_high)
                        seen = max(min(kernel_high, high - top) - lead, 0)
                        store_int64(table, {sizes.ROWS}, seen)
                        at = x + image * x_image + (top + lead) * x_row + (from_pixel + start) * 4
                        skipped = lead * {sizes.TAPS} * channels + left_out
                        taps = w + (skipped + start) * 4
                        to = out + row * out_row + (to_pixel + start) * 4
{indent(body, " " * 24)}
    return 0
"""


def pieces(wide: int, out: int, stride: int, pad: int) -> list[int]:
    """How a row of `out` pixels over `wide` columns is walked, PIECE numbers for each piece.

    Pixels that miss no tap, or the first pixel its first and the last one its last, are taken
    together, PIXELS at a time; the last ones overlap those before. All others go one by one.
    """
    o = np.arange(out)
    begin = o * stride - pad
    low = np.clip(-begin, 0, sizes.TAPS)
    high = np.clip(wide - begin, low, sizes.TAPS)
    even = (low == 0) & (high == sizes.TAPS)
    first, last = int(np.argmax(even)), out - int(np.argmax(even[::-1]))
    if not even.any():
        first = last = 0
    begins = first > 0 and low[first - 1] == 1 and high[first - 1] == sizes.TAPS
    ends = last < out and low[last] == 0 and high[last] == sizes.TAPS - 1
    first, last = first - begins, last + ends
    if last - first < sizes.PIXELS:
        first = last = 0
    found = []
    for i in [*range(first), *range(last, out)]:
        found += [ONE, i, int(begin[i] + low[i]), int(low[i]), int(high[i] - low[i])]
    for i in range(first, last, sizes.PIXELS):
        at = min(i, last - sizes.PIXELS)
        kind = 2 * int(begins and at == first) + int(ends and at == last - sizes.PIXELS)
        found += [kind, at, int(begin[at]), 0, sizes.TAPS]
    return found


def by_channel(rows: int, vectors: int, threads: int) -> bool:
    """Whether threads share the channels: rows are few, and do not come out as even."""

    def waste(count: int) -> float:
        return -(-count // threads) * threads / count

    return rows < EVEN * threads and waste(vectors) < waste(rows)


class Depthwise(Kernel):
    """`conv2d` and `fused_conv2d` with a group for each channel."""

    name = "numba:depthwise"
    ops = ("conv2d", "fused_conv2d")
    priority = 30  # one filter for each channel only

    def accepts(self, op: Operator) -> None:
        need(op, ("float32",))
        x, weight, *more = op.inputs
        assert x is not None and weight is not None
        groups = op.attrs["groups"]
        if groups == 1 or (weight.shape[0], weight.shape[1]) != (groups, 1):
            raise Declined("not one filter for each channel")
        if weight.shape[3] != sizes.TAPS:
            raise Declined(f"kernels of {sizes.TAPS} columns only")
        if len(more) > 1 and more[1] is not None:
            raise Declined("a residual")
        if op.attrs.get("activation") not in BOUNDS:
            raise Declined(f"the tiles have no {op.attrs['activation']}")

    def layout(self, op: Operator, given: object) -> Layouts:
        return [LAST, *[None if v is None else PLAIN for v in op.inputs[1:]]], [LAST]

    def bind(self, bound: BoundOp) -> Prepared:
        x, w, bias = [*bound.inputs, None][:3]
        out = bound.outputs[0]
        assert x is not None and w is not None
        windows = slide(
            x.shape[2:], w.shape[2:], *(bound.attrs[k] for k in ("stride", "padding", "dilation"))
        )
        _need_plain(windows)
        columns = Columns(x, out, windows, bound.threads, bound.attrs.get("activation"))

        def emit(ins: list[int], outs: list[int], packs: list[int], scratch: int) -> list[Call]:
            at = (ins[0], packs[0], ins[2] if bias is not None else 0)
            return [columns.call(self.name, at, outs[0], scratch)]

        team = max(bound.threads, thread_count())
        return Prepared(emit, 8 * sizes.FIELDS * team, [pack(w)])


class Columns:
    """A depthwise convolution of real sizes: its numbers, and the call for given addresses."""

    def __init__(
        self, x: Array, out: Array, windows: Windows, threads: int, activation: str | None
    ) -> None:
        stride = windows.stride[1]
        self.text = source(stride, x.shape[1] < WIDTH)
        self.limits = [bits(n) for n in BOUNDS[activation]]
        walk = pieces(x.shape[3], out.shape[3], stride, int(windows.pads[1][0]))
        self.walk = np.array(walk, np.int64)
        self.numbers = _numbers(x, out, windows, threads)
        self.chunk, self.threads = _chunk(windows), threads
        ops = 2 * out.size * prod(windows.kernel)
        self.work = {"bytes": x.nbytes + out.nbytes, "ops": ops}

    def call(self, name: str, at: Sequence[int], out: int, scratch: int) -> Call:
        """at: x, the weight taps first, and the bias or 0."""
        table = [*at, out, scratch, *self.numbers[:7], self.walk.ctypes.data]
        table += [self.walk.size // PIECE, *self.numbers[7:], _ZEROS.ctypes.data, self.chunk]
        table += self.limits
        call = launch(name, self.text, "depthwise", table, threads=1)
        call.keep = (call.keep, self.walk)
        if self.threads == 1:
            return call
        large = self.work["ops"] >= LEAST * OPS
        return parallel(call, threads=self.threads if large else None, **self.work)


def _need_plain(windows: Windows) -> None:
    if windows.dilation != (1, 1):
        raise Declined("dilated")
    if windows.stride[1] not in sizes.STRIDES:
        raise Declined(f"windows {windows.stride[1]} columns apart")


def _chunk(windows: Windows) -> int:
    """Vectors of channels taken through all rows together: so many that the rows of the input that
    the next tile will see again stay in the first cache."""
    rows, stride = windows.kernel[0] + 1, windows.stride[1]
    seen = rows * ((sizes.PIXELS - 1) * stride + sizes.TAPS) + sizes.PIXELS
    return max(CACHE // (4 * WIDTH * seen), 1)


def _numbers(x: Array, out: Array, windows: Windows, threads: int) -> list[int]:
    """What the kernel's table holds of sizes, in the order of `_READ`."""
    batch, channels, high, wide = x.shape
    out_high, out_wide = out.shape[2:]
    vertical = [windows.kernel[0], windows.stride[0], int(windows.pads[0][0])]
    rows = [high * wide * channels * 4, wide * channels * 4, out_wide * channels * 4]
    apart = by_channel(batch * out_high, -(-channels // WIDTH), threads)
    return [batch, high, out_high, *vertical, channels, int(apart), *rows]


def pack(weight: Array) -> Pack:
    """A weight [C, 1, rows, columns] as [rows, columns, C]."""
    channels, taps = weight.shape[0], prod(weight.shape[1:])
    plain = Array((channels, taps), weight.dtype, (taps, 1))
    turned = Array((channels, taps), weight.dtype, (1, channels))
    return Pack(1, "taps first", weight.nbytes, copy_kernel(plain, turned, 1), replaces=True)


register(Depthwise())
