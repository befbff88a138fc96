"""What windows took, spread over an image with the weights of a convolution, in registers.

`NAMESPACE` has `spread_R_V(weights, grad, places, to, table)`: for each window of a row, R rows of
V vectors of the image, at `to` and on, get the sum over some channels of the channel's gradient
times its weights, moved by the place the window took. `spread_sizes.py` has the table.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types

from noria.kernels.numba.expr import F32, I8, I64
from noria.kernels.numba.intrinsics import fixed
from noria.kernels.numba.lanes import Lanes, Values, at, constant, fma, loop, pointer, splat
from noria.kernels.numba.spread_sizes import (
    CHANNEL,
    CHANNELS,
    COUNT,
    LAST,
    LINE,
    MOST_ROWS,
    OFFSETS,
    ROW,
    STEP,
    WINDOWS,
    vectors_of,
)


class _Spread:
    """One tile. Sums are in the order of rows."""

    def __init__(self, b: ir.IRBuilder, args: Values, rows: int, vectors: int) -> None:
        self.b, self.rows, self.lanes = b, rows, Lanes(b, vectors)
        self.weights, self.grad, self.places, self.to, self.table = args
        self.field = [b.load(pointer(b, at(b, self.table, 8 * i), I64)) for i in range(OFFSETS)]
        self.lines = [b.mul(self.field[LINE], constant(r)) for r in range(rows)]

    def emit(self) -> None:
        b, field = self.b, self.field
        grad_step = b.mul(field[CHANNELS], constant(4))
        moving = [(self.to, field[STEP]), (self.grad, grad_step), (self.places, field[CHANNELS])]
        loop(b, field[WINDOWS], moving, [], self.window)

    def window(self, begin: Values, sums: Values) -> Values:
        b, (to, grad, places) = self.b, begin
        rows = [b.add(to, b.mul(self.field[ROW], constant(r))) for r in range(self.rows)]
        held = [v for row in rows for v in self.lanes.load(row)]
        moving = [(self.weights, self.field[CHANNEL])]
        moving += [(grad, constant(4)), (places, constant(1))]
        held = loop(b, self.field[COUNT], moving, held, self.channel)
        count = self.lanes.count
        for r, row in enumerate(rows):
            self.lanes.store(held[r * count : (r + 1) * count], row)
        return sums

    def channel(self, begin: Values, sums: Values) -> Values:
        b, (weights, grad, place) = self.b, begin
        g = splat(b, b.load(pointer(b, grad, F32), align=4))
        start, held = b.add(weights, self.offset(place)), iter(sums)
        out: Values = []
        for line in self.lines:
            out += [fma(b, g, w, next(held)) for w in self.lanes.load(b.add(start, line))]
        return out

    def offset(self, place: ir.Value) -> ir.Value:
        """Bytes into the weights of a channel for the element a window took."""
        b, last = self.b, self.field[LAST]
        number = b.zext(b.load(pointer(b, place, I8)), I64)
        number = b.select(b.icmp_unsigned("<", number, last), number, last)
        entry = b.add(self.table, b.mul(number, constant(8)))
        return b.load(pointer(b, at(b, entry, 8 * OFFSETS), I64))


def _spread(rows: int, vectors: int) -> Any:
    def emit(b: ir.IRBuilder, args: Values) -> None:
        _Spread(b, args, rows, vectors).emit()

    return fixed(f"spread_{rows}_{vectors}", types.void, [types.int64] * 5, emit)


NAMESPACE: dict[str, Any] = {
    f"spread_{rows}_{vectors_of(rows)}": _spread(rows, vectors_of(rows))
    for rows in range(1, MOST_ROWS + 1)
}
