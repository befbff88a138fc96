"""Register tiles: the inner part of a matrix product, written as LLVM vectors.

A loop vectoriser does not find the form in which a product reaches the machine's peak: a tile of
the result stays in registers while one column of A (as broadcasts) and one row of B (as vectors)
are multiplied into it (Goto and van de Geijn, 2008). `gemm.py` walks them over whole matrices.

`NAMESPACE` has, for kernels:

- `tile_M`, for M in 1 .. ROWS: M rows and a whole panel of PANEL columns;
- `ahead_M`: the same, which also asks for memory that a later tile will read;
- `tile_M_V`: M rows and V vectors of WIDTH columns, of which only the first so many are stored;
- `transpose_tile`: WIDTH x WIDTH float32 turned in registers.

Addresses and strides are in bytes.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types

from noria.kernels.numba.expr import F32, I32, I64, declare
from noria.kernels.numba.intrinsics import fixed
from noria.kernels.numba.tile_sizes import ROWS, VECTORS, WIDTH

_LANES = ir.VectorType(F32, WIDTH)
_MASK = ir.VectorType(ir.IntType(1), WIDTH)
_INDEX = ir.VectorType(I32, WIDTH)


def _constant(n: int) -> ir.Constant:
    return ir.Constant(I64, n)


def _pointer(b: ir.IRBuilder, address: ir.Value, kind: ir.Type = _LANES) -> ir.Value:
    return b.inttoptr(address, kind.as_pointer())


def _at(b: ir.IRBuilder, address: ir.Value, offset: int) -> ir.Value:
    return b.add(address, _constant(offset)) if offset else address


def splat(b: ir.IRBuilder, x: ir.Value, lanes: int) -> ir.Value:
    """The vector whose elements all are `x`."""
    vector = ir.VectorType(x.type, lanes)
    one = b.insert_element(ir.Constant(vector, ir.Undefined), x, ir.Constant(I32, 0))
    zeros = ir.Constant(ir.VectorType(I32, lanes), [0] * lanes)
    return b.shuffle_vector(one, ir.Constant(vector, ir.Undefined), zeros)


def _mask(b: ir.IRBuilder, columns: ir.Value, first: int) -> ir.Value:
    """Which of the lanes first .. first + WIDTH - 1 lie below `columns`."""
    lanes = ir.Constant(_INDEX, list(range(first, first + WIDTH)))
    return b.icmp_signed("<", lanes, splat(b, b.trunc(columns, I32), WIDTH))


def _call(b: ir.IRBuilder, name: str, result: ir.Type, args: list[ir.Value]) -> ir.Value:
    """An intrinsic by its full name: llvmlite itself makes none of vectors."""
    return b.call(declare(b.module, name, result, [a.type for a in args]), args)


def _fma(b: ir.IRBuilder, x: ir.Value, y: ir.Value, z: ir.Value) -> ir.Value:
    return _call(b, f"llvm.fma.v{WIDTH}f32", _LANES, [x, y, z])


class _Vectors:
    """Loads and stores of a row of `count` vectors, whole or up to a number of columns."""

    def __init__(self, b: ir.IRBuilder, count: int, columns: ir.Value | None) -> None:
        self.b, self.count = b, count
        self.masks = (
            None if columns is None else [_mask(b, columns, v * WIDTH) for v in range(count)]
        )

    def load(self, address: ir.Value) -> list[ir.Value]:
        return [self._load(v, _at(self.b, address, v * WIDTH * 4)) for v in range(self.count)]

    def _load(self, v: int, address: ir.Value) -> ir.Value:
        pointer = _pointer(self.b, address)
        if self.masks is None:
            return self.b.load(pointer, align=4)
        zero = ir.Constant(_LANES, [0.0] * WIDTH)
        args = [pointer, ir.Constant(I32, 4), self.masks[v], zero]
        return _call(self.b, f"llvm.masked.load.v{WIDTH}f32.p0", _LANES, args)

    def store(self, values: list[ir.Value], address: ir.Value) -> None:
        for v, value in enumerate(values):
            pointer = _pointer(self.b, _at(self.b, address, v * WIDTH * 4))
            if self.masks is None:
                self.b.store(value, pointer, align=4)
            else:
                args = [value, pointer, ir.Constant(I32, 4), self.masks[v]]
                _call(self.b, f"llvm.masked.store.v{WIDTH}f32.p0", ir.VoidType(), args)


def _tile(rows: int, vectors: int, whole: bool, ahead: bool = False) -> Any:
    """tile(a, b, c, table, columns): C[rows, columns] = or += A[rows, k] B[k, columns].

    table: int64 a_row, a_step, b_row, c_row, k, accumulate (0 or 1), strides in bytes. The vectors
    of B are read whole unless columns cut them; so are those of C.
    ahead: two more numbers of the table are an address and a step. At each of the k steps the line
           of memory there is asked for, into the second cache, and the address goes on by the step.
    """

    def emit(b: ir.IRBuilder, args: list[ir.Value]) -> None:
        a, bp, c, table, columns = args
        a_row, a_step, b_row, c_row, k, accumulate = (
            b.load(_pointer(b, _at(b, table, 8 * i), I64)) for i in range(6)
        )
        lanes = _Vectors(b, vectors, None if whole else columns)
        to = [b.add(c, b.mul(c_row, _constant(i))) for i in range(rows)]
        start = _start(b, lanes, to, accumulate)
        soon = [b.load(_pointer(b, _at(b, table, 8 * i), I64)) for i in (6, 7)] if ahead else []
        total = _products(b, lanes, [a, a_row, a_step, bp, b_row, k, *soon], start)
        for i in range(rows):
            lanes.store(total[i * vectors : (i + 1) * vectors], to[i])

    return fixed(f"tile_{rows}_{vectors}", types.void, [types.int64] * 5, emit)


def _start(
    b: ir.IRBuilder, lanes: _Vectors, to: list[ir.Value], accumulate: ir.Value
) -> list[ir.Value]:
    """What the sums begin with: C as it is, or zeros."""
    before = b.block
    load, ready = b.append_basic_block("c.load"), b.append_basic_block("c.ready")
    b.cbranch(b.icmp_signed("!=", accumulate, _constant(0)), load, ready)
    b.position_at_end(load)
    old = [value for address in to for value in lanes.load(address)]
    b.branch(ready)
    b.position_at_end(ready)
    zero = ir.Constant(_LANES, [0.0] * WIDTH)
    sums = []
    for value in old:
        phi = b.phi(_LANES)
        phi.add_incoming(zero, before)
        phi.add_incoming(value, load)
        sums.append(phi)
    return sums


def _products(
    b: ir.IRBuilder, lanes: _Vectors, operands: list[ir.Value], start: list[ir.Value]
) -> list[ir.Value]:
    """start + A B, one column of A and one row of B at a time."""
    a, a_row, a_step, bp, b_row, k, *soon = operands
    rows = len(start) // lanes.count
    before, loop, end = b.block, b.append_basic_block("k.loop"), b.append_basic_block("k.end")
    b.cbranch(b.icmp_signed(">", k, _constant(0)), loop, end)
    b.position_at_end(loop)
    counter, at_a, at_b = b.phi(I64), b.phi(I64), b.phi(I64)
    sums = [b.phi(_LANES) for _ in start]
    at_soon = b.phi(I64) if soon else None
    row = lanes.load(at_b)
    after = []
    for i in range(rows):
        x = b.load(_pointer(b, b.add(at_a, b.mul(a_row, _constant(i))), F32), align=4)
        x = splat(b, x, WIDTH)
        for v in range(lanes.count):
            after.append(_fma(b, x, row[v], sums[i * lanes.count + v]))
    following = [
        (counter, _constant(0), b.add(counter, _constant(1))),
        (at_a, a, b.add(at_a, a_step)),
        (at_b, bp, b.add(at_b, b_row)),
        *zip(sums, start, after, strict=True),
    ]
    if at_soon is not None:
        following.append((at_soon, soon[0], b.add(at_soon, soon[1])))
        _ask(b, at_soon)
    for phi, first, later in following:
        phi.add_incoming(first, before)
        phi.add_incoming(later, loop)
    b.cbranch(b.icmp_signed("<", following[0][2], k), loop, end)
    b.position_at_end(end)
    total = []
    for first, later in zip(start, after, strict=True):
        phi = b.phi(_LANES)
        phi.add_incoming(first, before)
        phi.add_incoming(later, loop)
        total.append(phi)
    return total


def _ask(b: ir.IRBuilder, address: ir.Value) -> None:
    """Has the line of memory at an address brought into the second cache."""
    pointer = ir.IntType(8).as_pointer()
    numbers = [ir.Constant(I32, n) for n in (0, 2, 1)]  # to read; not so soon; data
    kind = ir.FunctionType(ir.VoidType(), [pointer, I32, I32, I32])
    ask = b.module.declare_intrinsic("llvm.prefetch", [pointer], kind)
    b.call(ask, [b.inttoptr(address, pointer), *numbers])


def _transpose(b: ir.IRBuilder, args: list[ir.Value]) -> None:
    """transpose_tile(source, source_row, target, target_row): WIDTH x WIDTH, in log2 steps."""
    source, source_row, target, target_row = args
    lines = [
        b.load(_pointer(b, b.add(source, b.mul(source_row, _constant(i)))), align=4)
        for i in range(WIDTH)
    ]
    step = WIDTH // 2
    while step:
        low = [j if not j & step else j - step + WIDTH for j in range(WIDTH)]
        high = [j + step if not j & step else j + WIDTH for j in range(WIDTH)]
        turned = list(lines)
        for i in range(WIDTH):
            if not i & step:
                pair = lines[i], lines[i + step]
                turned[i] = b.shuffle_vector(*pair, ir.Constant(_INDEX, low))
                turned[i + step] = b.shuffle_vector(*pair, ir.Constant(_INDEX, high))
        lines, step = turned, step // 2
    for i, line in enumerate(lines):
        b.store(line, _pointer(b, b.add(target, b.mul(target_row, _constant(i)))), align=4)


NAMESPACE: dict[str, Any] = {
    **{f"tile_{m}": _tile(m, VECTORS, True) for m in range(1, ROWS + 1)},
    **{f"ahead_{m}": _tile(m, VECTORS, True, ahead=True) for m in range(1, ROWS + 1)},
    **{
        f"tile_{m}_{v}": _tile(m, v, False)
        for m in range(1, ROWS + 1)
        for v in range(1, VECTORS + 1)
    },
    "transpose_tile": fixed("transpose_tile", types.void, [types.int64] * 4, _transpose),
}
