"""Tiles of a depthwise convolution of 3 taps a row, channels-last: some pixels of a row of the
output, a vector of channels at a time, with bias and the bounds of an activation.

A column of the input is loaded once for all pixels of the tile that see it, and the sums stay in
registers. A tile at the begin or the end of a row leaves out the tap that lies beyond it; rows of
taps beyond the image are left out by the caller. `NAMESPACE` has

- `depthwise_S_L_R`: PIXELS pixels, windows S columns apart; L, R: 1 where the first tap of the
  first pixel and the last tap of the last one are left out
- `depthwise_pixel`: one pixel, of as many columns of taps as its table says

both as (x, weights, out, table), with x the place of the first tap seen in its first row, even if
its column is left out. Masked forms, `cut_...`, are for the last channels.
"""

from __future__ import annotations

from itertools import product
from typing import Any

from llvmlite import ir
from numba.core import types

from noria.kernels.numba.depthwise_sizes import (
    BIAS,
    BIAS_STEP,
    COLUMNS,
    HIGH,
    LANES,
    LOW,
    OUT_PIXEL,
    PIXELS,
    ROWS,
    STRIDES,
    TAPS,
    VECTORS,
    W_ROW,
    W_TAP,
    X_PIXEL,
    X_ROW,
)
from noria.kernels.numba.expr import I64
from noria.kernels.numba.intrinsics import fixed
from noria.kernels.numba.lanes import (
    Lanes,
    Values,
    at,
    bounded,
    bounds,
    constant,
    fma,
    loop,
    pointer,
)
from noria.kernels.numba.tile_sizes import WIDTH


class _Tile:
    """What all tiles share: the fields of the table, and the loop over vectors of channels."""

    def __init__(self, b: ir.IRBuilder, args: Values, pixels: int, cut: bool) -> None:
        self.b, self.pixels = b, pixels
        self.x, self.w, self.out, table = args
        self.field = [b.load(pointer(b, at(b, table, 8 * i), I64)) for i in range(LANES + 1)]
        self.lanes = Lanes(b, 1, self.field[LANES] if cut else None)
        self.bounds = bounds(b, table, (LOW, HIGH))

    def load(self, address: ir.Value) -> ir.Value:
        return self.lanes.load(address)[0]

    def far(self, base: ir.Value, field: int, count: int) -> ir.Value:
        """base + count strides."""
        return self.b.add(base, self.b.mul(self.field[field], constant(count)))

    def emit(self) -> None:
        step = constant(4 * WIDTH)
        places = [(self.x, step), (self.w, step), (self.out, step)]
        places.append((self.field[BIAS], self.field[BIAS_STEP]))
        loop(self.b, self.field[VECTORS], places, [], lambda at, _: self.vector(*at))

    def vector(self, x: ir.Value, w: ir.Value, out: ir.Value, bias: ir.Value) -> Values:
        """One vector of channels of all pixels."""
        steps = [(x, self.field[X_ROW]), (w, self.field[W_ROW])]
        sums = [self.load(bias)] * self.pixels
        sums = loop(self.b, self.field[ROWS], steps, sums, lambda at, s: self.row(at[0], at[1], s))
        for i, value in enumerate(bounded(self.b, *self.bounds, sums)):
            self.lanes.store([value], self.far(out, OUT_PIXEL, i))
        return []

    def row(self, x: ir.Value, w: ir.Value, sums: Values) -> Values:
        """The sums with a row of taps added."""
        raise NotImplementedError


class _Some(_Tile):
    """PIXELS pixels whose windows overlap."""

    stride, begin, end = 1, 0, 0

    def row(self, x: ir.Value, w: ir.Value, sums: Values) -> Values:
        weights = [self.load(self.far(w, W_TAP, t)) for t in range(TAPS)]
        last = (self.pixels - 1) * self.stride + TAPS - 1
        sums = list(sums)
        for column in range(self.begin, last + 1 - self.end):
            seen = self.load(self.far(x, X_PIXEL, column))
            for i in range(self.pixels):
                tap = column - i * self.stride
                if 0 <= tap < TAPS:
                    sums[i] = fma(self.b, seen, weights[tap], sums[i])
        return sums


class _One(_Tile):
    """A pixel somewhere at the border."""

    def row(self, x: ir.Value, w: ir.Value, sums: Values) -> Values:
        steps = [(x, self.field[X_PIXEL]), (w, self.field[W_TAP])]

        def tap(at: Values, sums: Values) -> Values:
            return [fma(self.b, self.load(at[0]), self.load(at[1]), sums[0])]

        return loop(self.b, self.field[COLUMNS], steps, sums, tap)


def _some(name: str, stride: int, begin: int, end: int, cut: bool) -> Any:
    def emit(b: ir.IRBuilder, args: Values) -> None:
        tile = _Some(b, args, PIXELS, cut)
        tile.stride, tile.begin, tile.end = stride, begin, end
        tile.emit()

    return fixed(name, types.void, [types.int64] * 4, emit)


def _one(name: str, cut: bool) -> Any:
    def emit(b: ir.IRBuilder, args: Values) -> None:
        _One(b, args, 1, cut).emit()

    return fixed(name, types.void, [types.int64] * 4, emit)


def _all() -> dict[str, Any]:
    found = {}
    for prefix, cut in (("", False), ("cut_", True)):
        name = f"{prefix}depthwise_pixel"
        found[name] = _one(name, cut)
        for stride, begin, end in product(STRIDES, (0, 1), (0, 1)):
            name = f"{prefix}depthwise_{stride}_{begin}_{end}"
            found[name] = _some(name, stride, begin, end, cut)
    return found


NAMESPACE: dict[str, Any] = _all()
