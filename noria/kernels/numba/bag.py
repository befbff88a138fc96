"""Look-up and pooling in one pass: the rows of a bag are added up as they come, and none is kept.

Every bag belongs to one thread, which takes its ids in order.
"""

from __future__ import annotations

from math import prod

from noria.ir.program import Operator
from noria.kernels.call import Call
from noria.kernels.numba.embedding import AHEAD, IDS, constant_text
from noria.kernels.numba.launch import launch, need
from noria.kernels.registry import BoundOp, Kernel, Prepared, register

# Status 1 for an id that is no row, and for row_splits that are none; the reference then tells.
_BAG = f"""
def bag(args):
    table = load_int64(args, 0)
    ids = load_int64(args, 1)
    splits = load_int64(args, 2)
    weights = load_int64(args, 3)
    out = load_int64(args, 4)
    bags = load_int64(args, 5)
    total = load_int64(args, 6)
    size = load_int64(args, 7)
    width = load_int64(args, 8)
    team = team_size()
CHECK
    for b in range(bags * thread_id() // team, bags * (thread_id() + 1) // team):
BOUNDS
        to = out + b * WIDTH * 4
START
        for k in range(begin, end):
            prefetch(table + int64(load_IDS(ids, min(k + {AHEAD}, total - 1))) * WIDTH * 4)
            place = int64(load_IDS(ids, k))
            if place < 0 or place >= size:
                return 1
            row = table + place * WIDTH * 4
TAKE
FINISH
    return 0
"""
_EQUAL = """
        begin = b * (total // bags)
        end = begin + total // bags"""
_PACKED = """
        begin = int64(load_SPLITS(splits, b))
        end = int64(load_SPLITS(splits, b + 1))
        if begin < 0 or end < begin or end > total:
            return 1"""
_CHECK = """
    if int64(load_SPLITS(splits, 0)) != 0 or int64(load_SPLITS(splits, bags)) != total:
        return 1"""

# The sums of a bag lie in the output, where the first cache has them; that of rows of one element
# in a register.
_EACH = """
{indent}for c in range(WIDTH):
{indent}    together()
{indent}    store_float32(to, c, {value})"""
_START = {"sum": "float32(0)", "mean": "float32(0)", "max": "float32(-1e999)"}
_NONE = "float32(0)"  # what a bag without ids gives


def source(mode: str, ids: str, splits: str | None, weighted: bool, width: int) -> str:
    """The kernel; splits: the dtype of row_splits, if there are any."""

    def each(value: str, spaces: int) -> str:
        if width == 1:
            return f"\n{' ' * spaces}sum = {value}".replace("OLD", "sum")
        old = "load_float32(to, c)"
        return _EACH.format(indent=" " * spaces, value=value.replace("OLD", old))

    start = _START[mode]
    term = "load_float32(row, 0)" if width == 1 else "load_float32(row, c)"
    if weighted:
        term += " * load_float32(weights, k)"
    taken = f"maximum(OLD, {term})" if mode == "max" else f"OLD + {term}"
    finish = ""
    if mode == "mean":
        finish = each("OLD / float32(end - begin)", 8)
    if mode == "max" and splits:
        finish = f"\n        if begin == end:{each(_NONE, 12)}"
    if width == 1:
        finish += "\n        store_float32(to, 0, sum)"
    parts = {
        "CHECK": _CHECK if splits else "",
        "BOUNDS": _PACKED if splits else _EQUAL,
        "START": each(start, 8),
        "TAKE": each(taken, 12),
        "FINISH": finish,
    }
    text = _BAG
    for name, lines in parts.items():
        text = text.replace(f"{name}\n", lines.lstrip("\n") + "\n")
    text = text.replace("IDS", ids).replace("SPLITS", splits or "")
    return text.replace("WIDTH", constant_text("width", width))


class Bag(Kernel):
    """float32 tables."""

    name = "numba:bag"
    ops = ("fused_bag",)

    def accepts(self, op: Operator) -> None:
        need(op, ("float32",), (0, 3))
        need(op, IDS, (1, 2))

    def bind(self, bound: BoundOp) -> Prepared:
        table, ids, splits, weights = (*bound.inputs, None, None)[:4]
        out = bound.outputs[0]
        assert table is not None and ids is not None
        width = prod(table.shape[1:])
        packed = None if splits is None else splits.dtype
        how = bound.attrs["mode"], ids.dtype, packed, weights is not None, width
        text, numbers = source(*how), [out.size // width, ids.size, table.shape[0], width]
        moved = 4 * ids.size * width + ids.nbytes + out.nbytes

        def emit(ins: list[int], outs: list[int], packs: list[int], scratch: int) -> list[Call]:
            given = (*ins, 0, 0)[:4]
            row = [*given, *outs, *numbers]
            return [launch(self.name, text, "bag", row, threads=bound.threads, bytes=moved)]

        return Prepared(emit, work=ids.size * width)


register(Bag())
