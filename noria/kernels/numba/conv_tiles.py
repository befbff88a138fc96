"""Register tiles of a convolution: some pixels times a panel of output channels, with the bias, a
residual and the bounds of an activation applied before the result leaves the registers.

The pixels of a tile lie anywhere: each has an offset in the input, where its first tap is, and one
in the output. So all pixels that see the same taps can be put together, whatever row or image they
are of, and nothing is padded. Where channels lie innermost, the taps of a kernel's row are one run
of numbers, and a table says how long it is and how many rows there are; of an image whose channels
are planes, the same for each plane.

`NAMESPACE` has `pixel_tile_M_V` for M pixels and V vectors of channels, and `cut_pixel_tile_M_V`,
which stores only the first so many channels. Offsets are in bytes.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types

from noria.kernels.numba.conv_sizes import (
    AHEAD,
    BIAS,
    CHANNELS,
    COUNT,
    HIGH,
    LAST,
    LOW,
    PIXELS,
    PLANE_W,
    PLANE_X,
    PLANES,
    RUN_W,
    RUN_X,
    RUNS,
    SHIFT,
    START,
)
from noria.kernels.numba.expr import F32, I64
from noria.kernels.numba.intrinsics import fixed
from noria.kernels.numba.lanes import (
    Lanes,
    Values,
    at,
    bounded,
    bounds,
    choice,
    constant,
    fma,
    loop,
    pointer,
    prefetch,
    splat,
    zeros,
)
from noria.kernels.numba.tile_sizes import WIDTH


def _tile(pixels: int, vectors: int, cut: bool) -> Any:
    """tile(x, w, out, offsets, table): offsets are int64 pairs (input, output)."""

    def emit(b: ir.IRBuilder, args: Values) -> None:
        x, w, out, offsets, table = args
        fields = [b.load(pointer(b, at(b, table, 8 * i), I64)) for i in range(PLANE_W + 1)]
        pairs = [b.load(pointer(b, at(b, offsets, 8 * i), I64)) for i in range(2 * pixels)]
        lanes = Lanes(b, vectors, fields[CHANNELS] if cut else None)
        sums = _start(b, lanes, fields[START], pairs[1::2])
        sums = _biased(b, lanes, fields[BIAS], sums)
        sums = _products(b, fields, [b.add(x, p) for p in pairs[::2]], w, sums, vectors)
        last = b.icmp_signed("!=", fields[LAST], constant(0))
        sums = choice(b, last, sums, lambda: bounded(b, *bounds(b, table, (LOW, HIGH)), sums))
        for i, place in enumerate(pairs[1::2]):
            lanes.store(sums[i * vectors : (i + 1) * vectors], b.add(out, place))

    return fixed(f"pixel_tile_{pixels}_{vectors}", types.void, [types.int64] * 5, emit)


def _start(b: ir.IRBuilder, lanes: Lanes, start: ir.Value, places: Values) -> Values:
    """Zeros, or what stands at the places of the output's pixels in another array like it."""

    def loaded() -> Values:
        return [v for place in places for v in lanes.load(b.add(start, place))]

    nothing = zeros(len(places) * lanes.count)
    return choice(b, b.icmp_signed("!=", start, constant(0)), nothing, loaded)


def _biased(b: ir.IRBuilder, lanes: Lanes, bias: ir.Value, sums: Values) -> Values:
    def added() -> Values:
        row = lanes.load(bias)
        return [b.fadd(s, row[i % lanes.count]) for i, s in enumerate(sums)]

    return choice(b, b.icmp_signed("!=", bias, constant(0)), sums, added)


def _products(
    b: ir.IRBuilder, fields: Values, pixels: Values, w: ir.Value, sums: Values, vectors: int
) -> Values:
    """The sums with all taps added: runs of numbers that lie side by side in x and in w."""
    lanes = Lanes(b, vectors)

    def number(at: Values, sums: Values) -> Values:
        at_x, at_w = at
        prefetch(b, b.add(fields[AHEAD], b.lshr(at_w, fields[SHIFT])))
        row, after = lanes.load(at_w), []
        for i, pixel in enumerate(pixels):
            one = splat(b, b.load(pointer(b, b.add(pixel, at_x), F32), align=4))
            after += [fma(b, one, row[v], sums[i * vectors + v]) for v in range(vectors)]
        return after

    def run(at: Values, sums: Values) -> Values:
        steps = constant(4), constant(4 * WIDTH * vectors)
        return loop(b, fields[COUNT], list(zip(at, steps, strict=True)), sums, number)

    def plane(at: Values, sums: Values) -> Values:
        steps = fields[RUN_X], fields[RUN_W]
        return loop(b, fields[RUNS], list(zip(at, steps, strict=True)), sums, run)

    planes = [(constant(0), fields[PLANE_X]), (w, fields[PLANE_W])]
    return loop(b, fields[PLANES], planes, sums, plane)


def _all() -> dict[str, Any]:
    found = {}
    for vectors, most in PIXELS.items():
        for m in range(1, most + 1):
            found[f"pixel_tile_{m}_{vectors}"] = _tile(m, vectors, False)
            found[f"cut_pixel_tile_{m}_{vectors}"] = _tile(m, vectors, True)
    return found


NAMESPACE: dict[str, Any] = _all()
