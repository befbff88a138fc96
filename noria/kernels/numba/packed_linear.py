"""x @ weight.T + bias for many rows and a weight that never changes, packed once.

The weight lies in panels of PANEL outputs. A thread computes a panel for a block of rows, DEPTH
inputs at a time, in register tiles; meanwhile the part of the weight that comes next is brought
from memory into the second cache, bit by bit, so that reading a model's weights costs no time of
its own. Bias, residual and activation are applied to a panel while it lies in the first cache.
"""

from __future__ import annotations

from functools import cache
from math import prod
from textwrap import indent

from noria.core.machine import caches
from noria.ir.program import Operator
from noria.kernels.call import Call
from noria.kernels.numba.launch import launch
from noria.kernels.numba.linear import ACTIVATIONS, need_linear
from noria.kernels.numba.panels import pack
from noria.kernels.numba.parallel import thread_count
from noria.kernels.numba.tile_sizes import PANEL, ROWS, VECTORS, WIDTH
from noria.kernels.registry import BoundOp, Declined, Kernel, Prepared, register

# Inputs whose part of a panel, and of the next, stay in the second cache.
DEPTH = min(384, caches().second * 3 // 8192)
MOST_ROWS = 40 * ROWS  # of a block, so that its inputs too stay there
SCRATCH = 128  # bytes of a thread's table for its tiles
LEAST_ROWS = 4  # below, reading the weight is all the work
UNITS = 4  # for each thread, where there are rows enough, so that all end at about the same time

_TILE = """
if take == TAKE:
    NAME(at, panel, to, shape, columns)
"""


def _tiles(name: str) -> str:
    """Calls a tile of as many rows as are left, ROWS at most."""
    texts = (_TILE.replace("TAKE", str(m)).replace("NAME", name.format(m=m)) for m in _COUNTS)
    return "".join(texts).strip()


_COUNTS = range(ROWS, 0, -1)
_CUT = "\n".join(
    f"if vectors == {v}:\n{indent(_tiles('tile_{m}_' + str(v)), '    ')}"
    for v in range(1, VECTORS + 1)
)


def _finish(value: str, activation: str | None, columns: str) -> str:
    """What is done to a tile that has all its products, while it lies in the first cache."""
    return f"""
if i + k == ins:
    for r in range(row, row + take):
        line = out + (r * outs + o) * 4
        for j in range({columns}):
            independent()
            v = {value}
            store_float32(line, j, {ACTIVATIONS[activation].format(v="v")})
""".strip()


@cache
def _source(bias: bool, residual: bool, activation: str | None) -> str:
    value = "load_float32(line, j)"
    plus_bias = " + load_float32(bias, o + j)" if bias else ""
    plus_residual = " + load_float32(residual + r * outs * 4, o + j)" if residual else ""
    cut = _finish(value + plus_bias + plus_residual, activation, "columns")
    whole = _finish(value + (plus_bias if residual else ""), activation, str(PANEL))
    start, start_row = "to", "0"
    if residual:
        start, start_row = "residual + (row * outs + o) * 4", "outs * 4"
    elif bias:
        start = "bias + o * 4"
    rest = bool(activation or (bias and residual))
    return f"""
def linear(args):
    x = load_int64(args, 0)
    weight = load_int64(args, 1)
    bias = load_int64(args, 2)
    residual = load_int64(args, 3)
    out = load_int64(args, 4)
    rows = load_int64(args, 5)
    ins = load_int64(args, 6)
    outs = load_int64(args, 7)
    blocks = load_int64(args, 8)
    shape = load_int64(args, 9) + thread_id() * {SCRATCH}
    team = team_size()
    panels = (outs + {PANEL - 1}) // {PANEL}
    end = weight + panels * ins * {4 * PANEL}
    store_int64(shape, 0, ins * 4)
    store_int64(shape, 1, 4)
    store_int64(shape, 2, {4 * PANEL})
    store_int64(shape, 3, outs * 4)
    first = panels * blocks * thread_id() // team
    for unit in range(first, panels * blocks * (thread_id() + 1) // team):
        number = unit // blocks
        block = unit - number * blocks
        first_row = rows * block // blocks
        last_row = rows * (block + 1) // blocks
        o = number * {PANEL}
        columns = min(outs - o, {PANEL})
        vectors = (columns + {WIDTH - 1}) // {WIDTH}
        for i in range(0, ins, {DEPTH}):
            k = min(ins - i, {DEPTH})
            panel = weight + (o * ins + i * {PANEL}) * 4
            soon = min(panel + k * {4 * PANEL}, end - 4)
            step = int64(0)
            if block == blocks - 1:
                tiles = (last_row - first_row + {ROWS - 1}) // {ROWS}
                step = ({4 * PANEL - 1} + tiles) // tiles
            store_int64(shape, 4, k)
            row = first_row
            while row < last_row:
                take = min(last_row - row, {ROWS})
                if {ROWS} < last_row - row < {ROWS + ROWS // 2}:
                    take = (last_row - row + 1) // 2
                at = x + (row * ins + i) * 4
                to = out + (row * outs + o) * 4
                if columns == {PANEL}:
                    store_int64(shape, 6, soon)
                    store_int64(shape, 7, step)
                    if i == 0:
                        store_int64(shape, 5, {int(bias or residual)})
                        store_int64(shape, 8, {start})
                        store_int64(shape, 9, {start_row})
                    else:
                        store_int64(shape, 5, 1)
                        store_int64(shape, 8, to)
                        store_int64(shape, 9, outs * 4)
{indent(_tiles("onto_{m}"), " " * 20)}
                    soon = min(soon + step * k, end - 4)
{indent(whole, " " * 20) if rest else ""}
                else:
                    store_int64(shape, 5, min(i, 1))
{indent(_CUT, " " * 20)}
{indent(cut, " " * 20) if bias or residual or activation else ""}
                row += take
    return 0
"""


def _blocks(rows: int, outs: int, threads: int) -> int:
    """Into how many blocks the rows of a panel are cut."""
    panels = -(-outs // PANEL)
    few = -(-rows // MOST_ROWS)
    if panels % threads == 0 or panels >= UNITS * threads:
        return few
    return max(few, min(-(-UNITS * threads // panels), -(-rows // ROWS)))


class PackedLinear(Kernel):
    """`linear` and `fused_linear` in float32."""

    name = "numba:packed_linear"
    ops = ("linear", "fused_linear")
    priority = 10  # weights that never change only

    def accepts(self, op: Operator) -> None:
        need_linear(op)

    def bind(self, bound: BoundOp) -> Prepared:
        x, w, bias, residual = [*bound.inputs, None, None][:4]
        assert x is not None and w is not None
        rows, (outs, ins) = prod(x.shape[:-1]), w.shape
        if not bound.fixed[1]:
            raise Declined("the weight changes at each step")
        if rows < LEAST_ROWS:
            raise Declined("few rows")
        text = _source(bias is not None, residual is not None, bound.attrs.get("activation"))
        team = max(bound.threads, thread_count())
        blocks = _blocks(rows, outs, team)

        def emit(ins_: list[int], outs_: list[int], packs: list[int], scratch: int) -> list[Call]:
            at = [ins_[0], packs[0], *[*ins_[2:], 0, 0][:2], outs_[0]]
            table = [*at, rows, ins, outs, blocks, scratch]
            work = {"threads": bound.threads, "ops": 2 * rows * ins * outs}
            return [launch(self.name, text, "linear", table, **work)]

        packs = [pack(w, 1, True, bound.threads)]
        return Prepared(emit, SCRATCH * team, packs, (), 2 * rows * ins * outs)


register(PackedLinear())
