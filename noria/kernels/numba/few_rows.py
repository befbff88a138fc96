"""x @ weight.T + bias for a few rows and a weight that changes: each panel of the weight is packed
where it is used.

A thread takes panels of outputs as it becomes free. It turns a panel into its second cache, DEPTH
inputs at a time, and multiplies all rows by it before it takes the next, so the weight is read once
and a copy of it is never written to memory. Bias, residual and activation are applied to a panel of
the result while it lies in the first cache.
"""

from __future__ import annotations

from functools import cache
from math import prod

from noria.ir.program import Operator
from noria.kernels.call import Call
from noria.kernels.numba import gemm
from noria.kernels.numba.launch import launch, need
from noria.kernels.numba.linear import ACTIVATIONS, need_activation
from noria.kernels.numba.lines import whole_lines
from noria.kernels.numba.parallel import thread_count
from noria.kernels.numba.row_product import LIGHT
from noria.kernels.numba.tile_sizes import PANEL
from noria.kernels.registry import BoundOp, Declined, Kernel, Prepared, register

DEPTH = 768  # inputs of a panel that lie in the second cache together
FEW = 256  # rows whose inputs do so too
TABLES = 8 * (gemm.FIELDS + gemm.PACK_FIELDS)  # bytes of those of a product and of packing
SPACE = whole_lines(TABLES)  # before a thread's panel


@cache
def _source(bias: bool, residual: bool, activation: str | None) -> str:
    value = "load_float32(to, j)"
    value += " + load_float32(bias, o + j)" if bias else ""
    value += " + load_float32(residual + row * outs * 4, o + j)" if residual else ""
    finish = f"""        for row in range(rows):
            to = out + (row * outs + o) * 4
            for j in range(columns):
                independent()
                v = {value}
                store_float32(to, j, {ACTIVATIONS[activation].format(v="v")})"""
    return f"""
def few(args):
    x = load_int64(args, 0)
    weight = load_int64(args, 1)
    bias = load_int64(args, 2)
    residual = load_int64(args, 3)
    out = load_int64(args, 4)
    rows = load_int64(args, 5)
    ins = load_int64(args, 6)
    outs = load_int64(args, 7)
    packer = load_int64(args, 8)
    product = load_int64(args, 9)
    table = load_int64(args, 10) + thread_id() * load_int64(args, 11)
    packing = table + {8 * gemm.FIELDS}
    packed = table + {SPACE}
    shared = args + {8 * 12}
    store_int64(packing, {gemm.SOURCE_ROW}, 4)
    store_int64(packing, {gemm.SOURCE_STEP}, 4 * ins)
    store_int64(packing, {gemm.TARGET}, packed)
    store_int64(table, {gemm.A_ROW}, 4 * ins)
    store_int64(table, {gemm.A_STEP}, 4)
    store_int64(table, {gemm.B}, packed)
    store_int64(table, {gemm.B_PANEL}, 0)
    store_int64(table, {gemm.B_ROW}, {4 * PANEL})
    store_int64(table, {gemm.C_ROW}, 4 * outs)
    store_int64(table, {gemm.M}, rows)
    panels = (outs + {PANEL - 1}) // {PANEL}
    panel = take(shared, 1)
    while panel < panels:
        o = panel * {PANEL}
        columns = min(outs - o, {PANEL})
        store_int64(packing, {gemm.PACK_N}, columns)
        store_int64(table, {gemm.N}, columns)
        store_int64(table, {gemm.C}, out + o * 4)
        for k in range(0, ins, {DEPTH}):
            depth = min(ins - k, {DEPTH})
            store_int64(packing, {gemm.SOURCE}, weight + (o * ins + k) * 4)
            store_int64(packing, {gemm.PACK_K}, depth)
            call1(packer, packing)
            store_int64(table, {gemm.K}, depth)
            store_int64(table, {gemm.ACCUMULATE}, min(k, 1))
            store_int64(table, {gemm.A}, x + k * 4)
            call1(product, table)
{finish if bias or residual or activation else ""}
        panel = take(shared, 1)
    if take(shared + 8, 1) == team_size() - 1:
        store_int64(shared, 0, 0)
        store_int64(shared, 1, 0)
    return 0
"""


class FewRows(Kernel):
    """`linear`, `fused_linear` and products with one transposed matrix in float32."""

    name = "numba:few_rows"
    ops = ("linear", "fused_linear", "matmul")
    priority = 4  # float32, few rows and one transposed matrix that changes only

    def accepts(self, op: Operator) -> None:
        need(op, ("float32",))
        x, w = op.operands[:2]
        if x.ndim < 2 or w.ndim != 2:
            raise Declined("not rows by a matrix")
        if op.attrs.get("transpose_x") or not op.attrs.get("transpose_y", True):
            raise Declined("not the matrix alone is transposed")
        need_activation(op)

    def bind(self, bound: BoundOp) -> Prepared:
        x, w, bias, residual = [*bound.inputs, None, None][:4]
        assert x is not None and w is not None
        rows, (outs, ins) = prod(x.shape[:-1]), w.shape
        if bound.fixed[1]:
            raise Declined("the matrix never changes: packed it is faster")
        if rows >= FEW or ins * outs <= LIGHT:
            raise Declined("there are many rows, or the matrix is small")
        text = _source(bias is not None, residual is not None, bound.attrs.get("activation"))
        team = max(bound.threads, thread_count())
        room = SPACE + 4 * PANEL * min(ins, DEPTH)

        def emit(ins_: list[int], outs_: list[int], packs: list[int], scratch: int) -> list[Call]:
            packer, product = gemm.packer(), gemm.product()
            at = [*ins_[:2], *[*ins_[2:], 0, 0][:2], outs_[0]]
            sizes = [rows, ins, outs, packer.address, product.address, scratch, room, 0, 0]
            work = {"threads": bound.threads, "ops": 2 * rows * ins * outs}
            call = launch(self.name, text, "few", [*at, *sizes], **work)
            call.keep = (call.keep, packer, product)
            return [call]

        return Prepared(emit, room * team, [], (), 2 * rows * ins * outs)


register(FewRows())
