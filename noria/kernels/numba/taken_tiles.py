"""Sums over the elements that a max-pooling took, in registers.

`NAMESPACE` has `taken_V_U(patches, grad, places, to, table)`: for U channels of the gradient of a
max-pooling side by side, V vectors of the patch that belongs to the element each window took of
this channel, times the channel's gradient, summed over rows of windows and added to what lies at
`to`. `taken_sizes.py` has the table.
"""

from __future__ import annotations

from itertools import product
from typing import Any

from llvmlite import ir
from numba.core import types

from noria.kernels.numba.expr import F32, I8, I64
from noria.kernels.numba.intrinsics import fixed
from noria.kernels.numba.lanes import Lanes, Values, at, constant, fma, loop, pointer, splat
from noria.kernels.numba.taken_sizes import (
    ACROSS,
    CHANNEL,
    CHANNELS,
    DOWN,
    MOST_CHANNELS,
    OFFSETS,
    SUMS,
    WINDOWS_ACROSS,
    WINDOWS_DOWN,
)


class _Taken:
    """One tile."""

    def __init__(self, b: ir.IRBuilder, args: Values, vectors: int, channels: int) -> None:
        self.b, self.channels, self.lanes = b, channels, Lanes(b, vectors)
        self.patches, self.grad, self.places, self.to, self.table = args
        self.field = [b.load(pointer(b, at(b, self.table, 8 * i), I64)) for i in range(OFFSETS)]

    def emit(self) -> None:
        b, field, count = self.b, self.field, self.lanes.count
        steps = [b.mul(field[CHANNEL], constant(u)) for u in range(self.channels)]
        to = [b.add(self.to, step) for step in steps]
        sums = [v for address in to for v in self.lanes.load(address)]
        row = b.mul(field[CHANNELS], field[WINDOWS_ACROSS])
        moving = [(self.patches, field[DOWN]), (self.grad, b.mul(row, constant(4)))]
        sums = loop(b, field[WINDOWS_DOWN], [*moving, (self.places, row)], sums, self.row)
        for u, address in enumerate(to):
            self.lanes.store(sums[u * count : (u + 1) * count], address)

    def row(self, begin: Values, sums: Values) -> Values:
        """The sums with a row of windows added."""
        channels = self.field[CHANNELS]
        steps = [self.field[ACROSS], self.b.mul(channels, constant(4)), channels]
        moving = list(zip(begin, steps, strict=True))
        return loop(self.b, self.field[WINDOWS_ACROSS], moving, sums, self.window)

    def window(self, begin: Values, sums: Values) -> Values:
        b, (patches, grad, places) = self.b, begin
        after: Values = []
        for u in range(self.channels):
            patch = self.lanes.load(b.add(patches, self.offset(at(b, places, u))))
            g = splat(b, b.load(pointer(b, at(b, grad, 4 * u), F32), align=4))
            before = sums[len(after) : len(after) + len(patch)]
            after += [fma(b, g, v, s) for v, s in zip(patch, before, strict=True)]
        return after

    def offset(self, place: ir.Value) -> ir.Value:
        """Bytes from the first element of a window to the one it took."""
        number = self.b.zext(self.b.load(pointer(self.b, place, I8)), I64)
        entry = self.b.add(self.table, self.b.mul(number, constant(8)))
        return self.b.load(pointer(self.b, at(self.b, entry, 8 * OFFSETS), I64))


def _taken(vectors: int, channels: int) -> Any:
    def emit(b: ir.IRBuilder, args: Values) -> None:
        _Taken(b, args, vectors, channels).emit()

    return fixed(f"taken_{vectors}_{channels}", types.void, [types.int64] * 5, emit)


NAMESPACE: dict[str, Any] = {
    f"taken_{v}_{u}": _taken(v, u)
    for v, u in product(range(1, SUMS + 1), range(1, MOST_CHANNELS + 1))
    if v * u <= SUMS
}
