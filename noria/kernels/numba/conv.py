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

from collections.abc import Sequence
from math import prod

from noria.core.flags import flags
from noria.core.machine import caches
from noria.ir.program import Operator
from noria.kernels.call import Call
from noria.kernels.numba import conv_pixels
from noria.kernels.numba.conv_panels import Panel
from noria.kernels.numba.conv_pixels import Pixels
from noria.kernels.numba.conv_sizes import PIXELS, shape
from noria.kernels.numba.conv_walk import INPUT_BYTES, Walk, all_pixels
from noria.kernels.numba.lane_bounds import BOUNDS, bits
from noria.kernels.numba.launch import need, need_vectors
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

LARGE_PANEL = caches().second * 5 // 8  # of a panel that is not used in parts
MEMORY = 16  # how much larger than its images a weight must be for reading it to matter most
SMALL = 16  # how much larger than a weight its images must be for any way to pack it to cost little
FEW = 4  # channels of an image that is read in planes


class Conv(Kernel):
    """`conv2d` and `fused_conv2d` without groups."""

    name = "numba:conv"
    ops = ("conv2d", "fused_conv2d")
    priority = 10  # without groups, more than one vector of outputs only

    def accepts(self, op: Operator) -> None:
        need_tiles(op)
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
        threads, half = bound.threads, x.dtype == "bfloat16"
        cut = shape(out.size // out.shape[1], out.shape[1], threads, half)
        panel = Panel.of(w, cut[0] * WIDTH, planes_of(x))
        images = x.nbytes + out.nbytes
        if panel.planes == 1:
            large = w.nbytes > MEMORY * images
            free = bound.fixed[1] or SMALL * w.nbytes <= images
            quick = free or panel.turned(w) is not None
            need_worth(bound.fixed[1], quick, windows, large or half)
        need_cached(panel)
        walk = walk_of(x, out, windows, panel, cut[1], threads)
        flops = 2.0 * out.size * prod(w.shape[1:])
        limits = [bits(n) for n in BOUNDS[bound.attrs.get("activation")]]
        moved = sum(a.nbytes for a in (*bound.inputs, out) if a is not None)

        def emit(ins: list[int], outs: list[int], packs: list[int], scratch: int) -> list[Call]:
            addresses = [ins[0], packs[0], *[*ins[2:], 0, 0][:2], outs[0], scratch]
            return [walk.call(self.name, addresses, limits, moved, int(flops))]

        in_place = ((0, 3),) if len(rest) > 1 and rest[1] is not None else ()
        packs = [panel.pack(w, threads)]
        return Prepared(emit, walk.scratch, packs, in_place, flops, walk.detail)


def need_tiles(op: Operator) -> None:
    """Raises Declined for a convolution or gradient by the input that no register tile makes: in
    groups, of other dtypes, or where products may be less than exact."""
    _need_dtypes(op)
    if op.attrs["groups"] != 1:
        raise Declined("in groups")
    if flags.fpmath != "strict":
        raise Declined(f"products may be '{flags.fpmath}'")


def _need_dtypes(op: Operator) -> None:
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


def need_cached(panel: Panel) -> None:
    """Raises Declined for one of bfloat16 that is too large: it is not used in parts."""
    if panel.size == 2 and panel.nbytes > LARGE_PANEL:
        raise Declined("a panel of the weight leaves the second cache")


def planes_of(x: Array) -> int:
    """Into how many planes the channels of an image are apart: 1 if they lie innermost."""
    return 1 if lies_last(x) else x.shape[1]


def walk_of(
    x: Array, out: Array, windows: Windows, panel: Panel, by_panel: bool, threads: int
) -> Walk:
    """The walk of a convolution of x by `windows`. by_panel: threads share the panels."""
    pixels = _pixels(x, out, windows, panel, 1 if by_panel else threads)
    run_x = windows.dilation[0] * x.shape[3] * x.shape[1] // panel.planes * panel.size
    return Walk(x, out, panel, pixels, run_x, by_panel, threads)


def lies_last(x: Array) -> bool:
    """Whether the image's channels lie innermost."""
    return same_memory(x.shape, x.strides, strides_of(x.shape, LAST))


def _pixels(x: Array, out: Array, windows: Windows, panel: Panel, threads: int) -> Pixels:
    """The blocks of all pixels."""
    (n, channels), (outs, *sizes) = x.shape[:2], out.shape[1:]
    if dense(windows) and panel.planes == 1:
        count, size = n * prod(sizes), panel.size
        fits = max(INPUT_BYTES // (size * channels), PIXELS[panel.width // WIDTH])
        blocks = -(-count // (fits * threads)) * threads
        return conv_pixels.dense(count, (channels, outs), -(-count // blocks), size)
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
    return all_pixels(x, out, panel, rows, columns, threads)


def dense(windows: Windows) -> bool:
    """Whether output pixels see one input pixel each, in the same order."""
    plain = all(p == (0, 0) for p in windows.pads)
    return windows.kernel == windows.stride == (1, 1) and plain


register(Conv())
