"""x @ w for a great many rows, or for a small w, which may change at each step: products of
training.

w is packed in panels by the whole team, at each step if it changes, unless it can be read as it
lies. Then blocks of rows go to the threads as they become free: a block of x and one panel stay in
the second cache, and each panel of the result is finished (bias, residual, activation, or any loop:
`product_loop`), half of the block at a time, while it lies in the first one.

Reading a panel from the second cache as it lies, with nothing asked for ahead, is 97 % as fast as
from the first (429 inputs, 400 outputs).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from math import prod
from textwrap import indent

from noria.core.machine import caches
from noria.ir.program import Operator
from noria.kernels.call import Call
from noria.kernels.numba import gemm
from noria.kernels.numba.even_panels import NARROW, next_panel, pack, packed_bytes, row_bytes
from noria.kernels.numba.launch import launch, need
from noria.kernels.numba.linear import ACTIVATIONS, need_activation
from noria.kernels.numba.parallel import thread_count
from noria.kernels.numba.texts import reading
from noria.kernels.numba.tile_sizes import PANEL, ROWS
from noria.kernels.registry import Array, BoundOp, Declined, Kernel, Pack, Prepared, register

BLOCK = 20 * ROWS  # rows of x that a thread takes at a time
DEPTH = min(
    768, caches().second * 3 // 4096
)  # inputs of a block and of a panel that stay in the second cache together
STRIP = 10 * ROWS  # rows that are finished at a time: with fewer, calls take too long
LEAST_ROWS = 768  # below, packing a weight that changes costs more than it saves
MOST_BYTES = caches().last // 4  # of a packed weight; of larger ones each block would read too much
LEAST = 32  # inputs and outputs: narrower products leave most of a tile empty
LIGHT = 1 << 16  # elements of a weight that is packed in no time, however few the rows
SPACE = 128  # bytes of a thread's table of a product


_TABLE = ("x", "weight", "out", "rows", "ins", "outs", "packed", "blocks", "product", "scratch")


def source(
    extra: Sequence[str],
    finish: Sequence[str],
    *,
    near: Sequence[str] = (),
    before: Sequence[str] = (),
    after: Sequence[str] = (),
) -> str:
    """The kernel, which does something to each panel as soon as it has all products.

    extra:  names of further numbers in the table, behind those of `_TABLE`
    finish: lines for rows `low` to `high`, STRIP at most, and COLUMNS columns from `o`, of
            matrices of `outs` columns, of block `block`; `out` is where the product lies
    near:   names of matrices like `out` that these lines read, to be asked for before
    before: lines at the start; after: lines at the end, when all threads are done
    """
    names = (*_TABLE, *extra)
    read = reading(*names)
    asked = "\n".join(
        f"    store_int64(table, {gemm.NEAR + i}, {name} - out)" for i, name in enumerate(near)
    )
    end = ["barrier()", *after] if after else []
    return f"""
def rows(args):
{read}
    table = scratch + thread_id() * {SPACE}
    shared = args + {8 * len(names)}
    tiles = (rows + {ROWS - 1}) // {ROWS}
    store_int64(table, {gemm.A_ROW}, 4 * ins)
    store_int64(table, {gemm.A_STEP}, 4)
    store_int64(table, {gemm.B_PANEL}, 0)
    store_int64(table, {gemm.C_ROW}, 4 * outs)
{asked}
{_lines(4, before)}
    block = take(shared, 1)
    while block < blocks:
        first = tiles * block // blocks * {ROWS}
        last = min(tiles * (block + 1) // blocks * {ROWS}, rows)
        for k in range(0, ins, {DEPTH}):
            depth = min(ins - k, {DEPTH})
            step = max(last - first, 1)  # of a block without rows
            if k + {DEPTH} >= ins:
                step = {STRIP if finish else "max(last - first, 1)"}
            store_int64(table, {gemm.K}, depth)
            store_int64(table, {gemm.ACCUMULATE}, min(k, 1))
            o = 0
            while o < outs:
{_lines(16, next_panel("columns", "o", "outs"))}
                panel = weight + o * 4
                panel_row = outs * 4
                if packed:
                    panel = weight + o * ins * 4
                    panel_row = {row_bytes("columns")}
                store_int64(table, {gemm.N}, columns)
                store_int64(table, {gemm.B_ROW}, panel_row)
                store_int64(table, {gemm.B}, panel + k * panel_row)
                for low in range(first, last, step):
                    high = min(low + step, last)
                    store_int64(table, {gemm.M}, high - low)
                    store_int64(table, {gemm.A}, x + (low * ins + k) * 4)
                    store_int64(table, {gemm.C}, out + (low * outs + o) * 4)
                    call1(product, table)
                    if k + {DEPTH} >= ins:
{_finish(finish)}
                o += columns
        block = take(shared, 1)
    if take(shared + 8, 1) == team_size() - 1:
        store_int64(shared, 0, 0)
        store_int64(shared, 1, 0)
{_lines(4, end)}
    return 0
"""


def _finish(lines: Sequence[str]) -> str:
    """The lines once for each width of panels that is known, as such loops have no rest."""
    if not lines:
        return _lines(24, ["pass"])
    text, which = [], "if"
    for width in dict.fromkeys((PANEL, NARROW)):
        text += [f"{which} columns == {width}:"]
        text += ["    " + line.replace("COLUMNS", str(width)) for line in lines]
        which = "elif"
    text += ["else:", *("    " + line.replace("COLUMNS", "columns") for line in lines)]
    return _lines(24, text)


def _lines(depth: int, lines: Sequence[str]) -> str:
    return indent("\n".join(lines), " " * depth)


def _activate(bias: bool, residual: bool, activation: str | None) -> list[str]:
    """Lines that add bias and residual to the product, and apply the activation."""
    if not (bias or residual or activation):
        return []
    value = "load_float32(to, j)"
    value += " + load_float32(bias, o + j)" if bias else ""
    value += " + load_float32(residual + row * outs * 4, o + j)" if residual else ""
    return [
        "for row in range(low, high):",
        "    to = out + (row * outs + o) * 4",
        "    for j in range(COLUMNS):",
        "        together()",
        f"        v = {value}",
        f"        store_float32(to, j, {ACTIVATIONS[activation].format(v='v')})",
    ]


def blocks_of(x: Array, out: Array, threads: int) -> int:
    """How many blocks of rows there are. Raises Declined where other kernels are better."""
    ins, outs = x.shape[-1], out.shape[-1]
    rows = prod(x.shape[:-1])
    if rows < LEAST_ROWS or min(ins, outs) < LEAST:
        raise Declined("the product is small")
    if packed_bytes(ins, outs) > MOST_BYTES:
        raise Declined("the weight is large")
    return _blocks(rows, threads)


def _blocks(rows: int, threads: int) -> int:
    team = max(threads, thread_count())
    return -(-rows // (BLOCK * team)) * team


def packs_of(weight: Array, position: int, turned: bool, threads: int) -> list[Pack]:
    """The weight packed; nothing where it is as fast as it lies: [ins, outs], its rows whole lines
    of memory that spread over the second cache."""
    row = weight.shape[1] * 4
    if not turned and row % 64 == 0 and row % 2048 != 0:
        return []
    return [pack(weight, position, turned, threads)]


def product_call(
    name: str,
    text: str,
    x: Array,
    out: Array,
    addresses: Sequence[int],
    *,
    packed: bool,
    near: int,
    scratch: int,
    extra: Sequence[int],
    threads: int,
) -> Call:
    """The row of the tape of a kernel of `source`.

    addresses: of x, the weight and the product; scratch: SPACE bytes for each thread
    packed:    whether the weight is packed
    """
    rows, ins, outs = prod(x.shape[:-1]), x.shape[-1], out.shape[-1]
    kernel = gemm.product(near=near, even=NARROW < PANEL)
    numbers = [rows, ins, outs, int(packed), _blocks(rows, threads), kernel.address, scratch]
    table = [*addresses, *numbers, *extra, 0, 0]
    call = launch(name, text, "rows", table, threads=threads, ops=2 * rows * ins * outs)
    call.keep = (call.keep, kernel)
    return call


@cache
def _text(bias: bool, residual: bool, activation: str | None) -> str:
    near = ["residual"] if residual else []
    return source(("bias", "residual"), _activate(bias, residual, activation), near=near)


class RowProduct(Kernel):
    """`linear`, `fused_linear` and products with one matrix in float32."""

    name = "numba:row_product"
    ops = ("linear", "fused_linear", "matmul")
    priority = 5  # float32, many rows and one matrix only

    def accepts(self, op: Operator) -> None:
        need(op, ("float32",))
        x, w = op.operands[:2]
        if x.ndim < 2 or w.ndim != 2:
            raise Declined("not rows by a matrix")
        if op.attrs.get("transpose_x"):
            raise Declined("x is transposed")
        need_activation(op)

    def bind(self, bound: BoundOp) -> Prepared:
        x, w, bias, residual = [*bound.inputs, None, None][:4]
        out = bound.outputs[0]
        assert x is not None and w is not None
        if prod(x.shape[:-1]) >= LEAST_ROWS:
            blocks_of(x, out, bound.threads)
        elif w.size > LIGHT:
            raise Declined("the weight is large for few rows")
        near = 0 if residual is None else 1
        text = _text(bias is not None, bool(near), bound.attrs.get("activation"))
        threads = bound.threads
        packed = packs_of(w, 1, bool(bound.attrs.get("transpose_y", True)), threads)

        def emit(ins: list[int], outs: list[int], packs: list[int], scratch: int) -> list[Call]:
            at = [ins[0], *(packs or ins[1:2]), outs[0]]
            how = {"near": near, "scratch": scratch, "threads": threads}
            extra = [*ins[2:], 0, 0][:2]
            made = product_call(self.name, text, x, out, at, packed=bool(packs), extra=extra, **how)
            return [made]

        work = 2 * out.size * x.shape[-1]
        return Prepared(emit, SPACE * max(threads, thread_count()), packed, (), work)


register(RowProduct())
