"""Gradients by several weights, and by the bias, of one gradient by what they gave.

As in `weight_product`, blocks of rows are multiplied while they lie in the second cache, the
gradient packed in groups of ROWS columns, what it is multiplied by in panels; but the gradient is
packed, and read from memory, once for all products, and the sum of its rows is made on the way:
each thread adds up columns of its own, a block's rows before the blocks, so that the sums depend
neither on chance nor on the number of threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import indent

from noria.ir.program import Operator
from noria.kernels.call import Call
from noria.kernels.numba import conv_weight_grad_source as tiles
from noria.kernels.numba import jit
from noria.kernels.numba.conv_weight_grad_source import (
    BY_OUTPUTS,
    BY_PANELS,
    FIELDS,
    GROUP,
    MOVE,
    PACK_GRADIENT,
)
from noria.kernels.numba.launch import launch, need
from noria.kernels.numba.parallel import thread_count
from noria.kernels.numba.texts import reading
from noria.kernels.numba.tile_sizes import PANEL, ROWS, VECTORS
from noria.kernels.registry import BoundOp, Kernel, Prepared, register

DEPTH = 128  # rows of a block: a panel is then 32 KB
UNROLL = 4  # rows that are added before their sum is stored
# What one step of a block takes, in cycles: a tile, and packing for a group and for a panel.
TILE, PACK_GROUP, PACK_PANEL = ROWS * VECTORS / 2, 2.5, 8.0

_NAMES = (
    *("gradient", "scratch", "room", "how", "multiply", "rows", "outs"),
    *("sums", "products", "panels"),
)
_READ = reading(*_NAMES)
_BLOCK = " + ".join(f"load_float32(line{r}, o)" for r in range(UNROLL))
_LINES = "\n".join(f"            line{r} = line{r - 1} + outs * 4" for r in range(1, UNROLL))

# The sums of the columns of this thread.
_SUM = f"""
        fill_bytes(part, 0, outs * 4)
        whole = k - k % {UNROLL}
        for step in range(0, whole, {UNROLL}):
            line0 = gradient + (begin + step) * outs * 4
{_LINES}
            for o in range(low, high):
                independent()
                store_float32(part, o, load_float32(part, o) + ({_BLOCK}))
        for step in range(whole, k):
            line0 = gradient + (begin + step) * outs * 4
            for o in range(low, high):
                independent()
                store_float32(part, o, load_float32(part, o) + load_float32(line0, o))
        for o in range(low, high):
            independent()
            store_float32(sums, o, load_float32(sums, o) + load_float32(part, o))
"""

# A panel of what the gradient is multiplied by, and its product with all groups of this thread.
_PRODUCT = f"""
to = right
source = x + (begin * ins + column) * 4
columns = min(ins - column, {PANEL})
if columns == {PANEL}:
    for i in range(k):
        copy_bytes(to, source, {4 * PANEL})
        source += ins * 4
        to += {4 * PANEL}
else:
    for i in range(k):
        copy_bytes(to, source, columns * 4)
        source += ins * 4
        to += {4 * PANEL}
store_int64(shape, {tiles.TO}, out + (first_group * {ROWS} * ins + column) * 4)
store_int64(shape, {tiles.COLUMNS}, columns)
call1(multiply, shape)
"""

_SOURCE = f"""
def weight_grads(args):
{_READ}
    me = thread_id()
    team = team_size()
    shape = scratch + me * room
    right = shape + {8 * FIELDS}
    left = right + {DEPTH * 4 * PANEL}
    part = scratch + team * room + me * ((outs + 15) // 16 * 64)
    low = outs * me // team
    high = outs * (me + 1) // team
    if sums != 0:
        fill_bytes(sums + low * 4, 0, (high - low) * 4)
    first_group = 0
    last_group = (outs + {ROWS - 1}) // {ROWS}
    first_panel = 0
    last_panel = panels
    if how == {BY_OUTPUTS}:
        first_group = last_group * me // team
        last_group = last_group * (me + 1) // team
    else:
        first_panel = panels * me // team
        last_panel = panels * (me + 1) // team
    whole_groups = min(last_group, outs // {ROWS})
    fast_groups = max(first_group, min(last_group, (outs - {MOVE // 4}) // {ROWS} + 1))
    next_group = {DEPTH * GROUP + MOVE}
    store_int64(shape, {tiles.A_ROW}, 4)
    store_int64(shape, {tiles.A_STEP}, {GROUP})
    store_int64(shape, {tiles.B_ROW}, {4 * PANEL})
    store_int64(shape, {tiles.SOON_STEP}, 64)
    store_int64(shape, {tiles.LEFT}, left)
    store_int64(shape, {tiles.RIGHT}, right)
    store_int64(shape, {tiles.GROUPS}, whole_groups - first_group)
    rest = min(outs - whole_groups * {ROWS}, (last_group - whole_groups) * {ROWS})
    store_int64(shape, {tiles.REST}, rest)
    store_int64(shape, {tiles.NEXT_GROUP}, next_group)
    for begin in range(0, rows, {DEPTH}):
        k = min({DEPTH}, rows - begin)
        steps = k
        store_int64(shape, {tiles.K}, k)
        store_int64(shape, {tiles.ACCUMULATE}, min(begin, 1))
        then = gradient + (begin + k) * outs * 4
        if sums != 0:
{indent(_SUM.strip(chr(10)), " " * 4)}
{indent(PACK_GRADIENT.replace("LINE", "    row = gradient + (begin + step) * outs * 4"), " " * 8)}
        panel = 0
        for product in range(products):
            x = load_int64(args, {len(_NAMES)} + 3 * product)
            ins = load_int64(args, {len(_NAMES) + 1} + 3 * product)
            out = load_int64(args, {len(_NAMES) + 2} + 3 * product)
            store_int64(shape, {tiles.C_ROW}, ins * 4)
            store_int64(shape, {tiles.SOON}, x + (begin + k) * ins * 4)
            store_int64(shape, {tiles.SOON_END}, x + (begin + 2 * k) * ins * 4)
            store_int64(shape, {tiles.THEN}, then)
            store_int64(shape, {tiles.THEN_END}, gradient + (begin + 2 * k) * outs * 4)
            for column in range(0, ins, {PANEL}):
                if panel >= first_panel and panel < last_panel:
                    then = 0
{indent(_PRODUCT.strip(chr(10)), " " * 20)}
                panel += 1
    return 0
"""


def sharing(outs: int, panels: int, threads: int) -> int:
    """What is dealt to the threads: the outputs or the panels, by what a step takes."""
    groups = -(-outs // ROWS)
    some_groups, some_panels = -(-groups // threads), -(-panels // threads)
    by_outputs = some_groups * (TILE * panels + PACK_GROUP) + PACK_PANEL * panels
    by_panels = groups * (TILE * some_panels + PACK_GROUP) + PACK_PANEL * some_panels
    return BY_OUTPUTS if by_outputs <= by_panels else BY_PANELS


class WeightGrads(Kernel):
    """`weight_grads` in float32."""

    name = "numba:weight_grads"
    ops = ("weight_grads",)

    def accepts(self, op: Operator) -> None:
        need(op, ("float32",))

    def bind(self, bound: BoundOp) -> Prepared:
        dy, *xs = [a for a in bound.inputs if a is not None]
        rows, outs = dy.shape
        widths = [x.shape[1] for x in xs]
        panels = sum([-(-width // PANEL) for width in widths])
        team = max(bound.threads, thread_count())
        room = tiles.table_bytes("float32", outs, DEPTH)
        how = sharing(outs, panels, team)
        function = jit.compile_source(tiles.multiply("float32"), "multiply")
        flops = 2 * rows * outs * sum(widths)

        def emit(ins: list[int], out: list[int], packs: list[int], scratch: int) -> list[Call]:
            sums = out[-1] if bound.attrs["bias"] else 0
            table = [ins[0], scratch, room, how, function.address, rows, outs]
            table += [sums, len(xs), panels, *_triples(ins[1:], widths, out)]
            work = {"threads": bound.threads, "ops": flops}
            return [launch(self.name, _SOURCE, "weight_grads", table, **work)]

        return Prepared(emit, (room + -(-outs // 16) * 64) * team, work=flops)


def _triples(xs: Sequence[int], widths: Sequence[int], outs: Sequence[int]) -> list[int]:
    found = zip(xs, widths, outs, strict=False)
    return [number for triple in found for number in triple]


register(WeightGrads())
