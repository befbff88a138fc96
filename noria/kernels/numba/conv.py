"""Convolutions, channels-last, by register tiles: of weights that never change, and, where windows
have several taps, of those that do.

A result is made pixel by pixel (`conv_pixels.py`), each with a panel of output channels at a time,
from weights packed in panels. Nothing of the input is copied or padded, taps beyond a border are
not computed, and bias, residual and activation cost no pass over memory.

Blocks of pixels are so small that their part of the input stays in the second cache while the
panels go by; a panel too large for it is used in parts. Threads share the blocks, or where pixels
are few the panels. While a part of a panel is used, the next one is asked for.

Of bfloat16, pairs of numbers are multiplied, where the CPU has no matrix units for more; sums are
float32, and are rounded once, with bias, residual and activation.

Images of a few channels, which mostly are what a network is fed with, are read as they come, plane
by plane: to bring them into the channels-last order would take longer than a row of tiles.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import pairwise
from math import prod

import numpy as np

from noria.core.flags import flags
from noria.core.machine import caches
from noria.ir.program import Operator
from noria.kernels.call import Call
from noria.kernels.numba import conv_pixels, jit
from noria.kernels.numba.conv_panels import Panel
from noria.kernels.numba.conv_pixels import Pixels, Plane
from noria.kernels.numba.conv_sizes import FIELDS, PIXELS, shape
from noria.kernels.numba.conv_source import conv, tiles
from noria.kernels.numba.jit import NativeFunction
from noria.kernels.numba.lane_bounds import BOUNDS, UNBOUND, bits
from noria.kernels.numba.launch import launch, need, need_vectors
from noria.kernels.numba.parallel import thread_count
from noria.kernels.numba.tile_sizes import PAIRS, WIDTH
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
    same_memory,
    strides_of,
)
from noria.ops.window import Windows, per_axis, slide

PANEL_BYTES = caches().second // 2  # of a part of a panel that is used for all pixels of a block
LARGE_PANEL = caches().second * 5 // 8  # of a panel that is not used in parts
INPUT_BYTES = caches().second // 4  # of the input that a block should need at most
LIST = 768  # pixels in a list of pairs, at least: small images share one
MEMORY = 16  # how much larger than its images a weight must be for reading it to matter most
SMALL = 16  # how much larger than a weight its images must be for any way to pack it to cost little
FEW = 4  # channels of an image that is read in planes
BLOCK = 96  # pixels of a block that sees several taps
UNITS = 12  # such blocks for each thread, where there are pixels enough, so that all end together


class Conv(Kernel):
    """`conv2d` and `fused_conv2d` without groups."""

    name = "numba:conv"
    ops = ("conv2d", "fused_conv2d")
    priority = 10  # without groups, more than one vector of outputs only

    def accepts(self, op: Operator) -> None:
        need_dtypes(op)
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
        float32 = op.operands[0].dtype == "float32"
        few = float32 and isinstance(channels, int) and 1 < channels <= FEW
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
        threads = bound.threads
        half = x.dtype == "bfloat16"
        vectors, by_panel = shape(out.size // out.shape[1], out.shape[1], threads, half)
        width = vectors * WIDTH
        panel = Panel.of(w, width, planes)
        images = x.nbytes + out.nbytes
        if planes == 1:
            large = w.nbytes > MEMORY * images
            free = bound.fixed[1] or SMALL * w.nbytes <= images
            quick = free or panel.turned(w) is not None
            need_worth(bound.fixed[1], quick, windows, large or half)
        if half and panel.nbytes > LARGE_PANEL:
            raise Declined("a panel of the weight leaves the second cache")
        pixels = _pixels(x, out, windows, panel, planes, 1 if by_panel else threads)
        panels = -(-out.shape[1] // width)
        shared = np.array(shares(pixels, panels, threads, by_panel), np.int64)
        numbers = [threads, out.shape[1], panel.nbytes]
        chunk = len(pixels.blocks) if by_panel else _chunk(x, out, pixels)
        numbers += [chunk, *_parts(x, w, windows, panel, planes)]
        flops = 2.0 * out.size * prod(w.shape[1:])
        kinds = out.shape[1] >= width, out.shape[1] % width != 0
        limits = [bits(n) for n in BOUNDS[bound.attrs.get("activation")]]

        def emit(ins: list[int], outs: list[int], packs: list[int], scratch: int) -> list[Call]:
            arrays = [pixels.blocks, pixels.pairs, shared]
            table = [ins[0], packs[0], *[*ins[2:], 0, 0][:2], outs[0], scratch]
            walks = array(
                "q", [f.address if f else 0 for f in walkers(pixels, vectors, kinds, half)]
            )
            table += [*(a.ctypes.data for a in arrays), *numbers, 4 * width, PIXELS[vectors]]
            table += [walks.buffer_info()[0], *limits, int(limits != UNBOUND)]
            moved = sum(a.nbytes for a in (*bound.inputs, out) if a is not None)
            work = {"threads": threads, "bytes": moved, "ops": int(flops)}
            call = launch(self.name, conv(half), "conv", table, **work)
            call.keep = (call.keep, arrays, walks)
            return [call]

        team = max(threads, thread_count())
        in_place = ((0, 3),) if len(rest) > 1 and rest[1] is not None else ()
        detail = f"{vectors} vectors, {'panels' if by_panel else 'pixels'} shared"
        packs = [panel.pack(w, threads)]
        return Prepared(emit, 8 * FIELDS * team, packs, in_place, flops, detail)


def need_dtypes(op: Operator) -> None:
    """Raises Declined unless all is float32, or bfloat16 but for the bias, for instructions on
    pairs."""
    if op.operands[0].dtype == "float32":
        need(op, ("float32",))
        return
    need(op, ("bfloat16",), (0, 1, 3))
    need(op, ("float32",), (2,))
    if op.outputs[0].dtype != "bfloat16":
        raise Declined("the result is not rounded")
    need_vectors(op)
    if not PAIRS:
        raise Declined("the CPU multiplies no bfloat16")


def need_worth(fixed: bool, quick: bool, windows: Windows, large: bool) -> None:
    """The rule between these tiles and oneDNN's, of channels-last images and more than one vector
    of outputs (`accepts`). Raises Declined where oneDNN's are as fast or faster: in a window of
    many taps that lie close together, the activation, which is a pass of its own there, costs
    least; and of one tap, with weights that change, they have little to read twice.

    quick: packing the weight, which weights that change need at each step, costs little
    large: the weight is so much larger than the images that reading it from memory is a good part
           of the time, or all is bfloat16, where oneDNN's windows are slower too
    """
    taps = prod(windows.kernel)
    if not fixed and (taps == 1 or not quick):
        raise Declined("the weight changes at each step")
    if taps > 1 and set(windows.stride) == {1} and not large:
        raise Declined("windows that overlap much")


def walkers(
    pixels: Pixels, vectors: int, kinds: Sequence[bool], half: bool
) -> list[NativeFunction | None]:
    """By the pixels of a tile what walks such tiles, if blocks are made of them: first those of
    full panels, then those of cut ones.

    kinds: whether there are panels of each kind; half: of bfloat16
    """
    most = PIXELS[vectors]
    counts = pixels.blocks[:, conv_pixels.PIXELS]
    wanted = {*(counts % most).tolist(), *([most] if counts.max(initial=0) >= most else [])} - {0}
    return [
        jit.compile_source(tiles(m, vectors, cut, half), "tiles") if some and m in wanted else None
        for cut, some in zip((False, True), kinds, strict=True)
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


def _parts(x: Array, w: Array, windows: Windows, panel: Panel, planes: int) -> list[int]:
    """Rows of taps in all and in a part of a panel, numbers of a row in a part; the steps from row
    to row of taps in the input and in a panel, in bytes; planes, and the steps between them."""
    rows, row_bytes, line = w.shape[2], panel.row_bytes, panel.width * 4
    run_x = windows.dilation[0] * x.shape[3] * x.shape[1] // planes * panel.size
    if planes > 1:
        steps = [x.shape[2] * x.shape[3] * 4, rows * row_bytes]
        return [rows, rows, w.shape[3], run_x, row_bytes, planes, *steps]
    if panel.size == 2:  # sums of a part would be rounded
        return [rows, rows, max(row_bytes // line, 1), run_x, row_bytes, 1, 0, 0]
    some_rows, some = max(PANEL_BYTES // row_bytes, 1), max(PANEL_BYTES // line, 1)
    return [rows, some_rows, some, run_x, row_bytes, 1, 0, 0]


def _pixels(
    x: Array, out: Array, windows: Windows, panel: Panel, planes: int, threads: int
) -> Pixels:
    """The blocks of all pixels."""
    n, channels, high, wide = x.shape
    outs, *sizes = out.shape[1:]
    count, tile = n * prod(sizes), PIXELS[panel.width // WIDTH]
    size = panel.size
    fits = max(INPUT_BYTES // (size * channels), tile)
    if dense(windows) and planes == 1:
        blocks = -(-count // (fits * threads)) * threads
        return conv_pixels.dense(count, (channels, outs), -(-count // blocks), size)
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
    source = Plane(high, wide, channels // planes, planes, size)
    target = Plane(sizes[0], sizes[1], outs, size=size)
    most = -(-LIST // prod(sizes)), limit
    return conv_pixels.table(rows, columns, source, target, panel.tap, n, most)


def dense(windows: Windows) -> bool:
    """Whether output pixels see one input pixel each, in the same order."""
    plain = all(p == (0, 0) for p in windows.pads)
    return windows.kernel == windows.stride == (1, 1) and plain


register(Conv())
