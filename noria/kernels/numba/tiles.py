"""Register tiles: the inner part of a matrix product, written as LLVM vectors.

A loop vectoriser does not find the form in which a product reaches the machine's peak: a tile of
the result stays in registers while one column of A (as broadcasts) and one row of B (as vectors)
are multiplied into it (Goto and van de Geijn, 2008). `gemm.py` walks them over whole matrices.

`NAMESPACE` has, for kernels:

- `tile_M`, for M in 1 .. ROWS: M rows and a whole panel of PANEL columns;
- `ahead_M`: the same, which also asks for memory that a later tile will read;
- `onto_M`: the same again, which adds to something that lies elsewhere, such as a bias;
- `tile_M_V`: M rows and V vectors of WIDTH columns, of which only the first so many are stored;
- `narrow_M` and `narrow_ahead_M`, for M = ROWS: all of a panel one vector narrower;
- `pairs_M`, `pairs_M_V`: `ahead_M` and `tile_M_V` of pairs of bfloat16, the elements of two steps,
  summed in float32, where the CPU has an instruction for it (`PAIRS`);
- `runs_M`, `runs_M_V`, `pair_runs_M`, `pair_runs_M_V`: `ahead_M`, with V vectors cut, and of pairs,
  over several runs of k steps, which lie anywhere;
- `half_pairs_M`: `pairs_M`, rounded to bfloat16, each row to an address of its own;
- `masked_pairs_M`: the same, with other rows added, and 0 where bits of a mask are;
- `transpose_tile`: WIDTH x WIDTH float32 turned in registers;
- `pair_lanes`: 2 * WIDTH pairs of 16-bit elements of two rows.

Addresses and strides are in bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import types

from noria.kernels.numba.expr import F32, I16, I32, I64
from noria.kernels.numba.intrinsics import fixed
from noria.kernels.numba.lanes import (
    INDEX,
    LANES,
    HalfLanes,
    Lanes,
    at,
    constant,
    dot,
    fma,
    halves,
    loop,
    pointer,
    prefetch,
    splat,
    zeros,
)
from noria.kernels.numba.tile_sizes import ROWS, VECTORS, WIDTH

LINE = 64  # bytes
BESIDE = 13  # where the table of a masked tile goes on
Multiply = Callable[[ir.IRBuilder, ir.Value, ir.Value, ir.Value], ir.Value]


def _tile(
    rows: int,
    vectors: int,
    whole: bool,
    ahead: bool = False,
    onto: bool = False,
    runs: bool = False,
    multiply: Multiply = fma,
) -> Any:
    """tile(a, b, c, table, columns): C[rows, columns] = or += A[rows, k] B[k, columns].

    table: int64 a_row, a_step, b_row, c_row, k, accumulate (0 or 1), strides in bytes. The vectors
    of B are read whole unless columns cut them; so are those of C.
    ahead: two more numbers of the table are an address and a step. At each of the k steps the line
           of memory there is asked for, into the second cache, and the address goes on by the step.
    onto:  ahead, and two more: the address and row stride of what is accumulated to instead of C.
    runs:  ahead, and three more: how often there are k steps, and the bytes from the first step of
           A to that of the next run, and of B
    multiply: what adds the product of two vectors to a third
    """

    def emit(b: ir.IRBuilder, args: list[ir.Value]) -> None:
        a, bp, c, table, columns = args
        a_row, a_step, b_row, c_row, k, accumulate = (
            b.load(pointer(b, at(b, table, 8 * i), I64)) for i in range(6)
        )
        lanes = Lanes(b, vectors, None if whole else columns)
        fields = 6 + 2 * ahead + 2 * onto + 3 * runs
        more = [b.load(pointer(b, at(b, table, 8 * i), I64)) for i in range(6, fields)]
        to = [b.add(c, b.mul(c_row, constant(i))) for i in range(rows)]
        begin, begin_row = more[2:] if onto else (c, c_row)
        begins = [b.add(begin, b.mul(begin_row, constant(i))) for i in range(rows)]
        start = _start(b, lanes, begins, accumulate)
        operands = [a, a_row, a_step, bp, b_row, k, *more[:2]]
        if runs:
            total = _runs(b, lanes, operands, more[2:], start, multiply)
        else:
            total = _products(b, lanes, operands, start, multiply)
        for i in range(rows):
            lanes.store(total[i * vectors : (i + 1) * vectors], to[i])

    return fixed(f"tile_{rows}_{vectors}", types.void, [types.int64] * 5, emit)


def _half_tile(rows: int, masked: bool = False) -> Any:
    """half_tile(a, b, list, table, offset): a whole tile of pairs, rounded to bfloat16.

    list:   int64 addresses, one for each row, of which `offset` bytes behind the row is written
    table:  as of `_tile`, ahead; c_row and accumulate are not read
    masked: at BESIDE the table also has where the list's array begins, how far behind it another
            of its kind lies, which is added, and the address of a bit for each number of either;
            rows are equally far apart
    """

    def emit(b: ir.IRBuilder, args: list[ir.Value]) -> None:
        a, bp, to, table, offset = args
        a_row, a_step, b_row, k, soon, soon_step = (
            b.load(pointer(b, at(b, table, 8 * i), I64)) for i in (0, 1, 2, 4, 6, 7)
        )
        operands = [a, a_row, a_step, bp, b_row, k, soon, soon_step]
        places = [b.add(b.load(pointer(b, at(b, to, 8 * i), I64)), offset) for i in range(rows)]
        beside = [_beside(b, table, place) for place in places] if masked else []
        if masked and rows == ROWS:
            _ask_for_next(b, beside, b.mul(b.sub(places[1], places[0]), constant(ROWS)))
        total = _products(b, Lanes(b, VECTORS), operands, zeros(rows * VECTORS), dot)
        for i, row in enumerate(places):
            sums, word = total[i * VECTORS : (i + 1) * VECTORS], None
            if masked:
                more, word = beside[i]
                old = HalfLanes(b, VECTORS).load(more)
                sums = [b.fadd(s, v) for s, v in zip(sums, old, strict=True)]
            _store_halves(b, sums, row, word)

    return fixed(f"half_tile_{rows}", types.void, [types.int64] * 5, emit)


def _beside(b: ir.IRBuilder, table: ir.Value, place: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Addresses of what is added to a row, and of its bits: of 8 numbers, 16 bytes, a byte."""
    base, other, bits = (b.load(pointer(b, at(b, table, 8 * (BESIDE + i)), I64)) for i in range(3))
    return b.add(place, other), b.add(bits, b.lshr(b.sub(place, base), constant(4)))


def _ask_for_next(b: ir.IRBuilder, beside: list[tuple[ir.Value, ir.Value]], step: ir.Value) -> None:
    """Asks for the same of the next tile, whose rows lie `step` bytes further: products of a tile
    are too short to wait for memory behind them."""
    for more, word in beside:
        row = b.add(more, step)
        for address in (row, at(b, row, LINE), b.add(word, b.lshr(step, constant(4)))):
            prefetch(b, address, near=True)


def _store_halves(
    b: ir.IRBuilder, sums: list[ir.Value], row: ir.Value, word: ir.Value | None
) -> None:
    """A row rounded to bfloat16; word: where its bits are, if what has none is to be 0."""
    lanes = 2 * WIDTH
    for v in range(0, VECTORS, 2):
        rounded = halves(b, *sums[v : v + 2])
        if word is not None:
            bits = b.load(pointer(b, at(b, word, v * WIDTH // 8), ir.IntType(lanes)), align=1)
            here = b.bitcast(bits, ir.VectorType(ir.IntType(1), lanes))
            rounded = b.select(here, rounded, ir.Constant(rounded.type, None))
        b.store(rounded, pointer(b, at(b, row, 2 * v * WIDTH), rounded.type), align=2)


def _start(
    b: ir.IRBuilder, lanes: Lanes, to: list[ir.Value], accumulate: ir.Value
) -> list[ir.Value]:
    """What the sums begin with: C as it is, or zeros."""
    before = b.block
    load, ready = b.append_basic_block("c.load"), b.append_basic_block("c.ready")
    b.cbranch(b.icmp_signed("!=", accumulate, constant(0)), load, ready)
    b.position_at_end(load)
    old = [value for address in to for value in lanes.load(address)]
    b.branch(ready)
    b.position_at_end(ready)
    zero = ir.Constant(LANES, [0.0] * WIDTH)
    sums = []
    for value in old:
        phi = b.phi(LANES)
        phi.add_incoming(zero, before)
        phi.add_incoming(value, load)
        sums.append(phi)
    return sums


def _products(
    b: ir.IRBuilder,
    lanes: Lanes,
    operands: list[ir.Value],
    start: list[ir.Value],
    multiply: Multiply,
) -> list[ir.Value]:
    """start + A B, one column of A and one row of B at a time."""
    a, a_row, a_step, bp, b_row, k, *soon = operands
    rows = len(start) // lanes.count
    before, loop, end = b.block, b.append_basic_block("k.loop"), b.append_basic_block("k.end")
    b.cbranch(b.icmp_signed(">", k, constant(0)), loop, end)
    b.position_at_end(loop)
    counter, at_a, at_b = b.phi(I64), b.phi(I64), b.phi(I64)
    sums = [b.phi(LANES) for _ in start]
    at_soon = b.phi(I64) if soon else None
    row = lanes.load(at_b)
    after = []
    for i in range(rows):
        x = b.load(pointer(b, b.add(at_a, b.mul(a_row, constant(i))), F32), align=4)
        x = splat(b, x)
        for v in range(lanes.count):
            after.append(multiply(b, x, row[v], sums[i * lanes.count + v]))
    following = [
        (counter, constant(0), b.add(counter, constant(1))),
        (at_a, a, b.add(at_a, a_step)),
        (at_b, bp, b.add(at_b, b_row)),
        *zip(sums, start, after, strict=True),
    ]
    if at_soon is not None:
        following.append((at_soon, soon[0], b.add(at_soon, soon[1])))
        prefetch(b, at_soon)
    for phi, first, later in following:
        phi.add_incoming(first, before)
        phi.add_incoming(later, loop)
    b.cbranch(b.icmp_signed("<", following[0][2], k), loop, end)
    b.position_at_end(end)
    total = []
    for first, later in zip(start, after, strict=True):
        phi = b.phi(LANES)
        phi.add_incoming(first, before)
        phi.add_incoming(later, loop)
        total.append(phi)
    return total


def _runs(
    b: ir.IRBuilder,
    lanes: Lanes,
    operands: list[ir.Value],
    runs: list[ir.Value],
    start: list[ir.Value],
    multiply: Multiply,
) -> list[ir.Value]:
    """`_products` one after the other; runs: how many, and the steps of A and B between them."""
    a, a_row, a_step, bp, b_row, k, soon, soon_step = operands
    count, a_run, b_run = runs

    def run(places: list[ir.Value], sums: list[ir.Value]) -> list[ir.Value]:
        own = [places[0], a_row, a_step, places[1], b_row, k, places[2], soon_step]
        return _products(b, lanes, own, sums, multiply)

    moving = [(a, a_run), (bp, b_run), (soon, b.mul(k, soon_step))]
    return loop(b, count, moving, start, run)


def _transpose(b: ir.IRBuilder, args: list[ir.Value]) -> None:
    """transpose_tile(source, source_row, target, target_row): WIDTH x WIDTH, in log2 steps."""
    source, source_row, target, target_row = args
    lines = [
        b.load(pointer(b, b.add(source, b.mul(source_row, constant(i)))), align=4)
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
                turned[i] = b.shuffle_vector(*pair, ir.Constant(INDEX, low))
                turned[i + step] = b.shuffle_vector(*pair, ir.Constant(INDEX, high))
        lines, step = turned, step // 2
    for i, line in enumerate(lines):
        b.store(line, pointer(b, b.add(target, b.mul(target_row, constant(i)))), align=4)


def _pair_lanes(b: ir.IRBuilder, args: list[ir.Value]) -> None:
    """pair_lanes(low, high, first, second): elements of `low` and `high` in turn, a vector each."""
    low, high, *targets = args
    row = ir.VectorType(I16, 2 * WIDTH)
    lines = [b.load(pointer(b, source, row), align=2) for source in (low, high)]
    for half, target in enumerate(targets):
        turns = [i // 2 + half * WIDTH + i % 2 * 2 * WIDTH for i in range(2 * WIDTH)]
        pairs = b.shuffle_vector(*lines, ir.Constant(ir.VectorType(I32, 2 * WIDTH), turns))
        b.store(pairs, pointer(b, target, row), align=4)


NAMESPACE: dict[str, Any] = {
    **{f"tile_{m}": _tile(m, VECTORS, True) for m in range(1, ROWS + 1)},
    **{f"ahead_{m}": _tile(m, VECTORS, True, ahead=True) for m in range(1, ROWS + 1)},
    **{f"onto_{m}": _tile(m, VECTORS, True, ahead=True, onto=True) for m in range(1, ROWS + 1)},
    **{
        f"tile_{m}_{v}": _tile(m, v, False)
        for m in range(1, ROWS + 1)
        for v in range(1, VECTORS + 1)
    },
    f"narrow_{ROWS}": _tile(ROWS, VECTORS - 1, True),
    **{f"dots_{m}": _tile(m, VECTORS, True, multiply=dot) for m in range(1, ROWS + 1)},
    f"narrow_ahead_{ROWS}": _tile(ROWS, VECTORS - 1, True, ahead=True),
    **{f"pairs_{m}": _tile(m, VECTORS, True, ahead=True, multiply=dot) for m in range(1, ROWS + 1)},
    **{f"half_pairs_{m}": _half_tile(m) for m in range(1, ROWS + 1)},
    **{f"masked_pairs_{m}": _half_tile(m, masked=True) for m in range(1, ROWS + 1)},
    **{
        f"pairs_{m}_{v}": _tile(m, v, False, multiply=dot)
        for m in range(1, ROWS + 1)
        for v in range(1, VECTORS + 1)
    },
    **{
        f"{name}_{m}": _tile(m, VECTORS, True, ahead=True, runs=True, multiply=multiply)
        for m in range(1, ROWS + 1)
        for name, multiply in (("runs", fma), ("pair_runs", dot))
    },
    **{
        f"{name}_{m}_{v}": _tile(m, v, False, ahead=True, runs=True, multiply=multiply)
        for m in range(1, ROWS + 1)
        for v in range(1, VECTORS + 1)
        for name, multiply in (("runs", fma), ("pair_runs", dot))
    },
    "transpose_tile": fixed("transpose_tile", types.void, [types.int64] * 4, _transpose),
    "pair_lanes": fixed("pair_lanes", types.void, [types.int64] * 4, _pair_lanes),
}
