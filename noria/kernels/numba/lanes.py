"""Vectors of LLVM in the code of register tiles: addresses, loads and stores, broadcasts, fma,
loops that carry sums, and bounds of a sum before it is stored.

Addresses are integers, in bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llvmlite import ir

from noria.kernels.numba.expr import F32, I8, I16, I32, I64, declare
from noria.kernels.numba.tile_sizes import WIDTH

LANES = ir.VectorType(F32, WIDTH)
INDEX = ir.VectorType(I32, WIDTH)


def constant(n: int) -> ir.Constant:
    """An int64."""
    return ir.Constant(I64, n)


def pointer(b: ir.IRBuilder, address: ir.Value, kind: ir.Type = LANES) -> ir.Value:
    """The address as a pointer to `kind`."""
    return b.inttoptr(address, kind.as_pointer())


def at(b: ir.IRBuilder, address: ir.Value, offset: int) -> ir.Value:
    """address + offset."""
    return b.add(address, constant(offset)) if offset else address


def splat(b: ir.IRBuilder, x: ir.Value, lanes: int = WIDTH) -> ir.Value:
    """The vector whose elements all are `x`."""
    vector = ir.VectorType(x.type, lanes)
    one = b.insert_element(ir.Constant(vector, ir.Undefined), x, ir.Constant(I32, 0))
    zeros = ir.Constant(ir.VectorType(I32, lanes), [0] * lanes)
    return b.shuffle_vector(one, ir.Constant(vector, ir.Undefined), zeros)


def intrinsic(b: ir.IRBuilder, name: str, result: ir.Type, args: list[ir.Value]) -> ir.Value:
    """A call of an intrinsic by its full name: llvmlite itself makes none of vectors."""
    return b.call(declare(b.module, name, result, [a.type for a in args]), args)


def fma(b: ir.IRBuilder, x: ir.Value, y: ir.Value, z: ir.Value) -> ir.Value:
    """x * y + z, rounded once."""
    return intrinsic(b, f"llvm.fma.v{WIDTH}f32", LANES, [x, y, z])


class _BFloat(ir.Type):
    """bfloat16, which llvmlite does not know."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BFloat)

    def __hash__(self) -> int:
        return hash(_BFloat)


def dot(b: ir.IRBuilder, x: ir.Value, y: ir.Value, z: ir.Value) -> ir.Value:
    """z + the sum of the two products of bfloat16 in each lane of x and y, where the CPU has it.

    Denormal numbers count as 0, as in oneDNN's products.
    """
    pairs = ir.VectorType(_BFloat(), 2 * WIDTH)
    args = [z, b.bitcast(x, pairs), b.bitcast(y, pairs)]
    return intrinsic(b, f"llvm.x86.avx512bf16.dpbf16ps.{32 * WIDTH}", LANES, args)


def halves(b: ir.IRBuilder, low: ir.Value, high: ir.Value) -> ir.Value:
    """Two vectors of float32 rounded to one of bfloat16, to nearest even, by the CPU's instruction.

    Denormal numbers become 0; sums of `dot` have none.
    """
    name = f"llvm.x86.avx512bf16.cvtne2ps2bf16.{32 * WIDTH}"
    return intrinsic(b, name, ir.VectorType(_BFloat(), 2 * WIDTH), [high, low])


def prefetch(b: ir.IRBuilder, address: ir.Value, near: bool = False) -> None:
    """Asks for the line at an address, which may be any, to come into the second cache, or with
    `near` into the first."""
    kind = I8.as_pointer()
    numbers = [ir.Constant(I32, n) for n in (0, 3 if near else 2, 1)]  # to read; how soon; data
    signature = ir.FunctionType(ir.VoidType(), [kind, I32, I32, I32])
    ask = b.module.declare_intrinsic("llvm.prefetch", [kind], signature)
    b.call(ask, [b.inttoptr(address, kind), *numbers])


def mask(b: ir.IRBuilder, columns: ir.Value, first: int) -> ir.Value:
    """Which of the lanes first .. first + WIDTH - 1 lie below `columns`."""
    lanes = ir.Constant(INDEX, list(range(first, first + WIDTH)))
    return b.icmp_signed("<", lanes, splat(b, b.trunc(columns, I32)))


class Lanes:
    """Loads and stores of a row of `count` vectors, whole or up to a number of columns."""

    kind, size, name, zero = LANES, 4, f"v{WIDTH}f32", 0.0  # in memory

    def __init__(self, b: ir.IRBuilder, count: int, columns: ir.Value | None = None) -> None:
        self.b, self.count = b, count
        self.masks = (
            None if columns is None else [mask(b, columns, v * WIDTH) for v in range(count)]
        )

    def load(self, address: ir.Value) -> list[ir.Value]:
        """The vectors; zeros beyond the columns."""
        step = WIDTH * self.size
        return [self._load(v, at(self.b, address, v * step)) for v in range(self.count)]

    def _load(self, v: int, address: ir.Value) -> ir.Value:
        place = pointer(self.b, address, self.kind)
        if self.masks is None:
            return self.b.load(place, align=self.size)
        zero = ir.Constant(self.kind, [self.zero] * WIDTH)
        args = [place, ir.Constant(I32, self.size), self.masks[v], zero]
        return intrinsic(self.b, f"llvm.masked.load.{self.name}.p0", self.kind, args)

    def store(self, values: list[ir.Value], address: ir.Value) -> None:
        """Nothing is written beyond the columns."""
        for v, value in enumerate(values):
            self._store(v, value, at(self.b, address, v * WIDTH * self.size))

    def _store(self, v: int, value: ir.Value, address: ir.Value) -> None:
        place = pointer(self.b, address, self.kind)
        if self.masks is None:
            self.b.store(value, place, align=self.size)
        else:
            args = [value, place, ir.Constant(I32, self.size), self.masks[v]]
            intrinsic(self.b, f"llvm.masked.store.{self.name}.p0", ir.VoidType(), args)


class HalfLanes(Lanes):
    """The same of rows of bfloat16, which are float32 in registers, where the CPU rounds them.

    Denormal numbers are stored as 0, as oneDNN does; NaN stays NaN.
    """

    kind, size, name, zero = ir.VectorType(I16, WIDTH), 2, f"v{WIDTH}i16", 0

    def _load(self, v: int, address: ir.Value) -> ir.Value:
        wide = self.b.zext(super()._load(v, address), INDEX)
        high = self.b.shl(wide, ir.Constant(INDEX, [16] * WIDTH))
        return self.b.bitcast(high, LANES)

    def _store(self, v: int, value: ir.Value, address: ir.Value) -> None:
        halves = ir.VectorType(_BFloat(), WIDTH)
        name = f"llvm.x86.avx512bf16.cvtneps2bf16.{32 * WIDTH}"
        rounded = intrinsic(self.b, name, halves, [value])
        super()._store(v, self.b.bitcast(rounded, self.kind), address)


# ---- control ------------------------------------------------------------------------------------

Values = list[ir.Value]


def loop(
    b: ir.IRBuilder,
    count: ir.Value,
    moving: Sequence[tuple[ir.Value, ir.Value]],
    sums: Values,
    body: Callable[[Values, Values], Values],
) -> Values:
    """The sums after `count` turns, none if it is 0 or less; body(places, sums) -> sums.

    moving: int64 numbers that go on by a step at each turn, as (start, step)
    """
    before = b.block
    inside, end = b.append_basic_block("loop"), b.append_basic_block("end")
    b.cbranch(b.icmp_signed(">", count, constant(0)), inside, end)
    b.position_at_end(inside)
    counter, places, held = b.phi(I64), [b.phi(I64) for _ in moving], [b.phi(s.type) for s in sums]
    after = body(places, held)
    done = b.add(counter, constant(1))
    last = b.block
    following = [(counter, constant(0), done), *zip(held, sums, after, strict=True)]
    for place, (start, step) in zip(places, moving, strict=True):
        following.append((place, start, b.add(place, step)))
    for phi, first, later in following:
        phi.add_incoming(first, before)
        phi.add_incoming(later, last)
    b.cbranch(b.icmp_signed("<", done, count), inside, end)
    b.position_at_end(end)
    return [_joined(b, (s, before), (a, last)) for s, a in zip(sums, after, strict=True)]


def choice(
    b: ir.IRBuilder, condition: ir.Value, otherwise: Values, emit: Callable[[], Values]
) -> Values:
    """What emit() gives where the condition holds, else the other values."""
    before = b.block
    yes, end = b.append_basic_block("yes"), b.append_basic_block("after")
    b.cbranch(condition, yes, end)
    b.position_at_end(yes)
    values, last = emit(), b.block
    b.branch(end)
    b.position_at_end(end)
    return [_joined(b, (o, before), (v, last)) for o, v in zip(otherwise, values, strict=True)]


def _joined(b: ir.IRBuilder, *ways: tuple[ir.Value, ir.Block]) -> ir.Value:
    phi = b.phi(ways[0][0].type)
    for value, block in ways:
        phi.add_incoming(value, block)
    return phi


# ---- bounds -------------------------------------------------------------------------------------


def zeros(count: int) -> Values:
    """So many vectors of 0."""
    return [ir.Constant(LANES, [0.0] * WIDTH)] * count


def bounded(b: ir.IRBuilder, low: ir.Value, high: ir.Value, sums: Values) -> Values:
    """Each at least `low` and at most `high`, vectors. NaN stays NaN and -0 stays -0: they are what
    no comparison moves. So ReLU is the bounds 0 and infinity, and nothing -infinity and infinity.
    """
    out = [b.select(b.fcmp_ordered(">", low, s), low, s) for s in sums]
    return [b.select(b.fcmp_ordered("<", high, s), high, s) for s in out]


def bounds(b: ir.IRBuilder, table: ir.Value, fields: tuple[int, int]) -> tuple[ir.Value, ir.Value]:
    """The two vectors of float32 that stand in these fields of an int64 table."""
    low, high = (
        splat(b, b.load(pointer(b, at(b, table, 8 * field), F32), align=4)) for field in fields
    )
    return low, high
