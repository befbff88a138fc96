"""Register tiles of a convolution: some pixels times a panel of output channels, with the bias, a
residual and the bounds of an activation applied before the result leaves the registers.

The pixels of a tile lie anywhere: each has an offset in the input, where its first tap is, and one
in the output. So all pixels that see the same taps can be put together, whatever row or image they
are of, and nothing is padded. Where channels lie innermost, the taps of a kernel's row are one run
of numbers, and a table says how long it is and how many rows there are; of an image whose channels
are planes, the same for each plane.

`NAMESPACE` has `pixel_tile_M_V` for M pixels and V vectors of channels, and `cut_pixel_tile_M_V`,
which stores only the first so many channels; for bfloat16 they begin with `pair_`. Offsets are in
bytes.

Of bfloat16 two numbers are multiplied at a time: runs are of pairs, and a row of weights has a pair
of each channel. Sums and bias are float32.
"""

from __future__ import annotations

from collections.abc import Callable
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
    SINGLE,
    START,
    tile_name,
)
from noria.kernels.numba.expr import F32, I16, I32, I64
from noria.kernels.numba.intrinsics import fixed
from noria.kernels.numba.lanes import (
    INDEX,
    LANES,
    HalfLanes,
    Lanes,
    Values,
    at,
    bounded,
    bounds,
    choice,
    constant,
    dot,
    fma,
    loop,
    pointer,
    prefetch,
    splat,
    zeros,
)
from noria.kernels.numba.tile_sizes import WIDTH

LINE = 64  # bytes


def _tile(pixels: int, vectors: int, cut: bool, half: bool) -> Any:
    """tile(x, w, out, offsets, table): offsets are int64 pairs (input, output)."""

    def emit(b: ir.IRBuilder, args: Values) -> None:
        x, w, out, offsets, table = args
        fields = [b.load(pointer(b, at(b, table, 8 * i), I64)) for i in range(PLANE_W + 1)]
        pairs = [b.load(pointer(b, at(b, offsets, 8 * i), I64)) for i in range(2 * pixels)]
        columns = fields[CHANNELS] if cut else None
        lanes = (HalfLanes if half else Lanes)(b, vectors, columns)
        places = pairs[1::2]
        sums = zeros(pixels * vectors)
        if half:  # products take half the time, too short to wait for memory first
            _ask(b, lanes, fields[START], places)
        else:
            sums = _added(b, lanes, fields[START], places, sums)
        sums = _biased(b, Lanes(b, vectors, columns), fields[BIAS], sums)
        single = b.load(pointer(b, at(b, table, 8 * SINGLE), I64)) if half else None
        inputs = [b.add(x, p) for p in pairs[::2]]
        sums = _products(b, fields, inputs, w, sums, vectors, single)
        if half:
            sums = _added(b, lanes, fields[START], places, sums)
        last = b.icmp_signed("!=", fields[LAST], constant(0))
        sums = choice(b, last, sums, lambda: bounded(b, *bounds(b, table, (LOW, HIGH)), sums))
        for i, place in enumerate(places):
            lanes.store(sums[i * vectors : (i + 1) * vectors], b.add(out, place))

    return fixed(f"pixel_tile_{pixels}_{vectors}", types.void, [types.int64] * 5, emit)


def _ask(b: ir.IRBuilder, lanes: Lanes, start: ir.Value, places: Values) -> None:
    """Asks for what is added when the products are done, if there is something.

    Asking for the output too makes tiles that write to memory up to a quarter slower.
    """

    def ask() -> Values:
        for place in places:
            for offset in range(0, lanes.count * lanes.size * WIDTH, LINE):
                prefetch(b, at(b, b.add(start, place), offset))
        return []

    choice(b, b.icmp_signed("!=", start, constant(0)), [], ask)


def _added(b: ir.IRBuilder, lanes: Lanes, start: ir.Value, places: Values, sums: Values) -> Values:
    """The sums, with what stands at the places of the output's pixels in another array like it."""

    def more() -> Values:
        old = [v for place in places for v in lanes.load(b.add(start, place))]
        return [b.fadd(s, o) for s, o in zip(sums, old, strict=True)]

    return choice(b, b.icmp_signed("!=", start, constant(0)), sums, more)


def _biased(b: ir.IRBuilder, lanes: Lanes, bias: ir.Value, sums: Values) -> Values:
    def added() -> Values:
        row = lanes.load(bias)
        return [b.fadd(s, row[i % lanes.count]) for i, s in enumerate(sums)]

    return choice(b, b.icmp_signed("!=", bias, constant(0)), sums, added)


def _products(
    b: ir.IRBuilder,
    fields: Values,
    pixels: Values,
    w: ir.Value,
    sums: Values,
    vectors: int,
    single: ir.Value | None,
) -> Values:
    """The sums with all taps added: runs of numbers that lie side by side in x and in w.

    single: of pairs, whether a number follows the pairs of a run
    """
    lanes = Lanes(b, vectors)
    multiply = fma if single is None else dot
    line = 4 * WIDTH * vectors

    def onto(at_x: ir.Value, row: Values, sums: Values, one: Callable[..., ir.Value]) -> Values:
        after = []
        for i, pixel in enumerate(pixels):
            x = splat(b, one(b, b.add(pixel, at_x)))
            after += [multiply(b, x, row[v], sums[i * vectors + v]) for v in range(vectors)]
        return after

    def number(at: Values, sums: Values) -> Values:
        at_x, at_w = at
        prefetch(b, b.add(fields[AHEAD], b.lshr(at_w, fields[SHIFT])))
        return onto(at_x, lanes.load(at_w), sums, _word)

    def run(at: Values, sums: Values) -> Values:
        steps = constant(4), constant(line)
        sums = loop(b, fields[COUNT], list(zip(at, steps, strict=True)), sums, number)
        if single is None:
            return sums

        def rest() -> Values:
            at_x, at_w = (b.add(a, b.mul(s, fields[COUNT])) for a, s in zip(at, steps, strict=True))
            return onto(at_x, [_low(b, v) for v in lanes.load(at_w)], sums, _half)

        return choice(b, b.icmp_signed("!=", single, constant(0)), sums, rest)

    def plane(at: Values, sums: Values) -> Values:
        steps = fields[RUN_X], fields[RUN_W]
        return loop(b, fields[RUNS], list(zip(at, steps, strict=True)), sums, run)

    planes = [(constant(0), fields[PLANE_X]), (w, fields[PLANE_W])]
    return loop(b, fields[PLANES], planes, sums, plane)


def _word(b: ir.IRBuilder, address: ir.Value) -> ir.Value:
    """A float32, or a pair of bfloat16, which may lie anywhere."""
    return b.load(pointer(b, address, F32), align=2)


def _half(b: ir.IRBuilder, address: ir.Value) -> ir.Value:
    """A pair of a bfloat16 and 0."""
    return b.bitcast(b.zext(b.load(pointer(b, address, I16), align=2), I32), F32)


def _low(b: ir.IRBuilder, pairs: ir.Value) -> ir.Value:
    """The pairs without their second numbers: of another tap, they could be infinite."""
    halves = b.and_(b.bitcast(pairs, INDEX), ir.Constant(INDEX, [0xFFFF] * WIDTH))
    return b.bitcast(halves, LANES)


NAMESPACE: dict[str, Any] = {
    tile_name(m, vectors, cut, half): _tile(m, vectors, cut, half)
    for vectors, most in PIXELS.items()
    for m in range(1, most + 1)
    for cut in (False, True)
    for half in (False, True)
}
