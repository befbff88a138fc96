"""Gradients of convolutions by their input, channels-last, by the register tiles of `conv.py`.

A number of the gradient is a sum over the windows that see its pixel. With a stride only those taps
see it that are a multiple of the stride from one of them; of the panels, which are packed at each
step, these lie side by side, the last one first, as the windows do. So pixels that the same taps
see are one class, which is walked like those of a convolution: no zeros are multiplied, and nothing
is scattered or turned.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod

from noria.ir.program import Operator
from noria.kernels.call import Call
from noria.kernels.numba import conv_pixels
from noria.kernels.numba.conv import need_cached, need_tiles
from noria.kernels.numba.conv_panels import Panel
from noria.kernels.numba.conv_pixels import Pixels
from noria.kernels.numba.conv_sizes import shape
from noria.kernels.numba.conv_walk import Walk, all_pixels
from noria.kernels.numba.lane_bounds import UNBOUND
from noria.kernels.numba.tile_sizes import WIDTH
from noria.kernels.numba.weight_panels import Panels, pack
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


class InputGrad(Kernel):
    """conv2d_input_grad without groups and dilation, of several taps."""

    name = "numba:conv_input_grad"
    ops = ("conv2d_input_grad",)
    priority = 10  # several taps, vectors full of channels only

    def accepts(self, op: Operator) -> None:
        need_tiles(op)
        ins, *kernel = op.operands[1].shape[1:]
        if all(k == 1 for k in kernel):
            raise Declined("one tap")
        if not isinstance(ins, int) or ins % WIDTH or ins <= WIDTH:
            raise Declined(f"channels do not fill some vectors of {WIDTH}")

    def layout(self, op: Operator, given: Sequence[str | None]) -> Layouts:
        wanted: list[str | None] = [None if v is None else PLAIN for v in op.inputs]
        wanted[0] = LAST
        return wanted, [LAST]

    def bind(self, bound: BoundOp) -> Prepared:
        g, w = bound.inputs[:2]
        out = bound.outputs[0]
        assert g is not None and w is not None
        outs, ins, *kernel = w.shape
        windows = slide(out.shape[2:], kernel, *(bound.attrs[k] for k in HOW))
        if set(windows.dilation) != {1}:
            raise Declined("dilated")
        threads, half = bound.threads, g.dtype == "bfloat16"
        need_worth(windows, half)
        vectors, by_panel = shape(out.size // ins, ins, threads, half)
        panel = Panel(vectors * WIDTH, kernel[0], kernel[1], outs, 2 if half else 4, 1)
        panels = Panels(g.dtype, outs, ins, prod(kernel), panel.width, True, _order(windows))
        if not panels.possible:
            raise Declined("packing the weight would cost much")
        need_cached(panel)
        pixels = _pixels(g, out, windows, panel, 1 if by_panel else threads)
        walk = Walk(g, out, panel, pixels, g.shape[3] * outs * panel.size, by_panel, threads)
        ops, moved = 2 * g.size * prod(w.shape[1:]), g.nbytes + w.nbytes + out.nbytes

        def emit(in_: list[int], out_: list[int], packs: list[int], scratch: int) -> list[Call]:
            addresses = [in_[0], packs[0], 0, 0, out_[0], scratch]
            return [walk.call(self.name, addresses, UNBOUND, moved, ops)]

        key = "turned pixel panels", panel.width, windows.stride
        return Prepared(emit, walk.scratch, [pack(1, key, panels, threads)], (), ops, walk.detail)


HOW = ("stride", "padding", "dilation")


def need_worth(windows: Windows, half: bool) -> None:
    """The rule between these tiles and oneDNN's, as measured. Raises Declined for the latter.

    half: of bfloat16, where oneDNN's are slower in windows that lie close together too
    """
    if set(windows.stride) == {1} and not half:
        raise Declined("windows that overlap much")


def _order(windows: Windows) -> tuple[int, ...]:
    """The taps as they lie in a panel."""
    axes = zip(windows.kernel, windows.stride, strict=True)
    rows, columns = (conv_pixels.tap_order(*axis) for axis in axes)
    return tuple(r * windows.kernel[1] + c for r, c in product(rows, columns))


def _pixels(g: Array, out: Array, windows: Windows, panel: Panel, threads: int) -> Pixels:
    """The blocks of all pixels of the result."""
    rows, columns = (
        conv_pixels.turned_groups(
            out.shape[2 + i],
            g.shape[2 + i],
            windows.kernel[i],
            windows.stride[i],
            int(windows.pads[i][0]),
        )
        for i in (0, 1)
    )
    return all_pixels(g, out, panel, rows, columns, threads)


register(InputGrad())
