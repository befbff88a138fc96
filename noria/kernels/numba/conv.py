"""Convolutions of float32 with weights that never change, channels-last, by register tiles.

A result is made pixel by pixel (`conv_pixels.py`), each with a panel of output channels at a time,
from weights packed in panels. Nothing of the input is copied or padded, taps beyond a border are
not computed, and bias, residual and activation cost no pass over memory.

Blocks of pixels are so small that their part of the input stays in the second cache while the
panels go by; a panel too large for it is used in parts. Threads share the blocks, or where pixels
are few the panels. While a part of a panel is used, the next one is asked for.

Images of a few channels, which mostly are what a network is fed with, are read as they come, plane
by plane: to bring them into the channels-last order would take longer than a row of tiles.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from math import prod

import numpy as np

from noria.core.flags import flags
from noria.core.machine import caches
from noria.ir.program import Operator
from noria.kernels.call import Call
from noria.kernels.numba import conv_pixels, jit
from noria.kernels.numba.conv_pixels import Pixels, Plane
from noria.kernels.numba.conv_sizes import FIELDS, PIXELS, shape
from noria.kernels.numba.conv_source import SOURCE, tiles
from noria.kernels.numba.jit import NativeFunction
from noria.kernels.numba.lane_bounds import BOUNDS, UNBOUND, bits
from noria.kernels.numba.launch import launch, need
from noria.kernels.numba.move import Part, copy_part, fill_part
from noria.kernels.numba.parallel import thread_count
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
    same_memory,
    strides_of,
)
from noria.ops.window import Windows, per_axis, slide

PANEL_BYTES = caches().second // 2  # of a part of a panel that is used for all pixels of a block
INPUT_BYTES = caches().second // 4  # of the input that a block should need at most
LIST = 768  # pixels in a list of pairs, at least: small images share one
MEMORY = 16  # how much larger than its images a weight must be for reading it to matter most
FEW = 4  # channels of an image that is read in planes
BLOCK = 96  # pixels of a block that sees several taps
UNITS = 12  # such blocks for each thread, where there are pixels enough, so that all end together
_ZERO = np.zeros((), np.float32)


class Conv(Kernel):
    """`conv2d` and `fused_conv2d` without groups."""

    name = "numba:conv"
    ops = ("conv2d", "fused_conv2d")
    priority = 10  # float32, without groups, more than one vector of outputs only

    def accepts(self, op: Operator) -> None:
        need(op, ("float32",))
        if op.attrs["groups"] != 1:
            raise Declined("in groups")
        if flags.fpmath != "strict":
            raise Declined(f"products may be '{flags.fpmath}'")
        outs, _, _, columns = op.operands[1].shape
        if not isinstance(outs, int) or outs <= WIDTH:
            raise Declined("one vector of outputs")
        if per_axis(op.attrs["dilation"], 2, "dilation")[1] != 1 and columns != 1:
            raise Declined("the taps of a row do not lie side by side")
        if op.attrs.get("activation") not in BOUNDS:
            raise Declined(f"the tiles have no {op.attrs['activation']}")

    def layout(self, op: Operator, given: Sequence[str | None]) -> Layouts:
        wanted: list[str | None] = [None if v is None else PLAIN for v in op.inputs]
        channels = op.operands[0].shape[1]
        few = isinstance(channels, int) and 1 < channels <= FEW
        wanted[0] = PLAIN if few and given[0] == PLAIN else LAST
        if len(op.inputs) > 3 and op.inputs[3] is not None:
            wanted[3] = LAST
        return wanted, [LAST]

    def bind(self, bound: BoundOp) -> Prepared:
        x, w, *rest = bound.inputs
        out = bound.outputs[0]
        assert x is not None and w is not None
        how = (bound.attrs[k] for k in ("stride", "padding", "dilation"))
        windows = slide(x.shape[2:], w.shape[2:], *how)
        planes = x.shape[1] if not lies_last(x) else 1
        if planes == 1:
            need_worth(bound.fixed[1], windows, w.nbytes > MEMORY * (x.nbytes + out.nbytes))
        threads = bound.threads
        vectors, by_panel = shape(out.size // out.shape[1], out.shape[1], threads)
        width = vectors * WIDTH
        panels = -(-out.shape[1] // width)
        panel_bytes = prod(w.shape[1:]) * width * 4
        pixels = _pixels(x, out, windows, width, planes, 1 if by_panel else threads)
        shared = np.array(shares(pixels, panels, threads, by_panel), np.int64)
        numbers = [threads, out.shape[1], panel_bytes]
        chunk = len(pixels.blocks) if by_panel else _chunk(x, out, pixels)
        numbers += [chunk, *_parts(x, w, windows, width, planes)]
        flops = 2.0 * out.size * prod(w.shape[1:])
        kinds = out.shape[1] >= width, out.shape[1] % width != 0
        limits = [bits(n) for n in BOUNDS[bound.attrs.get("activation")]]

        def emit(ins: list[int], outs: list[int], packs: list[int], scratch: int) -> list[Call]:
            arrays = [pixels.blocks, pixels.pairs, shared]
            table = [ins[0], packs[0], *[*ins[2:], 0, 0][:2], outs[0], scratch]
            walks = array("q", [f.address if f else 0 for f in walkers(pixels, vectors, kinds)])
            table += [*(a.ctypes.data for a in arrays), *numbers, 4 * width, PIXELS[vectors]]
            table += [walks.buffer_info()[0], *limits, int(limits != UNBOUND)]
            moved = sum(a.nbytes for a in (*bound.inputs, out) if a is not None)
            work = {"threads": threads, "bytes": moved, "ops": int(flops)}
            call = launch(self.name, SOURCE, "conv", table, **work)
            return [replace(call, keep=(call.keep, arrays, walks))]

        team = max(threads, thread_count())
        in_place = ((0, 3),) if len(rest) > 1 and rest[1] is not None else ()
        detail = f"{vectors} vectors, {'panels' if by_panel else 'pixels'} shared"
        packs = [pack(w, width, planes, threads)]
        return Prepared(emit, 8 * FIELDS * team, packs, in_place, flops, detail)


def need_worth(fixed: bool, windows: Windows, large: bool) -> None:
    """The rule between these tiles and oneDNN's, of channels-last images and more than one vector
    of outputs (`accepts`). Raises Declined where oneDNN's are as fast or faster: in a window of
    many taps that lie close together, the activation, which is a pass of its own there, costs
    least; and weights that change would have to be packed at each step.

    large: the weight is so much larger than the images that reading it from memory is a good part
           of the time
    """
    if not fixed:
        raise Declined("the weight changes at each step")
    if prod(windows.kernel) > 1 and set(windows.stride) == {1} and not large:
        raise Declined("windows that overlap much")


def walkers(pixels: Pixels, vectors: int, kinds: Sequence[bool]) -> list[NativeFunction | None]:
    """By the pixels of a tile what walks such tiles, if blocks are made of them: first those of
    full panels, then those of cut ones.

    kinds: whether there are panels of each kind
    """
    most = PIXELS[vectors]
    counts = pixels.blocks[:, conv_pixels.PIXELS]
    wanted = {*(counts % most).tolist(), *([most] if counts.max(initial=0) >= most else [])} - {0}
    return [
        jit.compile_source(tiles(m, vectors, bool(cut)), "tiles") if some and m in wanted else None
        for cut, some in enumerate(kinds)
        for m in range(most + 1)
    ]


def lies_last(x: Array) -> bool:
    """Whether the image's channels lie innermost."""
    return same_memory(x.shape, x.strides, strides_of(x.shape, LAST))


def shares(pixels: Pixels, panels: int, threads: int, by_panel: bool) -> list[int]:
    """For each thread: its blocks, its panels (from, to)."""
    count = len(pixels.blocks)
    if by_panel:
        cuts = [panels * t // threads for t in range(threads + 1)]
        return [n for a, b in pairwise(cuts) for n in (0, count, a, b)]
    total = np.cumsum(pixels.costs)
    wanted = total[-1] * np.arange(1, threads) / threads
    inner = np.searchsorted(total - pixels.costs / 2, wanted)
    cuts = [0, *map(int, inner), count]
    return [n for a, b in pairwise(cuts) for n in (a, b, 0, panels)]


def _chunk(x: Array, out: Array, pixels: Pixels) -> int:
    """Blocks that go over a panel one after the other: what they see stays in the second cache."""
    count = out.size // out.shape[1]
    seen = x.nbytes / count * pixels.blocks[:, conv_pixels.PIXELS].max()
    return max(int(INPUT_BYTES / seen), 1)


def _parts(x: Array, w: Array, windows: Windows, width: int, planes: int) -> list[int]:
    """Rows of taps in all and in a part of a panel, numbers of a row in a part; the steps from row
    to row of taps in the input and in a panel, in bytes; planes, and the steps between them."""
    channels = x.shape[1] // planes
    row_bytes = w.shape[3] * channels * width * 4
    run_x = windows.dilation[0] * x.shape[3] * channels * 4
    if planes > 1:
        steps = [x.shape[2] * x.shape[3] * 4, w.shape[2] * row_bytes]
        return [w.shape[2], w.shape[2], w.shape[3], run_x, row_bytes, planes, *steps]
    some_rows, some = max(PANEL_BYTES // row_bytes, 1), max(PANEL_BYTES // (4 * width), 1)
    return [w.shape[2], some_rows, some, run_x, row_bytes, 1, 0, 0]


def _pixels(
    x: Array, out: Array, windows: Windows, width: int, planes: int, threads: int
) -> Pixels:
    """The blocks of all pixels; panels have `width` channels."""
    n, channels, high, wide = x.shape
    outs, *sizes = out.shape[1:]
    count, tile = n * prod(sizes), PIXELS[width // WIDTH]
    fits = max(INPUT_BYTES // (4 * channels), tile)
    if dense(windows) and planes == 1:
        blocks = -(-count // (fits * threads)) * threads
        return conv_pixels.dense(count, (channels, outs), -(-count // blocks))
    limit = max(min(BLOCK, fits, count // (UNITS * threads)) // tile * tile, 2 * tile)
    rows, columns = (
        conv_pixels.groups(
            x.shape[2 + i],
            sizes[i],
            windows.kernel[i],
            windows.stride[i],
            int(windows.pads[i][0]),
            windows.dilation[i],
        )
        for i in (0, 1)
    )
    source = Plane(high, wide, channels // planes, planes)
    tap = source.channels * width * 4
    most = -(-LIST // prod(sizes)), limit
    return conv_pixels.table(rows, columns, source, Plane(sizes[0], sizes[1], outs), tap, n, most)


def dense(windows: Windows) -> bool:
    """Whether output pixels see one input pixel each, in the same order."""
    plain = all(p == (0, 0) for p in windows.pads)
    return windows.kernel == windows.stride == (1, 1) and plain


def pack(weight: Array, width: int, planes: int, threads: int) -> Pack:
    """A weight [O, I, rows, columns] as [panel, tap, I, width], the last panel filled up.

    For planes it is [panel, I, tap, width].
    """
    outs, ins, taps = *weight.shape[:2], prod(weight.shape[2:])
    if planes > 1:
        ins, taps = 1, ins * taps
    full, rest = divmod(outs, width)
    one = taps * ins * width
    inner = (ins * width, width, 1)
    steps = (1, taps, ins * taps)
    moves = []
    if full:
        source, target = Part((width * ins * taps, *steps)), Part((one, *inner))
        moves.append(copy_part((full, taps, ins, width), source, target, 4, threads))
    fill = fill_part((one,), _ZERO, Part((1,), full * one), threads)
    if rest:
        source, target = Part(steps, full * width * ins * taps), Part(inner, full * one)
        moves.append(copy_part((taps, ins, rest), source, target, 4, threads))

    def emit(address: int, copy: int) -> list[Call]:
        before = fill(copy) if rest else []
        return [*before, *(call for move in moves for call in move(address, copy))]

    return Pack(1, ("pixel panels", width, planes), -(-outs // width) * one * 4, emit)


register(Conv())
