"""Matrix products by oneDNN's `dnnl_sgemm`, which takes any sizes without being made for them.

A primitive of `linalg.py` costs two thirds of a millisecond for each set of sizes. This function
costs nothing, and with few rows, over long sums, or where the columns do not fill vectors, it is
also as fast or faster.
"""

from __future__ import annotations

from math import prod

from noria.core.flags import flags
from noria.ir.program import Operator
from noria.kernels.call import Call
from noria.kernels.numba.launch import launch
from noria.kernels.onednn.common import need
from noria.kernels.onednn.lib import library
from noria.kernels.registry import BoundOp, Declined, Kernel, Prepared, register

SMALL = 1 << 24  # multiply-adds below which a primitive is surely as fast
LINE = 64  # columns that fill the vectors of a primitive's tile
LONG = 2048  # sums, or rows, from here on pay for the copies this function makes of its operands
FEW = 512  # rows (for the gradient of a weight, which sums over them: sums) that pay too

_SOURCE = """
def product(args):
    return sgemm(args)
"""


def pays(m: int, k: int, n: int, transposed: bool, turned: bool = False) -> bool:
    """Is [m, k] x [k, n] at least as fast this way? (docs/performance.md has the measurements.)

    transposed: the first operand is, as in the gradient of a weight; turned: the second is
    """
    if not turned and (k if transposed else m) < FEW:
        return True
    if m * k * n < SMALL or n < LINE:
        return False
    ragged = n % LINE != 0 and n >= 4 * LINE
    if transposed:
        return ragged or (k >= LONG and m <= LONG // 4)
    return (ragged and k >= LONG) or k >= 2 * LONG or m >= LONG


class Gemm(Kernel):
    """Products of two matrices, float32."""

    name = "onednn:gemm"
    ops = ("matmul",)
    priority = 3  # few rows, long sums, and columns that do not fill vectors only

    def accepts(self, op: Operator) -> None:
        need(op, ("float32",))
        x, y = op.operands
        if y.ndim != 2 or x.ndim < 2 or (x.ndim > 2 and op.attrs["transpose_x"]):
            raise Declined("not a product of two matrices")

    def bind(self, bound: BoundOp) -> Prepared:
        x, y = bound.inputs
        assert x is not None and y is not None
        turned, out = bound.attrs["transpose_x"], bound.outputs[0]
        m, n = prod(out.shape[:-1]), out.shape[-1]
        k = x.shape[-2 if turned else -1]
        if bound.fixed[1]:
            raise Declined("the second operand never changes: packed it is faster")
        if flags.fpmath != "strict":
            raise Declined("its arithmetic is float32")
        if not pays(m, k, n, turned, bool(bound.attrs["transpose_y"])):
            raise Declined("a primitive is faster at these sizes")
        letters = [ord("T" if t else "N") for t in (turned, bound.attrs["transpose_y"])]

        def emit(ins: list[int], outs: list[int], packs: list[int], scratch: int) -> list[Call]:
            operands = [ins[0], x.shape[-1], ins[1], y.shape[-1]]
            table = [library().sgemm, *letters, m, n, k, *operands, 0, outs[0], n]
            return [launch(self.name, _SOURCE, "product", table, threads=1)]

        return Prepared(emit, work=2 * m * k * n)


register(Gemm())
