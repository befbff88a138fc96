"""x @ weight.T + bias for many rows and a weight that never changes, with seven eighths of the
multiplications: one step of Strassen's algorithm (1969) in Winograd's form (1971).

The sums of a weight's quarters are made once and lie in panels, in the order of their use; they are
7/4 of the weight. The sums of the rows are made at each call. What the products are added to, the
register tiles begin with, so the additions cost nothing; see `strassen_source.py`.

Row i of one half of the rows is mixed with row i of the other, and so are two columns of the
weight. The error is small beside the longer of the two, 2.2 times that of direct sums where they
are alike. So where one of two rows is more than APART times as long as the other, or has NaN,
infinities or numbers too large or small to square, or is zero, the whole block of rows is
multiplied directly, from the same panels; two panels in which a column is such, always.
NORIA_STRASSEN=0 leaves such products to others.
"""

from __future__ import annotations

from math import prod

from noria.core.flags import flags
from noria.ir.program import Operator
from noria.kernels.call import Call
from noria.kernels.numba import jit, packed_linear
from noria.kernels.numba.launch import launch
from noria.kernels.numba.linear import need_linear
from noria.kernels.numba.lines import whole_lines
from noria.kernels.numba.parallel import thread_count
from noria.kernels.numba.strassen_source import (
    LINE,
    PACK,
    PACK_SPACE,
    SLOTS,
    TABLE,
    ending,
    part,
    source,
)
from noria.kernels.numba.tile_sizes import PANEL, WIDTH
from noria.kernels.registry import Array, BoundOp, Declined, Kernel, Pack, Prepared, register

MOST_ROWS = 2 * packed_linear.MOST_ROWS  # of a block, whose halves are what a block is there
# Where it pays: fewer rows read the panels too often, fewer inputs give each sum too little use,
# and of fewer outputs for each thread the sums of the rows take too long.
WORTH_ROWS, WORTH_INS, WORTH_OUTS = 80, 384, 384
IDLE = 0.03  # of a team's time, when some threads have a pair of panels less than others


def worth(rows: int, ins: int, outs: int, threads: int) -> bool:
    """Whether it is expected to be faster than direct sums."""
    pairs = outs // (2 * PANEL)
    even = -(-pairs // threads) * threads <= pairs * (1 + IDLE)
    return rows >= WORTH_ROWS and ins >= WORTH_INS and outs >= WORTH_OUTS * threads and even


def pack(weight: Array, threads: int) -> Pack:
    """A weight [outs, ins]: for each pair of panels whether they are mixed, then the panels."""
    outs, ins = weight.shape
    pairs = outs // (2 * PANEL)
    front, panels = _front(pairs), pairs * SLOTS * ins // 2 * LINE
    space = PACK_SPACE * max(threads, thread_count())

    def emit(address: int, copy: int) -> list[Call]:
        table = [address, copy, copy + front, ins, outs, copy + front + panels]
        work = {"threads": threads, "bytes": weight.nbytes + panels}
        return [launch("numba:strassen_panels", PACK, "pack", table, **work)]

    return Pack(1, ("strassen", PANEL), front + panels + space, emit, replaces=True)


def _front(pairs: int) -> int:
    """Bytes before the panels, in whole lines."""
    return whole_lines(8 * pairs)


class Strassen(Kernel):
    """`linear` and `fused_linear` in float32."""

    name = "numba:strassen"
    ops = ("linear", "fused_linear")
    priority = 11  # large weights that never change only

    def accepts(self, op: Operator) -> None:
        if flags.strassen == "0":
            raise Declined("NORIA_STRASSEN is 0")
        need_linear(op)

    def bind(self, bound: BoundOp) -> Prepared:
        x, w, bias, residual = [*bound.inputs, None, None][:4]
        assert x is not None and w is not None
        rows, (outs, ins) = prod(x.shape[:-1]), w.shape
        team = max(bound.threads, thread_count())
        if not bound.fixed[1]:
            raise Declined("the weight changes at each step")
        if rows < packed_linear.LEAST_ROWS:
            raise Declined("few rows")
        if outs % (2 * PANEL) or ins % (2 * WIDTH) or not outs * ins:
            raise Declined("the weight has no quarters of whole panels and vectors")
        if flags.strassen == "auto" and not worth(rows, ins, outs, team):
            raise Declined("direct sums are expected to be faster")
        how = bias is not None, residual is not None, bound.attrs.get("activation")
        text, product = source(*how), jit.compile_source(part(*how), "part")
        end = jit.compile_source(ending(*how), "ending")
        blocks = -(-rows // MOST_ROWS)
        high = (-(-rows // blocks) + 1) // 2
        buffer = high * LINE
        sums = 4 * high * ins // 2 * 4
        space = TABLE + 3 * buffer + ins // 2 * LINE
        work = {"threads": bound.threads, "ops": 2 * rows * ins * outs * 7 // 8}
        front = _front(outs // (2 * PANEL))

        def emit(ins_: list[int], outs_: list[int], packs: list[int], scratch: int) -> list[Call]:
            at = [ins_[0], packs[0], packs[0] + front, *[*ins_[2:], 0, 0][:2], outs_[0]]
            sizes = [rows, ins, outs, blocks, buffer, product.address, end.address]
            return [
                launch(
                    self.name, text, "linear", [*at, *sizes, scratch, scratch + sums, space], **work
                )
            ]

        packs = [pack(w, bound.threads)]
        return Prepared(emit, sums + space * team, packs, (), 2 * rows * ins * outs)


register(Strassen())
