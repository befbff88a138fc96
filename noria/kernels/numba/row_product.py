"""x @ w for a great many rows, where w may change at each step: the products of training.

w is packed in panels by the whole team, at each step if it changes. Then blocks of rows go to the
threads as they become free: a block of x and one panel stay in the second cache, and each panel of
the result is finished (bias, residual, activation) while it lies in the first one.

Reading a panel from the second cache as it lies, with nothing asked for ahead, is 97 % as fast as
from the first (429 inputs, 400 outputs).
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

from noria.core.machine import caches
from noria.ir.program import Operator
from noria.kernels.call import Call
from noria.kernels.numba import gemm
from noria.kernels.numba.launch import launch, need
from noria.kernels.numba.linear import ACTIVATIONS
from noria.kernels.numba.panels import pack
from noria.kernels.numba.parallel import thread_count
from noria.kernels.numba.tile_sizes import PANEL, ROWS
from noria.kernels.registry import BoundOp, Declined, Kernel, Prepared, register

BLOCK = 20 * ROWS  # rows of x that a thread takes at a time
DEPTH = min(
    768, caches().second * 3 // 4096
)  # inputs of a block and of a panel that stay in the second cache together
LEAST_ROWS = 768  # below, packing a weight that changes costs more than it saves
MOST_BYTES = caches().last // 4  # of a packed weight; of larger ones each block would read too much
LEAST = 32  # inputs and outputs: narrower products leave most of a tile empty
SPACE = 128  # bytes of a thread's table of a product


def _source(bias: bool, residual: bool, activation: str | None) -> str:
    value = "load_float32(to, j)"
    value += " + load_float32(bias, o + j)" if bias else ""
    value += " + load_float32(residual + row * outs * 4, o + j)" if residual else ""
    finish = f"""
                if k + {DEPTH} >= ins:
                    for row in range(first, last):
                        to = out + (row * outs + o) * 4
                        for j in range(columns):
                            independent()
                            v = {value}
                            store_float32(to, j, {ACTIVATIONS[activation].format(v="v")})"""
    return f"""
def rows(args):
    x = load_int64(args, 0)
    weight = load_int64(args, 1)
    bias = load_int64(args, 2)
    residual = load_int64(args, 3)
    out = load_int64(args, 4)
    rows = load_int64(args, 5)
    ins = load_int64(args, 6)
    outs = load_int64(args, 7)
    blocks = load_int64(args, 8)
    product = load_int64(args, 9)
    table = load_int64(args, 10) + thread_id() * {SPACE}
    shared = args + {8 * 11}
    tiles = (rows + {ROWS - 1}) // {ROWS}
    store_int64(table, {gemm.A_ROW}, 4 * ins)
    store_int64(table, {gemm.A_STEP}, 4)
    store_int64(table, {gemm.B_PANEL}, 0)
    store_int64(table, {gemm.B_ROW}, {4 * PANEL})
    store_int64(table, {gemm.C_ROW}, 4 * outs)
    block = take(shared, 1)
    while block < blocks:
        first = tiles * block // blocks * {ROWS}
        last = min(tiles * (block + 1) // blocks * {ROWS}, rows)
        store_int64(table, {gemm.M}, last - first)
        for k in range(0, ins, {DEPTH}):
            depth = min(ins - k, {DEPTH})
            store_int64(table, {gemm.K}, depth)
            store_int64(table, {gemm.ACCUMULATE}, min(k, 1))
            store_int64(table, {gemm.A}, x + (first * ins + k) * 4)
            for o in range(0, outs, {PANEL}):
                columns = min(outs - o, {PANEL})
                store_int64(table, {gemm.N}, columns)
                store_int64(table, {gemm.B}, weight + (o * ins + k * {PANEL}) * 4)
                store_int64(table, {gemm.C}, out + (first * outs + o) * 4)
                call1(product, table){finish if bias or residual or activation else ""}
        block = take(shared, 1)
    if take(shared + 8, 1) == team_size() - 1:
        store_int64(shared, 0, 0)
        store_int64(shared, 1, 0)
    return 0
"""


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
        if op.attrs.get("activation") not in ACTIVATIONS:
            raise Declined(f"no activation '{op.attrs['activation']}' here")

    def bind(self, bound: BoundOp) -> Prepared:
        x, w, bias, residual = [*bound.inputs, None, None][:4]
        assert x is not None and w is not None
        turned = bool(bound.attrs.get("transpose_y", True))
        rows, (ins, outs) = prod(x.shape[:-1]), w.shape[::-1] if turned else w.shape
        if rows < LEAST_ROWS or min(ins, outs) < LEAST:
            raise Declined("the product is small")
        if gemm.packed_bytes(ins, outs) > MOST_BYTES:
            raise Declined("the weight is large")
        text = _source(bias is not None, residual is not None, bound.attrs.get("activation"))
        team = max(bound.threads, thread_count())
        blocks = -(-rows // (BLOCK * team)) * team

        def emit(ins_: list[int], outs_: list[int], packs: list[int], scratch: int) -> list[Call]:
            at = [ins_[0], packs[0], *[*ins_[2:], 0, 0][:2], outs_[0]]
            kernel = gemm.product()
            table = [*at, rows, ins, outs, blocks, kernel.address, scratch, 0, 0]
            work = {"threads": bound.threads, "ops": 2 * rows * ins * outs}
            call = launch(self.name, text, "rows", table, **work)
            return [replace(call, keep=(call.keep, kernel))]

        packed = pack(w, 1, turned, bound.threads)
        return Prepared(emit, SPACE * team, [packed], (), 2.0 * rows * ins * outs)


register(RowProduct())
