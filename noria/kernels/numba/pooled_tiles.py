"""A convolution and the max-pooling behind it, in registers.

`NAMESPACE` has `pooled_E_V_P(x, panel, out, places, table)`: of P windows side by side of E
elements each, the convolution's sums for V vectors of outputs, from a panel that begins with the
biases; then the largest of each window, and which it is, bounded from below. `pooled_sizes.py` has
the table.
"""

from __future__ import annotations

from itertools import product
from typing import Any

from llvmlite import ir
from numba.core import types

from noria.kernels.numba.expr import F32, I8, I32, I64
from noria.kernels.numba.intrinsics import fixed
from noria.kernels.numba.lanes import (
    INDEX,
    Lanes,
    Values,
    at,
    constant,
    fma,
    intrinsic,
    loop,
    pointer,
    splat,
)
from noria.kernels.numba.pooled_sizes import (
    COLUMNS,
    LINE,
    LOW,
    MOST_ELEMENTS,
    OFFSETS,
    OUTS,
    RUN,
    STEP,
    SUMS,
    TAPS,
    windows,
)
from noria.kernels.numba.tile_sizes import VECTORS, WIDTH

_BYTES = ir.VectorType(I8, WIDTH)


class _Pooled:
    """One tile. Sums are in the order of windows, their elements, and vectors."""

    def __init__(self, b: ir.IRBuilder, args: Values, form: tuple[int, int, int]) -> None:
        self.b, (self.elements, self.vectors, self.windows) = b, form
        self.x, self.panel, self.out, self.places, self.table = args
        self.lanes = Lanes(b, self.vectors)
        self.offsets = [self.field(OFFSETS + e) for e in range(self.elements)]
        self.steps = [b.mul(self.field(STEP), constant(p)) for p in range(self.windows)]

    def field(self, number: int) -> ir.Value:
        return self.b.load(pointer(self.b, at(self.b, self.table, 8 * number), I64))

    def emit(self) -> None:
        b, line = self.b, constant(4 * WIDTH * self.vectors)
        run = self.field(RUN)
        sums = self.lanes.load(self.panel) * (self.elements * self.windows)
        starts = [b.add(self.x, offset) for offset in self.offsets]
        moving = [(start, self.field(LINE)) for start in starts]
        moving.append((b.add(self.panel, line), b.mul(run, line)))

        def row(begin: Values, held: Values) -> Values:
            steps = [constant(4)] * self.elements + [line]
            return loop(b, run, list(zip(begin, steps, strict=True)), held, self.number)

        self.finish(loop(b, self.field(TAPS), moving, sums, row))

    def number(self, begin: Values, sums: Values) -> Values:
        """The sums with one number of a row of taps added."""
        b, (*elements, weights) = self.b, begin
        panel, after = self.lanes.load(weights), iter(sums)
        out: Values = []
        for step, element in product(self.steps, elements):
            x = splat(b, b.load(pointer(b, b.add(element, step), F32), align=4))
            out += [fma(b, x, w, next(after)) for w in panel]
        return out

    def finish(self, sums: Values) -> None:
        """Writes the largest of each window and its place."""
        b, outs = self.b, self.field(OUTS)
        below = splat(b, b.load(pointer(b, at(b, self.table, 8 * LOW), F32), align=4))
        masked, each = Lanes(b, self.vectors, self.field(COLUMNS)), self.elements * self.vectors
        assert masked.masks is not None
        for p in range(self.windows):
            mine = sums[p * each : (p + 1) * each]
            found = [self.largest(mine[v :: self.vectors], below) for v in range(self.vectors)]
            skip = b.mul(outs, constant(p))
            masked.store([x for x, _ in found], b.add(self.out, b.mul(skip, constant(4))))
            for v, (_, place) in enumerate(found):
                to = at(b, b.add(self.places, skip), v * WIDTH)
                address = pointer(b, to, _BYTES)
                args = [b.trunc(place, _BYTES), address, ir.Constant(I32, 1), masked.masks[v]]
                intrinsic(b, f"llvm.masked.store.v{WIDTH}i8.p0", ir.VoidType(), args)

    def largest(self, elements: Values, below: ir.Value) -> tuple[ir.Value, ir.Value]:
        """The largest, or the first NaN, at least the bound; and its place, the first of equals."""
        b, value = self.b, elements[0]
        place: ir.Value = ir.Constant(INDEX, [0] * WIDTH)
        for e, x in enumerate(elements[1:], 1):
            more = b.fcmp_unordered(">", x, value)
            taken = b.and_(more, b.fcmp_ordered("ord", value, value))
            value = b.select(taken, x, value)
            place = b.select(taken, ir.Constant(INDEX, [e] * WIDTH), place)
        least = b.fcmp_ordered("<=", value, below)  # then all elements become the bound
        place = b.select(least, ir.Constant(INDEX, [0] * WIDTH), place)
        return b.select(b.fcmp_ordered(">", below, value), below, value), place


def _pooled(form: tuple[int, int, int]) -> Any:
    def emit(b: ir.IRBuilder, args: Values) -> None:
        _Pooled(b, args, form).emit()

    return fixed("pooled_{}_{}_{}".format(*form), types.void, [types.int64] * 5, emit)


_FORMS = [
    (e, v, p)
    for e, v in product(range(1, MOST_ELEMENTS + 1), range(1, VECTORS + 1))
    if e * v <= SUMS
    for p in {1, windows(v, e)}
]
NAMESPACE: dict[str, Any] = {"pooled_{}_{}_{}".format(*form): _pooled(form) for form in _FORMS}
