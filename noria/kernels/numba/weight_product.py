"""x.T @ y where both have many rows, or few: the gradient of a linear layer by its weight.

It is the gradient of a 1 x 1 convolution whose pixels are the rows, and runs its kernel; see
`conv_weight_grad`.
"""

from __future__ import annotations

from noria.core.machine import caches
from noria.ir.program import Operator
from noria.kernels.call import Call
from noria.kernels.numba import jit
from noria.kernels.numba.conv_weight_grad_source import (
    BY_OUTPUTS,
    BY_PANELS,
    BY_PIXELS,
    multiply,
    source,
    table_bytes,
)
from noria.kernels.numba.launch import launch, need
from noria.kernels.numba.parallel import thread_count
from noria.kernels.numba.tile_sizes import PANEL, ROWS, WIDTH
from noria.kernels.registry import BoundOp, Declined, Kernel, Prepared, register

DEPTH = 128  # rows of a block: a panel of y is then 32 KB
FEW, MANY = 256, 512  # rows: between them `dnnl_sgemm` is faster
MOST_BYTES = caches().last // 4  # of a result, which is read and written once for each block
LONG = 16  # times as many rows as sums, and adding up what threads have costs nothing


def sharing(rows: int, outs: int, columns: int, threads: int) -> int:
    """By rows where there are many, else by what threads have the most equal parts of."""
    if max(outs, columns) * threads * LONG <= rows:
        return BY_PIXELS
    groups, panels = -(-outs // ROWS), -(-columns // PANEL)
    by_outputs = -(-groups // threads) * ROWS / outs
    by_panels = -(-panels // threads) * PANEL / columns
    return BY_OUTPUTS if by_outputs <= by_panels else BY_PANELS


class WeightProduct(Kernel):
    """matmul of a transposed matrix by a matrix, in float32."""

    name = "numba:weight_product"
    ops = ("matmul",)
    priority = 6  # float32 and two matrices only, of many rows or few

    def accepts(self, op: Operator) -> None:
        need(op, ("float32",))
        if any(v.ndim != 2 for v in op.operands):
            raise Declined("not two matrices")
        if not op.attrs["transpose_x"] or op.attrs["transpose_y"]:
            raise Declined("not only x is transposed")

    def bind(self, bound: BoundOp) -> Prepared:
        x, out = bound.inputs[0], bound.outputs[0]
        assert x is not None
        rows, (outs, ins) = x.shape[0], out.shape
        if FEW <= rows < MANY:
            raise Declined("oneDNN is faster for as many rows")
        if outs < WIDTH or ins < PANEL:
            raise Declined("the result is narrow")
        if out.nbytes > MOST_BYTES:
            raise Declined("the result is large")
        team = max(bound.threads, thread_count())
        how = sharing(rows, outs, ins, team)
        room = table_bytes("float32", outs, DEPTH)
        parts = team if how == BY_PIXELS else 0
        tiles = jit.compile_source(multiply("float32"), "multiply")
        image = [1, rows, 1, rows]
        window = [1, 1, 1, 0, 0, 1, 1]

        def emit(in_: list[int], out_: list[int], packs: list[int], scratch: int) -> list[Call]:
            sums = scratch + room * team if parts else out_[0]
            table = [in_[1], in_[0], sums, out_[0], scratch, room, how, DEPTH, tiles.address]
            table += [rows, ins, outs, 1, *image, *window]
            work = {"threads": bound.threads, "ops": 2 * rows * ins * outs}
            return [launch(self.name, source("float32"), "weight_grad", table, **work)]

        return Prepared(emit, room * team + parts * out.nbytes, work=2 * rows * ins * outs)


register(WeightProduct())
